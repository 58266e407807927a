//! Rows of a table: the candidates' item vectors.

use super::{Real, fold};

kernel! {
    /// One invocation an element.
    "gather"
    params { rows: u32, dim: u32 }
    bindings {
        /// `[rows]`
        items: read u32,
        /// `[items, dim]`
        table: read f32,
        /// `[rows, dim]`
        out: write f32,
    }
    work |_s| [0.0, rows * (2.0 * dim + 1.0)]
    groups |p| fold((p.rows * p.dim).div_ceil(256))
}

pub fn twin<R: Real>(p: &Params, items: &[u32], table: &[R], out: &mut [R]) {
    let dim = p.dim as usize;
    for (row, &item) in out.chunks_exact_mut(dim).zip(&items[..p.rows as usize]) {
        row.copy_from_slice(&table[item as usize * dim..][..dim]);
    }
}
