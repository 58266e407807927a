//! How twins use the cores: rows are dealt in chunks of a fixed size, so that results do not depend on the number of
//! threads. What is done to a chunk is best a function with `#[multiversion(targets = "simd")]`: a closure is not compiled
//! for the widest instructions that the processor has.

use std::ops::Range;

use rayon::prelude::*;

use super::slice_rows;

/// Rows of a chunk where a row is cheap.
pub const ROWS: usize = 64;

/// So many rows before they are used, rows at scattered places are fetched.
pub const AHEAD: usize = 4;

/// Has the processor fetch what is soon read or written, where that is at places which it cannot guess.
#[inline(always)]
pub fn prefetch<A>(data: &[A]) {
    #[cfg(target_arch = "x86_64")]
    for line in data.chunks(64 / size_of::<A>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads and writes nothing, at an address inside the slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Calls `body(first row, chunk)` for each chunk of `rows` rows of `out`.
pub fn chunks<A: Send>(out: &mut [A], row: usize, rows: usize, body: impl Fn(usize, &mut [A]) + Sync) {
    out.par_chunks_mut(row * rows).enumerate().for_each(|(i, out)| body(i * rows, out));
}

/// Calls `body(first row, chunk of a, chunk of b)`; rows of `a` and `b` have `widths` elements.
pub fn chunks2<A: Send, B: Send>(
    (a, b): (&mut [A], &mut [B]),
    widths: (usize, usize),
    rows: usize,
    body: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    a.par_chunks_mut(widths.0 * rows)
        .zip(b.par_chunks_mut(widths.1 * rows))
        .enumerate()
        .for_each(|(i, (a, b))| body(i * rows, a, b));
}

/// The rows of each sequence: `out` cut at `offsets`, `row` elements a token.
pub fn by_sequence<'a, A>(mut out: &'a mut [A], offsets: &[u32], row: usize) -> Vec<&'a mut [A]> {
    offsets
        .windows(2)
        .map(|pair| {
            let (head, tail) = std::mem::take(&mut out).split_at_mut((pair[1] - pair[0]) as usize * row);
            out = tail;
            head
        })
        .collect()
}

/// Calls `body(sequence, its rows of a)` for each sequence.
pub fn sequences<A: Send>(out: &mut [A], offsets: &[u32], row: usize, body: impl Fn(usize, &mut [A]) + Sync) {
    by_sequence(out, offsets, row).into_par_iter().enumerate().for_each(|(s, out)| body(s, out));
}

/// Calls `body(rows of a slice, these of out, the slice's copy of the gradient)`: copies are `stride` apart, rows of `out` have `row`
/// elements. The last slices may have no rows.
pub fn slices_and_rows<A: Send>(
    (out, row): (&mut [A], usize),
    gradient: &mut [A],
    (slices, stride): (u32, u32),
    body: impl Fn(Range<usize>, &mut [A], &mut [A]) + Sync,
) {
    let (rows, slices) = (out.len() / row, slices as usize);
    let mut runs: Vec<&mut [A]> = out.chunks_mut((rows.div_ceil(slices) * row).max(1)).collect();
    runs.resize_with(slices, Default::default);
    runs.into_par_iter()
        .zip(gradient.par_chunks_mut(stride as usize))
        .enumerate()
        .for_each(|(slice, (out, copy))| body(slice_rows(rows, slices, slice), out, copy));
}

/// Calls `body(slice, its copy)` for the slices of a parameter's gradient: `size` elements, `stride` apart.
pub fn slices<A: Send>(
    gradient: &mut [A],
    (slices, stride, size): (u32, u32, usize),
    body: impl Fn(usize, &mut [A]) + Sync,
) {
    gradient
        .par_chunks_mut(stride as usize)
        .take(slices as usize)
        .enumerate()
        .for_each(|(slice, copy)| body(slice, &mut copy[..size]));
}
