//! Adam on the item rows that a step used: from where `adam_catch_up` put them, back to where they lie.

use multiversion::multiversion;

use super::adam::update;
use super::{Real, fold, parallel};

kernel! {
    /// `main`: one invocation an element of the compact gradient. `serial`: one invocation sixteen elements of a row.
    "adam_rows"
    params {
        /// The first of `items` that the call is for, and how many.
        first: u32,
        rows: u32,
        dim: u32,
        /// The chunk's first item.
        base: u32,
        /// Elements from one part of `working` to the next.
        plane: u32,
        /// The step t that is taken, from 1.
        step: u32,
        /// lr / (1 - beta1^t)
        rate: f32,
        /// 1 / sqrt(1 - beta2^t)
        correction: f32,
    }
    bindings {
        /// Ascending; those of the call are in the chunk
        items: read u32,
        /// `[rows of all calls, dim]`
        gradient: read f32,
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
    work |_s| [12.0 * rows * dim, rows * (7.0 * dim + 2.0)]
    groups |p| fold((p.rows * p.dim).div_ceil(256));
    serial |p| {
        let whole = p.dim.is_multiple_of(4) && p.plane.is_multiple_of(4);
        whole.then(|| fold((p.rows * p.dim.div_ceil(16)).div_ceil(8)))
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    items: &[u32],
    gradient: &[R],
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
    let gradient = &gradient[p.first as usize * dim..];
    let working = Working::new(working, p.plane as usize, p.first as usize, dim);
    let mut rows = rows_of(items, p.base, dim, table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, row) in rows.iter_mut().enumerate() {
            let gradient = &gradient[(first + i) * dim..][..dim];
            update_row(row, working.row(first + i), gradient, R::of(p.rate), R::of(p.correction));
        }
    });
}

#[multiversion(targets = "simd")]
fn update_row<R: Real>((h, m, v): &mut Row<R>, from: (&[R], &[R], &[R]), gradient: &[R], rate: R, correction: R) {
    let n = gradient.len();
    let (h, m, v, from) = (&mut h[..n], &mut m[..n], &mut v[..n], (&from.0[..n], &from.1[..n], &from.2[..n]));
    for i in 0..n {
        let mut new = (from.0[i], from.1[i], from.2[i]);
        update(&mut new.0, &mut new.1, &mut new.2, gradient[i], rate, correction);
        (h[i], m[i], v[i]) = new;
    }
}

/// The rows of a table and its moments that a step works on, one after the other.
#[derive(Clone, Copy)]
pub struct Working<'a, R> {
    table: &'a [R],
    first_moment: &'a [R],
    second_moment: &'a [R],
    dim: usize,
}

impl<'a, R> Working<'a, R> {
    /// The rows from `first` on; the three parts are `plane` apart.
    pub fn new(working: &'a [R], plane: usize, first: usize, dim: usize) -> Self {
        let part = |i: usize| &working[i * plane + first * dim..];
        Working { table: part(0), first_moment: part(1), second_moment: part(2), dim }
    }

    /// A row of each.
    pub fn row(&self, row: usize) -> (&'a [R], &'a [R], &'a [R]) {
        let of = |part: &'a [R]| &part[row * self.dim..][..self.dim];
        (of(self.table), of(self.first_moment), of(self.second_moment))
    }
}

/// A row of a table, and of both its moments.
pub type Row<'a, R> = (&'a mut [R], &'a mut [R], &'a mut [R]);

/// The rows of `items` (ascending, `base` is the table's first) in a table and its moments.
pub fn rows_of<'a, R>(
    items: &[u32],
    base: u32,
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
            let skip = (item - base) as usize - at;
            at = (item - base) as usize + 1;
            (take(&mut table, skip), take(&mut first_moment, skip), take(&mut second_moment, skip))
        })
        .collect()
}
