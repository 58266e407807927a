//! Small matrix products with AVX2, in blocks of outputs that stay in registers, and the transposes that they need. `gemm`
//! packs both factors first, which takes longer than such a product itself. Written with intrinsics, as what the compiler
//! makes of plain loops changes by a factor of ten with every change around them.

use std::arch::x86_64::*;

use super::math::Matrix;

/// What a block's sums go through at a time, so that a panel of b stays in the first cache.
const DEPTH: usize = 64;

/// Whether [`product`] may be called for these factors, and is faster than `gemm`.
pub fn suits(a: Matrix<f32>, b: Matrix<f32>) -> bool {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let small = k <= DEPTH || m * n <= 192 * 64;
    small && b.column == 1 && n.is_multiple_of(8) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
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
        if i + 4 <= a.rows {
            rows_block::<4, VECTORS>(out, a, b, (i, j));
            i += 4;
        }
        if i + 2 <= a.rows {
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

/// Whether [`transpose`] may be called for this matrix of contiguous rows.
pub fn transposes(from: Matrix<f32>) -> bool {
    from.rows > 0 && from.columns.is_multiple_of(8) && is_x86_feature_detected!("avx2")
}

/// # Safety
/// [`transposes`] said yes, and `out` has `from.columns` rows, `row` apart, of `from.rows` elements and up to the next
/// multiple of 8, which nobody else uses: past the last row of `from` it is the last one again. `from` holds all elements
/// that its sizes and strides tell of.
#[target_feature(enable = "avx2")]
pub unsafe fn transpose(from: Matrix<f32>, out: *mut f32, row: usize) {
    for i in (0..from.rows).step_by(8) {
        for j in (0..from.columns).step_by(8) {
            // SAFETY: as the caller promises; rows end with the matrix.
            unsafe {
                let rows: [__m256; 8] = std::array::from_fn(|r| {
                    _mm256_loadu_ps(from.data.as_ptr().add((i + r).min(from.rows - 1) * from.row + j))
                });
                for (c, column) in transposed_block(rows).into_iter().enumerate() {
                    _mm256_storeu_ps(out.add((j + c) * row + i), column);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn transposed_block(rows: [__m256; 8]) -> [__m256; 8] {
    let pairs: [__m256; 8] = std::array::from_fn(|i| {
        let (a, b) = (rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
        if i % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
    });
    let fours: [__m256; 8] = std::array::from_fn(|i| {
        let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
        if i % 2 == 0 { _mm256_shuffle_ps::<0x44>(a, b) } else { _mm256_shuffle_ps::<0xee>(a, b) }
    });
    std::array::from_fn(|i| {
        let (a, b) = (fours[i % 4], fours[i % 4 + 4]);
        if i < 4 { _mm256_permute2f128_ps::<0x20>(a, b) } else { _mm256_permute2f128_ps::<0x31>(a, b) }
    })
}
