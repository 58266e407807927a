//! Gradient of what a dropout at a linear layer's end was given: dx = dy * mask.

use multiversion::multiversion;

use super::dropout::factor;
use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element.
    "dropout_backward"
    params { elements: u32, drop_below: u32, drop_scale: f32, drop_key: u32 }
    bindings {
        /// `[elements]`
        dy: read f32,
        /// `[elements]`
        dx: write f32,
    }
    work |_s| [elements, 2.0 * elements]
    groups |p| fold(p.elements.div_ceil(256))
}

pub fn twin<R: Real>(p: &Params, dy: &[R], dx: &mut [R]) {
    parallel::chunks(&mut dx[..p.elements as usize], 1, 8192, |first, dx| mask(p, first as u32, &dy[first..], dx));
}

/// Of the elements from `first` on.
#[multiversion(targets = "simd")]
fn mask<R: Real>(p: &Params, first: u32, dy: &[R], dx: &mut [R]) {
    for (i, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
        *dx = dy * factor::<R>(p.drop_below, p.drop_scale, p.drop_key, first.wrapping_add(i as u32));
    }
}
