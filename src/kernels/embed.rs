//! x = dropout(sqrt(D) * H[item] + P[position]): the encoder's first layer.

use super::dropout::factor;
use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element.
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
        x: write f32,
    }
    groups |p| fold((p.tokens * p.dim).div_ceil(256))
}

pub fn twin<R: Real>(p: &Params, items: &[u32], positions: &[u32], table: &[R], position_table: &[R], x: &mut [R]) {
    let dim = p.dim as usize;
    parallel::chunks(&mut x[..p.tokens as usize * dim], dim, parallel::ROWS, |first, chunk| {
        for (i, row) in chunk.chunks_exact_mut(dim).enumerate() {
            let token = first + i;
            let h = &table[items[token] as usize * dim..][..dim];
            let place = &position_table[positions[token] as usize * dim..][..dim];
            let element = token as u32 * p.dim;
            for d in 0..dim {
                let kept = factor::<R>(p.drop_below, p.drop_scale, p.drop_key, element + d as u32);
                row[d] = (R::of(p.scale) * h[d] + place[d]) * kept;
            }
        }
    });
}
