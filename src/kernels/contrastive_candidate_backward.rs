//! Gradient of the candidates of a contrastive loss; see `contrastive_query_backward` for the loss.

use multiversion::multiversion;

use super::contrastive_query_backward::{ActiveRows, gather};
use super::{Real, math, parallel};

/// Candidates of a block in the twin.
const BLOCK: usize = 64;

kernel! {
    /// A workgroup makes 32 candidates x 64 columns of the gradient, 32 query rows at a time.
    "contrastive_candidate_backward"
    params {
        rows: u32,
        candidates: u32,
        /// Candidate n is row `first_candidate + n` of `candidate` and of `dcandidate`.
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
        /// `[rows, 2]`
        normaliser: read f32,
        /// `[rows]`
        weight: read f32,
        /// `[candidates]`
        positive: read u32,
        /// `[candidates, dim]`
        dcandidate: write f32,
    }
    work |_s| [rows * candidates * (4.0 * dim + 4.0), (rows + 2.0 * candidates) * dim + 4.0 * rows]
    groups |p| [p.candidates.div_ceil(32), p.dim.div_ceil(64), 1]
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    query: &[R],
    candidate: &[R],
    normaliser: &[R],
    weight: &[R],
    positive: &[u32],
    dcandidate: &mut [R],
) {
    let (dim, candidates) = (p.dim as usize, p.candidates as usize);
    let active = ActiveRows::new(&weight[..p.rows as usize], &positive[..candidates]);
    let rows = active.rows().len();
    let own = &mut dcandidate[p.first_candidate as usize * dim..][..candidates * dim];
    if rows == 0 {
        return own.fill(R::zero());
    }
    let query = gather(query, dim, active.rows());
    let query = math::Matrix::new(&query, rows, dim, dim);
    let of_rows = |value: &dyn Fn(usize) -> R| active.rows().iter().map(|&row| value(row)).collect::<Vec<R>>();
    let peak = of_rows(&|row| normaliser[2 * row]);
    let log = of_rows(&|row| normaliser[2 * row + 1]);
    let weight = of_rows(&|row| weight[row]);
    let candidate = &candidate[p.first_candidate as usize * dim..];
    parallel::chunks(own, dim, BLOCK, |first, dcandidate| {
        let n = dcandidate.len() / dim;
        let candidate = math::Matrix::new(&candidate[first * dim..][..n * dim], n, dim, dim);
        let mut shares = vec![R::zero(); n * rows];
        math::matmul(&mut shares, rows, false, R::of(p.scale), candidate, query.t());
        for (c, row) in shares.chunks_exact_mut(rows).enumerate() {
            shares_of_candidate(row, &peak, &log, &weight);
            if let Some(place) = active.place(positive[first + c]) {
                row[place] -= R::one();
            }
        }
        let shares = math::Matrix::new(&shares, n, rows, rows);
        math::matmul(dcandidate, dim, false, R::of(p.scale), shares, query);
    });
}

/// The scores of one candidate with every query row to weighted shares.
#[multiversion(targets = "simd")]
fn shares_of_candidate<R: Real>(column: &mut [R], peak: &[R], log: &[R], weight: &[R]) {
    let rows = column.len();
    let (peak, log, weight) = (&peak[..rows], &log[..rows], &weight[..rows]);
    for r in 0..rows {
        column[r] = weight[r] * (column[r] - peak[r] - log[r]).exp_fast();
    }
}
