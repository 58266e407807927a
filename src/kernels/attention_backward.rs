//! Gradients of queries, keys and values. The residual's gradient is dy itself.

use multiversion::multiversion;
use rayon::prelude::*;

use super::dropout::factor;
use super::{Real, math, parallel};

/// Queries of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// A workgroup 8 tokens of a sequence; 8 queries meet 8 keys at a time, one pair an invocation. In `serial`, an
    /// invocation 4 tokens.
    "attention_backward"
    params {
        sequences: u32,
        tokens: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        length: u32,
        share_below: u32,
        share_scale: f32,
        share_key: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
    }
    bindings {
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[tokens]`
        owners: read u32,
        /// `[tokens, 3, dim]`
        qkv: read f32,
        /// `[tokens, dim]`
        mixed: read f32,
        /// `[tokens]`
        log_sum: read f32,
        /// `[tokens, dim]`
        dy: read f32,
        /// `[tokens, 3, dim]`
        dqkv: write f32,
    }
    work |s| [s.pairs * (10.0 * dim + 6.0) + 3.0 * s.tokens * dim, s.tokens * (8.0 * dim + 2.0) + sequences]
    groups |p| {
        let [x, y, _] = super::fold(p.sequences);
        [x, y, p.length.div_ceil(8)]
    };
    serial |p| super::attention::serial_groups(p.tokens, p.dim, p.length)
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    _owners: &[u32],
    qkv: &[R],
    mixed: &[R],
    log_sum: &[R],
    dy: &[R],
    dqkv: &mut [R],
) {
    let dim = p.dim as usize;
    let wide = 3 * dim;
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(dqkv, offsets, wide).into_par_iter().enumerate().for_each(|(s, dqkv)| {
        let first = offsets[s] as usize;
        let tokens = dqkv.len() / wide;
        let qkv = &qkv[first * wide..][..tokens * wide];
        // Gradient of `mixed`, through the output's dropout.
        let mut dmixed = dy[first * dim..(first + tokens) * dim].to_vec();
        drop_output(p, first * dim, &mut dmixed);
        dqkv.fill(R::zero());
        let mut shares = vec![R::zero(); BLOCK.min(tokens) * tokens];
        let mut dscores = shares.clone();
        for start in (0..tokens).step_by(BLOCK) {
            let end = (start + BLOCK).min(tokens);
            let rows = end - start;
            let query = math::Matrix::new(&qkv[start * wide..], rows, dim, wide);
            let key = math::Matrix::new(&qkv[dim..], end, dim, wide);
            let value = math::Matrix::new(&qkv[2 * dim..], end, dim, wide);
            let douter = math::Matrix::new(&dmixed[start * dim..end * dim], rows, dim, dim);
            math::matmul(&mut shares[..rows * end], end, false, R::of(p.scale), query, key.t());
            math::matmul(&mut dscores[..rows * end], end, false, R::one(), douter, value.t());
            for i in start..end {
                let token = first + i;
                let along = math::dot(&dmixed[i * dim..][..dim], &mixed[token * dim..][..dim]);
                let row = (i - start) * end..(i - start + 1) * end;
                let (share, dscore) = (&mut shares[row.clone()], &mut dscores[row]);
                softmax_backward(p, token, (log_sum[token], along), share, dscore, i + 1);
            }
            let shares = math::Matrix::new(&shares[..rows * end], rows, end, end);
            let dscores = math::Matrix::new(&dscores[..rows * end], rows, end, end);
            math::matmul(&mut dqkv[start * wide..], wide, false, R::of(p.scale), dscores, key);
            math::matmul(&mut dqkv[dim..], wide, true, R::of(p.scale), dscores.t(), query);
            math::matmul(&mut dqkv[2 * dim..], wide, true, R::one(), shares.t(), douter);
        }
    });
}

/// The gradient of the attention's own output, through its dropout, of elements from `first` on.
#[multiversion(targets = "simd")]
fn drop_output<R: Real>(p: &Params, first: usize, dmixed: &mut [R]) {
    if p.drop_below > 0 {
        for (e, value) in dmixed.iter_mut().enumerate() {
            *value *= factor::<R>(p.drop_below, p.drop_scale, p.drop_key, (first + e) as u32);
        }
    }
}

/// Of one query token: scores to shares with their mask, and gradients of masked shares to those of scores.
#[multiversion(targets = "simd")]
fn softmax_backward<R: Real>(
    p: &Params,
    token: usize,
    (log, along): (R, R),
    share: &mut [R],
    dscore: &mut [R],
    keys: usize,
) {
    let (share, later) = share.split_at_mut(keys);
    later.fill(R::zero());
    let (dscore, later) = dscore.split_at_mut(keys);
    later.fill(R::zero());
    let element = (token as u32).wrapping_mul(p.length);
    for (j, (share, dscore)) in share.iter_mut().zip(dscore).enumerate() {
        let probability = (*share - log).exp_fast();
        let kept = factor::<R>(p.share_below, p.share_scale, p.share_key, element.wrapping_add(j as u32));
        *dscore = probability * (kept * *dscore - along);
        *share = kept * probability;
    }
}
