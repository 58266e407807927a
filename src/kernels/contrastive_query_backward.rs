//! Gradient of the query rows of a contrastive loss.
//!
//! The loss is sum_r weight_r * ln(sum_n exp(score(r, n))) - sum_n score(positive_n, n): the shares are
//! weight_r * exp(score - largest_r - log_r), less 1 where row r is the positive of candidate n.

use multiversion::multiversion;

use super::{Real, math, parallel};

/// Query rows of a block in the twin.
const BLOCK: usize = 64;

kernel! {
    /// A workgroup makes 32 rows x 64 columns of the gradient, 32 candidates at a time.
    "contrastive_query_backward"
    params {
        rows: u32,
        candidates: u32,
        /// Candidate n is row `first_candidate + n` of `candidate`.
        first_candidate: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        accumulate: u32,
    }
    bindings {
        /// `[rows, dim]`
        query: read f32,
        /// `[candidates, dim]`
        candidate: read f32,
        /// What each row's scores are normalised with, see `contrastive`: `[rows, 2]`
        normaliser: read f32,
        /// How often each row's logarithm is in the loss, `[rows]`
        weight: read f32,
        /// The row whose positive each candidate is, or NONE: `[candidates]`
        positive: read u32,
        /// `[rows, dim]`
        dquery: write f32,
    }
    work |_s| [rows * candidates * (4.0 * dim + 4.0), ((2.0 + accumulate) * rows + candidates) * dim + 4.0 * rows]
    groups |p| [p.rows.div_ceil(32), p.dim.div_ceil(64), 1]
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    query: &[R],
    candidate: &[R],
    normaliser: &[R],
    weight: &[R],
    positive: &[u32],
    dquery: &mut [R],
) {
    let (dim, n) = (p.dim as usize, p.candidates as usize);
    let candidate = math::Matrix::new(&candidate[p.first_candidate as usize * dim..][..n * dim], n, dim, dim);
    parallel::chunks(&mut dquery[..p.rows as usize * dim], dim, BLOCK, |first, dquery| {
        let rows = dquery.len() / dim;
        let query = math::Matrix::new(&query[first * dim..][..rows * dim], rows, dim, dim);
        let mut shares = vec![R::zero(); rows * n];
        math::matmul(&mut shares, n, false, R::of(p.scale), query, candidate.t());
        for (i, row) in shares.chunks_exact_mut(n).enumerate() {
            let (peak, log, weight) = (normaliser[2 * (first + i)], normaliser[2 * (first + i) + 1], weight[first + i]);
            shares_of_row(row, peak, log, weight);
        }
        for (c, &row) in positive[..n].iter().enumerate() {
            if (first..first + rows).contains(&(row as usize)) {
                shares[(row as usize - first) * n + c] -= R::one();
            }
        }
        let shares = math::Matrix::new(&shares, rows, n, n);
        math::matmul(dquery, dim, p.accumulate == 1, R::of(p.scale), shares, candidate);
    });
}

/// The scores of one query row to weighted shares.
#[multiversion(targets = "simd")]
fn shares_of_row<R: Real>(row: &mut [R], peak: R, log: R, weight: R) {
    for share in row {
        *share = weight * (*share - peak - log).exp_fast();
    }
}
