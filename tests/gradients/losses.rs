//! The two contrastive losses, eq. 3, 4 and 6.

use prismrec::kernels::*;

use crate::common::{Random, offsets, owners, scale};
use crate::differences::*;

/// Both losses on some targets, queries and labels, which lie one after the other.
struct Losses {
    examples: usize,
    intentions: usize,
    /// Own targets of each example.
    offsets: Vec<u32>,
    /// Whether there are labels.
    labelled: bool,
    /// How many rows eq. 4 keeps.
    rank: usize,
    dim: usize,
}

/// What the forward pass makes.
struct Forward {
    item_loss: Vec<f64>,
    label_loss: Vec<f64>,
    shift: Vec<f64>,
    positive: Vec<u32>,
    order: Vec<u32>,
    tau: f64,
    sums: Vec<f64>,
}

impl Losses {
    fn rows(&self) -> usize {
        self.examples * self.intentions
    }

    fn labels(&self) -> usize {
        if self.labelled { self.rows() } else { 0 }
    }

    fn targets(&self) -> usize {
        self.offsets[self.examples] as usize
    }

    /// One row between targets and queries belongs to neither.
    fn first_query(&self) -> usize {
        self.targets() + 1
    }

    fn vectors(&self) -> usize {
        self.first_query() + self.rows() + self.labels()
    }

    fn forward(&self, vector: &[f64]) -> Forward {
        let (rows, labels, targets) = (self.rows() as u32, self.labels() as u32, self.targets() as u32);
        let (first_query, dim, scale) = (self.first_query() as u32, self.dim as u32, scale(self.dim));
        let (examples, intentions) = (self.examples as u32, self.intentions as u32);
        let mut normaliser = poison(4 * self.rows());
        let params = contrastive::Params { rows, targets, labels, dim, scale, first: 0, accumulate: 0 };
        let (target, query) = vector.split_at(self.first_query() * self.dim);
        contrastive::twin(&params, target, query, &mut normaliser);
        let (mut item_loss, mut label_loss) = (poison(self.examples), poison(self.labels()));
        let (mut shift, mut positive) = (poison(4 * self.rows()), vec![7; self.targets() + self.labels()]);
        contrastive_loss::twin(
            &contrastive_loss::Params { examples, intentions, labels, first_query, dim, scale },
            vector,
            &self.offsets,
            &normaliser,
            &mut item_loss,
            &mut label_loss,
            &mut shift[..2 * self.rows()],
            &mut positive[..self.targets()],
        );
        let (mut tau, mut order, mut sums) = (poison(1), vec![7; 1 + self.rows()], poison(8));
        select_confident::twin(
            &select_confident::Params { examples, rows, labels, rank: self.rank as u32, targets, slot: 1 },
            &item_loss,
            &label_loss,
            &normaliser,
            &mut tau,
            &mut shift,
            &mut positive,
            &mut order,
            &mut sums,
        );
        Forward { item_loss, label_loss, shift, positive, order, tau: tau[0], sums }
    }

    /// The loss where the rows that eq. 4 keeps are given.
    fn loss(&self, vector: &[f64], kept: &[u32]) -> f64 {
        let Forward { item_loss, label_loss, .. } = self.forward(vector);
        item_loss.iter().sum::<f64>() + kept.iter().map(|&row| label_loss[row as usize]).sum::<f64>()
    }

    fn backward(&self, vector: &[f64], forward: &Forward) -> Vec<f64> {
        let [rows, targets, labels, dim] = [self.rows(), self.targets(), self.labels(), self.dim].map(|n| n as u32);
        let params = contrastive_backward::Params::whole(rows, [targets, labels], dim, scale(self.dim));
        let mut gradient = poison(vector.len());
        let Forward { shift, positive, order, .. } = forward;
        let (target, query) = vector.split_at(self.first_query() * self.dim);
        let (dtarget, dquery) = gradient.split_at_mut(self.first_query() * self.dim);
        contrastive_backward::twin(&params, target, query, shift, positive, order, dtarget, dquery);
        let between = &mut gradient[self.targets() * self.dim..self.first_query() * self.dim];
        assert!(between.iter().all(|g| g.is_nan()));
        between.fill(0.0);
        gradient
    }

