//! Matrices, their products and transposes.

use gemm::Parallelism;
use multiversion::multiversion;

#[cfg(target_arch = "x86_64")]
use super::super::small_product;
use crate::kernels::aligned::Aligned;

use super::{LANES, Real, add_scaled};

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
pub fn transposed<R: Real>(data: &[R], rows: usize, columns: usize) -> (Aligned<R>, usize) {
    let row = rows.next_multiple_of(LANES) + LANES;
    let mut out = Aligned::zeroed(columns * row);
    if rows == 0 {
        return (out, row);
    }
    crate::kernels::parallel::chunks(&mut out, row, 64, |first, out| {
        let columns = Matrix::new(&data[first..rows * columns], rows, out.len() / row, columns);
        transpose(columns, out, row);
    });
    (out, row)
}

/// The transpose of a matrix of contiguous rows, to rows that are `row` apart; past their ends, up to a multiple of 8
/// elements, anything is written.
pub fn transpose<R: Real>(from: Matrix<R>, out: &mut [R], row: usize) {
    let (rows, columns) = (from.rows, from.columns);
    assert!(from.column == 1 && columns.saturating_sub(1) * row + rows.next_multiple_of(8) <= out.len());
    from.check();
    #[cfg(target_arch = "x86_64")]
    if let (Some(from), Some(out)) = (from.floats(), R::floats_mut(out))
        && small_product::transposes(from)
    {
        // SAFETY: asked just now; sizes and strides were checked against the slices above.
        return unsafe { small_product::transpose(from, out.as_mut_ptr(), row) };
    }
    for (j, out) in out.chunks_mut(row).take(columns).enumerate() {
        for (i, out) in out[..rows].iter_mut().enumerate() {
            *out = from.data[i * from.row + j];
        }
    }
}

/// Multiplications up to which a product with contiguous rows of b is made by plain loops rather than by `gemm`, which
/// first packs its factors.
const TINY: usize = 4 * 4 * 64;

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
    use super::super::scattered;
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

    #[test]
    fn transposes_are_exchanged() {
        for (rows, columns) in [(1, 1), (1, 8), (7, 16), (8, 3), (17, 64), (50, 24)] {
            let from: Vec<f32> = (0..rows * (columns + 3)).map(|i| i as f32).collect();
            let row = scattered(rows);
            let mut out = vec![f32::NAN; columns * row];
            transpose(Matrix::new(&from, rows, columns, columns + 3), &mut out, row);
            for (j, out) in out.chunks_exact(row).enumerate() {
                for i in 0..rows {
                    assert_eq!(out[i], from[i * (columns + 3) + j], "{rows} x {columns}, ({i}, {j})");
                }
            }
        }
    }
}
