//! Puts item rows that `adam_catch_up` brought up to date back to where they lie.

use super::adam_rows::{Working, rows_of, store_row};
use super::storage::{Stored, words};
use super::{Real, fold, parallel};

kernel! {
    /// `main`: one invocation a word. `serial`: one invocation a vector of four words.
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
        /// 1 where a word of the table and of the moments holds two numbers, see `storage`.
        packed: u32,
        /// Decides how those are rounded.
        key: u32,
    }
    bindings {
        /// Ascending; those of the call are in the chunk
        items: read u32,
        /// Rows of the table, of the first and of the second moment: `[3, plane]`
        working: read f32,
        /// `[items of the chunk, words]`
        table: write u32,
        /// `[items of the chunk, words]`
        first_moment: write u32,
        /// `[items of the chunk, words]`
        second_moment: write u32,
        /// The last step each row was updated for, `[items of the chunk]`
        updated: write u32,
    }
    work |_s| [0.0, rows * ((6.0 - 1.5 * packed) * dim + 2.0)]
    groups |p| fold((p.rows * words(p.packed, p.dim as usize) as u32).div_ceil(256));
    serial |p| {
        let whole = p.dim.is_multiple_of(4 << p.packed) && p.plane.is_multiple_of(4);
        whole.then(|| fold((p.rows * (p.dim / (4 << p.packed))).div_ceil(8)))
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real, S: Stored<R>>(
    p: &Params,
    items: &[u32],
    working: &[R],
    table: &mut [S],
    first_moment: &mut [S],
    second_moment: &mut [S],
    updated: &mut [u32],
) {
    let dim = p.dim as usize;
    let items = &items[p.first as usize..][..p.rows as usize];
    for &item in items {
        updated[(item - p.base) as usize] = p.step;
    }
    let working = Working::new(working, p.plane as usize, p.first as usize, dim);
    let mut rows = rows_of(items, p.base, words(p.packed, dim), table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, row) in rows.iter_mut().enumerate() {
            store_row(row, working.row(first + i), (p.packed, p.key, items[first + i]));
        }
    });
}
