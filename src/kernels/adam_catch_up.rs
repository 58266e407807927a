//! Takes item rows to where a step works on them, with the updates by momentum alone that dense Adam would have given them
//! since their last step: exactly those, one after the other, so that a step's cost follows its batch and the result does
//! not show it.
//!
//! A few of them are made one by one. More are made at once, so that the cost does not follow the time since: with m and v
//! of step f, the update of step s is m w / (sqrt(v) y + epsilon), w = beta1^(s - f) rate_s, y = beta2^((s - f) / 2)
//! correction_s. Weights w vanish before y has changed by much, so that the sum over all s > f is, for any m and v, the sum
//! over two nodes of Gauss's quadrature for that distribution of y. What is left of it after step t has the same form, with
//! the moments of t. That is the sum of dense Adam to 1e-8 of itself from step [`EARLY`] on. Before, corrections change
//! faster, and the first updates are made one by one, so many that what is left of the first moment makes it as good: to 4e-8.

use std::ops::RangeInclusive;

use multiversion::multiversion;

use super::adam::{self, BETA1, BETA2, EPSILON, update};
use super::storage::{Stored, words};
use super::{Real, fold, parallel};

/// As many updates are always made one by one.
pub const FEW: u32 = 4;
/// From this step on, more than few are made at once.
pub const EARLY: u32 = 1024;
/// So many are made one by one after the first steps, and half as many after each quarter of [`EARLY`].
const MOST: u32 = 64;
/// After as many steps nothing is left of the first moment: it is zero before it is denormal, which is slow.
const GONE: u32 = 700;
/// Columns of `rates`: rate and correction of a step, then weight and y of both nodes for the steps after it.
pub const COLUMNS: usize = 6;

/// How many of the updates between two steps are made one by one.
fn one_by_one_of(from: u32, to: u32) -> u32 {
    let all = to - from;
    if all <= FEW {
        all
    } else if from < EARLY {
        all.min(MOST >> (from / (EARLY / 4)))
    } else {
        0
    }
}

/// `rates` of steps 1, 2, ...
pub fn rates(learning_rate: f64, steps: usize) -> Vec<f32> {
    let mut rows = vec![[0.0; COLUMNS]; steps];
    // Sums of w y^k over the steps after one, k from 0 to 3; after the last row nothing changes.
    let decay: [f64; 4] = std::array::from_fn(|k| BETA1 * BETA2.powf(k as f64 / 2.0));
    let (rate, correction) = adam::rates(learning_rate, steps as u64);
    let mut sums: [f64; 4] = std::array::from_fn(|k| rate * correction.powi(k as i32) * decay[k] / (1.0 - decay[k]));
    for (row, step) in rows.iter_mut().rev().zip((1..=steps as u64).rev()) {
        let (rate, correction) = adam::rates(learning_rate, step);
        let [one, other] = nodes(sums);
        *row = [rate, correction, one.0, one.1, other.0, other.1].map(|x| x as f32);
        sums = std::array::from_fn(|k| decay[k] * (sums[k] + rate * correction.powi(k as i32)));
    }
    rows.concat()
}

/// Weight and place of the two nodes that have these moments.
fn nodes([total, first, second, third]: [f64; 4]) -> [(f64, f64); 2] {
    let mean = first / total;
    let variance = second / total - mean * mean;
    let skew = third / total - mean * (3.0 * variance + mean * mean);
    let half = skew / variance / 2.0;
    let root = (half * half + variance).sqrt();
    let (below, above) = (half - root, half + root);
    let weight = total * above / (above - below);
    [(weight, mean + below), (total - weight, mean + above)]
}

