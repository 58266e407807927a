//! Adam on every parameter but the item table; adds the gradient's slices first.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

/// Decay of the first moment.
pub const BETA1: f64 = 0.9;
/// Decay of the second moment.
pub const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
pub const EPSILON: f32 = 1e-8;

/// lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) of step t, from 1.
pub fn rates(learning_rate: f64, step: u64) -> (f64, f64) {
    let power = |beta: f64| beta.powf(step as f64);
    (learning_rate / (1.0 - power(BETA1)), 1.0 / (1.0 - power(BETA2)).sqrt())
}

/// One element's update: p -= rate * m / (sqrt(v) * correction + epsilon), where `rate` = lr / (1 - beta1^t) and
/// `correction` = 1 / sqrt(1 - beta2^t).
#[inline(always)]
pub fn update<R: Real>(parameter: &mut R, m: &mut R, v: &mut R, gradient: R, rate: R, correction: R) {
    *m = R::of(BETA1 as f32) * *m + R::of((1.0 - BETA1) as f32) * gradient;
    *v = R::of(BETA2 as f32) * *v + R::of((1.0 - BETA2) as f32) * gradient * gradient;
    *parameter -= rate * *m / (v.sqrt() * correction + R::of(EPSILON));
}

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation a vector of four.
    "adam"
    params {
        elements: u32,
        slices: u32,
        stride: u32,
        /// lr / (1 - beta1^t)
        rate: f32,
        /// 1 / sqrt(1 - beta2^t)
        correction: f32,
    }
    bindings {
        /// `[slices, stride]`
        gradient: read f32,
        /// `[elements]`
        parameter: write f32,
        /// `[elements]`
        first_moment: write f32,
        /// `[elements]`
        second_moment: write f32,
    }
    work |_s| [elements * (slices + 12.0), elements * (slices + 6.0)]
    groups |p| fold(p.elements.div_ceil(256));
    serial |p| {
        let whole = p.elements.is_multiple_of(4) && p.stride.is_multiple_of(4);
        whole.then(|| fold((p.elements / 4).div_ceil(8)))
    }
}

pub fn twin<R: Real>(p: &Params, gradient: &[R], parameter: &mut [R], first_moment: &mut [R], second_moment: &mut [R]) {
    const CHUNK: usize = 4096;
    let n = p.elements as usize;
    let moments = first_moment[..n].chunks_mut(CHUNK).zip(second_moment[..n].chunks_mut(CHUNK));
    let mut chunks: Vec<_> = parameter[..n].chunks_mut(CHUNK).zip(moments).collect();
    parallel::chunks(&mut chunks, 1, 1, |chunk, parts| {
        let (parameter, (m, v)) = &mut parts[0];
        let mut sum = vec![R::zero(); parameter.len()];
        for slice in 0..p.slices as usize {
            let from = &gradient[slice * p.stride as usize + chunk * CHUNK..][..sum.len()];
            math::add_rows(from, &mut sum);
        }
        update_all((parameter, m, v), &sum, R::of(p.rate), R::of(p.correction));
    });
}

/// [`update`] of each element.
#[multiversion(targets = "simd")]
pub fn update_all<R: Real>((h, m, v): (&mut [R], &mut [R], &mut [R]), gradient: &[R], rate: R, correction: R) {
    let (h, m, v) = (&mut h[..gradient.len()], &mut m[..gradient.len()], &mut v[..gradient.len()]);
    for i in 0..gradient.len() {
        update(&mut h[i], &mut m[i], &mut v[i], gradient[i], rate, correction);
    }
}
