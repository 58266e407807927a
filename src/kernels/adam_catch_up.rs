//! Takes item rows to where a step works on them, with the updates by momentum alone that dense Adam would have given them
//! since their last step: exactly those, one after the other, so that a step's cost follows its batch and the result does
//! not show it.
//!
//! Only the first [`LONGEST`] of them are made: by then the first moment is 2e-12 of what it was, and the rest moves no
//! parameter by a unit in the last place. The moments are given the rest at once.

use multiversion::multiversion;

use super::adam::{BETA1, BETA2, update};
use super::{Real, fold, parallel};

/// Updates of a row that are made one by one.
pub const LONGEST: u32 = 256;

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row. The table stays as it is
    /// until `adam_rows` or `store_rows`.
    "adam_catch_up"
    params {
        /// The first of `items` that the call is for, and how many.
        first: u32,
        rows: u32,
        dim: u32,
        /// The chunk's first item.
        base: u32,
        /// Elements from one part of `working` to the next.
        plane: u32,
        /// The last step that was taken.
        step: u32,
        /// Rows of `rates`.
        steps: u32,
    }
    bindings {
        /// Those of the call are in the chunk
        items: read u32,
        /// rate and correction (see `adam`) of steps 1, 2, ...; the last one stands for all later: `[steps, 2]`
        rates: read f32,
        /// The last step each row was updated for, `[items of the chunk]`
        updated: read u32,
        /// `[items of the chunk, dim]`
        table: read f32,
        /// `[items of the chunk, dim]`
        first_moment: read f32,
        /// `[items of the chunk, dim]`
        second_moment: read f32,
        /// Rows of the table, of the first and of the second moment: `[3, plane]`
        working: write f32,
    }
    work |_s| [10.0 * rows * dim, rows * (6.0 * dim + 2.0)]
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
    rates: &[R],
    updated: &[u32],
    table: &[R],
    first_moment: &[R],
    second_moment: &[R],
    working: &mut [R],
) {
    let dim = p.dim as usize;
    let items = &items[p.first as usize..][..p.rows as usize];
    let (h, moments) = working.split_at_mut(p.plane as usize);
    let (m, v) = moments.split_at_mut(p.plane as usize);
    let own = p.first as usize * dim..(p.first + p.rows) as usize * dim;
    let moments = m[own.clone()].chunks_mut(dim).zip(v[own.clone()].chunks_mut(dim));
    let mut rows: Vec<_> = h[own].chunks_mut(dim).zip(moments).zip(items).collect();
    parallel::chunks(&mut rows, 1, parallel::ROWS, |_, rows| {
        for ((h, (m, v)), item) in rows {
            let item = (**item - p.base) as usize;
            let at = item * dim..(item + 1) * dim;
            h.copy_from_slice(&table[at.clone()]);
            m.copy_from_slice(&first_moment[at.clone()]);
            v.copy_from_slice(&second_moment[at]);
            // A row that never had a gradient has nothing to be given.
            if updated[item] < p.step && v.iter().any(|v| *v != R::zero()) {
                catch_up(p, updated[item], rates, (h, m, v));
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
