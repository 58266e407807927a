//! The two contrastive losses, eq. 3, 4 and 6.

use prismrec::kernels::*;

use crate::case::{Case, EXACT, Output, Tolerance, sum_of};
use crate::common::{Random, offsets, scale};

/// (examples, K, targets of each, labels as well, D): tiles of 32 x 32, slabs of 16 dimensions, 64 columns of a gradient,
/// 8 rows x 32 others of an invocation that works alone, and windows of 16,384 / D rows.
const CONTRASTS: [(usize, usize, usize, bool, usize); 15] = [
    (1, 1, 1, true, 1),
    (1, 1, 1, false, 4),
    (1, 33, 2, true, 3),
    (31, 1, 1, true, 4),
    (8, 4, 4, false, 7),
    (11, 3, 1, true, 15),
    (13, 5, 1, true, 16),
    (97, 1, 1, false, 31),
    (40, 4, 1, true, 64),
    (150, 1, 2, true, 65),
    (7, 5, 5, true, 256),
    (65, 2, 2, true, 20),
    (16, 16, 1, true, 64),
    (67, 4, 4, true, 64),
    (130, 1, 1, true, 256),
];

/// What the contrastive kernels are given, in numbers that f32 holds.
struct Contrast {
    params: contrastive::Params,
    /// Own targets of each example.
    offsets: Vec<u32>,
    intentions: usize,
    target: Vec<f64>,
    /// Queries, then labels.
    query: Vec<f64>,
    normaliser: Vec<f64>,
}

impl Contrast {
    /// Queries are up to `size`.
    fn new(
        random: &mut Random,
        (examples, intentions, each, labels, dim): (usize, usize, usize, bool, usize),
        size: f64,
    ) -> Self {
        // All examples have `each` targets, or some none and some more.
        let mut own = vec![each; examples];
        if each > 1 && examples > 1 {
            let (from, to) = (random.below(examples), random.below(examples));
            own[to] += std::mem::take(&mut own[from]);
        }
        let offsets = offsets(&own);
        let (rows, targets) = (examples * intentions, offsets[examples] as usize);
        let params = contrastive::Params {
            rows: rows as u32,
            targets: targets as u32,
            labels: if labels { rows as u32 } else { 0 },
            dim: dim as u32,
            scale: scale(dim),
            first: 0,
            accumulate: 0,
        };
        let target = random.reals(targets * dim);
        let mut query = random.reals((rows + params.labels as usize) * dim);
        query[..rows * dim].iter_mut().for_each(|x| *x = f64::from((*x * size) as f32));
        let mut normaliser = vec![0.0; 4 * rows];
        contrastive::twin(&params, &target, &query, &mut normaliser);
        Contrast { params, offsets, intentions, target, query, normaliser }
    }

    fn losses(&self) -> usize {
        if self.params.labels > 0 { 2 } else { 1 }
    }
}

/// The rounding of a score: a sum of D products of numbers up to `size` and 1, divided by sqrt(D).
fn score_error(dim: usize, size: f64) -> f32 {
    (2e-7 * size * (dim as f64).sqrt()) as f32
}

#[test]
fn contrastive() {
    let mut random = Random::new();
    for sizes in CONTRASTS {
        // Scores of some hundreds, whose exponentials overflow.
        for size in [1.0, 1000.0] {
            let data = Contrast::new(&mut random, sizes, size);
            let tolerance = Tolerance { absolute: 1e-6 + score_error(sizes.4, size), relative: 2e-6 };
            let rows = data.params.rows as usize;
            for accumulate in [0, 1] {
                // Behind rows of another call, and joining what it left.
                let skipped = 3 * accumulate as usize;
                let all = skipped + data.losses() * rows;
                let output = Output::new(&[("row", all), ("largest or logarithm", 2)], tolerance);
                Case::new(
                    &contrastive::KERNEL,
                    contrastive::Params { first: 3 * accumulate, accumulate, ..data.params },
                )
                .reals(&data.target)
                .reals(&data.query)
                .writes(output.onto(random.reals(2 * all)).rows(skipped..all, 2))
                .check(&mut random);
            }
        }
    }
}

