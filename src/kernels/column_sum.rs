//! Sum of the rows of a gradient: that of a bias which every row was given.

use multiversion::multiversion;

use super::{Real, math, parallel, slice_rows};

kernel! {
    /// A workgroup sums 64 columns of one slice.
    "column_sum"
    params {
        /// The first row.
        first: u32,
        rows: u32,
        columns: u32,
        slices: u32,
        stride: u32,
    }
    bindings {
        /// `[first + rows, columns]`
        x: read f32,
        /// `[columns]` in each slice
        gradient: write f32,
    }
    work |_s| [rows * columns, (rows + slices) * columns]
    groups |p| [p.columns.div_ceil(64), p.slices, 1]
}

pub fn twin<R: Real>(p: &Params, x: &[R], gradient: &mut [R]) {
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    let x = &x[p.first as usize * columns..];
    parallel::slices(gradient, (p.slices, p.stride, columns), |slice, sum| {
        let rows = slice_rows(rows, p.slices as usize, slice);
        sum_rows(&x[rows.start * columns..rows.end * columns], sum);
    });
}

#[multiversion(targets = "simd")]
fn sum_rows<R: Real>(rows: &[R], sum: &mut [R]) {
    sum.fill(R::zero());
    for row in rows.chunks_exact(sum.len()) {
        math::add_scaled(sum, R::one(), row);
    }
}
