//! The little arithmetic that twins share: generic over f32 (as they run) and f64 (as the tests differentiate them).

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign, SubAssign};

use multiversion::multiversion;
use num_traits::Float;

mod matrix;

pub use matrix::{Matrix, matmul, square_product, transpose, transposed};

/// f32 or f64.
pub trait Real: Float + AddAssign + SubAssign + MulAssign + Sum + Debug + Default + Send + Sync + 'static {
    /// From a parameter's f32.
    fn of(value: f32) -> Self;
    /// e to the power of `self`, for `self` up to about 80, in a form that the compiler vectorises; NaN stays NaN.
    fn exp_fast(self) -> Self;
    /// The slice as f32, where it is.
    fn floats(slice: &[Self]) -> Option<&[f32]>;
    fn floats_mut(slice: &mut [Self]) -> Option<&mut [f32]>;
}

impl Real for f64 {
    fn of(value: f32) -> Self {
        f64::from(value)
    }
    fn exp_fast(self) -> Self {
        self.exp()
    }
    fn floats(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn floats_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

impl Real for f32 {
    fn of(value: f32) -> Self {
        value
    }

    fn floats(slice: &[Self]) -> Option<&[f32]> {
        Some(slice)
    }

    fn floats_mut(slice: &mut [Self]) -> Option<&mut [f32]> {
        Some(slice)
    }

    /// Cephes' expf: within 2 units in the last place.
    #[inline(always)]
    fn exp_fast(self) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, held by the low mantissa bits
        let shifted = self * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = self - n * 0.693_359_4 + n * 2.121_944_4e-4;
        // In pairs, as the processor waits for what comes one after the other.
        let square = r * r;
        let high = (1.987_569_1e-4 * r + 1.398_2e-3) * square + (8.333_452e-3 * r + 4.166_579_6e-2);
        let p = high * square + (1.666_666_5e-1 * r + 0.5);
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        let value = (p * square + (r + 1.0)) * power;
        if self < -87.0 { 0.0 } else { value }
    }
}

/// Partial sums kept apart, so that sums vectorise in a fixed order.
const LANES: usize = 16;

/// a . b
#[inline(always)]
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut sums = [R::zero(); LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: R = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(&x, &y)| x * y).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    fold_lanes(sums) + rest
}

/// Sum of all elements.
#[inline(always)]
pub fn sum<R: Real>(a: &[R]) -> R {
    let mut sums = [R::zero(); LANES];
    let lanes = a.chunks_exact(LANES);
    let rest: R = lanes.remainder().iter().copied().sum();
    for x in lanes {
        for lane in 0..LANES {
            sums[lane] += x[lane];
        }
    }
    fold_lanes(sums) + rest
}

#[inline(always)]
fn fold_lanes<R: Real>(sums: [R; LANES]) -> R {
    // Through memory: the compiler would have the loops before this add two lanes at a time, in the order of this end.
    let mut sums = std::hint::black_box(sums);
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = sums[lane + half];
            sums[lane] += other;
        }
        half /= 2;
    }
    sums[0]
}

/// out += factor * a
#[inline(always)]
pub fn add_scaled<R: Real>(out: &mut [R], factor: R, a: &[R]) {
    for (o, &x) in out.iter_mut().zip(a) {
        *o += factor * x;
    }
}

/// Adds the rows, which are as long as `sum`, to it.
#[multiversion(targets = "simd")]
pub fn add_rows<R: Real>(rows: &[R], sum: &mut [R]) {
    // So many columns stay in registers from row to row.
    const COLUMNS: usize = 64;
    let width = sum.len();
    let (parts, rest) = sum.as_chunks_mut::<COLUMNS>();
    let begin = width - rest.len();
    for (part, at) in parts.iter_mut().zip((0..).step_by(COLUMNS)) {
        let mut sums = *part;
        for row in rows.chunks_exact(width) {
            add_scaled(&mut sums, R::one(), &row[at..at + COLUMNS]);
        }
        *part = sums;
    }
    for row in rows.chunks_exact(width) {
        add_scaled(rest, R::one(), &row[begin..]);
    }
}

/// The largest element. One that is not a number may be passed over: it comes to light in sums.
#[inline(always)]
pub fn largest<R: Real>(a: &[R]) -> R {
    let mut peaks = [R::neg_infinity(); LANES];
    let higher = |m: R, x: R| if m > x { m } else { x };
    let lanes = a.chunks_exact(LANES);
    let rest = lanes.remainder().iter().fold(R::neg_infinity(), |m, &x| higher(m, x));
    for x in lanes {
        for lane in 0..LANES {
            peaks[lane] = higher(peaks[lane], x[lane]);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            peaks[lane] = higher(peaks[lane], peaks[lane + half]);
        }
        half /= 2;
    }
    higher(peaks[0], rest)
}

/// Replaces each element by what `f` makes of it; the sum of these. The slice is of whole lanes.
#[inline(always)]
pub fn map_sum<R: Real>(a: &mut [R], f: impl Fn(R) -> R) -> R {
    let mut sums = [R::zero(); LANES];
    for x in a.as_chunks_mut::<LANES>().0 {
        for lane in 0..LANES {
            x[lane] = f(x[lane]);
            sums[lane] += x[lane];
        }
    }
    fold_lanes(sums)
}

/// The first `n` elements of a row (one or more), and after them, up to whole lanes, `rest`. What comes then, before `end`,
/// is set to 0.
#[inline(always)]
pub fn until<R: Real>(row: &mut [R], n: usize, end: usize, rest: R) -> &mut [R] {
    let (row, later) = row.split_at_mut(whole(n));
    if let Some((before, last)) = row.split_last_chunk_mut::<LANES>() {
        let kept = n - before.len();
        for (lane, x) in last.iter_mut().enumerate() {
            *x = if lane < kept { *x } else { rest };
        }
    }
    later[..end.saturating_sub(row.len())].fill(R::zero());
    row
}

/// `n` as whole lanes.
pub fn whole(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// Length of a row of `n` elements that are whole lanes; an odd number of these, so that the rows of a matrix do not begin
/// at few places of the cache.
pub fn scattered(n: usize) -> usize {
    (n.div_ceil(LANES) | 1) * LANES
}

/// The largest element, and ln(sum(exp(a - largest))).
#[inline(always)]
pub fn log_sum_exp_parts<R: Real>(a: &[R]) -> (R, R) {
    let peak = largest(a);
    let mut sums = [R::zero(); LANES];
    let lanes = a.chunks_exact(LANES);
    let rest: R = lanes.remainder().iter().map(|&x| (x - peak).exp_fast()).sum();
    for x in lanes {
        for lane in 0..LANES {
            sums[lane] += (x[lane] - peak).exp_fast();
        }
    }
    (peak, (fold_lanes(sums) + rest).ln())
}
