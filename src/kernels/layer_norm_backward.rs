//! Gradient of a layer norm's input.

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
    groups |p| fold(p.rows.div_ceil(16))
}

pub fn twin<R: Real>(p: &Params, x: &[R], norm: &[R], stats: &[R], dy: &[R], dx: &mut [R]) {
    let (rows, dim) = (p.rows as usize, p.dim as usize);
    let weight = &norm[..dim];
    let n = R::of(p.dim as f32);
    parallel::chunks(&mut dx[..rows * dim], dim, parallel::ROWS, |first, dx| {
        let mut scaled = vec![R::zero(); dim];
        let mut centred = vec![R::zero(); dim];
        for (i, dx) in dx.chunks_exact_mut(dim).enumerate() {
            let row = first + i;
            let (x, dy) = (&x[row * dim..][..dim], &dy[row * dim..][..dim]);
            let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
            for d in 0..dim {
                scaled[d] = dy[d] * weight[d];
                centred[d] = (x[d] - mean) * rstd;
            }
            let along_one = math::sum(&scaled) / n;
            let along_x = math::dot(&scaled, &centred) / n;
            for d in 0..dim {
                let value = rstd * (scaled[d] - along_one - centred[d] * along_x);
                dx[d] = if p.accumulate == 1 { dx[d] + value } else { value };
            }
        }
    });
}
