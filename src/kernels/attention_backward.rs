//! Gradients of queries, keys and values. The residual's gradient is dy itself.

use rayon::prelude::*;

use super::dropout::factor;
use super::{Real, math, parallel};

/// Queries of a block in the twin.
const BLOCK: usize = 32;

kernel! {
    /// A workgroup a sequence; 8 queries meet 8 keys at a time, one pair an invocation.
    "attention_backward"
    params {
        sequences: u32,
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
    groups |p| super::fold(p.sequences)
}

pub fn twin<R: Real>(p: &Params, offsets: &[u32], qkv: &[R], mixed: &[R], log_sum: &[R], dy: &[R], dqkv: &mut [R]) {
    let dim = p.dim as usize;
    let wide = 3 * dim;
    let offsets = &offsets[..=p.sequences as usize];
    parallel::by_sequence(dqkv, offsets, wide).into_par_iter().enumerate().for_each(|(s, dqkv)| {
        parallel::simd(|| {
            let first = offsets[s] as usize;
            let tokens = dqkv.len() / wide;
            let qkv = &qkv[first * wide..][..tokens * wide];
            // Gradient of `mixed`, through the output's dropout.
            let mut dmixed = dy[first * dim..(first + tokens) * dim].to_vec();
            for (e, value) in dmixed.iter_mut().enumerate() {
                *value *= factor::<R>(p.drop_below, p.drop_scale, p.drop_key, (first * dim + e) as u32);
            }
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
                    let share = &mut shares[(i - start) * end..][..end];
                    let dscore = &mut dscores[(i - start) * end..][..end];
                    let log = log_sum[token];
                    let along = math::dot(&dmixed[i * dim..][..dim], &mixed[token * dim..][..dim]);
                    let element = (token as u32).wrapping_mul(p.length);
                    for j in 0..=i {
                        let probability = (share[j] - log).exp_fast();
                        let at = element.wrapping_add(j as u32);
                        let kept = factor::<R>(p.share_below, p.share_scale, p.share_key, at);
                        dscore[j] = probability * (kept * dscore[j] - along);
                        share[j] = kept * probability;
                    }
                    share[i + 1..].fill(R::zero());
                    dscore[i + 1..].fill(R::zero());
                }
                let shares = math::Matrix::new(&shares[..rows * end], rows, end, end);
                let dscores = math::Matrix::new(&dscores[..rows * end], rows, end, end);
                math::matmul(&mut dqkv[start * wide..], wide, false, R::of(p.scale), dscores, key);
                math::matmul(&mut dqkv[dim..], wide, true, R::of(p.scale), dscores.t(), query);
                math::matmul(&mut dqkv[2 * dim..], wide, true, R::one(), shares.t(), douter);
            }
        });
    });
}
