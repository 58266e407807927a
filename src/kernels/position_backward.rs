//! Gradient of a position table: of each row, the sum over the tokens at that position.

use multiversion::multiversion;

use super::dropout::Dropout;
use super::{Real, fold, parallel, slice_rows};

kernel! {
    /// `main`: one invocation an element of a slice. `serial`: one invocation sixteen elements of a row. Slice s sums its
    /// share of every position's tokens.
    "position_backward"
    params {
        /// L
        positions: u32,
        dim: u32,
        slices: u32,
        stride: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
    }
    bindings {
        /// `[positions + 1]`
        starts: read u32,
        /// Tokens by position, `[tokens]`
        sources: read u32,
        /// `[tokens, dim]`
        dx: read f32,
        /// `[positions, dim]` in each slice
        gradient: write f32,
    }
    work |s| [s.tokens * dim, s.tokens * (dim + 1.0) + slices * positions * dim]
    groups |p| fold((p.slices * p.positions * p.dim).div_ceil(256));
    serial |p| {
        let whole = p.dim.is_multiple_of(4) && p.stride.is_multiple_of(4);
        whole.then(|| fold((p.slices * p.positions * p.dim.div_ceil(16)).div_ceil(8)))
    }
}

pub fn twin<R: Real>(p: &Params, starts: &[u32], sources: &[u32], dx: &[R], gradient: &mut [R]) {
    let (positions, dim) = (p.positions as usize, p.dim as usize);
    parallel::slices(gradient, (p.slices, p.stride, positions * dim), |slice, out| {
        for (position, row) in out.chunks_exact_mut(dim).enumerate() {
            let (start, end) = (starts[position] as usize, starts[position + 1] as usize);
            let share = slice_rows(end - start, p.slices as usize, slice);
            sum_tokens(p, &sources[start + share.start..start + share.end], dx, row);
        }
    });
}

#[multiversion(targets = "simd")]
fn sum_tokens<R: Real>(p: &Params, tokens: &[u32], dx: &[R], row: &mut [R]) {
    row.fill(R::zero());
    let dim = row.len();
    let dropout = Dropout { below: p.drop_below, scale: p.drop_scale, key: p.drop_key };
    for &token in tokens {
        dropout.add_masked(row, R::one(), &dx[token as usize * dim..][..dim], token.wrapping_mul(p.dim));
    }
}
