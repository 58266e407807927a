//! Small matrix products with AVX2, in blocks of outputs that stay in registers. `gemm` packs both factors first, which
//! takes longer than such a product itself. Written with intrinsics, as what the compiler makes of plain loops changes by
//! a factor of ten with every change around them.

use std::arch::x86_64::*;

use super::math::Matrix;

/// What a block's sums go through at a time, so that a panel of b stays in the first cache.
const DEPTH: usize = 64;

/// Whether [`product`] may be called for these factors, and is faster than `gemm`.
pub fn suits(a: Matrix<f32>, b: Matrix<f32>) -> bool {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    // A transposed a is what gemm is slowest at.
    let rows = b.column == 1 && n.is_multiple_of(8) && (k <= DEPTH || a.column != 1 && m * n <= 192 * 64);
    let dots = a.column == 1 && b.row == 1 && k.is_multiple_of(16) && m * n * k <= 32 * 50 * 64;
    (rows || dots) && m > 2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Where the outputs go: out = factor * sum, or out += factor * sum where `add`; rows are `row` apart.
#[derive(Clone, Copy)]
pub struct Out {
    pub start: *mut f32,
    pub row: usize,
    pub add: bool,
    pub factor: f32,
}

/// # Safety
/// [`suits`] said yes, and `out` has `a.rows` rows of `b.columns` elements, which nobody else uses. `a` and `b` hold all
/// elements that their sizes and strides tell of.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn product(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    // SAFETY: as the caller promises; blocks end with the rows and columns, parts of the depth with the factors.
    unsafe {
        if b.column != 1 {
            return dots(out, a, b);
        }
        for p in (0..a.columns).step_by(DEPTH) {
            let depth = DEPTH.min(a.columns - p);
            let a = Matrix { data: &a.data[p * a.column..], columns: depth, ..a };
            let b = Matrix { data: &b.data[p * b.row..], rows: depth, ..b };
            let out = Out { add: out.add || p > 0, ..out };
            let mut j = 0;
            while j + 16 <= b.columns {
                rows_panel::<2>(out, a, b, j);
                j += 16;
            }
            if j < b.columns {
                rows_panel::<1>(out, a, b, j);
            }
        }
    }
}

/// Columns `j .. j + 8 * VECTORS`.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_panel<const VECTORS: usize>(out: Out, a: Matrix<f32>, b: Matrix<f32>, j: usize) {
    let mut i = 0;
    // SAFETY: as `product`'s caller promises; blocks end with the rows.
    unsafe {
        while i + 6 <= a.rows {
            rows_block::<6, VECTORS>(out, a, b, (i, j));
            i += 6;
        }
        while i + 2 <= a.rows {
            rows_block::<2, VECTORS>(out, a, b, (i, j));
            i += 2;
        }
        if i < a.rows {
            rows_block::<1, VECTORS>(out, a, b, (i, j));
        }
    }
}

/// A block of outputs as sums of b's rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_block<const ROWS: usize, const VECTORS: usize>(
    out: Out,
    a: Matrix<f32>,
    b: Matrix<f32>,
    (i, j): (usize, usize),
) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    // SAFETY: elements (i + r, p) of a, (p, j ..) of b and (i + r, j ..) of out are inside, as `product`'s caller promises.
    unsafe {
        let left = a.data.as_ptr().add(i * a.row);
        let right = b.data.as_ptr().add(j);
        for p in 0..a.columns {
            let y: [__m256; VECTORS] = std::array::from_fn(|v| _mm256_loadu_ps(right.add(p * b.row + 8 * v)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*left.add(r * a.row + p * a.column));
                for (sum, y) in sums.iter_mut().zip(y) {
                    *sum = _mm256_fmadd_ps(x, y, *sum);
                }
            }
        }
        let factor = _mm256_set1_ps(out.factor);
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = out.start.add((i + r) * out.row + j + 8 * v);
                let before = if out.add { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
                _mm256_storeu_ps(to, _mm256_fmadd_ps(factor, sum, before));
            }
        }
    }
}

