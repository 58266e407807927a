//! Gradient of a layer norm's input.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

kernel! {
    /// Sixteen invocations a row, sixteen rows a workgroup.
    "layer_norm_backward"
    params { rows: u32, dim: u32, accumulate: u32 }
    bindings {
        /// `[rows, dim]`
        x: read f32,
        /// weight, then bias: `[2, dim]`
        norm: read f32,
        /// `[rows, 2]`
        stats: read f32,
        /// `[rows, dim]`
        dy: read f32,
        /// `[rows, dim]`
        dx: write f32,
    }
    work |_s| [12.0 * rows * dim, rows * ((3.0 + accumulate) * dim + 2.0)]
    groups |p| fold(p.rows.div_ceil(16))
}

pub fn twin<R: Real>(p: &Params, x: &[R], norm: &[R], stats: &[R], dy: &[R], dx: &mut [R]) {
    let (rows, dim) = (p.rows as usize, p.dim as usize);
    parallel::chunks(&mut dx[..rows * dim], dim, parallel::ROWS, |first, dx| {
        let (x, dy) = (&x[first * dim..][..dx.len()], &dy[first * dim..][..dx.len()]);
        gradient_rows(p, x, &norm[..dim], &stats[2 * first..], dy, dx);
    });
}

#[multiversion(targets = "simd")]
fn gradient_rows<R: Real>(p: &Params, x: &[R], weight: &[R], stats: &[R], dy: &[R], dx: &mut [R]) {
    let dim = weight.len();
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