kernel! {
    /// `main`: one invocation a word. `serial`: one invocation sixteen elements of a row. The table stays as it is
    /// until `adam_rows`.
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
        /// 1 where a word of the table and of the moments holds two numbers, see `storage`.
        packed: u32,
    }
    bindings {
        /// Those of the call are in the chunk
        items: read u32,
        /// See [`COLUMNS`]; the last row stands for all later: `[steps, 6]`
        rates: read f32,
        /// The last step each row was updated for, `[items of the chunk]`
        updated: read u32,
        /// `[items of the chunk, words]`
        table: read u32,
        /// `[items of the chunk, words]`
        first_moment: read u32,
        /// `[items of the chunk, words]`
        second_moment: read u32,
        /// Rows of the table, of the first and of the second moment: `[3, plane]`
        working: write f32,
    }
    work |_s| [10.0 * rows * dim, rows * ((6.0 - 1.5 * packed) * dim + 2.0)]
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
    rates: &[R],
    updated: &[u32],
    table: &[S],
    first_moment: &[S],
    second_moment: &[S],
    working: &mut [R],
) {
    let dim = p.dim as usize;
    let words = words(p.packed, dim);
    let items = &items[p.first as usize..][..p.rows as usize];
    let (h, moments) = working.split_at_mut(p.plane as usize);
    let (m, v) = moments.split_at_mut(p.plane as usize);
    let own = p.first as usize * dim..(p.first + p.rows) as usize * dim;
    let moments = m[own.clone()].chunks_mut(dim).zip(v[own.clone()].chunks_mut(dim));
    let mut rows: Vec<_> = h[own].chunks_mut(dim).zip(moments).zip(items).collect();
    let place = |item: u32| (item - p.base) as usize * words..((item - p.base) as usize + 1) * words;
    parallel::chunks(&mut rows, 1, parallel::ROWS, |first, rows| {
        for (i, ((h, (m, v)), item)) in rows.iter_mut().enumerate() {
            if let Some(&item) = items.get(first + i + parallel::AHEAD) {
                for part in [table, first_moment, second_moment] {
                    parallel::prefetch(&part[place(item)]);
                }
            }
            let at = place(**item);
            let item = (**item - p.base) as usize;
            S::load(&table[at.clone()], p.packed, h);
            S::load(&first_moment[at.clone()], p.packed, m);
            S::load(&second_moment[at], p.packed, v);
            // A row that never had a gradient has nothing to be given.
            if updated[item] < p.step && v.iter().any(|v| *v != R::zero()) {
                let end = updated[item] + one_by_one_of(updated[item], p.step);
                one_by_one(p, updated[item] + 1..=end, rates, (h, m, v));
                at_once(p, end, rates, (h, m, v));
            }
        }
    });
}

/// The updates of one row in these steps.
#[multiversion(targets = "simd")]
fn one_by_one<R: Real>(p: &Params, steps: RangeInclusive<u32>, rates: &[R], (h, m, v): (&mut [R], &mut [R], &mut [R])) {
    // A register's worth at a time, so that the moments stay in registers from step to step.
    const LANES: usize = 16;
    if steps.is_empty() {
        return;
    }
    let rate_of = |step: u32| {
        let at = COLUMNS * (step.min(p.steps) as usize - 1);
        (rates[at], rates[at + 1])
    };
    let parts = h.chunks_mut(LANES).zip(m.chunks_mut(LANES)).zip(v.chunks_mut(LANES));
    for ((h, m), v) in parts {
        let n = h.len();
        let (mut hs, mut ms, mut vs) = ([R::zero(); LANES], [R::zero(); LANES], [R::zero(); LANES]);
        hs[..n].copy_from_slice(h);
        ms[..n].copy_from_slice(m);
        vs[..n].copy_from_slice(v);
        for step in steps.clone() {
            let (rate, correction) = rate_of(step);
            for lane in 0..LANES {
                update(&mut hs[lane], &mut ms[lane], &mut vs[lane], R::zero(), rate, correction);
            }
        }
        h.copy_from_slice(&hs[..n]);
        m.copy_from_slice(&ms[..n]);
        v.copy_from_slice(&vs[..n]);
    }
}

/// The updates of one row after step `from`, up to the last that was taken.
#[multiversion(targets = "simd")]
fn at_once<R: Real>(p: &Params, from: u32, rates: &[R], (h, m, v): (&mut [R], &mut [R], &mut [R])) {
    if from == p.step {
        return;
    }
    let nodes = |step: u32| {
        let at = COLUMNS * (step.min(p.steps) as usize - 1);
        [rates[at + 2], rates[at + 3], rates[at + 4], rates[at + 5]]
    };
    let (before, after) = (nodes(from), nodes(p.step));
    let mut decay: (R, R) = decays(p.step - from);
    if p.step - from > GONE {
        decay.0 = R::zero();
    }
    let n = h.len();
    let (m, v) = (&mut m[..n], &mut v[..n]);
    for i in 0..n {
        let left = (m[i] * decay.0, v[i] * decay.1);
        h[i] -= later(before, m[i], v[i].sqrt()) - later(after, left.0, left.1.sqrt());
        (m[i], v[i]) = left;
    }
}

/// The sum of all updates after a step.
#[inline(always)]
fn later<R: Real>([w0, y0, w1, y1]: [R; 4], m: R, root: R) -> R {
    let one = root * y0 + R::of(EPSILON);
    let other = root * y1 + R::of(EPSILON);
    m * (w0 * other + w1 * one) / (one * other)
}

/// beta1^n and beta2^n
fn decays<R: Real>(n: u32) -> (R, R) {
    (R::of(BETA1.powi(n as i32) as f32), R::of(BETA2.powi(n as i32) as f32))
}
