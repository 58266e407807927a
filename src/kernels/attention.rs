//! Causal single-head attention over packed sequences, with the residual: y = x + dropout(softmax(q k^T / sqrt(D)) v).
//!
//! The shares are dropped out too. Nothing of size T x T is stored: a block of queries meets its keys a block at a time.

use multiversion::multiversion;
use rayon::prelude::*;

use super::dropout::factor;
use super::{Real, math, parallel};

/// Queries of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// A workgroup 8 tokens of a sequence; 8 queries meet 8 keys at a time, one pair an invocation. In `serial`, an
    /// invocation 4 tokens.
    "attention"
    params {
        sequences: u32,
        tokens: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        /// L, at least the longest sequence's tokens: share (query token, key's place in the sequence) is element `token * length + place` of the shares' mask.
        length: u32,
        share_below: u32,
        share_scale: f32,
        share_key: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
    }
    bindings {
        /// First token of each sequence, and the number of tokens: `[sequences + 1]`
        offsets: read u32,
        /// Sequence of each token, `[tokens]`
        owners: read u32,
        /// query, key and value of each token, `[tokens, 3, dim]`
        qkv: read f32,
        /// The residual, `[tokens, dim]`
        x: read f32,
        /// `[tokens, dim]`
        y: write f32,
        /// The attention's own output, before dropout: `[tokens, dim]`
        mixed: write f32,
        /// ln(sum(exp(scores))) of each query, `[tokens]`
        log_sum: write f32,
    }
    work |s| [s.pairs * (4.0 * dim + 6.0) + 3.0 * s.tokens * dim, s.tokens * (6.0 * dim + 2.0) + sequences]
    groups |p| {
        let [x, y, _] = super::fold(p.sequences);
        [x, y, p.length.div_ceil(8)]
    };
    serial |p| serial_groups(p.tokens, p.dim, p.length)
}

/// Workgroups of the entry points `serial`: 8 invocations, each with 4 tokens whose rows fit its registers.
pub(super) fn serial_groups(tokens: u32, dim: u32, length: u32) -> Option<super::Groups> {
    // Longer sequences take an invocation more iterations than some drivers let it have.
    (dim.is_multiple_of(4) && dim <= 64 && length <= 8192).then(|| super::fold(tokens.div_ceil(32)))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    _owners: &[u32],
    qkv: &[R],
    x: &[R],
    y: &mut [R],
    mixed: &mut [R],
    log_sum: &mut [R],
) {
    let dim = p.dim as usize;
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(y, offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(mixed, offsets, dim))
        .zip(parallel::by_sequence(log_sum, offsets, 1))
        .enumerate()
        .for_each(|(s, ((y, mixed), log_sum))| {
            let first = offsets[s] as usize;
            let tokens = log_sum.len();
            let qkv = &qkv[first * 3 * dim..][..tokens * 3 * dim];
            let mut shares = vec![R::zero(); BLOCK.min(tokens) * tokens];
            for start in (0..tokens).step_by(BLOCK) {
                let end = (start + BLOCK).min(tokens);
                scores(p, qkv, start, end, &mut shares);
                for i in start..end {
                    log_sum[i] = softmax(p, first + i, &mut shares[(i - start) * end..][..end], i + 1);
                }
                let value = math::Matrix::new(&qkv[2 * dim..], end, dim, 3 * dim);
                let rows = math::Matrix::new(&shares[..(end - start) * end], end - start, end, end);
                math::matmul(&mut mixed[start * dim..end * dim], dim, false, R::one(), rows, value);
            }
            add_residual(p, first * dim, mixed, &x[first * dim..][..tokens * dim], y);
        });
}

/// The scores of one query token, those of its `keys` first, to shares with their mask; their log-sum.
#[multiversion(targets = "simd")]
fn softmax<R: Real>(p: &Params, token: usize, row: &mut [R], keys: usize) -> R {
    let (row, later) = row.split_at_mut(keys);
    later.fill(R::zero());
    let peak = math::largest(row);
    for share in row.iter_mut() {
        *share = (*share - peak).exp_fast();
    }
    let total = math::sum(row);
    let scale = total.recip();
    if p.share_below == 0 {
        for share in row.iter_mut() {
            *share *= scale;
        }
    } else {
        let element = (token as u32).wrapping_mul(p.length);
        for (j, share) in row.iter_mut().enumerate() {
            let kept = factor::<R>(p.share_below, p.share_scale, p.share_key, element.wrapping_add(j as u32));
            *share *= scale * kept;
        }
    }
    peak + total.ln()
}

/// y = x + dropout(mixed), of elements from `first` on.
#[multiversion(targets = "simd")]
fn add_residual<R: Real>(p: &Params, first: usize, mixed: &[R], x: &[R], y: &mut [R]) {
    let (mixed, x) = (&mixed[..y.len()], &x[..y.len()]);
    if p.drop_below == 0 {
        for e in 0..y.len() {
            y[e] = x[e] + mixed[e];
        }
    } else {
        for e in 0..y.len() {
            let kept = factor::<R>(p.drop_below, p.drop_scale, p.drop_key, (first + e) as u32);
            y[e] = x[e] + kept * mixed[e];
        }
    }
}

/// Scores of the queries `start..end` of a sequence with its keys `0..end`: `[end - start, end]`.
#[inline(always)]
fn scores<R: Real>(p: &Params, qkv: &[R], start: usize, end: usize, out: &mut [R]) {
    let dim = p.dim as usize;
    let query = math::Matrix::new(&qkv[start * 3 * dim..], end - start, dim, 3 * dim);
    let key = math::Matrix::new(&qkv[dim..], end, dim, 3 * dim);
    math::matmul(&mut out[..(end - start) * end], end, false, R::of(p.scale), query, key.t());
}
