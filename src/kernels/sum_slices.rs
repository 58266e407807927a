//! Adds the slices of a gradient.

use super::{Real, fold};

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
    groups |p| fold(p.elements.div_ceil(256))
}

pub fn twin<R: Real>(p: &Params, gradient: &[R], sum: &mut [R]) {
    for (e, sum) in sum[..p.elements as usize].iter_mut().enumerate() {
        *sum = (0..p.slices as usize).map(|slice| gradient[slice * p.stride as usize + e]).sum();
    }
}
