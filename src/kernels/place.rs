//! What keys and queries are normed from: alpha_i + z_i of every token (eq. 11), alpha_t + z_t + b' of every last token
//! (eq. 12).

use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element.
    "place"
    params { tokens: u32, dim: u32 }
    bindings {
        /// `[tokens, dim]`
        z: read f32,
        /// `[tokens]`
        positions: read u32,
        /// Sequence of each token, `[tokens]`
        owners: read u32,
        /// `[sequences + 1]`
        offsets: read u32,
        /// alpha, `[length, dim]`
        position_table: read f32,
        /// b', `[dim]`
        query_bias: read f32,
        /// `[tokens, dim]`
        placed: write f32,
        /// `[sequences, dim]`
        query: write f32,
    }
    groups |p| fold((p.tokens * p.dim).div_ceil(256))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    z: &[R],
    positions: &[u32],
    owners: &[u32],
    offsets: &[u32],
    position_table: &[R],
    query_bias: &[R],
    placed: &mut [R],
    query: &mut [R],
) {
    let (tokens, dim) = (p.tokens as usize, p.dim as usize);
    parallel::chunks(&mut placed[..tokens * dim], dim, parallel::ROWS, |first, chunk| {
        for (i, row) in chunk.chunks_exact_mut(dim).enumerate() {
            let z = &z[(first + i) * dim..][..dim];
            let alpha = &position_table[positions[first + i] as usize * dim..][..dim];
            for d in 0..dim {
                row[d] = alpha[d] + z[d];
            }
        }
    });
    if tokens == 0 {
        return;
    }
    let sequences = owners[tokens - 1] as usize + 1;
    for (row, end) in query.chunks_exact_mut(dim).zip(&offsets[1..=sequences]) {
        let last = &placed[(*end as usize - 1) * dim..][..dim];
        for d in 0..dim {
            row[d] = last[d] + query_bias[d];
        }
    }
}
