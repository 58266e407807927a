//! Gradients of a linear layer's input, weight and bias: dx = dy W, dW = dy^T x, db = the sum of dy's rows; dy goes
//! through the dropout at the layer's end, dx, where asked for, through the ReLU and dropout that made x.

use multiversion::multiversion;

use super::dropout::{self, Dropout};
use super::{Activation, Call, ITERATIONS, Real, Region, UniformView, aligned, fold, math, parallel};

/// Rows of a block in the twin: whole blocks of a small product.
const BLOCK: usize = 60;

kernel! {
    /// A workgroup computes 64 x 64 elements of dW in one slice or of dx, an invocation 8 x 8; in `serial`, an invocation
    /// 8 x 16 or 8 x 32.
    "linear_backward"
    params {
        rows: u32,
        /// Width of x.
        inner: u32,
        /// Width of y.
        outer: u32,
        /// 1: dx is added to what is there
        accumulate: u32,
        /// 1: x was made by ReLU and dropout; where it is 0, so is its gradient, elsewhere multiply with `gate_scale`
        gate: u32,
        gate_scale: f32,
        slices: u32,
        stride: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
        /// 1: dW and db are added to what is there
        accumulate_gradient: u32,
    }
    bindings {
        /// `[rows, outer]`
        dy: read f32,
        /// W `[outer, inner]`
        weight: read f32,
        /// `[rows, inner]`
        x: read Activation,
        /// `[rows, inner]`
        dx: write f32,
        /// dW `[outer, inner]`, then db `[outer]`, in each slice; which rows a slice sums is the engine's choice
        gradient: write f32,
    }
    work |_s| [
        2.0 * rows * outer * (2.0 * inner + 1.0),
        rows * (outer + (2.0 + accumulate) * inner) + inner * outer + (1.0 + accumulate_gradient) * slices * (inner + 1.0) * outer,
        rows * inner
    ]
    groups |p| {
        let tile_columns = p.inner.div_ceil(64);
        fold((p.slices * p.outer.div_ceil(64) + p.rows.div_ceil(64)) * tile_columns)
    };
    serial |p| is_serial(&p).then(|| {
        let of_weight = (p.slices * p.outer.div_ceil(8) * p.inner.div_ceil(16)).div_ceil(8);
        fold(of_weight + p.rows.div_ceil(64) * p.inner.div_ceil(32))
    });
    uniform dy |p| UniformView::holds(p.rows * p.outer);
    uniform weight |p| UniformView::holds(p.inner * p.outer);
    uniform x |p| UniformView::holds(p.rows * p.inner);
    parts |p, b| parts(&p, &b)
}

/// Whether widths and stride are such that vectors and slices begin where they may, and loops end before they are cut short.
fn is_serial(p: &Params) -> bool {
    let aligned = (p.stride as usize).is_multiple_of(Region::ALIGNMENT);
    let iterations = p.rows.div_ceil(4 * p.slices);
    p.inner.is_multiple_of(4) && p.outer.is_multiple_of(4) && aligned && iterations <= ITERATIONS
}

/// Calls on as many rows as uniform views of x and dy hold.
fn parts(p: &Params, b: &Bindings) -> Vec<Call> {
    UniformView::runs(p.rows, &[p.inner, p.outer], &[], p.slices)
        .map(|run| {
            let (inputs, outputs) = (run.first * p.inner, run.first * p.outer);
            let bindings = Bindings {
                dy: b.dy.after(outputs),
                weight: b.weight,
                x: b.x.after(inputs),
                dx: b.dx.after(inputs),
                gradient: b.gradient.after(run.slice * p.stride),
            };
            let params = Params {
                rows: run.rows,
                slices: run.slices,
                drop_key: dropout::shifted(p.drop_key, outputs),
                accumulate_gradient: u32::from(p.accumulate_gradient == 1 || run.accumulate),
                ..*p
            };
            call(params, bindings)
        })
        .collect()
}

pub fn twin<R: Real>(p: &Params, dy: &[R], weight: &[R], x: &[R], dx: &mut [R], gradient: &mut [R]) {
    let (rows, inner, outer) = (p.rows as usize, p.inner as usize, p.outer as usize);
    let weight = math::Matrix::new(&weight[..inner * outer], outer, inner, inner);
    let dropout = Dropout { below: p.drop_below, scale: p.drop_scale, key: p.drop_key };
    parallel::slices_and_rows((&mut dx[..rows * inner], inner), gradient, (p.slices, p.stride), |rows, dx, out| {
        let (dw, db) = out[..(inner + 1) * outer].split_at_mut(inner * outer);
        if p.accumulate_gradient == 0 {
            db.fill(R::zero());
        }
        if rows.is_empty() && p.accumulate_gradient == 0 {
            dw.fill(R::zero());
        }
        let (mut masked, mut product) = (Vec::new(), Vec::new());
        // What a block's gradients are made of stays in the cache from one of them to the next.
        for (start, dx) in rows.clone().step_by(BLOCK).zip(dx.chunks_mut(BLOCK * inner)) {
            let n = dx.len() / inner;
            let x = &x[start * inner..][..n * inner];
            let mut dy = &dy[start * outer..][..n * outer];
            if dropout.below > 0 {
                let masked = aligned::scratch(&mut masked, dy.len());
                masked.copy_from_slice(dy);
                mask(dropout, masked, (start as u32).wrapping_mul(p.outer));
                dy = masked;
            }
            math::add_rows(dy, db);
            let dy = math::Matrix::new(dy, n, outer, outer);
            let add = p.accumulate_gradient == 1 || start > rows.start;
            math::matmul(dw, inner, add, R::one(), dy.t(), math::Matrix::new(x, n, inner, inner));
            if p.gate == 0 {
                math::matmul(dx, inner, p.accumulate == 1, R::one(), dy, weight);
            } else if p.accumulate == 0 {
                math::matmul(dx, inner, false, R::of(p.gate_scale), dy, weight);
                gate(x, dx);
            } else {
                let product = aligned::scratch(&mut product, n * inner);
                math::matmul(product, inner, false, R::of(p.gate_scale), dy, weight);
                gate(x, product);
                math::add_rows(product, dx);
            }
        }
    });
}

#[multiversion(targets = "simd")]
fn mask<R: Real>(dropout: Dropout, dy: &mut [R], element: u32) {
    dropout.mask(dy, element);
}

#[multiversion(targets = "simd")]
fn gate<R: Real>(x: &[R], gradient: &mut [R]) {
    for (value, &x) in gradient.iter_mut().zip(x) {
        *value = if x > R::zero() { *value } else { R::zero() };
    }
}
