//! x = dropout(sqrt(D) * H[item] + P[position]): the encoder's first layer.

use multiversion::multiversion;

use super::dropout::Dropout;
use super::{Activation, Real, fold, parallel};

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row.
    "embed"
    params {
        tokens: u32,
        dim: u32,
        /// sqrt(D)
        scale: f32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
    }
    bindings {
        /// `[tokens]`
        items: read u32,
        /// `[tokens]`
        positions: read u32,
        /// H, `[items, dim]`
        table: read f32,
        /// P, `[length, dim]`
        position_table: read f32,
        /// `[tokens, dim]`
        x: write Activation,
    }
    work |_s| [3.0 * tokens * dim, tokens * (2.0 * dim + 2.0), tokens * dim]
    groups |p| fold((p.tokens * p.dim).div_ceil(256));
    serial |p| p.dim.is_multiple_of(4).then(|| fold((p.tokens * p.dim.div_ceil(16)).div_ceil(8)))
}

pub fn twin<R: Real>(p: &Params, items: &[u32], positions: &[u32], table: &[R], position_table: &[R], x: &mut [R]) {
    let dim = p.dim as usize;
    parallel::chunks(&mut x[..p.tokens as usize * dim], dim, parallel::ROWS, |first, x| {
        embed_rows(p, first, &items[first..], &positions[first..], table, position_table, x);
    });
}

/// The rows of the tokens from `first` on.
#[multiversion(targets = "simd")]
fn embed_rows<R: Real>(
    p: &Params,
    first: usize,
    items: &[u32],
    positions: &[u32],
    table: &[R],
    position_table: &[R],
    x: &mut [R],
) {
    let dim = p.dim as usize;
    let scale = R::of(p.scale);
    let dropout = Dropout { below: p.drop_below, scale: p.drop_scale, key: p.drop_key };
    for (i, row) in x.chunks_exact_mut(dim).enumerate() {
        let h = &table[items[i] as usize * dim..][..dim];
        let place = &position_table[positions[i] as usize * dim..][..dim];
        for d in 0..dim {
            row[d] = scale * h[d] + place[d];
        }
        dropout.mask(row, ((first + i) as u32).wrapping_mul(p.dim));
    }
}
