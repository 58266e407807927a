//! The two contrastive losses, eq. 3, 4 and 6.

use prismrec::kernels::*;

use crate::common::{Random, offsets, owners, scale};
use crate::differences::*;

/// Sizes of a contrastive loss, and the functions both of them share.
struct Contrastive {
    rows: usize,
    candidates: usize,
    first_candidate: usize,
    dim: usize,
}

impl Contrastive {
    fn normalisers(&self, query: &[f64], candidate: &[f64]) -> Vec<f64> {
        let params = contrastive::Params {
            rows: self.rows as u32,
            candidates: self.candidates as u32,
            first_candidate: self.first_candidate as u32,
            dim: self.dim as u32,
            scale: scale(self.dim),
        };
        let mut normaliser = poison(2 * self.rows);
        contrastive::twin(&params, query, candidate, &mut normaliser);
        normaliser
    }

    /// Gradients of queries (added to `before`, where it is given) and of candidates.
    fn backward(
        &self,
        (query, candidate): (&[f64], &[f64]),
        (normaliser, weight, positive): (&[f64], &[f64], &[u32]),
        before: Option<&[f64]>,
    ) -> (Vec<f64>, Vec<f64>) {
        let params = contrastive_query_backward::Params {
            rows: self.rows as u32,
            candidates: self.candidates as u32,
            first_candidate: self.first_candidate as u32,
            dim: self.dim as u32,
            scale: scale(self.dim),
            accumulate: before.is_some().into(),
        };
        let mut dquery = before.map_or_else(|| poison(query.len()), <[f64]>::to_vec);
        contrastive_query_backward::twin(&params, query, candidate, normaliser, weight, positive, &mut dquery);
        let dquery = before.map_or(dquery.clone(), |before| less(&dquery, before));
        let params = contrastive_candidate_backward::Params {
            rows: params.rows,
            candidates: params.candidates,
            first_candidate: params.first_candidate,
            dim: params.dim,
            scale: params.scale,
        };
        let mut dcandidate = poison(candidate.len());
        contrastive_candidate_backward::twin(&params, query, candidate, normaliser, weight, positive, &mut dcandidate);
        // Rows before the first candidate are not this kernel's.
        let (others, own) = dcandidate.split_at_mut(self.first_candidate * self.dim);
        assert!(others.iter().all(|g| g.is_nan()));
        others.fill(0.0);
        assert!(own.iter().all(|g| !g.is_nan()));
        (dquery, dcandidate)
    }
}

/// Eq. 6, where an example may have several candidates of its own.
#[test]
fn seq2item_loss() {
    let mut random = Random::new();
    for (own, dim, intentions) in
        [(vec![1], 2, 2), (vec![1, 1, 1], 3, 1), (vec![2, 0, 3, 1], 4, 3), (vec![1; 70], 2, 2)]
    {
        let offsets = offsets(&own);
        let (examples, candidates) = (own.len(), *offsets.last().unwrap() as usize);
        let sizes = Contrastive { rows: examples * intentions, candidates, first_candidate: 0, dim };
        let phi = random.reals(sizes.rows * dim);
        // No two intentions may be best to within a difference's step: there eq. 6 has a kink.
        let candidate = loop {
            let candidate = random.reals(candidates * dim);
            let close = (0..candidates).any(|n| {
                let mine = &phi[owners(&offsets)[n] as usize * intentions * dim..][..intentions * dim];
                let mut scores: Vec<f64> = mine.chunks(dim).map(|phi| dot(phi, &candidate[n * dim..][..dim])).collect();
                scores.sort_by(f64::total_cmp);
                intentions > 1 && scores[intentions - 1] - scores[intentions - 2] < 1e-3
            });
            if !close {
                break candidate;
            }
        };
        let params = seq2item_loss::Params {
            examples: examples as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            scale: scale(dim),
        };
        let run = |phi: &[f64], candidate: &[f64]| {
            let normaliser = sizes.normalisers(phi, candidate);
            let (mut loss, mut example_normaliser, mut weight) =
                (poison(examples), poison(2 * sizes.rows), poison(sizes.rows));
            let mut positive = vec![NONE; candidates];
            seq2item_loss::twin(
                &params,
                phi,
                candidate,
                &offsets,
                &normaliser,
                &mut loss,
                &mut example_normaliser,
                &mut weight,
                &mut positive,
            );
            (loss, example_normaliser, weight, positive)
        };
        let (loss, example_normaliser, weight, positive) = run(&phi, &candidate);
        // Eq. 6 as it is written.
        for (b, &loss) in loss.iter().enumerate() {
            let similarity = |k: usize, n: usize| {
                f64::from(scale(dim)) * dot(&phi[(b * intentions + k) * dim..][..dim], &candidate[n * dim..][..dim])
            };
            let total: f64 = (0..candidates).flat_map(|n| (0..intentions).map(move |k| similarity(k, n).exp())).sum();
            let want: f64 = (offsets[b] as usize..offsets[b + 1] as usize)
                .map(|n| total.ln() - (0..intentions).map(|k| similarity(k, n)).fold(f64::NEG_INFINITY, f64::max))
                .sum();
            assert!((loss - want).abs() <= 1e-12 * (1.0 + want.abs()), "example {b}: {loss}, by eq. 6 {want}");
        }
        let backward = |before| sizes.backward((&phi, &candidate), (&example_normaliser, &weight, &positive), before);
        let before = random.reals(phi.len());
        for before in [None, Some(&before[..])] {
            let (dphi, dcandidate) = backward(before);
            let sum = |phi: &[f64], candidate: &[f64]| run(phi, candidate).0.iter().sum::<f64>();
            check("dphi", &phi, &dphi, |phi| sum(phi, &candidate));
            check("dcandidate", &candidate, &dcandidate, |candidate| sum(&phi, candidate));
        }
    }
}

