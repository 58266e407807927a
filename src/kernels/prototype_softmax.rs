//! p_{k|i}: softmax over the prototypes of scaled dot products of normalised tokens and prototypes (eq. 8).

use super::{Real, fold, math, parallel};

kernel! {
    /// One invocation a token.
    "prototype_softmax"
    params {
        tokens: u32,
        dim: u32,
        intentions: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// LayerNorm 1 of z, `[tokens, dim]`
        token: read f32,
        /// LayerNorm 2 of c, `[intentions, dim]`
        prototype: read f32,
        /// p_{k|i}, `[tokens, intentions]`
        cluster: write f32,
    }
    groups |p| fold(p.tokens.div_ceil(64))
}

pub fn twin<R: Real>(p: &Params, token: &[R], prototype: &[R], cluster: &mut [R]) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let out = &mut cluster[..p.tokens as usize * intentions];
    parallel::chunks(out, intentions, parallel::ROWS, |first, chunk| {
        for (i, row) in chunk.chunks_exact_mut(intentions).enumerate() {
            let token = &token[(first + i) * dim..][..dim];
            for (k, logit) in row.iter_mut().enumerate() {
                *logit = R::of(p.scale) * math::dot(token, &prototype[k * dim..][..dim]);
            }
            let peak = math::largest(row);
            for share in row.iter_mut() {
                *share = (*share - peak).exp_fast();
            }
            let total = row.iter().copied().sum::<R>();
            for share in row.iter_mut() {
                *share = *share / total;
            }
        }
    });
}
