//! Gradients of keys and queries (eq. 9, 10): of key~ through the sum in eq. 10, of W key~ + b through its ReLU, and of
//! the query.

use rayon::prelude::*;

use super::{Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence, an invocation a column.
    "intention_key_backward"
    params {
        sequences: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens]`
        dscore: read f32,
        /// `[tokens, dim]`
        key: read f32,
        /// key~, `[tokens, dim]`
        normed: read f32,
        /// `[sequences, dim]`
        query: read f32,
        /// Gradient of key~ by the sum of eq. 10, `[tokens, dim]`
        dnormed: write f32,
        /// Gradient of W key~ + b, `[tokens, dim]`
        dlinear: write f32,
        /// `[sequences, dim]`
        dquery: write f32,
    }
    groups |p| fold(p.sequences)
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    dscore: &[R],
    key: &[R],
    normed: &[R],
    query: &[R],
    dnormed: &mut [R],
    dlinear: &mut [R],
    dquery: &mut [R],
) {
    let dim = p.dim as usize;
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(dnormed, offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(dlinear, offsets, dim))
        .zip(dquery.par_chunks_exact_mut(dim))
        .enumerate()
        .for_each(|(s, ((dnormed, dlinear), dquery))| {
            parallel::simd(|| {
                let first = offsets[s] as usize;
                let query = &query[s * dim..][..dim];
                dquery.fill(R::zero());
                for (i, (dnormed, dlinear)) in
                    dnormed.chunks_exact_mut(dim).zip(dlinear.chunks_exact_mut(dim)).enumerate()
                {
                    let key = &key[(first + i) * dim..][..dim];
                    let normed = &normed[(first + i) * dim..][..dim];
                    let slope = R::of(p.scale) * dscore[first + i];
                    math::add_scaled(dquery, slope, key);
                    for d in 0..dim {
                        let value = slope * query[d];
                        dnormed[d] = value;
                        dlinear[d] = if key[d] > normed[d] { value } else { R::zero() };
                    }
                }
            });
        });
}
