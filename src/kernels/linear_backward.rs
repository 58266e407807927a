//! Gradient of a linear layer's input: dx = dy W, where asked for through the ReLU and dropout that made x.

use multiversion::multiversion;

use super::{Real, math, parallel};

kernel! {
    /// A workgroup computes 64 x 64 outputs, an invocation 8 x 8.
    "linear_backward"
    params {
        rows: u32,
        /// Width of x.
        inner: u32,
        /// Width of y.
        outer: u32,
        accumulate: u32,
        /// 1: x was made by ReLU and dropout; where it is 0, so is its gradient, elsewhere multiply with `gate_scale`
        gate: u32,
        gate_scale: f32,
    }
    bindings {
        /// `[rows, outer]`
        dy: read f32,
        /// W `[outer, inner]`
        weight: read f32,
        /// `[rows, inner]`; not read without `gate`
        x: read f32,
        /// `[rows, inner]`
        dx: write f32,
    }
    work |_s| [2.0 * rows * inner * outer, rows * (outer + (1.0 + accumulate + gate) * inner) + inner * outer]
    groups |p| [p.rows.div_ceil(64), p.inner.div_ceil(64), 1]
}

pub fn twin<R: Real>(p: &Params, dy: &[R], weight: &[R], x: &[R], dx: &mut [R]) {
    let (rows, inner, outer) = (p.rows as usize, p.inner as usize, p.outer as usize);
    let weight = math::Matrix::new(&weight[..inner * outer], outer, inner, inner);
    parallel::chunks(&mut dx[..rows * inner], inner, 2 * parallel::ROWS, |first, dx| {
        let n = dx.len() / inner;
        let dy = math::Matrix::new(&dy[first * outer..(first + n) * outer], n, outer, outer);
        if p.gate == 0 {
            math::matmul(dx, inner, p.accumulate == 1, R::one(), dy, weight);
            return;
        }
        let x = &x[first * inner..][..n * inner];
        if p.accumulate == 1 {
            let mut product = vec![R::zero(); n * inner];
            math::matmul(&mut product, inner, false, R::of(p.gate_scale), dy, weight);
            gate(x, &mut product);
            add(&product, dx);
        } else {
            math::matmul(dx, inner, false, R::of(p.gate_scale), dy, weight);
            gate(x, dx);
        }
    });
}

#[multiversion(targets = "simd")]
fn gate<R: Real>(x: &[R], gradient: &mut [R]) {
    for (value, &x) in gradient.iter_mut().zip(x) {
        *value = if x > R::zero() { *value } else { R::zero() };
    }
}

#[multiversion(targets = "simd")]
fn add<R: Real>(product: &[R], dx: &mut [R]) {
    math::add_scaled(dx, R::one(), product);
}
