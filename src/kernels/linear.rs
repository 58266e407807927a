//! y = residual + dropout(relu(x W^T + b)), each of the ends where it is asked for.

use super::dropout::factor;
use super::{Real, math, parallel};

kernel! {
    /// A workgroup computes 64 x 64 outputs, an invocation 8 x 8.
    "linear"
    params {
        rows: u32,
        /// Width of x.
        inner: u32,
        /// Width of y.
        outer: u32,
        /// 1: ReLU
        relu: u32,
        /// 1: add `residual`
        residual: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
    }
    bindings {
        /// `[rows, inner]`
        x: read f32,
        /// W `[outer, inner]`, then b `[outer]`
        weight: read f32,
        /// `[rows, outer]`; not read without its parameter
        residual: read f32,
        /// `[rows, outer]`
        y: write f32,
    }
    groups |p| [p.rows.div_ceil(64), p.outer.div_ceil(64), 1]
}

pub fn twin<R: Real>(p: &Params, x: &[R], weight: &[R], residual: &[R], y: &mut [R]) {
    let (rows, inner, outer) = (p.rows as usize, p.inner as usize, p.outer as usize);
    let (weight, bias) = weight.split_at(inner * outer);
    let weight = math::Matrix::new(weight, outer, inner, inner);
    parallel::chunks(&mut y[..rows * outer], outer, 4 * parallel::ROWS, |first, y| {
        let n = y.len() / outer;
        for row in y.chunks_exact_mut(outer) {
            row.copy_from_slice(&bias[..outer]);
        }
        let x = math::Matrix::new(&x[first * inner..(first + n) * inner], n, inner, inner);
        math::matmul(y, outer, true, R::one(), x, weight.t());
        for (i, row) in y.chunks_exact_mut(outer).enumerate() {
            if p.relu == 1 {
                for v in row.iter_mut() {
                    // Not `max`, which would turn NaN into 0.
                    *v = if *v < R::zero() { R::zero() } else { *v };
                }
            }
            if p.drop_below > 0 {
                let element = (first + i) as u32 * p.outer;
                for (d, v) in row.iter_mut().enumerate() {
                    *v *= factor::<R>(p.drop_below, p.drop_scale, p.drop_key, element + d as u32);
                }
            }
            if p.residual == 1 {
                let from = &residual[(first + i) * outer..][..outer];
                for d in 0..outer {
                    row[d] += from[d];
                }
            }
        }
    });
}
