//! p_i: softmax over a sequence's own tokens of the scaled dot products of its keys with its query (eq. 9).

use multiversion::multiversion;

use super::{Activation, Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence; in `serial`, an invocation.
    "intention_weight"
    params {
        sequences: u32,
        dim: u32,
        /// L, at least the longest sequence's tokens
        length: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens, dim]`
        key: read Activation,
        /// `[sequences, dim]`
        query: read f32,
        /// p_i, `[tokens]`
        weight: write f32,
    }
    work |s| [s.tokens * (2.0 * dim + 4.0), s.tokens * (dim + 1.0) + sequences * dim, s.tokens * dim]
    groups |p| fold(p.sequences);
    serial |p| (p.dim.is_multiple_of(4) && p.length * (p.dim + 48) <= MOST_WALKED).then(|| fold(p.sequences.div_ceil(8)))
}

/// Of L (D + 48), where an invocation of `serial` walks a whole sequence: more takes it more iterations than some drivers
/// let it have.
const MOST_WALKED: u32 = 1 << 19;

pub fn twin<R: Real>(p: &Params, offsets: &[u32], key: &[R], query: &[R], weight: &mut [R]) {
    let dim = p.dim as usize;
    parallel::sequences(weight, &offsets[..=p.sequences as usize], 1, |s, weight| {
        shares(R::of(p.scale), &key[offsets[s] as usize * dim..], &query[s * dim..][..dim], weight);
    });
}

/// Of one sequence, whose first key is the first of `key`.
#[multiversion(targets = "simd")]
fn shares<R: Real>(scale: R, key: &[R], query: &[R], weight: &mut [R]) {
    for (score, key) in weight.iter_mut().zip(key.chunks_exact(query.len())) {
        *score = scale * math::dot(key, query);
    }
    let peak = math::largest(weight);
    for share in weight.iter_mut() {
        *share = (*share - peak).exp_fast();
    }
    let total = math::sum(weight);
    for share in weight.iter_mut() {
        *share = *share / total;
    }
}
