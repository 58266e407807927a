//! The little arithmetic that twins share: generic over f32 (as they run) and f64 (as the tests differentiate them).

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign, SubAssign};

use gemm::Parallelism;
use multiversion::multiversion;
use num_traits::Float;

/// f32 or f64.
pub trait Real: Float + AddAssign + SubAssign + MulAssign + Sum + Debug + Default + Send + Sync + 'static {
    /// From a parameter's f32.
    fn of(value: f32) -> Self;
    /// e to the power of `self`, for `self` up to about 80, in a form that the compiler vectorises; NaN stays NaN.
    fn exp_fast(self) -> Self;
}

impl Real for f64 {
    fn of(value: f32) -> Self {
        f64::from(value)
    }
    fn exp_fast(self) -> Self {
        self.exp()
    }
}

impl Real for f32 {
    fn of(value: f32) -> Self {
        value
    }

    /// Cephes' expf: within 2 units in the last place.
    #[inline(always)]
    fn exp_fast(self) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, held by the low mantissa bits
        let shifted = self * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = self - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let mut p = 1.987_569_1e-4;
        p = p * r + 1.398_2e-3;
        p = p * r + 8.333_452e-3;
        p = p * r + 4.166_579_6e-2;
        p = p * r + 1.666_666_5e-1;
        p = p * r + 0.5;
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        let value = (p * r * r + r + 1.0) * power;
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
fn fold_lanes<R: Real>(mut sums: [R; LANES]) -> R {
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

/// The largest element. One that is not a number may be passed over: it comes to light in sums.
#[inline(always)]
pub fn largest<R: Real>(a: &[R]) -> R {
    let mut peaks = [R::neg_infinity(); LANES];
    let higher = |m: R, x: R| if x <= m { m } else { x };
    let lanes = a.chunks_exact(LANES);
    let rest = lanes.remainder().iter().fold(R::neg_infinity(), |m, &x| higher(m, x));
    for x in lanes {
        for lane in 0..LANES {
            peaks[lane] = higher(peaks[lane], x[lane]);
        }
    }
    peaks.iter().fold(rest, |m, &x| higher(m, x))
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

/// A matrix to read: element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, R> {
    pub data: &'a [R],
    pub rows: usize,
    pub columns: usize,
    pub row: usize,
    pub column: usize,
}

impl<'a, R> Matrix<'a, R> {
    /// `rows` x `columns`, row-major, `row` elements from one row to the next.
    pub fn new(data: &'a [R], rows: usize, columns: usize, row: usize) -> Self {
        Matrix { data, rows, columns, row, column: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    fn check(&self) {
        if self.rows > 0 && self.columns > 0 {
            assert!((self.rows - 1) * self.row + (self.columns - 1) * self.column < self.data.len());
        }
    }
}

/// The transpose of `rows` x `columns`, row-major, and the length of its rows: as the second factor of a product it need
/// not be packed again for each block of the first. Rows are longer than they need to be, so that a column does not fall
/// on few places of the cache.
pub fn transposed<R: Real>(data: &[R], rows: usize, columns: usize) -> (Vec<R>, usize) {
    let row = rows.next_multiple_of(LANES) + LANES;
    let mut out = vec![R::zero(); columns * row];
    super::parallel::chunks(&mut out, row, 8, |first, out| {
        for (i, data) in data[..rows * columns].chunks_exact(columns).enumerate() {
            for (j, &value) in data[first..].iter().take(out.len() / row).enumerate() {
                out[j * row + i] = value;
            }
        }
    });
    (out, row)
}

/// Multiplications up to which a product is made in place rather than by `gemm`, which first packs its factors.
const SMALL: usize = 16 * 16 * 64;

/// [`matmul`] of small factors.
#[multiversion(targets = "simd")]
fn small_matmul<R: Real>(out: &mut [R], row: usize, add: bool, factor: R, a: Matrix<R>, b: Matrix<R>) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    for i in 0..m {
        let out = &mut out[i * row..][..n];
        if !add {
            out.fill(R::zero());
        }
        if a.column == 1 && b.row == 1 {
            let a = &a.data[i * a.row..][..k];
            for (j, out) in out.iter_mut().enumerate() {
                *out += factor * dot(a, &b.data[j * b.column..][..k]);
            }
        } else if b.column == 1 {
            for p in 0..k {
                add_scaled(out, factor * a.data[i * a.row + p * a.column], &b.data[p * b.row..][..n]);
            }
        } else {
            for (j, out) in out.iter_mut().enumerate() {
                let products = (0..k).map(|p| a.data[i * a.row + p * a.column] * b.data[p * b.row + j * b.column]);
                *out += factor * products.sum::<R>();
            }
        }
    }
}

/// out = a b of square matrices, as a measure of what matrix products can reach.
pub fn square_product(out: &mut [f32], a: &[f32], b: &[f32], side: usize) {
    let [a, b] = [a, b].map(|data| Matrix::new(data, side, side, side));
    matmul(out, side, false, 1.0, a, b);
}

/// out = factor * a b (or out += factor * a b, where `add`), on the calling thread; rows of `out` are `row` apart.
pub fn matmul<R: Real>(out: &mut [R], row: usize, add: bool, factor: R, a: Matrix<R>, b: Matrix<R>) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows);
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * row + n <= out.len() && n <= row);
    a.check();
    b.check();
    if k == 0 {
        if !add {
            for i in 0..m {
                out[i * row..i * row + n].fill(R::zero());
            }
        }
        return;
    }
    if m * n * k <= SMALL {
        return small_matmul(out, row, add, factor, a, b);
    }
    // SAFETY: every index that the strides and sizes reach was checked against the slices above, and `out` is borrowed
    // for writing, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            row as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            R::one(),
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
