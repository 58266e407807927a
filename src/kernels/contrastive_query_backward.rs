//! Gradient of the query rows of a contrastive loss.
//!
//! The loss is sum_r weight_r * ln(sum_n exp(score(r, n))) - sum_n score(positive_n, n): the shares are
//! weight_r * exp(score - largest_r - log_r), less 1 where row r is the positive of candidate n.

use multiversion::multiversion;

use super::{Real, math, parallel};

/// Query rows of a block in the twin.
const BLOCK: usize = 128;

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
    let active = ActiveRows::new(&weight[..p.rows as usize], &positive[..n]);
    parallel::chunks(&mut dquery[..p.rows as usize * dim], dim, BLOCK, |first, dquery| {
        let (own, rows) = active.between(first, first + dquery.len() / dim);
        let query = gather(query, dim, rows);
        let query = math::Matrix::new(&query, rows.len(), dim, dim);
        let mut shares = vec![R::zero(); rows.len() * n];
        math::matmul(&mut shares, n, false, R::of(p.scale), query, candidate.t());
        for (row, &r) in shares.chunks_exact_mut(n).zip(rows) {
            shares_of_row(row, normaliser[2 * r], normaliser[2 * r + 1], weight[r]);
        }
        for (c, &row) in positive[..n].iter().enumerate() {
            if let Some(i) = active.place(row).filter(|i| own.contains(i)) {
                shares[(i - own.start) * n + c] -= R::one();
            }
        }
        let shares = math::Matrix::new(&shares, rows.len(), n, n);
        let mut gradient = vec![R::zero(); rows.len() * dim];
        math::matmul(&mut gradient, dim, false, R::of(p.scale), shares, candidate);
        if p.accumulate == 0 {
            dquery.fill(R::zero());
        }
        for (gradient, &r) in gradient.chunks_exact(dim).zip(rows) {
            math::add_scaled(&mut dquery[(r - first) * dim..][..dim], R::one(), gradient);
        }
    });
}

/// The query rows that the loss depends on: those with a weight, and positives. The others, half of them in the seq2seq
/// loss, take no part in the products.
pub(super) struct ActiveRows {
    /// Ascending.
    rows: Vec<usize>,
    /// For each row, where it is in `rows`.
    places: Vec<Option<usize>>,
}

impl ActiveRows {
    pub fn new<R: Real>(weight: &[R], positive: &[u32]) -> Self {
        let mut active: Vec<bool> = weight.iter().map(|&weight| weight != R::zero()).collect();
        for &row in positive {
            if let Some(active) = active.get_mut(row as usize) {
                *active = true;
            }
        }
        let mut rows = Vec::with_capacity(active.len());
        let mut places = vec![None; active.len()];
        for row in (0..active.len()).filter(|&row| active[row]) {
            places[row] = Some(rows.len());
            rows.push(row);
        }
        ActiveRows { rows, places }
    }

    /// Where a row is among the active ones.
    pub fn place(&self, row: u32) -> Option<usize> {
        self.places.get(row as usize).copied().flatten()
    }

    /// All of them.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Those of `start..end`: their places, and the rows.
    fn between(&self, start: usize, end: usize) -> (std::ops::Range<usize>, &[usize]) {
        let places = self.rows.partition_point(|&row| row < start)..self.rows.partition_point(|&row| row < end);
        (places.clone(), &self.rows[places])
    }
}

/// Some rows of a matrix, one after the other.
pub(super) fn gather<R: Real>(matrix: &[R], dim: usize, rows: &[usize]) -> Vec<R> {
    let mut gathered = Vec::with_capacity(rows.len() * dim);
    for row in rows {
        gathered.extend_from_slice(&matrix[row * dim..][..dim]);
    }
    gathered
}

/// The scores of one query row to weighted shares.
#[multiversion(targets = "simd")]
fn shares_of_row<R: Real>(row: &mut [R], peak: R, log: R, weight: R) {
    for share in row {
        *share = weight * (*share - peak - log).exp_fast();
    }
}
