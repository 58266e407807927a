//! Rows of a table, brought together as numbers: those of the candidates, those that evaluation needs.

use super::storage::{Stored, words};
use super::{Real, fold, parallel};

kernel! {
    /// `main`: one invocation a word. `serial`: one invocation a vector of four words.
    "gather"
    params {
        /// The first of `items` that the call is for, and how many.
        first: u32,
        rows: u32,
        dim: u32,
        /// The table's first item.
        base: u32,
        /// 1 where a word of the table holds two numbers, see `storage`.
        packed: u32,
    }
    bindings {
        /// Those of the call are in the table
        items: read u32,
        /// `[items of the table, words]`
        table: read u32,
        /// `[rows of all calls, dim]`
        out: write f32,
    }
    work |_s| [0.0, rows * ((2.0 - 0.5 * packed) * dim + 1.0)]
    groups |p| fold((p.rows * words(p.packed, p.dim as usize) as u32).div_ceil(256));
    serial |p| p.dim.is_multiple_of(4 << p.packed).then(|| fold((p.rows * (p.dim / (4 << p.packed))).div_ceil(8)))
}

pub fn twin<R: Real, S: Stored<R>>(p: &Params, items: &[u32], table: &[S], out: &mut [R]) {
    let (dim, words) = (p.dim as usize, words(p.packed, p.dim as usize));
    let own = p.first as usize..(p.first + p.rows) as usize;
    let out = &mut out[own.start * dim..own.end * dim];
    let items = &items[own];
    parallel::chunks(out, dim, parallel::ROWS, |first, rows| {
        for (row, item) in rows.chunks_exact_mut(dim).zip(&items[first..]) {
            S::load(&table[(item - p.base) as usize * words..][..words], p.packed, row);
        }
    });
}
