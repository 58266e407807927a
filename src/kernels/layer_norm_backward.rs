//! Gradients of a layer norm's input, weight and bias.

use multiversion::multiversion;

use super::{Activation, Call, ITERATIONS, Real, Region, UniformView, fold, math, parallel};

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
        let (x, dy) = (&x[rows.start * dim..][..dx.len()], &dy[rows.start * dim..][..dx.len()]);
        gradient_rows(p, x, &norm[..dim], &stats[2 * rows.start..], dy, dx, (weight, bias));
    });
}

#[multiversion(targets = "simd")]
fn gradient_rows<R: Real>(
    p: &Params,
    x: &[R],
    weight: &[R],
    stats: &[R],
    dy: &[R],
    dx: &mut [R],
    (dweight, dbias): (&mut [R], &mut [R]),
) {
    const DIM: usize = 64;
    if weight.len() == DIM {
        // Rows of a known length, and what they add up to, stay in registers.
        let (mut of_weight, mut of_bias) = ([R::zero(); DIM], [R::zero(); DIM]);
        of_weight.copy_from_slice(dweight);
        of_bias.copy_from_slice(dbias);
        let memory = [&mut [R::zero(); DIM][..], &mut [R::zero(); DIM]];
        gradient_rows_of(DIM, p, x, weight, stats, dy, dx, (&mut of_weight, &mut of_bias), memory);
        dweight.copy_from_slice(&of_weight);
        dbias.copy_from_slice(&of_bias);
    } else {
        let dim = weight.len();
        let memory = [&mut vec![R::zero(); dim][..], &mut vec![R::zero(); dim]];
        gradient_rows_of(dim, p, x, weight, stats, dy, dx, (dweight, dbias), memory);
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, and memory to work in
#[inline(always)]
fn gradient_rows_of<R: Real>(
    dim: usize,
    p: &Params,
    x: &[R],
    weight: &[R],
    stats: &[R],
    dy: &[R],
    dx: &mut [R],
    (dweight, dbias): (&mut [R], &mut [R]),
    [scaled, centred]: [&mut [R]; 2],
) {
    let n = R::of(p.dim as f32);
    let (weight, dweight, dbias) = (&weight[..dim], &mut dweight[..dim], &mut dbias[..dim]);
    let (scaled, centred) = (&mut scaled[..dim], &mut centred[..dim]);
    let rows = x.chunks_exact(dim).zip(dy.chunks_exact(dim)).zip(stats.chunks_exact(2));
    for (dx, ((x, dy), stats)) in dx.chunks_exact_mut(dim).zip(rows) {
        let (mean, rstd) = (stats[0], stats[1]);
        for d in 0..dim {
            scaled[d] = dy[d] * weight[d];
            centred[d] = (x[d] - mean) * rstd;
            dweight[d] += dy[d] * centred[d];
            dbias[d] += dy[d];
        }
        let along_one = math::sum(scaled) / n;
        let along_x = math::dot(scaled, centred) / n;
        for d in 0..dim {
            let gradient = rstd * (scaled[d] - along_one - centred[d] * along_x);
            dx[d] = if p.accumulate == 1 { dx[d] + gradient } else { gradient };
        }
    }
}
