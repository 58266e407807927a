//! Sum of the rows of a gradient: that of a bias which every row was given.

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
    groups |p| [p.columns.div_ceil(64), p.slices, 1]
}

pub fn twin<R: Real>(p: &Params, x: &[R], gradient: &mut [R]) {
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    parallel::slices(gradient, (p.slices, p.stride, columns), |slice, out| {
        out.fill(R::zero());
        for row in slice_rows(rows, p.slices as usize, slice) {
            math::add_scaled(out, R::one(), &x[(p.first as usize + row) * columns..][..columns]);
        }
    });
}
