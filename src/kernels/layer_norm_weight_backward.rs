//! Gradients of a layer norm's weight and bias.

use multiversion::multiversion;

use super::{Real, parallel, slice_rows};

kernel! {
    /// A workgroup sums 64 columns of one slice.
    "layer_norm_weight_backward"
    params { rows: u32, dim: u32, slices: u32, stride: u32 }
    bindings {
        /// `[rows, dim]`
        x: read f32,
        /// `[rows, 2]`
        stats: read f32,
        /// `[rows, dim]`
        dy: read f32,
        /// weight, then bias: `[2, dim]` in each slice
        gradient: write f32,
    }
    work |_s| [5.0 * rows * dim, rows * (2.0 * dim + 2.0) + 2.0 * slices * dim]
    groups |p| [p.dim.div_ceil(64), p.slices, 1]
}

pub fn twin<R: Real>(p: &Params, x: &[R], stats: &[R], dy: &[R], gradient: &mut [R]) {
    let (rows, dim) = (p.rows as usize, p.dim as usize);
    parallel::slices(gradient, (p.slices, p.stride, 2 * dim), |slice, out| {
        let rows = slice_rows(rows, p.slices as usize, slice);
        let (weight, bias) = out.split_at_mut(dim);
        let elements = rows.start * dim..rows.end * dim;
        sum_rows(&x[elements.clone()], &stats[2 * rows.start..], &dy[elements], weight, bias);
    });
}

#[multiversion(targets = "simd")]
fn sum_rows<R: Real>(x: &[R], stats: &[R], dy: &[R], weight: &mut [R], bias: &mut [R]) {
    weight.fill(R::zero());
    bias.fill(R::zero());
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
