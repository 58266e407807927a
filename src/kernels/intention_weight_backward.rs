//! Gradient of eq. 9's scores, through the softmax over a sequence's own tokens.

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
    groups |p| fold(p.sequences)
}

pub fn twin<R: Real>(p: &Params, offsets: &[u32], weight: &[R], dweight: &[R], dscore: &mut [R]) {
    parallel::sequences(dscore, &offsets[..=p.sequences as usize], 1, |s, dscore| {
        let range = offsets[s] as usize..offsets[s + 1] as usize;
        let (weight, dweight) = (&weight[range.clone()], &dweight[range]);
        let along = math::dot(weight, dweight);
        for (i, out) in dscore.iter_mut().enumerate() {
            *out = weight[i] * (dweight[i] - along);
        }
    });
}
