//! Gradients of both contrastive losses, of queries and candidates alike.
//!
//! A loss is sum_r weight_r * ln(sum_n exp(score(r, n))) - sum_n score(positive_n, n): the share of candidate n in row r
//! is weight_r * exp(score - largest_r - log_r), less 1 where row r is the positive of candidate n. The weight is part of
//! the row's shift (largest, log - ln(weight)).

use multiversion::multiversion;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::contrastive::{has_windows, score_row, scores, windows};
use super::contrastive_loss::NOTHING;
use super::{Call, Real, Region, UniformView, math, parallel};

/// Rows of a loss whose shares the twin keeps until the gradients of both sides are made of them.
const SPAN: usize = 512;
/// Rows of a block in the twin, of either side: whole blocks of a small product.
const BLOCK: usize = 48;

kernel! {
    /// `main`: a workgroup makes 32 rows x 64 columns of the gradient, from 32 rows of the other side at a time. `serial`
    /// makes the gradient of one side in one loss from a window of the other, an invocation 8 rows.
    "contrastive_backward"
    params {
        /// Query rows (B * K).
        rows: u32,
        targets: u32,
        /// As many as rows, or 0 where there is no such loss.
        labels: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        /// What `serial` makes: of eq. 6 (0) or of eq. 3 (1),
        loss: u32,
        /// the gradients of queries (0), or of candidates (1), which then are in the bindings of queries and the other way
        /// round,
        of_candidates: u32,
        /// of so many rows, from this one of its side on,
        own: u32,
        first_own: u32,
        /// made from so many of the other side, from this one on,
        others: u32,
        first_other: u32,
        /// and added to what is there (1).
        accumulate: u32,
    }
    bindings {
        /// Targets: `[targets, dim]`
        candidate: read f32,
        /// Queries, then labels: `[rows + labels, dim]`
        query: read f32,
        /// What each row's shares are made with, of eq. 6, then of eq. 3: `[2, rows, 2]`
        shift: read f32,
        /// The row whose positive each candidate is, or NONE: `[targets + labels]`
        positive: read u32,
        /// Number of rows that eq. 4 keeps, then all rows, those first: `[1 + rows]`. The others have no part in eq. 3.
        order: read u32,
        /// The gradient of `candidate`
        dcandidate: write f32,
        /// The gradient of `query`
        dquery: write f32,
    }
    // Half of the rows are kept, where the selection is the default's.
    work |_s| [
        rows * (targets + 0.5 * labels) * (6.0 * dim + 4.0),
        2.0 * (rows + targets + labels) * dim + 6.0 * rows
    ]
    groups |p| {
        let [x, y, _] = super::fold(blocks(&p, 32));
        [x, y, p.dim.div_ceil(64)]
    };
    serial |p| has_windows(p.rows, p.labels, p.dim).then(|| super::fold(p.own.div_ceil(8 * 8)));
    uniform candidate |p| UniformView::holds(p.others * p.dim);
    uniform query |p| UniformView::holds(p.own * p.dim);
    parts only |p, b| window_calls(&p, &b)
}

/// Calls of `serial`, for each loss, and each window of queries and of candidates: one for either side's gradient.
fn window_calls(p: &Params, b: &Bindings) -> Vec<Call> {
    let after = |region: Region, rows: u32| region.after(rows * p.dim);
    let mut calls = Vec::new();
    let label = (after(b.query, p.rows), after(b.dquery, p.rows));
    for (loss, (candidate, dcandidate), n) in [(0, (b.candidate, b.dcandidate), p.targets), (1, label, p.labels)] {
        if loss == 1 && n == 0 {
            continue;
        }
        for q in windows(p.rows, p.dim) {
            let len = (q.rows * p.dim) as usize;
            let (query, dquery) = (after(b.query, q.first).first(len), after(b.dquery, q.first).first(len));
            for c in windows(n, p.dim) {
                let (candidate, dcandidate) = (after(candidate, c.first), after(dcandidate, c.first));
                let of_queries = Params {
                    loss,
                    own: q.rows,
                    first_own: q.first,
                    others: c.rows,
                    first_other: c.first,
                    accumulate: (loss > 0 || c.first > 0).into(),
                    ..*p
                };
                let of_candidates = Params {
                    of_candidates: 1,
                    own: c.rows,
                    first_own: c.first,
                    others: q.rows,
                    first_other: q.first,
                    accumulate: (q.first > 0).into(),
                    ..of_queries
                };
                calls.push(call(of_queries, Bindings { candidate, query, dcandidate, dquery, ..*b }));
                let bindings =
                    Bindings { candidate: query, query: candidate, dcandidate: dquery, dquery: dcandidate, ..*b };
                calls.push(call(of_candidates, bindings));
            }
        }
    }
    calls
}

impl Params {
    /// Of a call for everything.
    pub fn whole(rows: u32, [targets, labels]: [u32; 2], dim: u32, scale: f32) -> Params {
        Params { rows, targets, labels, dim, scale, ..bytemuck::Zeroable::zeroed() }
    }
}

/// Blocks of queries, of targets and of labels.
fn blocks(p: &Params, size: u32) -> u32 {
    p.rows.div_ceil(size) + p.targets.div_ceil(size) + p.labels.div_ceil(size)
}

/// A loss: its candidates and which of them are whose positives, its rows that have a part, and their shifts.
struct Loss<'a, R> {
    candidate: &'a [R],
    /// `candidate`'s transpose and the length of its rows.
    transpose: (Aligned<R>, usize),
    positive: &'a [u32],
    rows: Vec<u32>,
    /// Where each row is in `rows`.
    places: Vec<Option<usize>>,
    shift: &'a [R],
}