    /// Score of rows `query` and `other` of `vector`.
    fn score(&self, vector: &[f64], query: usize, other: usize) -> f64 {
        f64::from(scale(self.dim))
            * dot(&vector[query * self.dim..][..self.dim], &vector[other * self.dim..][..self.dim])
    }

    /// Whether two intentions are best to within a difference's step: there eq. 6 has a kink.
    fn at_a_kink(&self, vector: &[f64]) -> bool {
        (0..self.targets()).any(|n| {
            let first = self.first_query() + owners(&self.offsets)[n] as usize * self.intentions;
            let mut scores: Vec<f64> = (first..first + self.intentions).map(|row| self.score(vector, row, n)).collect();
            scores.sort_by(f64::total_cmp);
            self.intentions > 1 && scores[self.intentions - 1] - scores[self.intentions - 2] < 1e-3
        })
    }
}

fn near(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-12 * (1.0 + want.abs()), "{what}: {got}, by the paper {want}");
}

/// Eq. 3, 4 and 6 as they are written, and all their gradients; an example may have several targets of its own.
#[test]
fn contrastive_losses() {
    let mut random = Random::new();
    for (own, intentions, dim, share) in [
        (vec![1], 2, 2, Some(1.0)),
        (vec![1, 1, 1], 1, 3, None),
        (vec![2, 0, 3, 1], 3, 4, Some(0.5)),
        (vec![1; 20], 2, 3, Some(0.5)),
        (vec![1; 20], 2, 3, Some(0.0)),
        (vec![1; 70], 2, 2, Some(0.3)),
        (vec![1; 25], 3, 2, Some(1.0)),
    ] {
        let examples = own.len();
        let rank = share.map_or(0, |share| (share * (examples * intentions) as f64) as usize);
        let losses = Losses { examples, intentions, offsets: offsets(&own), labelled: share.is_some(), rank, dim };
        let vector = loop {
            let vector = random.reals(losses.vectors() * dim);
            if !losses.at_a_kink(&vector) {
                break vector;
            }
        };
        let forward = losses.forward(&vector);
        let (first, rows) = (losses.first_query(), losses.rows());
        for (b, &loss) in forward.item_loss.iter().enumerate() {
            let mine = first + b * intentions..first + (b + 1) * intentions;
            let score = |row, n| losses.score(&vector, row, n);
            let total: f64 = (0..losses.targets()).flat_map(|n| mine.clone().map(move |row| score(row, n).exp())).sum();
            let want: f64 = (losses.offsets[b] as usize..losses.offsets[b + 1] as usize)
                .map(|n| total.ln() - mine.clone().map(|row| score(row, n)).fold(f64::NEG_INFINITY, f64::max))
                .sum();
            near(&format!("eq. 6 of example {b}"), loss, want);
        }
        for (r, &loss) in forward.label_loss.iter().enumerate() {
            let score = |n| losses.score(&vector, first + r, first + rows + n);
            near(&format!("eq. 3 of row {r}"), loss, (0..rows).map(|n| score(n).exp()).sum::<f64>().ln() - score(r));
        }
        let (kept, _) = forward.order[1..].split_at(forward.order[0] as usize);
        assert_eq!(kept.len(), rank);
        let largest = kept.iter().map(|&row| forward.label_loss[row as usize]).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(forward.tau, largest);
        near("both losses", forward.sums[4] + forward.sums[5], losses.loss(&vector, kept));
        let gradient = losses.backward(&vector, &forward);
        check("dvector", &vector, &gradient, |vector| losses.loss(vector, kept));
    }
}

