//! The two contrastive losses, eq. 3, 4 and 6.

use prismrec::kernels::*;

use crate::case::{Case, EXACT, FEW, Output, Tolerance, sum_of};
use crate::common::{Random, offsets, scale};

/// (rows, candidates, first candidate, D): tiles of 32 x 32, slabs of 16 dimensions, 64 columns of a gradient.
const CONTRASTS: [(usize, usize, usize, usize); 10] = [
    (1, 1, 0, 1),
    (1, 33, 2, 3),
    (31, 1, 0, 4),
    (32, 32, 32, 7),
    (33, 31, 0, 15),
    (65, 97, 1, 16),
    (97, 65, 0, 31),
    (40, 300, 0, 64),
    (150, 10, 7, 65),
    (35, 36, 0, 256),
];

/// What a contrastive kernel is given, in numbers that f32 holds.
struct Contrast {
    query: Vec<f64>,
    candidate: Vec<f64>,
    normaliser: Vec<f64>,
    weight: Vec<f64>,
    positive: Vec<u32>,
}

impl Contrast {
    /// Queries are up to `size`.
    fn new(random: &mut Random, params: contrastive::Params, size: f64) -> Self {
        let contrastive::Params { rows, candidates, first_candidate, dim, .. } = params;
        let rounded = |x: f64| f64::from((x * size) as f32);
        let query: Vec<f64> = random.reals((rows * dim) as usize).into_iter().map(rounded).collect();
        let candidate = random.reals(((first_candidate + candidates) * dim) as usize);
        let candidate: Vec<f64> = candidate.into_iter().map(|x| f64::from(x as f32)).collect();
        let mut normaliser = vec![0.0; 2 * rows as usize];
        contrastive::twin(&params, &query, &candidate, &mut normaliser);
        // Rows that several candidates are positives of, that none is of, and candidates without a row.
        let mut positive = random.indices(candidates as usize, rows as usize);
        positive.iter_mut().for_each(|row| *row = random.one_of(&[NONE, *row]));
        let weight = (0..rows).map(|_| random.one_of(&[0.0, 1.0, 3.0])).collect();
        Contrast { query, candidate, normaliser, weight, positive }
    }
}

fn params((rows, candidates, first_candidate, dim): (usize, usize, usize, usize)) -> contrastive::Params {
    contrastive::Params {
        rows: rows as u32,
        candidates: candidates as u32,
        first_candidate: first_candidate as u32,
        dim: dim as u32,
        scale: scale(dim),
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
            let params = params(sizes);
            let data = Contrast::new(&mut random, params, size);
            let tolerance = Tolerance { absolute: 1e-6 + score_error(sizes.3, size), relative: 2e-6 };
            Case::new(&contrastive::KERNEL, params)
                .reals(&data.query)
                .reals(&data.candidate)
                .writes(Output::new(&[("row", sizes.0), ("largest or logarithm", 2)], tolerance))
                .check(&mut random);
        }
    }
}

#[test]
fn contrastive_query_backward() {
    let mut random = Random::new();
    for sizes in CONTRASTS {
        for (accumulate, size) in [(0, 1.0), (1, 1.0), (0, 200.0)] {
            let (rows, candidates, _, dim) = sizes;
            let forward = params(sizes);
            let data = Contrast::new(&mut random, forward, size);
            let params = contrastive_query_backward::Params {
                rows: forward.rows,
                candidates: forward.candidates,
                first_candidate: forward.first_candidate,
                dim: forward.dim,
                scale: forward.scale,
                accumulate,
            };
            // Shares are off by a score's error and sum to at most 3; whole numbers of positives are taken off.
            let tolerance =
                Tolerance { absolute: 4e-6 + 3.0 * score_error(dim, size) + 1e-8 * candidates as f32, relative: 4e-6 };
            let mut dquery = Output::new(&[("row", rows), ("d", dim)], tolerance);
            if accumulate == 1 {
                dquery = dquery.onto(random.reals(rows * dim));
            }
            Case::new(&contrastive_query_backward::KERNEL, params)
                .reals(&data.query)
                .reals(&data.candidate)
                .reals(&data.normaliser)
                .reals(&data.weight)
                .whole(&data.positive)
                .writes(dquery)
                .check(&mut random);
        }
    }
}

#[test]
fn contrastive_candidate_backward() {
    let mut random = Random::new();
    for sizes in CONTRASTS {
        for size in [1.0, 200.0] {
            let (rows, candidates, first, dim) = sizes;
            let forward = params(sizes);
            let data = Contrast::new(&mut random, forward, size);
            let params: contrastive_candidate_backward::Params = bytemuck::cast(forward);
            // Each row gives a candidate up to 3 of `size`, and its share is off by a score's error.
            let error = 4e-6 + 3.0 * score_error(dim, size) * if candidates == 1 { rows as f32 } else { 8.0 };
            let tolerance = Tolerance { absolute: error * size as f32, relative: 4e-6 };
            // Rows before the first candidate belong to another kernel.
            let own = first..first + candidates;
            Case::new(&contrastive_candidate_backward::KERNEL, params)
                .reals(&data.query)
                .reals(&data.candidate)
                .reals(&data.normaliser)
                .reals(&data.weight)
                .whole(&data.positive)
                .writes(Output::new(&[("row", first + candidates), ("d", dim)], tolerance).rows(own, dim))
                .check(&mut random);
        }
    }
}

