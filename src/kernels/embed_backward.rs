//! Gradient of the item rows in use: of each distinct row, the sum over the tokens and candidates that are it.

use super::dropout::factor;
use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element of the compact gradient.
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
        /// Item of each distinct row, `[rows]`
        items: read u32,
        /// `[rows + 1]`
        starts: read u32,
        /// `[tokens + candidates]`
        sources: read u32,
        /// Gradient of `embed`'s x, `[tokens, dim]`
        dx: read f32,
        /// Gradient of the candidates' rows, `[candidates, dim]`
        dcandidates: read f32,
        /// H, `[items, dim]`
        table: read f32,
        /// `[rows, dim]`
        gradient: write f32,
    }
    groups |p| fold((p.rows * p.dim).div_ceil(256))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    items: &[u32],
    starts: &[u32],
    sources: &[u32],
    dx: &[R],
    dcandidates: &[R],
    table: &[R],
    gradient: &mut [R],
) {
    let dim = p.dim as usize;
    parallel::chunks(&mut gradient[..p.rows as usize * dim], dim, parallel::ROWS, |first, chunk| {
        for (i, row) in chunk.chunks_exact_mut(dim).enumerate() {
            let at = first + i;
            let h = &table[items[at] as usize * dim..][..dim];
            for d in 0..dim {
                row[d] = R::of(2.0 * p.l2) * h[d];
            }
            for &source in &sources[starts[at] as usize..starts[at + 1] as usize] {
                if source < p.tokens {
                    let from = &dx[source as usize * dim..][..dim];
                    for d in 0..dim {
                        let element = source * p.dim + d as u32;
                        let kept = factor::<R>(p.drop_below, p.drop_scale, p.drop_key, element);
                        row[d] += R::of(p.scale) * kept * from[d];
                    }
                } else {
                    let from = &dcandidates[(source - p.tokens) as usize * dim..][..dim];
                    for d in 0..dim {
                        row[d] += from[d];
                    }
                }
            }
        }
    });
}