/// Outputs as products of contiguous rows of a and columns of b.
#[target_feature(enable = "avx2,fma")]
unsafe fn dots(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    let mut i = 0;
    // SAFETY: as `product`'s caller promises; strips end with the rows.
    unsafe {
        while i + 3 <= a.rows {
            dots_strip::<3>(out, a, b, i);
            i += 3;
        }
        match a.rows - i {
            2 => dots_strip::<2>(out, a, b, i),
            1 => dots_strip::<1>(out, a, b, i),
            _ => {}
        }
    }
}

/// Rows `i .. i + ROWS`, four columns at a time. Each output is what `math::dot` gives of a contiguous row of a and column
/// of b, to the bit: 16 partial sums, no fused multiply-adds, the same order.
#[target_feature(enable = "avx2,fma")]
unsafe fn dots_strip<const ROWS: usize>(out: Out, a: Matrix<f32>, b: Matrix<f32>, i: usize) {
    for j in (0..b.columns).step_by(4) {
        let columns = (b.columns - j).min(4);
        // Partial sums 0 to 7, then 8 to 15.
        let mut halves = [[[_mm256_setzero_ps(); 4]; ROWS]; 2];
        // SAFETY: elements (i + r, p ..) of a and (p .., j + c) of b are inside, as `product`'s caller promises; past the
        // last column it is the last one again.
        unsafe {
            let left: [*const f32; ROWS] = std::array::from_fn(|r| a.data.as_ptr().add((i + r) * a.row));
            let right: [*const f32; 4] =
                std::array::from_fn(|c| b.data.as_ptr().add((j + c.min(columns - 1)) * b.column));
            for (half, kept) in halves.iter_mut().enumerate() {
                let mut sums = *kept;
                for p in (8 * half..a.columns).step_by(16) {
                    let x: [__m256; ROWS] = std::array::from_fn(|r| _mm256_loadu_ps(left[r].add(p)));
                    for c in 0..4 {
                        let y = _mm256_loadu_ps(right[c].add(p));
                        for (sums, x) in sums.iter_mut().zip(x) {
                            sums[c] = _mm256_add_ps(sums[c], _mm256_mul_ps(x, y));
                        }
                    }
                }
                *kept = sums;
            }
        }
        let [firsts, seconds] = halves;
        for (r, (firsts, seconds)) in firsts.iter().zip(&seconds).enumerate() {
            // Eight partial sums to four, of each column.
            let fours: [__m128; 4] = std::array::from_fn(|c| {
                let eight = _mm256_add_ps(firsts[c], seconds[c]);
                _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight))
            });
            // To two, and to one: a vector for each partial sum, an element for each column.
            let (low, high) = (_mm_unpacklo_ps(fours[0], fours[1]), _mm_unpacklo_ps(fours[2], fours[3]));
            let (first, second) = (_mm_movelh_ps(low, high), _mm_movehl_ps(high, low));
            let (low, high) = (_mm_unpackhi_ps(fours[0], fours[1]), _mm_unpackhi_ps(fours[2], fours[3]));
            let (third, fourth) = (_mm_movelh_ps(low, high), _mm_movehl_ps(high, low));
            let sum = _mm_add_ps(_mm_add_ps(first, third), _mm_add_ps(second, fourth));
            let sum = _mm_mul_ps(sum, _mm_set1_ps(out.factor));
            // SAFETY: as many elements of row i + r from column j on as there are.
            unsafe {
                let to = out.start.add((i + r) * out.row + j);
                if columns == 4 {
                    let before = if out.add { _mm_loadu_ps(to) } else { _mm_setzero_ps() };
                    _mm_storeu_ps(to, _mm_add_ps(before, sum));
                } else {
                    let mut four = [0.0f32; 4];
                    _mm_storeu_ps(four.as_mut_ptr(), sum);
                    for (c, &sum) in four[..columns].iter().enumerate() {
                        let before = if out.add { *to.add(c) } else { 0.0 };
                        *to.add(c) = before + sum;
                    }
                }
            }
        }
    }
}
