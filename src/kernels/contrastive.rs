//! Sum over all candidates of exp(query . candidate / sqrt(D)) of every query row: the denominators of eq. 3 and 6, kept
//! as the largest score and ln(sum(exp(score - largest))): shares made of these are as exact as the scores, while those
//! made of the two's sum would lose what large scores round off.
//!
//! The scores are made a tile at a time and never stored whole.

use multiversion::multiversion;

use super::{Real, math, parallel};

/// Query rows of a block in the twin.
const BLOCK: usize = 64;

kernel! {
    /// A workgroup holds 32 query rows and walks the candidates 32 at a time, an invocation 4 x 4 scores.
    "contrastive"
    params {
        /// Query rows (B * K).
        rows: u32,
        candidates: u32,
        /// Candidate n is row `first_candidate + n` of `candidate`.
        first_candidate: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// `[rows, dim]`
        query: read f32,
        /// `[candidates, dim]`
        candidate: read f32,
        /// Largest score, and ln(sum(exp(score - largest))): `[rows, 2]`
        normaliser: write f32,
    }
    work |_s| [rows * candidates * (2.0 * dim + 4.0), (rows + candidates) * dim + 2.0 * rows]
    groups |p| super::fold(p.rows.div_ceil(32))
}

pub fn twin<R: Real>(p: &Params, query: &[R], candidate: &[R], normaliser: &mut [R]) {
    let (dim, n) = (p.dim as usize, p.candidates as usize);
    let candidate = math::Matrix::new(&candidate[p.first_candidate as usize * dim..][..n * dim], n, dim, dim);
    parallel::chunks(&mut normaliser[..p.rows as usize * 2], 2, BLOCK, |first, normaliser| {
        let rows = normaliser.len() / 2;
        let query = math::Matrix::new(&query[first * dim..][..rows * dim], rows, dim, dim);
        let mut scores = vec![R::zero(); rows * n];
        math::matmul(&mut scores, n, false, R::of(p.scale), query, candidate.t());
        normalisers(&scores, n, normaliser);
    });
}

/// Of each row of scores.
#[multiversion(targets = "simd")]
fn normalisers<R: Real>(scores: &[R], n: usize, normaliser: &mut [R]) {
    for (out, scores) in normaliser.chunks_exact_mut(2).zip(scores.chunks_exact(n)) {
        (out[0], out[1]) = math::log_sum_exp_parts(scores);
    }
}
