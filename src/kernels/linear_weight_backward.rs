//! Gradients of a linear layer's weight and bias: dW = dy^T x, db = the sum of dy's rows.

use multiversion::multiversion;

use super::{Real, math, parallel, slice_rows};

kernel! {
    /// A workgroup computes 64 x 64 elements of dW in one slice, an invocation 8 x 8.
    "linear_weight_backward"
    params {
        rows: u32,
        /// Width of x.
        inner: u32,
        /// Width of y.
        outer: u32,
        slices: u32,
        stride: u32,
    }
    bindings {
        /// `[rows, inner]`
        x: read f32,
        /// `[rows, outer]`
        dy: read f32,
        /// dW `[outer, inner]`, then db `[outer]`, in each slice
        gradient: write f32,
    }
    work |_s| [2.0 * rows * outer * (inner + 1.0), rows * (inner + outer) + slices * (inner + 1.0) * outer]
    groups |p| [p.outer.div_ceil(64), p.inner.div_ceil(64), p.slices]
}

pub fn twin<R: Real>(p: &Params, x: &[R], dy: &[R], gradient: &mut [R]) {
    let (rows, inner, outer) = (p.rows as usize, p.inner as usize, p.outer as usize);
    parallel::slices(gradient, (p.slices, p.stride, (inner + 1) * outer), |slice, out| {
        let rows = slice_rows(rows, p.slices as usize, slice);
        let x = math::Matrix::new(&x[rows.start * inner..rows.end * inner], rows.len(), inner, inner);
        let dy_rows = &dy[rows.start * outer..rows.end * outer];
        let dy = math::Matrix::new(dy_rows, rows.len(), outer, outer);
        let (weight, bias) = out.split_at_mut(inner * outer);
        math::matmul(weight, inner, false, R::one(), dy.t(), x);
        sum_rows(dy_rows, bias);
    });
}

#[multiversion(targets = "simd")]
fn sum_rows<R: Real>(rows: &[R], sum: &mut [R]) {
    sum.fill(R::zero());
    for row in rows.chunks_exact(sum.len()) {
        math::add_scaled(sum, R::one(), row);
    }
}
