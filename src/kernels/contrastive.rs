//! Sum over all candidates of exp(query . candidate / sqrt(D)) of every query row: the denominators of eq. 6, whose
//! candidates are the targets' items, and of eq. 3, whose candidates are the labels. They are kept as the largest score
//! and ln(sum(exp(score - largest))): shares made of these are as exact as the scores, while those made of the two's sum
//! would lose what large scores round off.
//!
//! The scores are made a tile at a time and never stored whole.

use multiversion::multiversion;
use rayon::prelude::*;

use super::aligned::{self, Aligned};
use super::{Real, Region, Run, UniformView, math};

/// Query rows of a block in the twin.
const BLOCK: usize = 24;

kernel! {
    /// `main`: a workgroup holds 32 query rows and walks the candidates of one loss 32 at a time, an invocation 4 x 4
    /// scores. `serial`: an invocation holds 8 query rows and walks the targets; labels are the targets of a call of their
    /// own.
    "contrastive"
    params {
        /// Query rows (B * K).
        rows: u32,
        targets: u32,
        /// As many as rows, or 0 where there is no such loss.
        labels: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        /// Row of `normaliser` that is the first query's.
        first: u32,
        /// 1: candidates join those that `normaliser` has already.
        accumulate: u32,
    }
    bindings {
        /// Targets: `[targets, dim]`
        candidate: read f32,
        /// Queries, then labels: `[rows + labels, dim]`
        query: read f32,
        /// Largest score, and ln(sum(exp(score - largest))), of eq. 6, then of eq. 3: `[2, rows, 2]` from row `first` on
        normaliser: write f32,
    }
    work |_s| [
        rows * (targets + labels) * (2.0 * dim + 4.0),
        (rows + targets + labels) * dim + 2.0 * (rows + labels)
    ]
    groups |p| super::fold(losses(&p) * p.rows.div_ceil(32));
    serial |p| has_windows(p.rows, p.labels, p.dim).then(|| super::fold(p.rows.div_ceil(8 * 8)));
    uniform candidate |p| UniformView::holds(p.targets * p.dim);
    uniform query |p| UniformView::holds(p.rows * p.dim);
    parts only |p, b| {
        let window = |of: Region, first: u32| of.after(first * p.dim);
        let mut calls = Vec::new();
        for (loss, others, n) in [(0, b.candidate, p.targets), (1, window(b.query, p.rows), p.labels)] {
            if loss == 1 && n == 0 {
                continue;
            }
            for queries in windows(p.rows, p.dim) {
                for candidates in windows(n, p.dim) {
                    let params = Params {
                        rows: queries.rows,
                        targets: candidates.rows,
                        labels: 0,
                        first: p.first + loss * p.rows + queries.first,
                        accumulate: p.accumulate.max((candidates.first > 0).into()),
                        ..p
                    };
                    let (candidate, query) = (window(others, candidates.first), window(b.query, queries.first));
                    calls.push(call(params, Bindings { candidate, query, ..b }));
                }
            }
        }
        calls
    }
}

/// Whether queries, and labels behind them, can be dealt to [`windows`].
pub(super) fn has_windows(rows: u32, labels: u32, dim: u32) -> bool {
    dim.is_multiple_of(4) && (labels == 0 || (rows * dim).is_multiple_of(Region::ALIGNMENT as u32))
}

/// What rows are dealt to so that each run fits a uniform view.
pub(super) fn windows(rows: u32, dim: u32) -> impl Iterator<Item = Run> {
    UniformView::runs(rows, &[dim], &[], 1)
}

/// How many losses there are.
fn losses(p: &Params) -> u32 {
    if p.labels > 0 { 2 } else { 1 }
}

pub fn twin<R: Real>(p: &Params, target: &[R], query: &[R], normaliser: &mut [R]) {
    let (dim, rows) = (p.dim as usize, p.rows as usize);
    let (query, label) = query.split_at(rows * dim);
    let normaliser = &mut normaliser[2 * p.first as usize..];
    for (loss, (candidate, n)) in [(target, p.targets as usize), (label, p.labels as usize)].into_iter().enumerate() {
        if n == 0 {
            continue;
        }
        let candidate = math::transposed(candidate, n, dim);
        let row = score_row(n);
        let chunks = normaliser[loss * rows * 2..][..rows * 2].par_chunks_mut(2 * BLOCK);
        chunks.zip(query.par_chunks(BLOCK * dim)).for_each_init(Vec::new, |memory, (normaliser, query)| {
            let rows = normaliser.len() / 2;
            let out = aligned::scratch(memory, rows * row);
            scores(R::of(p.scale), math::Matrix::new(query, rows, dim, dim), &candidate, n, out);
            normalisers(out, n, p.accumulate == 1, normaliser);
        });
    }
}

/// Elements from one row of scores to the next, for `n` candidates: whole vectors, as [`math::matmul`] is fastest with.
pub(super) fn score_row(n: usize) -> usize {
    n.next_multiple_of(8)
}

/// Scores of queries with the `n` candidates whose transpose this is, in rows of [`score_row`]. Both passes make them here,
/// so that they are the same to the bit: a share that is all is 1 then, and 1 less its positive is nothing.
pub(super) fn scores<R: Real>(
    scale: R,
    query: math::Matrix<R>,
    (candidate, row): &(Aligned<R>, usize),
    n: usize,
    out: &mut [R],
) {
    let candidate = math::Matrix::new(candidate, query.columns, score_row(n), *row);
    math::matmul(out, score_row(n), false, scale, query, candidate);
}

/// Of each row of scores, and where told, of those before.
#[multiversion(targets = "simd")]
fn normalisers<R: Real>(scores: &[R], n: usize, accumulate: bool, normaliser: &mut [R]) {
    for (out, scores) in normaliser.chunks_exact_mut(2).zip(scores.chunks_exact(score_row(n))) {
        let (peak, log) = math::log_sum_exp_parts(&scores[..n]);
        if accumulate {
            let highest = peak.max(out[0]);
            let sum = (log + peak - highest).exp() + (out[1] + out[0] - highest).exp();
            (out[0], out[1]) = (highest, sum.ln());
        } else {
            (out[0], out[1]) = (peak, log);
        }
    }
}
