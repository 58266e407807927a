//! Adam on the item rows that a step used. Their moments must be up to date: see `adam_catch_up`.

use super::adam::update_all;
use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element of the compact gradient.
    "adam_rows"
    params {
        /// Distinct rows.
        rows: u32,
        dim: u32,
        /// The step t that is taken, from 1.
        step: u32,
        /// lr / (1 - beta1^t)
        rate: f32,
        /// 1 / sqrt(1 - beta2^t)
        correction: f32,
    }
    bindings {
        /// `[rows]`
        items: read u32,
        /// `[rows, dim]`
        gradient: read f32,
        /// `[items, dim]`
        table: write f32,
        /// `[items, dim]`
        first_moment: write f32,
        /// `[items, dim]`
        second_moment: write f32,
        /// The last step each row was updated for, `[items]`
        updated: write u32,
    }
    work |_s| [12.0 * rows * dim, rows * (7.0 * dim + 2.0)]
    groups |p| fold((p.rows * p.dim).div_ceil(256))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    items: &[u32],
    gradient: &[R],
    table: &mut [R],
    first_moment: &mut [R],
    second_moment: &mut [R],
    updated: &mut [u32],
) {
    let dim = p.dim as usize;
    let items = &items[..p.rows as usize];
    for &item in items {
        updated[item as usize] = p.step;
    }
    let mut rows = rows_of(items, dim, table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, (h, m, v)) in rows.iter_mut().enumerate() {
            let gradient = &gradient[(first + i) * dim..][..dim];
            update_all((h, m, v), gradient, R::of(p.rate), R::of(p.correction));
        }
    });
}

/// A row of a table, and of both its moments.
pub type Row<'a, R> = (&'a mut [R], &'a mut [R], &'a mut [R]);

/// The rows of `items` (ascending) in a table and its moments.
pub fn rows_of<'a, R>(
    items: &[u32],
    dim: usize,
    mut table: &'a mut [R],
    mut first_moment: &'a mut [R],
    mut second_moment: &'a mut [R],
) -> Vec<Row<'a, R>> {
    let mut at = 0;
    let take = |from: &mut &'a mut [R], skip: usize| {
        let (row, rest) = std::mem::take(from).split_at_mut(skip * dim).1.split_at_mut(dim);
        *from = rest;
        row
    };
    items
        .iter()
        .map(|&item| {
            let skip = item as usize - at;
            at = item as usize + 1;
            (take(&mut table, skip), take(&mut first_moment, skip), take(&mut second_moment, skip))
        })
        .collect()
}
