//! Adds the slices of a gradient.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

kernel! {
    /// One invocation an element.
    "sum_slices"
    params { elements: u32, slices: u32, stride: u32 }
    bindings {
        /// `[slices, stride]`
        gradient: read f32,
        /// `[elements]`
        sum: write f32,
    }
    work |_s| [elements * slices, elements * (slices + 1.0)]
    groups |p| fold(p.elements.div_ceil(256))
}

pub fn twin<R: Real>(p: &Params, gradient: &[R], sum: &mut [R]) {
    parallel::chunks(&mut sum[..p.elements as usize], 1, 4096, |first, sum| {
        sum.fill(R::zero());
        for slice in 0..p.slices as usize {
            add(&gradient[slice * p.stride as usize + first..][..sum.len()], sum);
        }
    });
}

#[multiversion(targets = "simd")]
fn add<R: Real>(slice: &[R], sum: &mut [R]) {
    math::add_scaled(sum, R::one(), slice);
}
