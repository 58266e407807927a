//! Small matrix products in blocks of outputs that stay in vector registers (AVX-512 or AVX2), and the transposes that they
//! need. `gemm` packs both factors first, which takes longer than such a product itself. Written with intrinsics, as what the
//! compiler makes of plain loops changes by a factor of ten with every change around them.

use std::arch::x86_64::*;

use super::math::Matrix;

/// What a block's sums go through at a time, so that a panel of b stays in the first cache.
const DEPTH: usize = 64;

/// Whether [`product`] may be called for these factors, and is not slower than `gemm`. For depths up to the model's largest
/// width this does not depend on how many rows there are: what is made again in other blocks is the same to the bit.
pub fn suits(a: Matrix<f32>, b: Matrix<f32>) -> bool {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let small = k <= 256 || m * n <= 192 * 64;
    small && b.column == 1 && n.is_multiple_of(8) && has_avx2()
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
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
pub unsafe fn product(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    // SAFETY: as the caller promises; the processor has the instructions that are asked for here.
    unsafe {
        if is_x86_feature_detected!("avx512f") {
            product_avx512(out, a, b);
        } else {
            product_avx2(out, a, b);
        }
    }
}

// Blocks of 6 x 64 outputs: 24 of 32 registers for sums, 4 for a row of b, and two loads in the time of a multiply-add.
#[target_feature(enable = "avx512f")]
unsafe fn product_avx512(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    // SAFETY: as `product`'s caller promises.
    unsafe { panels::<__m512, 4>(out, a, b) }
}

// Blocks of 6 x 16 outputs: 12 of 16 registers for sums.
#[target_feature(enable = "avx2,fma")]
unsafe fn product_avx2(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    // SAFETY: as `product`'s caller promises.
    unsafe { panels::<__m256, 2>(out, a, b) }
}

/// A register of an instruction set. Inlined into functions that have it enabled.
trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    /// The first `lanes`: all, or half of the lanes where these are more than 8.
    unsafe fn load(from: *const f32, lanes: usize) -> Self;
    unsafe fn store(self, to: *mut f32, lanes: usize);
    /// self * by + to
    unsafe fn multiply_add(self, by: Self, to: Self) -> Self;
}

impl Vector for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as callers promise, also below: the instructions are there, and the elements are.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, _: usize) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, _: usize) {
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, to: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, by, to) }
    }
}

impl Vector for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as callers promise, also below: the instructions are there, and the elements are.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32, lanes: usize) -> Self {
        unsafe { _mm512_maskz_loadu_ps(first(lanes), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, lanes: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(lanes), self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, to: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, by, to) }
    }
}

/// The mask of so many lanes, up to 16.
#[inline(always)]
fn first(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

/// The product in panels of `WIDE` vectors of columns.
#[inline(always)]
unsafe fn panels<V: Vector, const WIDE: usize>(out: Out, a: Matrix<f32>, b: Matrix<f32>) {
    // SAFETY: as `product`'s caller promises; panels end with the columns, parts of the depth with the factors.
    unsafe {
        for p in (0..a.columns).step_by(DEPTH) {
            let depth = DEPTH.min(a.columns - p);
            let a = Matrix { data: &a.data[p * a.column..], columns: depth, ..a };
            let b = Matrix { data: &b.data[p * b.row..], rows: depth, ..b };
            let out = Out { add: out.add || p > 0, ..out };
            for j in (0..b.columns).step_by(WIDE * V::LANES) {
                match (b.columns - j).div_ceil(V::LANES) {
                    1 => panel::<V, 1>(out, a, b, j),
                    2 => panel::<V, 2>(out, a, b, j),
                    3 if WIDE > 3 => panel::<V, 3>(out, a, b, j),
                    _ => panel::<V, WIDE>(out, a, b, j),
                }
            }
        }
    }
}

/// The columns of a panel, from `j` on.
#[inline(always)]
unsafe fn panel<V: Vector, const WIDE: usize>(out: Out, a: Matrix<f32>, b: Matrix<f32>, j: usize) {
    let mut i = 0;
    // SAFETY: as `product`'s caller promises; blocks end with the rows.
    unsafe {
        while i + 6 <= a.rows {
            block::<V, 6, WIDE>(out, a, b, (i, j));
            i += 6;
        }
        if i + 4 <= a.rows {
            block::<V, 4, WIDE>(out, a, b, (i, j));
            i += 4;
        }
        if i + 2 <= a.rows {
            block::<V, 2, WIDE>(out, a, b, (i, j));
            i += 2;
        }
        if i < a.rows {
            block::<V, 1, WIDE>(out, a, b, (i, j));
        }
    }
}

/// A block of outputs as sums of b's rows.
#[inline(always)]
unsafe fn block<V: Vector, const ROWS: usize, const WIDE: usize>(
    out: Out,
    a: Matrix<f32>,
    b: Matrix<f32>,
    (i, j): (usize, usize),
) {
    let last = (b.columns - j).min(WIDE * V::LANES) - (WIDE - 1) * V::LANES;
    let lanes = |v: usize| if v + 1 < WIDE { V::LANES } else { last };
    // SAFETY: elements (i + r, p) of a, (p, j ..) of b and (i + r, j ..) of out are inside, as `product`'s caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); WIDE]; ROWS];
        let left = a.data.as_ptr().add(i * a.row);
        let right = b.data.as_ptr().add(j);
        for p in 0..a.columns {
            let y: [V; WIDE] = std::array::from_fn(|v| V::load(right.add(p * b.row + V::LANES * v), lanes(v)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*left.add(r * a.row + p * a.column));
                for (sum, y) in sums.iter_mut().zip(y) {
                    *sum = x.multiply_add(y, *sum);
                }
            }
        }
        let factor = V::splat(out.factor);
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = out.start.add((i + r) * out.row + j + V::LANES * v);
                let before = if out.add { V::load(to, lanes(v)) } else { V::splat(0.0) };
                factor.multiply_add(sum, before).store(to, lanes(v));
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
        for j in (0..from.columns).step_by(4) {
            // SAFETY: as the caller promises; rows end with the matrix.
            unsafe {
                let four = |r: usize| _mm_loadu_ps(from.data.as_ptr().add((i + r).min(from.rows - 1) * from.row + j));
                // Put together as they are loaded, rows need to change places only within halves.
                let rows: [__m256; 4] = std::array::from_fn(|r| _mm256_set_m128(four(r + 4), four(r)));
                for (c, column) in columns(rows).into_iter().enumerate() {
                    _mm256_storeu_ps(out.add((j + c) * row + i), column);
                }
            }
        }
    }
}

/// The transposes of two blocks of 4 x 4, which lie in both halves.
#[target_feature(enable = "avx2")]
fn columns([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    let (first, second) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
    let (third, fourth) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
    [
        _mm256_shuffle_ps::<0x44>(first, second),
        _mm256_shuffle_ps::<0xee>(first, second),
        _mm256_shuffle_ps::<0x44>(third, fourth),
        _mm256_shuffle_ps::<0xee>(third, fourth),
    ]
}