#[test]
fn select_confident() {
    let mut random = Random::new();
    let run = |loss: &[f64], rank: usize| {
        let rows = loss.len();
        let (targets, item_loss) = (2, [1.0, 2.5, 9.0]);
        let params = select_confident::Params {
            examples: 2,
            rows: rows as u32,
            labels: rows as u32,
            rank: rank as u32,
            targets,
            slot: 1,
        };
        let normaliser: Vec<f64> = (0..4 * rows).map(|i| i as f64).collect();
        let (mut tau, mut shift, mut sums) = (poison(1), poison(4 * rows), poison(12));
        let (mut positive, mut order) = (vec![7; 2 + rows], vec![7; 1 + rows]);
        select_confident::twin(
            &params,
            &item_loss,
            loss,
            &normaliser,
            &mut tau,
            &mut shift,
            &mut positive,
            &mut order,
            &mut sums,
        );
        assert!(positive[..2] == [7, 7] && shift[..2 * rows].iter().all(|s| s.is_nan()));
        assert!(sums[..4].iter().chain(&sums[8..]).all(|s| s.is_nan()));
        let kept: Vec<bool> = positive[2..].iter().map(|&row| row != NONE).collect();
        for row in 0..rows {
            let mine = &shift[2 * (rows + row)..][..2];
            let expected = if kept[row] { &normaliser[2 * (rows + row)..][..2] } else { &[0.0, 1e30f32.into()] };
            assert_eq!((positive[2 + row], mine), (if kept[row] { row as u32 } else { NONE }, expected));
        }
        let (first, others): (Vec<u32>, Vec<u32>) = (0..rows as u32).partition(|&row| kept[row as usize]);
        assert_eq!(order, [vec![first.len() as u32], first.clone(), others].concat());
        let sum: f64 = first.iter().map(|&row| loss[row as usize]).sum();
        assert_eq!((sums[4], sums[5], sums[7]), (3.5, sum, first.len() as f64));
        let all: f64 = loss.iter().sum();
        assert!(sums[6] == all || sums[6].is_nan() && all.is_nan());
        (tau[0], kept)
    };
    for (rows, tied) in [(1, false), (2, false), (7, false), (300, false), (300, true)] {
        let loss = if tied { random.eighths(rows) } else { random.reals(rows) };
        let mut sorted = loss.clone();
        sorted.sort_by(f64::total_cmp);
        for rank in [1, rows.div_ceil(2), rows] {
            let (tau, kept) = run(&loss, rank);
            assert_eq!(tau, sorted[rank - 1]);
            assert_eq!(kept, loss.iter().map(|l| *l <= tau).collect::<Vec<_>>());
            assert!(kept.iter().filter(|kept| **kept).count() == rank || tied);
        }
        assert_eq!(run(&loss, 0), (f64::NEG_INFINITY, vec![false; rows]));
    }
    // Ties with tau are kept; what is not a number counts as the largest and is never kept.
    assert_eq!(run(&[2.0, 1.0, 2.0, 2.0, 3.0], 2), (2.0, vec![true, true, true, true, false]));
    assert_eq!(run(&[f64::NAN, 1.0, f64::INFINITY], 2), (f64::INFINITY, vec![false, true, true]));
    let (tau, kept) = run(&[f64::NAN, 1.0], 2);
    assert!(tau.is_nan() && kept == [false, false]);
}

#[test]
fn sums_without_labels() {
    let (mut sums, mut order, mut shift) = (poison(4), vec![7; 4], poison(12));
    let params = select_confident::Params { examples: 2, rows: 3, labels: 0, rank: 0, targets: 2, slot: 0 };
    let mut tau = poison(1);
    select_confident::twin(
        &params,
        &[1.0, 2.5],
        &[],
        &poison(12),
        &mut tau,
        &mut shift,
        &mut [],
        &mut order,
        &mut sums,
    );
    assert_eq!((tau[0], &order[..], &sums[..]), (f64::NEG_INFINITY, &[0, 0, 1, 2][..], &[3.5, 0.0, 0.0, 0.0][..]));
    assert!(shift.iter().all(|s| s.is_nan()));
}
