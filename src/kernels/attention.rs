//! Causal single-head attention over packed sequences, with the residual: y = x + dropout(softmax(q k^T / sqrt(D)) v).
//!
//! The shares are dropped out too. Nothing of size T x T is stored: a block of queries meets its keys a block at a time.

use rayon::prelude::*;

use super::dropout::factor;
use super::{Real, math, parallel};

/// Queries of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// A workgroup a sequence; 8 queries meet 8 keys at a time, one pair an invocation.
    "attention"
    params {
        sequences: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        /// L: share (query token, key's place in the sequence) is element `token * length + place` of the shares' mask.
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
    groups |p| super::fold(p.sequences)
}

pub fn twin<R: Real>(p: &Params, offsets: &[u32], qkv: &[R], x: &[R], y: &mut [R], mixed: &mut [R], log_sum: &mut [R]) {
    let dim = p.dim as usize;
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(y, offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(mixed, offsets, dim))
        .zip(parallel::by_sequence(log_sum, offsets, 1))
        .enumerate()
        .for_each(|(s, ((y, mixed), log_sum))| {
            parallel::simd(|| {
                let first = offsets[s] as usize;
                let tokens = log_sum.len();
                let qkv = &qkv[first * 3 * dim..][..tokens * 3 * dim];
                let mut shares = vec![R::zero(); BLOCK.min(tokens) * tokens];
                for start in (0..tokens).step_by(BLOCK) {
                    let end = (start + BLOCK).min(tokens);
                    scores(p, qkv, start, end, &mut shares);
                    for i in start..end {
                        let row = &mut shares[(i - start) * end..][..end];
                        let log = math::log_sum_exp(&row[..=i]);
                        for share in &mut row[..=i] {
                            *share = (*share - log).exp_fast();
                        }
                        row[i + 1..].fill(R::zero());
                        log_sum[i] = log;
                        drop_shares(p, first + i, &mut row[..=i]);
                    }
                    let value = math::Matrix::new(&qkv[2 * dim..], end, dim, 3 * dim);
                    let rows = math::Matrix::new(&shares[..(end - start) * end], end - start, end, end);
                    math::matmul(&mut mixed[start * dim..end * dim], dim, false, R::one(), rows, value);
                }
                let at = first * dim;
                for (e, (y, &mixed)) in y.iter_mut().zip(mixed.iter()).enumerate() {
                    let kept = factor::<R>(p.drop_below, p.drop_scale, p.drop_key, (at + e) as u32);
                    *y = x[at + e] + kept * mixed;
                }
            });
        });
}

/// Scores of the queries `start..end` of a sequence with its keys `0..end`: `[end - start, end]`.
#[inline(always)]
fn scores<R: Real>(p: &Params, qkv: &[R], start: usize, end: usize, out: &mut [R]) {
    let dim = p.dim as usize;
    let query = math::Matrix::new(&qkv[start * 3 * dim..], end - start, dim, 3 * dim);
    let key = math::Matrix::new(&qkv[dim..], end, dim, 3 * dim);
    math::matmul(&mut out[..(end - start) * end], end, false, R::of(p.scale), query, key.t());
}

/// Applies the shares' mask to the row of one query token.
#[inline(always)]
fn drop_shares<R: Real>(p: &Params, token: usize, row: &mut [R]) {
    if p.share_below > 0 {
        let element = (token as u32).wrapping_mul(p.length);
        for (j, share) in row.iter_mut().enumerate() {
            *share *= factor::<R>(p.share_below, p.share_scale, p.share_key, element.wrapping_add(j as u32));
        }
    }
}
