//! What keys and queries are normed from: alpha_i + z_i of every token (eq. 11), alpha_t + z_t + b' of every last token
//! (eq. 12).

use multiversion::multiversion;

use super::{Activation, Real, fold, parallel};

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row.
    "place"
    params { tokens: u32, dim: u32 }
    bindings {
        /// `[tokens, dim]`
        z: read Activation,
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
        placed: write Activation,
        /// `[sequences, dim]`
        query: write f32,
    }
    work |_s| [2.0 * tokens * dim, tokens * (2.0 * dim + 2.0), 2.0 * tokens * dim]
    groups |p| fold((p.tokens * p.dim).div_ceil(256));
    serial |p| p.dim.is_multiple_of(4).then(|| fold((p.tokens * p.dim.div_ceil(16)).div_ceil(8)))
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
    if tokens == 0 {
        return;
    }
    let placed = &mut placed[..tokens * dim];
    parallel::chunks(placed, dim, parallel::ROWS, |first, placed| {
        add_positions(&z[first * dim..][..placed.len()], &positions[first..], position_table, dim, placed);
    });
    let ends = &offsets[1..=owners[tokens - 1] as usize + 1];
    parallel::chunks(&mut query[..ends.len() * dim], dim, parallel::ROWS, |first, query| {
        add_bias(placed, &ends[first..], &query_bias[..dim], query);
    });
}

#[multiversion(targets = "simd")]
fn add_positions<R: Real>(z: &[R], positions: &[u32], position_table: &[R], dim: usize, placed: &mut [R]) {
    for ((row, z), &position) in placed.chunks_exact_mut(dim).zip(z.chunks_exact(dim)).zip(positions) {
        let alpha = &position_table[position as usize * dim..][..dim];
        for d in 0..dim {
            row[d] = alpha[d] + z[d];
        }
    }
}

/// The queries of the sequences that end before tokens `ends`.
#[multiversion(targets = "simd")]
fn add_bias<R: Real>(placed: &[R], ends: &[u32], bias: &[R], query: &mut [R]) {
    let dim = bias.len();
    for (row, &end) in query.chunks_exact_mut(dim).zip(ends) {
        let last = &placed[(end as usize - 1) * dim..][..dim];
        for d in 0..dim {
            row[d] = last[d] + bias[d];
        }
    }
}
