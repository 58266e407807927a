//! Puts item rows that `adam_catch_up` brought up to date back to where they lie.

use super::adam_rows::{Working, rows_of};
use super::{Real, fold, parallel};

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation a vector of four.
    "store_rows"
    params {
        /// The first of `items` that the call is for, and how many.
        first: u32,
        rows: u32,
        dim: u32,
        /// The chunk's first item.
        base: u32,
        /// Elements from one part of `working` to the next.
        plane: u32,
        /// The step that the rows are up to date with.
        step: u32,
    }
    bindings {
        /// Ascending; those of the call are in the chunk
        items: read u32,
        /// Rows of the table, of the first and of the second moment: `[3, plane]`
        working: read f32,
        /// `[items of the chunk, dim]`
        table: write f32,
        /// `[items of the chunk, dim]`
        first_moment: write f32,
        /// `[items of the chunk, dim]`
        second_moment: write f32,
        /// The last step each row was updated for, `[items of the chunk]`
        updated: write u32,
    }
    work |_s| [0.0, rows * (6.0 * dim + 2.0)]
    groups |p| fold((p.rows * p.dim).div_ceil(256));
    serial |p| {
        let whole = p.dim.is_multiple_of(4) && p.plane.is_multiple_of(4);
        whole.then(|| fold((p.rows * (p.dim / 4)).div_ceil(8)))
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    items: &[u32],
    working: &[R],
    table: &mut [R],
    first_moment: &mut [R],
    second_moment: &mut [R],
    updated: &mut [u32],
) {
    let dim = p.dim as usize;
    let items = &items[p.first as usize..][..p.rows as usize];
    for &item in items {
        updated[(item - p.base) as usize] = p.step;
    }
    let working = Working::new(working, p.plane as usize, p.first as usize, dim);
    let mut rows = rows_of(items, p.base, dim, table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, (h, m, v)) in rows.iter_mut().enumerate() {
            let row = working.row(first + i);
            h.copy_from_slice(row.0);
            m.copy_from_slice(row.1);
            v.copy_from_slice(row.2);
        }
    });
}
