//! Gradient of the item rows in use: of each distinct row, the sum over the tokens and candidates that are it.

use multiversion::multiversion;

use super::dropout::Dropout;
use super::{Real, fold, math, parallel};

kernel! {
    /// `main`: one invocation an element of the compact gradient. `serial`: one invocation sixteen elements of a row.
    "embed_backward"
    params {
        /// Distinct rows.
        rows: u32,
        dim: u32,
        /// A source below this is a token, others are candidates.
        tokens: u32,
        /// sqrt(D)
        scale: f32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
        /// Weight of the rows' squares in the loss.
        l2: f32,
    }
    bindings {
        /// `[rows + 1]`
        starts: read u32,
        /// `[tokens + candidates]`
        sources: read u32,
        /// Gradient of `embed`'s x, `[tokens, dim]`
        dx: read f32,
        /// Gradient of the candidates' rows, `[candidates, dim]`
        dcandidates: read f32,
        /// The distinct rows of H, `[rows, dim]`
        table: read f32,
        /// `[rows, dim]`
        gradient: write f32,
    }
    work |_s| [2.0 * tokens * dim, (tokens + 2.0 * rows) * dim + tokens + rows]
    groups |p| fold((p.rows * p.dim).div_ceil(256));
    serial |p| p.dim.is_multiple_of(4).then(|| fold((p.rows * p.dim.div_ceil(16)).div_ceil(8)))
}

pub fn twin<R: Real>(
    p: &Params,
    starts: &[u32],
    sources: &[u32],
    dx: &[R],
    dcandidates: &[R],
    table: &[R],
    gradient: &mut [R],
) {
    let dim = p.dim as usize;
    parallel::chunks(&mut gradient[..p.rows as usize * dim], dim, parallel::ROWS, |first, rows| {
        decay(p, &table[first * dim..][..rows.len()], rows);
        add_sources(p, &starts[first..], sources, dx, dcandidates, rows);
    });
}

/// The squares' part.
#[multiversion(targets = "simd")]
fn decay<R: Real>(p: &Params, table: &[R], rows: &mut [R]) {
    let factor = R::of(2.0 * p.l2);
    for (row, &h) in rows.iter_mut().zip(table) {
        *row = factor * h;
    }
}

#[multiversion(targets = "simd")]
fn add_sources<R: Real>(p: &Params, starts: &[u32], sources: &[u32], dx: &[R], dcandidates: &[R], rows: &mut [R]) {
    let dim = p.dim as usize;
    let dropout = Dropout { below: p.drop_below, scale: p.drop_scale, key: p.drop_key };
    for (row, range) in rows.chunks_exact_mut(dim).zip(starts.windows(2)) {
        for &source in &sources[range[0] as usize..range[1] as usize] {
            if source < p.tokens {
                let from = &dx[source as usize * dim..][..dim];
                dropout.add_masked(row, R::of(p.scale), from, source.wrapping_mul(p.dim));
            } else {
                math::add_scaled(row, R::one(), &dcandidates[(source - p.tokens) as usize * dim..][..dim]);
            }
        }
    }
}
