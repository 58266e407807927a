//! Gives item rows the updates by momentum alone that dense Adam would have given them since their last step: exactly
//! those, one after the other, so that a step's cost follows its batch and the result does not show it.
//!
//! Only the first [`LONGEST`] of them are made: by then the first moment is 2e-12 of what it was, and the rest moves no
//! parameter by a unit in the last place. The moments are given the rest at once.

use multiversion::multiversion;

use super::adam::{BETA1, BETA2, update};
use super::adam_rows::rows_of;
use super::{Real, fold, parallel};

/// Updates of a row that are made one by one.
pub const LONGEST: u32 = 256;

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
    work |_s| [10.0 * rows * dim, rows * (6.0 * dim + 2.0)]
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
            let from = updated[items[first + i] as usize];
            // A row that never had a gradient has nothing to be given.
            if from < p.step && v.iter().any(|v| *v != R::zero()) {
                catch_up(p, from, rates, (h, m, v));
            }
        }
    });
}

/// The updates of one row after step `from`.
#[multiversion(targets = "simd")]
fn catch_up<R: Real>(p: &Params, from: u32, rates: &[R], (h, m, v): (&mut [R], &mut [R], &mut [R])) {
    // A register's worth at a time, so that the moments stay in registers from step to step.
    const LANES: usize = 16;
    let end = p.step.min(from + LONGEST);
    let rest = (p.step - end) as i32;
    let rest = (R::of((BETA1.powi(rest)) as f32), R::of((BETA2.powi(rest)) as f32));
    let rate_of = |step: u32| {
        let at = 2 * (step.min(p.steps) as usize - 1);
        (rates[at], rates[at + 1])
    };
    let parts = h.chunks_mut(LANES).zip(m.chunks_mut(LANES)).zip(v.chunks_mut(LANES));
    for ((h, m), v) in parts {
        let n = h.len();
        let (mut hs, mut ms, mut vs) = ([R::zero(); LANES], [R::zero(); LANES], [R::zero(); LANES]);
        hs[..n].copy_from_slice(h);
        ms[..n].copy_from_slice(m);
        vs[..n].copy_from_slice(v);
        for step in from + 1..=end {
            let (rate, correction) = rate_of(step);
            for lane in 0..LANES {
                update(&mut hs[lane], &mut ms[lane], &mut vs[lane], R::zero(), rate, correction);
            }
        }
        for lane in 0..n {
            h[lane] = hs[lane];
            m[lane] = ms[lane] * rest.0;
            v[lane] = vs[lane] * rest.1;
        }
    }
}
