//! What LayerNorm 5 is given: beta_k plus the sum of p_{k|i} p_i z_i over a sequence (eq. 13), with the inputs' or the
//! labels' beta.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Activation, Real, fold, math};

kernel! {
    /// A workgroup a sequence, an invocation a column; in `serial`, an invocation 4 intentions and 16 columns of a
    /// sequence.
    "aggregate"
    params {
        sequences: u32,
        /// Sequences from here on are labels.
        inputs: u32,
        dim: u32,
        intentions: u32,
        /// L, at least the longest sequence's tokens
        length: u32,
    }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens, dim]`
        z: read Activation,
        /// p_{k|i}, `[tokens, intentions]`
        cluster: read f32,
        /// p_i, `[tokens]`
        weight: read f32,
        /// beta of inputs, `[intentions, dim]`
        input_bias: read f32,
        /// beta of labels, `[intentions, dim]`
        label_bias: read f32,
        /// `[sequences, intentions, dim]`
        total: write f32,
    }
    work |s| [3.0 * s.tokens * intentions * dim, s.tokens * (dim + intentions + 1.0) + sequences * intentions * dim, s.tokens * dim]
    groups |p| fold(p.sequences);
    serial |p| (p.dim.is_multiple_of(4) && p.length < 1 << 15).then(|| {
        fold((p.sequences * p.dim.div_ceil(16) * p.intentions.div_ceil(4)).div_ceil(8))
    })
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    z: &[R],
    cluster: &[R],
    weight: &[R],
    input_bias: &[R],
    label_bias: &[R],
    total: &mut [R],
) {
    let wide = p.intentions as usize * p.dim as usize;
    total[..p.sequences as usize * wide].par_chunks_exact_mut(wide).enumerate().for_each(|(s, total)| {
        let bias = if s < p.inputs as usize { input_bias } else { label_bias };
        total.copy_from_slice(&bias[..wide]);
        add_tokens(p, offsets[s] as usize..offsets[s + 1] as usize, z, cluster, weight, total);
    });
}

/// Adds the sum over a sequence's tokens.
#[multiversion(targets = "simd")]
fn add_tokens<R: Real>(p: &Params, tokens: Range<usize>, z: &[R], cluster: &[R], weight: &[R], total: &mut [R]) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    for token in tokens {
        let z = &z[token * dim..][..dim];
        let share = &cluster[token * intentions..][..intentions];
        for (out, &share) in total.chunks_exact_mut(dim).zip(share) {
            math::add_scaled(out, share * weight[token], z);
        }
    }
}