impl<'a, R: Real> Loss<'a, R> {
    fn new(dim: usize, candidate: &'a [R], positive: &'a [u32], rows: &[u32], shift: &'a [R]) -> Self {
        let mut active: Vec<bool> = vec![false; shift.len() / 2];
        for &row in rows {
            active[row as usize] = shift[2 * row as usize + 1] < R::of(NOTHING);
        }
        for &row in positive {
            if let Some(active) = active.get_mut(row as usize) {
                *active = true;
            }
        }
        let rows: Vec<u32> = (0..active.len() as u32).filter(|&row| active[row as usize]).collect();
        let mut places = vec![None; active.len()];
        for (place, &row) in rows.iter().enumerate() {
            places[row as usize] = Some(place);
        }
        let transpose = math::transposed(candidate, positive.len(), dim);
        Loss { candidate, transpose, positive, rows, places, shift }
    }

    /// Writes the gradient of the candidates; that of `rows`, one after the other.
    fn gradients(&self, dim: usize, scale: R, query: &[R], dcandidate: &mut [R]) -> Aligned<R> {
        let (rows, n) = (self.rows.len(), self.positive.len());
        let mut dquery = Aligned::zeroed(rows * dim);
        if rows == 0 || n == 0 {
            dcandidate.fill(R::zero());
            return dquery;
        }
        let mut gathered = Aligned::zeroed(rows.min(SPAN) * dim);
        let row = score_row(n);
        let mut shares = Aligned::zeroed(rows.min(SPAN) * row);
        for (first, dquery) in (0..rows).step_by(SPAN).zip(dquery.chunks_mut(SPAN * dim)) {
            let rows = dquery.len() / dim;
            let (gathered, shares) = (&mut gathered[..rows * dim], &mut shares[..rows * row]);
            shares
                .par_chunks_mut(BLOCK * row)
                .zip(gathered.par_chunks_mut(BLOCK * dim))
                .zip(dquery.par_chunks_mut(BLOCK * dim))
                .zip(self.rows[first..].par_chunks(BLOCK))
                .enumerate()
                .for_each(|(block, (((shares, gathered), dquery), rows))| {
                    for (to, &row) in gathered.chunks_exact_mut(dim).zip(rows) {
                        to.copy_from_slice(&query[row as usize * dim..][..dim]);
                    }
                    self.shares(dim, scale, gathered, first + block * BLOCK, shares);
                    let shares = math::Matrix::new(shares, gathered.len() / dim, n, row);
                    let candidate = math::Matrix::new(self.candidate, n, dim, dim);
                    math::matmul(dquery, dim, false, scale, shares, candidate);
                });
            let query = math::Matrix::new(gathered, rows, dim, dim);
            parallel::chunks(dcandidate, dim, BLOCK, |c, dcandidate| {
                let shares = math::Matrix::new(&shares[c..], rows, dcandidate.len() / dim, row).t();
                math::matmul(dcandidate, dim, first > 0, scale, shares, query);
            });
        }
        dquery
    }

    /// The shares of all candidates in the rows from `first` of `rows` on, which `query` holds.
    fn shares(&self, dim: usize, scale: R, query: &[R], first: usize, shares: &mut [R]) {
        let (rows, n) = (query.len() / dim, self.positive.len());
        let width = score_row(n);
        scores(scale, math::Matrix::new(query, rows, dim, dim), &self.transpose, n, shares);
        for (share, &row) in shares.chunks_exact_mut(width).zip(&self.rows[first..]) {
            shares_of_row(&mut share[..n], self.shift[2 * row as usize], self.shift[2 * row as usize + 1]);
        }
        for (c, &row) in self.positive.iter().enumerate() {
            let place = self.places.get(row as usize).copied().flatten();
            if let Some(place) = place.filter(|place| (first..first + rows).contains(place)) {
                shares[(place - first) * width + c] -= R::one();
            }
        }
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    target: &[R],
    query: &[R],
    shift: &[R],
    positive: &[u32],
    order: &[u32],
    dtarget: &mut [R],
    dquery: &mut [R],
) {
    let [rows, targets, labels, dim] = [p.rows, p.targets, p.labels, p.dim].map(|n| n as usize);
    let (query, label) = query.split_at(rows * dim);
    let (item_shift, label_shift) = shift.split_at(2 * rows);
    let (item_positive, label_positive) = positive[..targets + labels].split_at(targets);
    let order = &order[..=rows];
    let (all, kept) = (&order[1..], &order[1..][..if labels > 0 { order[0] as usize } else { 0 }]);
    let label_shift = if labels > 0 { &label_shift[..2 * rows] } else { item_shift };
    let losses = [
        Loss::new(dim, &target[..targets * dim], item_positive, all, item_shift),
        Loss::new(dim, &label[..labels * dim], label_positive, kept, label_shift),
    ];
    let (dquery, dlabel) = dquery.split_at_mut(rows * dim);
    let scale = R::of(p.scale);
    let (of_items, of_labels) = rayon::join(
        || losses[0].gradients(dim, scale, query, &mut dtarget[..targets * dim]),
        || losses[1].gradients(dim, scale, query, &mut dlabel[..labels * dim]),
    );
    parallel::chunks(dquery, dim, parallel::ROWS, |first, dquery| {
        for (row, dquery) in (first..).zip(dquery.chunks_exact_mut(dim)) {
            dquery.fill(R::zero());
            for (loss, gradient) in losses.iter().zip([&of_items, &of_labels]) {
                if let Some(place) = loss.places[row] {
                    math::add_scaled(dquery, R::one(), &gradient[place * dim..][..dim]);
                }
            }
        }
    });
}

/// The scores of one query row to weighted shares.
#[multiversion(targets = "simd")]
fn shares_of_row<R: Real>(row: &mut [R], peak: R, log: R) {
    for share in row {
        *share = (*share - peak - log).exp_fast();
    }
}