#[test]
fn seq2item_loss() {
    let mut random = Random::new();
    for (own, dim, intentions) in [
        (vec![1], 1, 1),
        (vec![1; 63], 3, 2),
        (vec![1; 64], 4, 3),
        (vec![1; 65], 7, 5),
        (vec![2, 0, 3, 1, 9], 31, 32),
        (vec![1; 9], 65, 4),
        (vec![1, 5, 1], 256, 2),
        // Many equal scores, and more than 64 workgroups of 64 examples.
        (vec![1; 4200], 1, 5),
    ] {
        let offsets = offsets(&own);
        let (examples, candidates) = (own.len(), *offsets.last().unwrap() as usize);
        let params = seq2item_loss::Params {
            examples: examples as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            scale: scale(dim),
        };
        // Largest scores up to 100, and logarithms of up to a few hundred candidates.
        let normaliser: Vec<f64> =
            (0..examples * intentions).flat_map(|_| [100.0 * random.reals(1)[0], 6.0 * random.shares(1)[0]]).collect();
        // Scores are exact, so that equal ones are equal and the first of them is the best. Losses are up to 100.
        let tolerance = Tolerance { absolute: 1e-5, relative: 2e-6 };
        Case::new(&seq2item_loss::KERNEL, params)
            .reals(&random.eighths(examples * intentions * dim))
            .reals(&random.eighths(candidates * dim))
            .whole(&offsets)
            .reals(&normaliser)
            .writes(Output::new(&[("example", examples)], tolerance))
            .writes(Output::new(&[("example", examples), ("k", intentions), ("largest or logarithm", 2)], tolerance))
            .writes(Output::new(&[("example", examples), ("k", intentions)], EXACT))
            .writes(Output::new(&[("candidate", candidates)], EXACT))
            .check(&mut random);
    }
}

#[test]
fn seq2seq_loss() {
    let mut random = Random::new();
    for (rows, first, dim) in
        [(1, 1, 1), (63, 63, 3), (64, 0, 4), (65, 70, 7), (9, 9, 65), (130, 130, 256), (4200, 1, 2)]
    {
        let params =
            seq2seq_loss::Params { rows: rows as u32, first_label: first as u32, dim: dim as u32, scale: scale(dim) };
        Case::new(&seq2seq_loss::KERNEL, params)
            .reals(&random.reals(rows * dim))
            .reals(&random.reals((first + rows) * dim))
            .reals(&random.reals(2 * rows))
            .writes(Output::new(&[("row", rows)], sum_of(dim)))
            .check(&mut random);
    }
}

#[test]
fn select_confident() {
    let mut random = Random::new();
    let select = |loss: &[f64], rank: usize, random: &mut Random| {
        let rows = loss.len();
        // Numbers are only compared.
        Case::new(&select_confident::KERNEL, select_confident::Params { rows: rows as u32, rank: rank as u32 })
            .reals(loss)
            .writes(Output::new(&[("tau", 1)], EXACT))
            .writes(Output::new(&[("row", rows)], EXACT))
            .writes(Output::new(&[("row", rows)], EXACT))
            .check(random);
    };
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
}

#[test]
fn sum_losses() {
    let mut random = Random::new();
    for (examples, pairs) in [(1, 0), (1, 1), (255, 256), (256, 257), (257, 255), (1000, 5000)] {
        let (slot, slots) = (random.below(3), 3);
        let params = sum_losses::Params { examples: examples as u32, pairs: pairs as u32, slot: slot as u32 };
        let selected: Vec<f64> = (0..pairs).map(|_| random.one_of(&[0.0, 1.0])).collect();
        let mut losses = random.reals(pairs);
        // A loss that is not selected may be infinite.
        if let Some(unselected) = selected.iter().position(|s| *s == 0.0) {
            losses[unselected] = f64::INFINITY;
        }
        Case::new(&sum_losses::KERNEL, params)
            .reals(&random.reals(examples))
            .reals(&losses)
            .reals(&selected)
            .writes(Output::new(&[("slot", slots), ("sum", 4)], sum_of(pairs.max(examples))).rows([slot], 4))
            .check(&mut random);
    }
    // One loss in 256: the one that only the last, and the first, invocation adds.
    for at in [0, 255, 256] {
        let mut losses = vec![0.0; 300];
        losses[at] = 1.0;
        Case::new(&sum_losses::KERNEL, sum_losses::Params { examples: 300, pairs: 300, slot: 0 })
            .reals(&losses)
            .reals(&losses)
            .reals(&losses)
            .writes(Output::new(&[("slot", 1), ("sum", 4)], FEW))
            .check(&mut random);
    }
}
