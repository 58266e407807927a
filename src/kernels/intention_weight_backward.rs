//! Gradient of eq. 9's scores, through the softmax over a sequence's own tokens.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence.
    "intention_weight_backward"
    params { sequences: u32 }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// p_i, `[tokens]`
        weight: read f32,
        /// `[tokens]`
        dweight: read f32,
        /// `[tokens]`
        dscore: write f32,
    }
    work |s| [4.0 * s.tokens, 3.0 * s.tokens + sequences]
    groups |p| fold(p.sequences)
}

pub fn twin<R: Real>(p: &Params, offsets: &[u32], weight: &[R], dweight: &[R], dscore: &mut [R]) {
    parallel::sequences(dscore, &offsets[..=p.sequences as usize], 1, |s, dscore| {
        let range = offsets[s] as usize..offsets[s + 1] as usize;
        softmax_gradient(&weight[range.clone()], &dweight[range], dscore);
    });
}

#[multiversion(targets = "simd")]
fn softmax_gradient<R: Real>(weight: &[R], dweight: &[R], dscore: &mut [R]) {
    let (weight, dweight) = (&weight[..dscore.len()], &dweight[..dscore.len()]);
    let along = math::dot(weight, dweight);
    for (i, out) in dscore.iter_mut().enumerate() {
        *out = weight[i] * (dweight[i] - along);
    }
}