#[test]
fn contrastive_backward() {
    let mut random = Random::new();
    // None, about half or all rows are kept.
    let mut kept_of_two = [0, 1, 2].into_iter().cycle();
    for sizes in CONTRASTS {
        for size in [1.0, 200.0] {
            let data = Contrast::new(&mut random, sizes, size);
            let (params, dim) = (data.params, sizes.4);
            let [rows, targets, labels] = [params.rows, params.targets, params.labels].map(|n| n as usize);
            let mut shift = data.normaliser.clone();
            // Rows that are in the loss three times or never, rows that several targets are positives of, or none.
            let nothing = f64::from(contrastive_loss::NOTHING);
            for row in 0..rows {
                shift[2 * row + 1] = random.one_of(&[shift[2 * row + 1], shift[2 * row + 1] - 3f64.ln(), nothing]);
            }
            let mut positive = random.indices(targets, rows);
            positive.iter_mut().for_each(|row| *row = random.one_of(&[NONE, *row]));
            let of_two = kept_of_two.next().unwrap();
            let kept: Vec<bool> = (0..rows).map(|_| labels > 0 && random.below(2) < of_two).collect();
            for row in 0..labels {
                if !kept[row] {
                    (shift[2 * (rows + row)], shift[2 * (rows + row) + 1]) = (0.0, nothing);
                }
                positive.push(if kept[row] { row as u32 } else { NONE });
            }
            let (mut order, others): (Vec<u32>, Vec<u32>) = (0..rows as u32).partition(|&row| kept[row as usize]);
            order.insert(0, order.len() as u32);
            order.extend(others);
            // Shares are off by a score's error, and those of a row sum to at most 3 in each loss; whole numbers of
            // positives are taken off. Each row gives a candidate up to 3 of `size`.
            let heaped = if targets == 1 || labels == 1 { rows as f32 } else { 8.0 };
            let error = 3.0 * score_error(dim, size);
            let candidates = Tolerance { absolute: (4e-6 + error * heaped) * size as f32, relative: 4e-6 };
            let absolute = 4e-6 + 2.0 * error + 1e-8 * (targets + labels) as f32;
            let queries = Tolerance { absolute, relative: 4e-6 };
            let output = Output::new(&[("query or label", rows + labels), ("d", dim)], candidates);
            let contrastive::Params { dim: d, scale, .. } = params;
            let params = contrastive_backward::Params::whole(params.rows, [params.targets, params.labels], d, scale);
            Case::new(&contrastive_backward::KERNEL, params)
                .reals(&data.target)
                .reals(&data.query)
                .reals(&shift)
                .whole(&positive)
                .whole(&order)
                .writes(Output::new(&[("target", targets), ("d", dim)], candidates))
                .writes(output.but_rows(0..rows, dim, queries))
                .check(&mut random);
        }
    }
}

