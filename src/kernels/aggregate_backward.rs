//! Gradients of eq. 13's sum: of z, p_{k|i} and p_i.

use rayon::prelude::*;

use super::{Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence.
    "aggregate_backward"
    params { sequences: u32, dim: u32, intentions: u32, accumulate: u32 }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens, dim]`
        z: read f32,
        /// `[tokens, intentions]`
        cluster: read f32,
        /// `[tokens]`
        weight: read f32,
        /// `[sequences, intentions, dim]`
        dtotal: read f32,
        /// `[tokens, dim]`; the one that `accumulate` is about
        dz: write f32,
        /// `[tokens, intentions]`
        dcluster: write f32,
        /// `[tokens]`
        dweight: write f32,
    }
    groups |p| fold(p.sequences)
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    z: &[R],
    cluster: &[R],
    weight: &[R],
    dtotal: &[R],
    dz: &mut [R],
    dcluster: &mut [R],
    dweight: &mut [R],
) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(dz, offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(dcluster, offsets, intentions))
        .zip(parallel::by_sequence(dweight, offsets, 1))
        .enumerate()
        .for_each(|(s, ((dz, dcluster), dweight))| {
            parallel::simd(|| {
                let dtotal = &dtotal[s * intentions * dim..][..intentions * dim];
                for (i, dz) in dz.chunks_exact_mut(dim).enumerate() {
                    let token = offsets[s] as usize + i;
                    let z = &z[token * dim..][..dim];
                    if p.accumulate == 0 {
                        dz.fill(R::zero());
                    }
                    dweight[i] = R::zero();
                    for (k, dtotal) in dtotal.chunks_exact(dim).enumerate() {
                        let share = cluster[token * intentions + k];
                        let along = math::dot(dtotal, z);
                        dcluster[i * intentions + k] = along * weight[token];
                        dweight[i] += along * share;
                        math::add_scaled(dz, share * weight[token], dtotal);
                    }
                }
            });
        });
}
