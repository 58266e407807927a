//! The little arithmetic that twins share: generic over f32 (as they run) and f64 (as the tests differentiate them).

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign, SubAssign};

use gemm::Parallelism;
use multiversion::multiversion;
use num_traits::Float;

#[cfg(target_arch = "x86_64")]
use super::small_product;

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

/// Adds the rows, which are as long as `sum`, to it.
#[multiversion(targets = "simd")]
pub fn add_rows<R: Real>(rows: &[R], sum: &mut [R]) {
    for row in rows.chunks_exact(sum.len()) {
        add_scaled(sum, R::one(), row);
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

impl<'a, R: Real> Matrix<'a, R> {
    /// `rows` x `columns`, row-major, `row` elements from one row to the next.
    pub fn new(data: &'a [R], rows: usize, columns: usize, row: usize) -> Self {
        Matrix { data, rows, columns, row, column: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    /// As a matrix of f32, where it is one.
    #[cfg(target_arch = "x86_64")]
    fn floats(self) -> Option<Matrix<'a, f32>> {
        let Matrix { data, rows, columns, row, column } = self;
        Some(Matrix { data: R::floats(data)?, rows, columns, row, column })
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

/// Multiplications up to which a product is made by plain loops rather than by `gemm`, which first packs its factors:
/// where b's rows are contiguous, and where a's rows and b's columns are.
const TINY: usize = 4 * 4 * 64;
const DOTS: usize = 16 * 16 * 64;

/// [`matmul`] of small factors, a's rows and b's columns contiguous, by [`dot`]. Where a softmax is saturated, the backward
/// pass of attention takes such a product from one of `dot`, and both have to be the same.
#[multiversion(targets = "simd")]
fn dots<R: Real>(out: &mut [R], row: usize, add: bool, factor: R, a: Matrix<R>, b: Matrix<R>) {
    let k = a.columns;
    for i in 0..a.rows {
        let left = &a.data[i * a.row..][..k];
        for (j, out) in out[i * row..][..b.columns].iter_mut().enumerate() {
            let before = if add { *out } else { R::zero() };
            *out = before + factor * dot(left, &b.data[j * b.column..][..k]);
        }
    }
}

/// [`matmul`] of tiny factors, b's rows contiguous.
#[multiversion(targets = "simd")]
fn tiny_matmul<R: Real>(out: &mut [R], row: usize, add: bool, factor: R, a: Matrix<R>, b: Matrix<R>) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    for i in 0..m {
        let out = &mut out[i * row..][..n];
        if !add {
            out.fill(R::zero());
        }
        for p in 0..k {
            add_scaled(out, factor * a.data[i * a.row + p * a.column], &b.data[p * b.row..][..n]);
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
    #[cfg(target_arch = "x86_64")]
    if let (Some(out), Some(factor), Some(a), Some(b)) = (R::floats_mut(out), factor.to_f32(), a.floats(), b.floats())
        && small_product::suits(a, b)
    {
        let out = small_product::Out { start: out.as_mut_ptr(), row, add, factor };
        // SAFETY: it suits; sizes and strides were checked against the slices above, and `out` is borrowed for writing.
        return unsafe { small_product::product(out, a, b) };
    }
    if a.column == 1 && b.row == 1 && m * n * k <= DOTS {
        return dots(out, row, add, factor, a, b);
    }
    if b.column == 1 && m * n * k <= TINY {
        return tiny_matmul(out, row, add, factor, a, b);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to make a product, at sizes on both sides of every block and bound, against the plain sums.
    #[test]
    fn matmul_is_the_product() {
        let mut state = 1u32;
        let mut random = |n: usize| -> Vec<f32> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..n).map(next).collect()
        };
        for (m, n, k) in [
            (1, 1, 1),
            (1, 8, 1),
            (3, 5, 8),
            (7, 16, 3),
            (8, 8, 64),
            (5, 24, 17),
            (13, 40, 9),
            (4, 7, 16),
            (9, 64, 5),
            (50, 50, 64),
            (50, 64, 50),
            (65, 72, 33),
            (2, 2, 0),
        ] {
            for (left_along, right_along) in [(true, true), (true, false), (false, true), (false, false)] {
                for (add, factor, gap) in [(false, 1.0, 0), (true, 0.5, 3)] {
                    let (left, right) = (random(m * (k + gap) + k * m), random(k * (n + gap) + n * k));
                    let a = match left_along {
                        true => Matrix::new(&left, m, k, k + gap),
                        false => Matrix::new(&left, k, m, m).t(),
                    };
                    let b = match right_along {
                        true => Matrix::new(&right, k, n, n + gap),
                        false => Matrix::new(&right, n, k, k).t(),
                    };
                    let row = n + gap;
                    let before = random(m * row);
                    let mut out = before.clone();
                    matmul(&mut out, row, add, factor, a, b);
                    for i in 0..m {
                        for j in 0..row {
                            let product = |p| {
                                let at = |m: Matrix<f32>, i, j| f64::from(m.data[i * m.row + j * m.column]);
                                at(a, i, p) * at(b, p, j)
                            };
                            let sum = f64::from(factor) * (0..k).map(product).sum::<f64>();
                            let old = f64::from(before[i * row + j]);
                            let want = if j >= n { old } else { sum + if add { old } else { 0.0 } };
                            let got = f64::from(out[i * row + j]);
                            // Sums of up to 64 products up to 1, in any order.
                            assert!((got - want).abs() <= 1e-5, "{m} x {k} x {n}, ({i}, {j}): {got}, expected {want}");
                        }
                    }
                }
            }
        }
    }

    /// Attention's backward pass relies on it.
    #[test]
    fn small_products_of_contiguous_rows_and_columns_are_dots() {
        let values =
            |n: usize, step: usize| -> Vec<f32> { (0..n).map(|i| (i * step % 1009) as f32 / 504.0 - 1.0).collect() };
        for (m, n, k) in [(1, 1, 5), (2, 3, 16), (3, 5, 64), (8, 8, 64), (7, 6, 48), (13, 11, 19), (32, 50, 64)] {
            let (left, right) = (values(m * k, 617), values(n * k, 331));
            let mut out = vec![0.0; m * n];
            let b = Matrix::new(&right, n, k, k).t();
            matmul(&mut out, n, false, 1.0, Matrix::new(&left, m, k, k), b);
            for (at, got) in out.into_iter().enumerate() {
                let want = dot(&left[at / n * k..][..k], &right[at % n * k..][..k]);
                assert_eq!(got, want, "{m} x {k} x {n}, element {at}");
            }
        }
    }
}
