//! Notes that item rows are up to date with a step.

use super::fold;

kernel! {
    /// One invocation a row.
    "mark_updated"
    params {
        rows: u32,
        /// The last step that was taken.
        step: u32,
    }
    bindings {
        /// `[rows]`
        items: read u32,
        /// The last step each row was updated for, `[items]`
        updated: write u32,
    }
    work |_s| [0.0, 2.0 * rows]
    groups |p| fold(p.rows.div_ceil(256))
}

pub fn twin(p: &Params, items: &[u32], updated: &mut [u32]) {
    for &item in &items[..p.rows as usize] {
        updated[item as usize] = p.step;
    }
}
