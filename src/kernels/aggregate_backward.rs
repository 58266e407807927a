//! Gradients of eq. 13's sum: of z, of p_{k|i}, and of p_i, the latter taken through its softmax (eq. 9) to its scores.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Activation, Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence; in `serial`, an invocation.
    "aggregate_backward"
    params { sequences: u32, dim: u32, intentions: u32, length: u32, accumulate: u32 }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens, dim]`
        z: read Activation,
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
        dscore: write f32,
    }
    work |s| [4.0 * s.tokens * (intentions * dim + 1.0), s.tokens * ((2.0 + accumulate) * dim + 2.0 * intentions + 2.0) + sequences * intentions * dim, s.tokens * dim]
    groups |p| fold(p.sequences);
    serial |p| (p.dim.is_multiple_of(4) && p.length * (p.dim + 48) * p.intentions.div_ceil(4) <= 1 << 17)
        .then(|| fold(p.sequences.div_ceil(8)))
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
    dscore: &mut [R],
) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(dz, offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(dcluster, offsets, intentions))
        .zip(parallel::by_sequence(dscore, offsets, 1))
        .enumerate()
        .for_each(|(s, ((dz, dcluster), dscore))| {
            let first = offsets[s] as usize;
            let (z, cluster) = (&z[first * dim..], &cluster[first * intentions..]);
            let dtotal = &dtotal[s * intentions * dim..][..intentions * dim];
            sequence(p, z, cluster, &weight[first..], dtotal, (dz, dcluster, dscore));
        });
}

/// Gradients of one sequence, whose first token is the first of `z`, `cluster` and `weight`.
#[multiversion(targets = "simd")]
fn sequence<R: Real>(
    p: &Params,
    z: &[R],
    cluster: &[R],
    weight: &[R],
    dtotal: &[R],
    (dz, dcluster, dscore): (&mut [R], &mut [R], &mut [R]),
) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    if p.accumulate == 0 {
        dz.fill(R::zero());
    }
    let weight = &weight[..dscore.len()];
    for (i, dweight) in dscore.iter_mut().enumerate() {
        let (z, dz) = (&z[i * dim..][..dim], &mut dz[i * dim..][..dim]);
        *dweight = R::zero();
        for (k, dtotal) in dtotal.chunks_exact(dim).enumerate() {
            let share = cluster[i * intentions + k];
            let along = math::dot(dtotal, z);
            dcluster[i * intentions + k] = along * weight[i];
            *dweight += along * share;
            math::add_scaled(dz, share * weight[i], dtotal);
        }
    }
    let mean = math::dot(weight, dscore);
    for (dscore, &weight) in dscore.iter_mut().zip(weight) {
        *dscore = weight * (*dscore - mean);
    }
}
