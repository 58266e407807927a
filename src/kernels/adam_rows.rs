//! Item rows from where `adam_catch_up` put them back to where they lie: with Adam's update, those that a step used; or as
//! they are, to have them up to date.

use multiversion::multiversion;

use super::adam::update_all;
use super::storage::{Chance, Plane, Stored, words};
use super::{Real, fold, parallel};

kernel! {
    /// `main`: one invocation a word. `serial`: one invocation sixteen elements of a row.
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
        /// The step t that is taken, from 1, or that the rows are up to date with.
        step: u32,
        /// 1 where Adam's update is made; else `gradient`, `rate` and `correction` stand for nothing.
        update: u32,
        /// lr / (1 - beta1^t)
        rate: f32,
        /// 1 / sqrt(1 - beta2^t)
        correction: f32,
        /// 1 where a word of the table and of the moments holds two numbers, see `storage`.
        packed: u32,
        /// Decides how those are rounded.
        key: u32,
    }
    bindings {
        /// Ascending; those of the call are in the chunk
        items: read u32,
        /// `[rows of all calls, dim]`
        gradient: read f32,
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
    work |_s| [12.0 * update * rows * dim, rows * ((6.0 + update - 1.5 * packed) * dim + 2.0)]
    groups |p| fold((p.rows * words(p.packed, p.dim as usize) as u32).div_ceil(256));
    serial |p| {
        let whole = p.dim.is_multiple_of(4 << p.packed) && p.plane.is_multiple_of(4);
        whole.then(|| fold((p.rows * p.dim.div_ceil(16)).div_ceil(8)))
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real, S: Stored<R>>(
    p: &Params,
    items: &[u32],
    gradient: &[R],
    working: &[R],
    table: &mut [S],
    first_moment: &mut [S],
    second_moment: &mut [S],
    updated: &mut [u32],
) {
    let dim = p.dim as usize;
    let words = words(p.packed, dim);
    let items = &items[p.first as usize..][..p.rows as usize];
    for &item in items {
        updated[(item - p.base) as usize] = p.step;
    }
    let working = Working::new(working, p.plane as usize, p.first as usize, dim);
    let mut rows = rows_of(items, p.base, words, table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        let mut new = vec![R::zero(); 3 * dim];
        let (h, moments) = new.split_at_mut(dim);
        let (m, v) = moments.split_at_mut(dim);
        for i in 0..rows.len() {
            if let Some((h, m, v)) = rows.get(i + parallel::AHEAD) {
                for row in [h, m, v] {
                    parallel::prefetch(row);
                }
            }
            let row = &mut rows[i];
            let chance = (p.packed, p.key, items[first + i]);
            let from = working.row(first + i);
            if p.update == 0 {
                store_row(row, from, chance);
                continue;
            }
            h.copy_from_slice(from.0);
            m.copy_from_slice(from.1);
            v.copy_from_slice(from.2);
            let gradient = &gradient[(p.first as usize + first + i) * dim..][..dim];
            update_all((h, m, v), gradient, R::of(p.rate), R::of(p.correction));
            store_row(row, (h, m, v), chance);
        }
    });
}

/// Writes an item's row of the table and of both moments.
#[multiversion(targets = "simd")]
fn store_row<R: Real, S: Stored<R>>(
    (h, m, v): &mut Row<S>,
    from: (&[R], &[R], &[R]),
    (packed, key, item): (u32, u32, u32),
) {
    for (row, from, plane) in
        [(h, from.0, Plane::Table), (m, from.1, Plane::FirstMoment), (v, from.2, Plane::SecondMoment)]
    {
        let chance = Chance::new(key, item, plane, row.len());
        S::store(row, packed, from, chance);
    }
}

/// The rows of a table and its moments that a step works on, one after the other.
#[derive(Clone, Copy)]
struct Working<'a, R> {
    table: &'a [R],
    first_moment: &'a [R],
    second_moment: &'a [R],
    dim: usize,
}

impl<'a, R> Working<'a, R> {
    /// The rows from `first` on; the three parts are `plane` apart.
    fn new(working: &'a [R], plane: usize, first: usize, dim: usize) -> Self {
        let part = |i: usize| &working[i * plane + first * dim..];
        Working { table: part(0), first_moment: part(1), second_moment: part(2), dim }
    }

    /// A row of each.
    fn row(&self, row: usize) -> (&'a [R], &'a [R], &'a [R]) {
        let of = |part: &'a [R]| &part[row * self.dim..][..self.dim];
        (of(self.table), of(self.first_moment), of(self.second_moment))
    }
}

/// A row of a table, and of both its moments.
type Row<'a, S> = (&'a mut [S], &'a mut [S], &'a mut [S]);

/// The rows of `items` (ascending, `base` is the table's first), of so many words, in a table and its moments.
fn rows_of<'a, S>(
    items: &[u32],
    base: u32,
    words: usize,
    mut table: &'a mut [S],
    mut first_moment: &'a mut [S],
    mut second_moment: &'a mut [S],
) -> Vec<Row<'a, S>> {
    let mut at = 0;
    let take = |from: &mut &'a mut [S], skip: usize| {
        let (row, rest) = std::mem::take(from).split_at_mut(skip * words).1.split_at_mut(words);
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
