//! Sum over all candidates of exp(query . candidate / sqrt(D)) of every query row: the denominators of eq. 6, whose
//! candidates are the targets' items, and of eq. 3, whose candidates are the labels. They are kept as the largest score
//! and ln(sum(exp(score - largest))): shares made of these are as exact as the scores, while those made of the two's sum
//! would lose what large scores round off.
//!
//! The scores are made a tile at a time and never stored whole.

use multiversion::multiversion;

use super::{Real, math, parallel};

/// Query rows of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// `main`: a workgroup holds 32 query rows and walks the candidates of one loss 32 at a time, an invocation 4 x 4
    /// scores. `serial`: an invocation holds 16 query rows.
    "contrastive"
    params {
        /// Query rows (B * K).
        rows: u32,
        targets: u32,
        /// As many as rows, or 0 where there is no such loss.
        labels: u32,
        /// Row of the first query in `vector`.
        first_query: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// Targets; from row `first_query` on queries, then labels: `[.., dim]`
        vector: read f32,
        /// Largest score, and ln(sum(exp(score - largest))), of eq. 6, then of eq. 3: `[2, rows, 2]`
        normaliser: write f32,
    }
    work |_s| [
        rows * (targets + labels) * (2.0 * dim + 4.0),
        (rows + targets + labels) * dim + 2.0 * (rows + labels)
    ]
    groups |p| super::fold(losses(&p) * p.rows.div_ceil(32));
    serial |p| p.dim.is_multiple_of(4).then(|| super::fold(losses(&p) * p.rows.div_ceil(8 * 16)))
}

/// How many losses there are.
fn losses(p: &Params) -> u32 {
    if p.labels > 0 { 2 } else { 1 }
}

pub fn twin<R: Real>(p: &Params, vector: &[R], normaliser: &mut [R]) {
    let (dim, rows) = (p.dim as usize, p.rows as usize);
    let (target, query) = vector.split_at(p.first_query as usize * dim);
    let (query, label) = query.split_at(rows * dim);
    for (loss, (candidate, n)) in [(target, p.targets as usize), (label, p.labels as usize)].into_iter().enumerate() {
        if n == 0 {
            continue;
        }
        let (candidate, row) = math::transposed(candidate, n, dim);
        let candidate = math::Matrix::new(&candidate, dim, n, row);
        parallel::chunks(&mut normaliser[loss * rows * 2..][..rows * 2], 2, BLOCK, |first, normaliser| {
            let rows = normaliser.len() / 2;
            let query = math::Matrix::new(&query[first * dim..][..rows * dim], rows, dim, dim);
            let mut scores = vec![R::zero(); rows * n];
            math::matmul(&mut scores, n, false, R::of(p.scale), query, candidate);
            normalisers(&scores, n, normaliser);
        });
    }
}

/// Of each row of scores.
#[multiversion(targets = "simd")]
fn normalisers<R: Real>(scores: &[R], n: usize, normaliser: &mut [R]) {
    for (out, scores) in normaliser.chunks_exact_mut(2).zip(scores.chunks_exact(n)) {
        (out[0], out[1]) = math::log_sum_exp_parts(scores);
    }
}
