//! Gradients of the biases that whole sequences are given: that of eq. 10's query, and those of the inputs' and of the
//! labels' outputs (beta of eq. 13). Each is a sum of rows.

use super::{Real, math, parallel, slice_rows};

kernel! {
    /// A workgroup sums 64 columns of one slice.
    "bias_backward"
    params {
        sequences: u32,
        /// Sequences that were given the inputs' bias; those behind them got the labels'.
        inputs: u32,
        dim: u32,
        /// K * D
        columns: u32,
        /// Where the inputs' bias is in the gradient.
        input_at: u32,
        /// Where the labels' bias is.
        label_at: u32,
        slices: u32,
        stride: u32,
    }
    bindings {
        /// `[sequences, dim]`
        dquery: read f32,
        /// `[sequences, columns]`
        dtotal: read f32,
        /// `[dim]` and, further on, twice `[columns]` in each slice
        gradient: write f32,
    }
    work |_s| [
        sequences * (dim + columns),
        sequences * (dim + columns) + slices * (dim + 2.0 * columns)
    ]
    groups |p| [p.dim.div_ceil(64) + 2 * p.columns.div_ceil(64), p.slices, 1]
}

pub fn twin<R: Real>(p: &Params, dquery: &[R], dtotal: &[R], gradient: &mut [R]) {
    let (sequences, inputs, slices) = (p.sequences as usize, p.inputs as usize, p.slices as usize);
    let (dim, columns) = (p.dim as usize, p.columns as usize);
    let [input_at, label_at] = [p.input_at, p.label_at].map(|at| at as usize);
    let end = dim.max(input_at + columns).max(label_at + columns);
    parallel::slices(gradient, (p.slices, p.stride, end), |slice, out| {
        let mut sum = |x: &[R], first: usize, end: usize, width: usize, at: usize| {
            let rows = slice_rows(end - first, slices, slice);
            out[at..at + width].fill(R::zero());
            math::add_rows(&x[(first + rows.start) * width..(first + rows.end) * width], &mut out[at..at + width]);
        };
        sum(dquery, 0, sequences, dim, 0);
        sum(dtotal, 0, inputs, columns, input_at);
        sum(dtotal, inputs, sequences, columns, label_at);
    });
}
