//! Gradients of a layer norm's input, weight and bias.

use multiversion::multiversion;

use super::{Activation, Call, ITERATIONS, Real, Region, UniformView, fold, math, parallel};

/// Rows of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// A workgroup goes through the rows of a slice; or of 32 columns of it.
    "layer_norm_backward"
    params {
        rows: u32,
        dim: u32,
        /// 1: dx is added to what is there
        accumulate: u32,
        slices: u32,
        stride: u32,
        /// 1: the gradients of weight and bias are added to what is there
        accumulate_gradient: u32,
    }
    bindings {
        /// `[rows, dim]`
        x: read Activation,
        /// weight, then bias: `[2, dim]`
        norm: read f32,
        /// `[rows, 2]`
        stats: read f32,
        /// `[rows, dim]`
        dy: read f32,
        /// `[rows, dim]`
        dx: write f32,
        /// Of weight, then bias: `[2, dim]` in each slice; which rows a slice sums is the engine's choice
        gradient: write f32,
    }
    work |_s| [
        17.0 * rows * dim,
        rows * ((3.0 + accumulate) * dim + 2.0) + 2.0 * (1.0 + accumulate_gradient) * slices * dim,
        rows * dim
    ]
    groups |p| fold(p.slices);
    serial |p| {
        let iterations = p.rows.div_ceil(8 * p.slices) * (p.dim / 4 + 32);
        let aligned = (p.stride as usize).is_multiple_of(Region::ALIGNMENT);
        let fits = p.dim.is_multiple_of(4) && aligned && iterations <= ITERATIONS;
        fits.then(|| fold(p.dim.div_ceil(32) * p.slices))
    };
    uniform x |p| UniformView::holds(p.rows * p.dim);
    uniform norm |p| UniformView::holds(2 * p.dim);
    uniform dy |p| UniformView::holds(p.rows * p.dim);
    parts |p, b| parts(&p, &b)
}

/// Calls on as many rows as uniform views of x and dy hold.
fn parts(p: &Params, b: &Bindings) -> Vec<Call> {
    UniformView::runs(p.rows, &[p.dim], &[2], p.slices)
        .map(|run| {
            let elements = run.first * p.dim;
            let bindings = Bindings {
                x: b.x.after(elements),
                norm: b.norm,
                stats: b.stats.after(2 * run.first),
                dy: b.dy.after(elements),
                dx: b.dx.after(elements),
                gradient: b.gradient.after(run.slice * p.stride),
            };
            let accumulate_gradient = u32::from(p.accumulate_gradient == 1 || run.accumulate);
            call(Params { rows: run.rows, slices: run.slices, accumulate_gradient, ..*p }, bindings)
        })
        .collect()
}

pub fn twin<R: Real>(p: &Params, x: &[R], norm: &[R], stats: &[R], dy: &[R], dx: &mut [R], gradient: &mut [R]) {
    let (rows, dim) = (p.rows as usize, p.dim as usize);
    parallel::slices_and_rows((&mut dx[..rows * dim], dim), gradient, (p.slices, p.stride), |rows, dx, out| {
        let (weight, bias) = out[..2 * dim].split_at_mut(dim);
        if p.accumulate_gradient == 0 {
            weight.fill(R::zero());
            bias.fill(R::zero());
        }
        // What a block's rows are read for stays in the cache from one to the other.
        let starts = rows.step_by(BLOCK);
        for (start, dx) in starts.zip(dx.chunks_mut(BLOCK * dim)) {
            let (x, dy) = (&x[start * dim..][..dx.len()], &dy[start * dim..][..dx.len()]);
            gradient_rows(p, x, &norm[..dim], &stats[2 * start..], dy, dx);
            add_rows(x, &stats[2 * start..], dy, weight, bias);
        }
    });
}

#[multiversion(targets = "simd")]
fn gradient_rows<R: Real>(p: &Params, x: &[R], weight: &[R], stats: &[R], dy: &[R], dx: &mut [R]) {
    // A row of a known length stays in registers.
    match weight.len() {
        64 => gradient_rows_of(64, p, x, weight, stats, dy, dx),
        dim => gradient_rows_of(dim, p, x, weight, stats, dy, dx),
    }
}

#[inline(always)]
fn gradient_rows_of<R: Real>(dim: usize, p: &Params, x: &[R], weight: &[R], stats: &[R], dy: &[R], dx: &mut [R]) {
    let n = R::of(p.dim as f32);
    let mut scaled = vec![R::zero(); dim];
    let mut centred = vec![R::zero(); dim];
    let rows = x.chunks_exact(dim).zip(dy.chunks_exact(dim)).zip(stats.chunks_exact(2));
    for (dx, ((x, dy), stats)) in dx.chunks_exact_mut(dim).zip(rows) {
        let (mean, rstd) = (stats[0], stats[1]);
        for d in 0..dim {
            scaled[d] = dy[d] * weight[d];
            centred[d] = (x[d] - mean) * rstd;
        }
        let along_one = math::sum(&scaled) / n;
        let along_x = math::dot(&scaled, &centred) / n;
        for d in 0..dim {
            scaled[d] = rstd * (scaled[d] - along_one - centred[d] * along_x);
        }
        if p.accumulate == 1 {
            math::add_scaled(dx, R::one(), &scaled);
        } else {
            dx.copy_from_slice(&scaled);
        }
    }
}

#[multiversion(targets = "simd")]
fn add_rows<R: Real>(x: &[R], stats: &[R], dy: &[R], weight: &mut [R], bias: &mut [R]) {
    let dim = weight.len();
    let bias = &mut bias[..dim];
    for ((x, dy), stats) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)).zip(stats.chunks_exact(2)) {
        let (mean, rstd) = (stats[0], stats[1]);
        for d in 0..dim {
            weight[d] += dy[d] * (x[d] - mean) * rstd;
            bias[d] += dy[d];
        }
    }
}
