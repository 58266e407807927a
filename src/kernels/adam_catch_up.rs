//! Gives item rows the updates by momentum alone that dense Adam would have given them since their last step: exactly
//! those, one after the other, so that a step's cost follows its batch and the result does not show it.

use super::adam::update;
use super::adam_rows::rows_of;
use super::{Real, fold, parallel};

kernel! {
    /// One invocation an element. `mark_updated` follows, as every element of a row reads the row's mark.
    "adam_catch_up"
    params {
        /// Rows to bring up to date.
        rows: u32,
        dim: u32,
        /// The last step that was taken.
        step: u32,
        /// Rows of `rates`.
        steps: u32,
    }
    bindings {
        /// `[rows]`, ascending
        items: read u32,
        /// rate and correction (see `adam`) of steps 1, 2, ...; the last one stands for all later: `[steps, 2]`
        rates: read f32,
        /// The last step each row was updated for, `[items]`
        updated: read u32,
        /// `[items, dim]`
        table: write f32,
        /// `[items, dim]`
        first_moment: write f32,
        /// `[items, dim]`
        second_moment: write f32,
    }
    groups |p| fold((p.rows * p.dim).div_ceil(256))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    items: &[u32],
    rates: &[R],
    updated: &[u32],
    table: &mut [R],
    first_moment: &mut [R],
    second_moment: &mut [R],
) {
    let dim = p.dim as usize;
    let items = &items[..p.rows as usize];
    let mut rows = rows_of(items, dim, table, first_moment, second_moment);
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, (h, m, v)) in rows.iter_mut().enumerate() {
            for step in updated[items[first + i] as usize] + 1..=p.step {
                let at = 2 * (step.min(p.steps) as usize - 1);
                for d in 0..dim {
                    update(&mut h[d], &mut m[d], &mut v[d], R::zero(), rates[at], rates[at + 1]);
                }
            }
        }
    });
}
