//! Gradients of keys and queries (eq. 9, 10): of key~ through the sum in eq. 10, of W key~ + b through its ReLU, and of
//! the query.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Activation, Real, fold, math, parallel};

kernel! {
    /// A workgroup a sequence, an invocation a column; in `serial`, an invocation 4 columns of a sequence.
    "intention_key_backward"
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
        /// `[tokens]`
        dscore: read f32,
        /// `[tokens, dim]`
        key: read Activation,
        /// key~, `[tokens, dim]`
        normed: read Activation,
        /// `[sequences, dim]`
        query: read f32,
        /// Gradient of key~ by the sum of eq. 10, `[tokens, dim]`
        dnormed: write f32,
        /// Gradient of W key~ + b, `[tokens, dim]`
        dlinear: write f32,
        /// `[sequences, dim]`
        dquery: write f32,
    }
    work |s| [6.0 * s.tokens * dim, s.tokens * (4.0 * dim + 1.0) + 2.0 * sequences * dim, 2.0 * s.tokens * dim]
    groups |p| fold(p.sequences);
    serial |p| (p.dim.is_multiple_of(4) && p.length < 1 << 15).then(|| fold((p.sequences * p.dim / 4).div_ceil(8)))
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
            let first = offsets[s] as usize;
            let (key, normed) = (&key[first * dim..], &normed[first * dim..]);
            let query = &query[s * dim..][..dim];
            sequence(R::of(p.scale), &dscore[first..], key, normed, query, (dnormed, dlinear, dquery));
        });
}

/// Gradients of one sequence, whose first token is the first of `dscore`, `key` and `normed`.
#[multiversion(targets = "simd")]
fn sequence<R: Real>(
    scale: R,
    dscore: &[R],
    key: &[R],
    normed: &[R],
    query: &[R],
    (dnormed, dlinear, dquery): (&mut [R], &mut [R], &mut [R]),
) {
    let dim = query.len();
    dquery.fill(R::zero());
    let outputs = dnormed.chunks_exact_mut(dim).zip(dlinear.chunks_exact_mut(dim));
    let inputs = key.chunks_exact(dim).zip(normed.chunks_exact(dim)).zip(dscore);
    for ((dnormed, dlinear), ((key, normed), &dscore)) in outputs.zip(inputs) {
        let slope = scale * dscore;
        math::add_scaled(dquery, slope, key);
        for d in 0..dim {
            dnormed[d] = slope * query[d];
            dlinear[d] = if key[d] > normed[d] { slope * query[d] } else { R::zero() };
        }
    }
}