#[test]
fn contrastive_loss() {
    let mut random = Random::new();
    for sizes in [
        (1, 1, 1, true, 1),
        (63, 2, 1, true, 3),
        (64, 3, 1, false, 4),
        (65, 5, 1, true, 7),
        (5, 32, 3, true, 31),
        (9, 4, 1, true, 65),
        (3, 2, 2, true, 256),
        // Many equal scores, and more than 64 workgroups of 64 examples and rows.
        (1500, 2, 1, true, 1),
    ] {
        let data = Contrast::new(&mut random, sizes, 1.0);
        // Scores are exact, so that equal ones are equal and the first of them is the best.
        let contrastive::Params { rows, targets, labels, dim, scale, .. } = data.params;
        let first_query = targets + random.one_of(&[0, 3]);
        let vector = random.eighths((first_query + rows + labels) as usize * dim as usize);
        // Largest scores up to 100, and logarithms of up to a few hundred candidates.
        let normaliser: Vec<f64> =
            (0..2 * rows).flat_map(|_| [100.0 * random.reals(1)[0], 6.0 * random.shares(1)[0]]).collect();
        let examples = data.offsets.len() - 1;
        let params = contrastive_loss::Params {
            examples: examples as u32,
            intentions: data.intentions as u32,
            labels,
            first_query,
            dim,
            scale,
        };
        // Losses are up to 100.
        let tolerance = Tolerance { absolute: 1e-5, relative: 2e-6 };
        Case::new(&contrastive_loss::KERNEL, params)
            .reals(&vector)
            .whole(&data.offsets)
            .reals(&normaliser)
            .writes(Output::new(&[("example", examples)], tolerance))
            .writes(Output::new(&[("row", labels as usize)], tolerance))
            .writes(Output::new(&[("row", rows as usize), ("largest or logarithm", 2)], tolerance))
            .writes(Output::new(&[("target", targets as usize)], EXACT))
            .check(&mut random);
    }
}

#[test]
fn select_confident() {
    let mut random = Random::new();
    let select = |loss: &[f64], rank: usize, random: &mut Random| {
        let labels = loss.len();
        // Where there is no loss of eq. 3, there are rows all the same.
        let rows = if labels == 0 { 1 + random.below(600) } else { labels };
        let examples = 1 + random.below(600);
        let (targets, slot, slots) = (random.below(70), random.below(3), 3);
        let params = select_confident::Params {
            examples: examples as u32,
            rows: rows as u32,
            labels: labels as u32,
            rank: rank as u32,
            targets: targets as u32,
            slot: slot as u32,
        };
        let largest = loss.iter().filter(|loss| loss.is_finite()).fold(1f64, |m, loss| m.max(loss.abs()));
        let Tolerance { absolute, relative } = sum_of(labels.max(examples));
        let tolerance = Tolerance { absolute: absolute * largest as f32, relative };
        // Numbers are only compared, and the normalisers passed on.
        Case::new(&select_confident::KERNEL, params)
            .reals(&random.reals(examples))
            .reals(loss)
            .reals(&random.reals(4 * rows))
            .writes(Output::new(&[("tau", 1)], EXACT))
            .writes(Output::new(&[("loss and row", rows + labels), ("part", 2)], EXACT).rows(rows..rows + labels, 2))
            .writes(Output::new(&[("candidate", targets + labels)], EXACT).rows(targets..targets + labels, 1))
            .writes(Output::new(&[("place", 1 + rows)], EXACT))
            .writes(Output::new(&[("slot", slots), ("sum", 4)], tolerance).rows([slot], 4))
            .check(random);
    };
    select(&[], 0, &mut random);
    for rows in [1usize, 2, 255, 256, 257, 1009, 16_384] {
        for rank in [0, 1, rows.div_ceil(3), rows - 1, rows] {
            // Numbers of both signs and all sizes, then some with many ties.
            let sizes = [1e-30, 1e-3, 1.0, 1e6, 1e30];
            let wide: Vec<f64> = random.reals(rows).iter().map(|x| x * random.one_of(&sizes)).collect();
            select(&wide, rank, &mut random);
            let tied = random.eighths(rows);
            select(&tied, rank, &mut random);
        }
    }
    // What is not a number, of either sign, is larger than infinity and never kept.
    let odd = [f64::NAN, 1.0, f64::INFINITY, -f64::NAN, f64::NEG_INFINITY, 0.0, -0.0, -2.0];
    for rank in 0..=odd.len() {
        select(&odd, rank, &mut random);
    }
    // A loss that is not kept may be infinite, and one in 256: that which only the last, and the first, invocation adds.
    for at in [0, 1, 254, 255, 299] {
        let mut losses = vec![0.0; 300];
        losses[at] = random.one_of(&[1.0, f64::INFINITY]);
        select(&losses, 299, &mut random);
    }
}