/// Eq. 3 and 4: the labels are rows of the same buffer as the inputs, from `first_label` on.
#[test]
fn seq2seq_loss() {
    let mut random = Random::new();
    for (rows, dim, rank) in [(1, 2, 1), (5, 3, 3), (70, 4, 35), (130, 2, 130)] {
        let sizes = Contrastive { rows, candidates: rows, first_candidate: rows, dim };
        let phi = random.reals(2 * rows * dim);
        let losses = |phi: &[f64]| {
            let normaliser = sizes.normalisers(&phi[..rows * dim], phi);
            let params = seq2seq_loss::Params {
                rows: rows as u32,
                first_label: rows as u32,
                dim: dim as u32,
                scale: scale(dim),
            };
            let mut loss = poison(rows);
            seq2seq_loss::twin(&params, phi, phi, &normaliser, &mut loss);
            (loss, normaliser)
        };
        let (loss, normaliser) = losses(&phi);
        for (r, &loss) in loss.iter().enumerate() {
            let similarity =
                |n: usize| f64::from(scale(dim)) * dot(&phi[r * dim..][..dim], &phi[(rows + n) * dim..][..dim]);
            let want = (0..rows).map(|n| similarity(n).exp()).sum::<f64>().ln() - similarity(r);
            assert!((loss - want).abs() <= 1e-12 * (1.0 + want.abs()), "row {r}: {loss}, by eq. 3 {want}");
        }
        let (mut tau, mut weight, mut positive) = (poison(1), poison(rows), vec![7; rows]);
        let params = select_confident::Params { rows: rows as u32, rank: rank as u32 };
        select_confident::twin(&params, &loss, &mut tau, &mut weight, &mut positive);
        assert_eq!(weight.iter().sum::<f64>(), rank as f64);
        let before = random.reals(rows * dim);
        for before in [None, Some(&before[..])] {
            let inputs = &phi[..rows * dim];
            let (mut gradient, dlabel) = sizes.backward((inputs, &phi), (&normaliser, &weight, &positive), before);
            gradient.extend_from_slice(&dlabel[rows * dim..]);
            // With one row the loss is 0 whatever phi is.
            if rows > 1 {
                check("dphi", &phi, &gradient, |phi| dot(&losses(phi).0, &weight));
            } else {
                assert!(gradient.iter().all(|g| g.abs() <= ABSOLUTE));
            }
        }
    }
}

#[test]
fn select_confident() {
    let mut random = Random::new();
    let run = |loss: &[f64], rank: usize| {
        let rows = loss.len();
        let (mut tau, mut weight, mut positive) = (poison(1), poison(rows), vec![7; rows]);
        let params = select_confident::Params { rows: rows as u32, rank: rank as u32 };
        select_confident::twin(&params, loss, &mut tau, &mut weight, &mut positive);
        for (row, &positive) in positive.iter().enumerate() {
            assert_eq!(positive, if weight[row] == 1.0 { row as u32 } else { NONE });
        }
        (tau[0], weight)
    };
    for (rows, tied) in [(1, false), (2, false), (7, false), (300, false), (300, true)] {
        let loss = if tied { random.eighths(rows) } else { random.reals(rows) };
        let mut sorted = loss.clone();
        sorted.sort_by(f64::total_cmp);
        for rank in [1, rows.div_ceil(2), rows] {
            let (tau, weight) = run(&loss, rank);
            assert_eq!(tau, sorted[rank - 1]);
            assert_eq!(weight, loss.iter().map(|l| f64::from(*l <= tau)).collect::<Vec<_>>());
            assert!(weight.iter().sum::<f64>() == rank as f64 || tied);
        }
        assert_eq!(run(&loss, 0), (f64::NEG_INFINITY, vec![0.0; rows]));
    }
    // Ties with tau are kept; what is not a number counts as the largest and is never kept.
    assert_eq!(run(&[2.0, 1.0, 2.0, 2.0, 3.0], 2), (2.0, vec![1.0, 1.0, 1.0, 1.0, 0.0]));
    assert_eq!(run(&[f64::NAN, 1.0, f64::INFINITY], 2), (f64::INFINITY, vec![0.0, 1.0, 1.0]));
    let (tau, weight) = run(&[f64::NAN, 1.0], 2);
    assert!(tau.is_nan() && weight == [0.0, 0.0]);
}

#[test]
fn sum_losses() {
    let mut sums = poison(12);
    let params = sum_losses::Params { examples: 2, pairs: 3, slot: 1 };
    let (seq2item, seq2seq, selected) = ([1.0, 2.5, 9.0], [4.0, f64::INFINITY, 0.5, 9.0], [1.0, 0.0, 1.0, 1.0]);
    sum_losses::twin(&params, &seq2item, &seq2seq, &selected, &mut sums);
    assert_eq!(sums[4..8], [3.5, 4.5, f64::INFINITY, 2.0]);
    assert!(sums[..4].iter().chain(&sums[8..]).all(|s| s.is_nan()));
    let params = sum_losses::Params { pairs: 0, slot: 2, ..params };
    sum_losses::twin(&params, &seq2item, &[], &[], &mut sums);
    assert_eq!(sums[8..], [3.5, 0.0, 0.0, 0.0]);
}
