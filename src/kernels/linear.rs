//! y = residual + dropout(relu(x W^T + b)), each of the ends where it is asked for.

use multiversion::multiversion;

use super::dropout::{self, Dropout};
use super::{Activation, Call, Real, UniformView, fold, math, parallel};

kernel! {
    /// A workgroup computes 64 x 64 outputs, an invocation 8 x 8; in `serial`, an invocation 8 x 32.
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
        x: read Activation,
        /// W `[outer, inner]`, then b `[outer]`
        weight: read f32,
        /// `[rows, outer]`; not read without its parameter
        residual: read Activation,
        /// `[rows, outer]`
        y: write Activation,
    }
    work |_s| [2.0 * rows * outer * (inner + 1.0), rows * (inner + (1.0 + residual) * outer) + (inner + 1.0) * outer, rows * (inner + (1.0 + residual) * outer)]
    groups |p| fold(p.rows.div_ceil(64) * p.outer.div_ceil(64));
    serial |p| (p.inner.is_multiple_of(4) && p.outer.is_multiple_of(4))
        .then(|| fold(p.rows.div_ceil(64) * p.outer.div_ceil(32)));
    uniform weight |p| UniformView::holds(p.inner * p.outer);
    uniform x |p| UniformView::holds(p.rows * p.inner);
    parts |p, b| parts(&p, &b)
}

/// Calls on as many rows as a uniform view of x holds.
fn parts(p: &Params, b: &Bindings) -> Vec<Call> {
    UniformView::runs(p.rows, &[p.inner], &[p.outer], 1)
        .map(|run| {
            let outputs = run.first * p.outer;
            let x = b.x.after(run.first * p.inner);
            let residual = if p.residual == 1 { b.residual.after(outputs) } else { b.residual };
            let drop_key = dropout::shifted(p.drop_key, outputs);
            call(Params { rows: run.rows, drop_key, ..*p }, Bindings { x, residual, y: b.y.after(outputs), ..*b })
        })
        .collect()
}

pub fn twin<R: Real>(p: &Params, x: &[R], weight: &[R], residual: &[R], y: &mut [R]) {
    let (rows, inner, outer) = (p.rows as usize, p.inner as usize, p.outer as usize);
    let (weight, bias) = weight.split_at(inner * outer);
    // Products with contiguous rows are the fastest, and one copy does for all.
    let (weight, row) = math::transposed(weight, outer, inner);
    let weight = math::Matrix::new(&weight, inner, outer, row);
    // So many rows stay in the cache between product and ends, and are whole blocks of a small product.
    parallel::chunks(&mut y[..rows * outer], outer, 48, |first, y| {
        let n = y.len() / outer;
        let x = math::Matrix::new(&x[first * inner..(first + n) * inner], n, inner, inner);
        math::matmul(y, outer, false, R::one(), x, weight);
        let residual = if p.residual == 1 { &residual[first * outer..][..n * outer] } else { &[] };
        ends(p, first, &bias[..outer], residual, y);
    });
}

/// Bias, ReLU, dropout and residual of the rows from `first` on.
#[multiversion(targets = "simd")]
fn ends<R: Real>(p: &Params, first: usize, bias: &[R], residual: &[R], y: &mut [R]) {
    let outer = bias.len();
    let dropout = Dropout { below: p.drop_below, scale: p.drop_scale, key: p.drop_key };
    let floor = if p.relu == 1 { R::zero() } else { R::neg_infinity() };
    for (i, row) in y.chunks_exact_mut(outer).enumerate() {
        for d in 0..outer {
            let value = row[d] + bias[d];
            // Not `max`, which would lose NaN.
            row[d] = if value < floor { floor } else { value };
        }
        dropout.mask(row, ((first + i) as u32).wrapping_mul(p.outer));
        if !residual.is_empty() {
            math::add_scaled(row, R::one(), &residual[i * outer..][..outer]);
        }
    }
}
