//! y = (x - mean) / sqrt(variance + 1e-5) * weight + bias over each row, with the biased variance.

use multiversion::multiversion;

use super::{Activation, Call, Real, UniformView, fold, math, parallel};

/// Added to the variance.
pub const EPSILON: f32 = 1e-5;

kernel! {
    /// Four columns of a row an invocation, 16 invocations a row or more; or four rows an invocation.
    "layer_norm"
    params { rows: u32, dim: u32 }
    bindings {
        /// `[rows, dim]`
        x: read Activation,
        /// weight, then bias: `[2, dim]`
        norm: read f32,
        /// `[rows, dim]`
        y: write Activation,
        /// mean and 1 / sqrt(variance + epsilon), `[rows, 2]`
        stats: write f32,
    }
    work |_s| [8.0 * rows * dim, rows * (2.0 * dim + 2.0), 2.0 * rows * dim]
    groups |p| fold(p.rows.div_ceil(256 / p.dim.div_ceil(4).next_power_of_two().max(16)));
    serial |p| (p.dim.is_multiple_of(4)).then(|| fold(p.rows.div_ceil(32)));
    uniform x |p| UniformView::holds(p.rows * p.dim);
    uniform norm |p| UniformView::holds(2 * p.dim);
    parts |p, b| parts(&p, &b)
}

/// Calls on as many rows as a uniform view of x holds.
fn parts(p: &Params, b: &Bindings) -> Vec<Call> {
    UniformView::runs(p.rows, &[p.dim], &[2], 1)
        .map(|run| {
            let elements = run.first * p.dim;
            let (x, y, stats) = (b.x.after(elements), b.y.after(elements), b.stats.after(2 * run.first));
            call(Params { rows: run.rows, ..*p }, Bindings { x, y, stats, ..*b })
        })
        .collect()
}

pub fn twin<R: Real>(p: &Params, x: &[R], norm: &[R], y: &mut [R], stats: &mut [R]) {
    let (rows, dim) = (p.rows as usize, p.dim as usize);
    parallel::chunks2((&mut y[..rows * dim], &mut stats[..rows * 2]), (dim, 2), parallel::ROWS, |first, y, stats| {
        norm_rows(dim, &x[first * dim..][..y.len()], norm, y, stats);
    });
}

#[multiversion(targets = "simd")]
fn norm_rows<R: Real>(dim: usize, x: &[R], norm: &[R], y: &mut [R], stats: &mut [R]) {
    // A row of a known length stays in registers.
    match dim {
        64 => norm_rows_of(64, x, norm, y, stats, &mut [R::zero(); 64]),
        _ => norm_rows_of(dim, x, norm, y, stats, &mut vec![R::zero(); dim]),
    }
}

#[inline(always)]
fn norm_rows_of<R: Real>(dim: usize, x: &[R], norm: &[R], y: &mut [R], stats: &mut [R], centred: &mut [R]) {
    let (weight, bias, centred) = (&norm[..dim], &norm[dim..2 * dim], &mut centred[..dim]);
    let n = R::of(dim as f32);
    for ((x, y), stats) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).zip(stats.chunks_exact_mut(2)) {
        let mean = math::sum(x) / n;
        for d in 0..dim {
            centred[d] = x[d] - mean;
        }
        let variance = math::dot(centred, centred) / n;
        let rstd = (variance + R::of(EPSILON)).sqrt().recip();
        for d in 0..dim {
            y[d] = centred[d] * rstd * weight[d] + bias[d];
        }
        stats[0] = mean;
        stats[1] = rstd;
    }
}
