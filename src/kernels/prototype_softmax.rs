//! p_{k|i}: softmax over the prototypes of scaled dot products of normalised tokens and prototypes (eq. 8).

use multiversion::multiversion;

use super::{Activation, Real, fold, math, parallel};

kernel! {
    /// `main`: one invocation a token. `serial`: one invocation two tokens. Both four intentions at a time.
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
        token: read Activation,
        /// LayerNorm 2 of c, `[intentions, dim]`
        prototype: read f32,
        /// p_{k|i}, `[tokens, intentions]`
        cluster: write f32,
    }
    work |_s| [tokens * intentions * (2.0 * dim + 4.0), tokens * (dim + intentions) + intentions * dim, tokens * dim]
    groups |p| fold(p.tokens.div_ceil(64));
    serial |p| p.dim.is_multiple_of(4).then(|| fold(p.tokens.div_ceil(16)))
}

pub fn twin<R: Real>(p: &Params, token: &[R], prototype: &[R], cluster: &mut [R]) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let out = &mut cluster[..p.tokens as usize * intentions];
    parallel::chunks(out, intentions, parallel::ROWS, |first, cluster| {
        shares(p, &token[first * dim..], &prototype[..intentions * dim], cluster);
    });
}

#[multiversion(targets = "simd")]
fn shares<R: Real>(p: &Params, token: &[R], prototype: &[R], cluster: &mut [R]) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    for (row, token) in cluster.chunks_exact_mut(intentions).zip(token.chunks_exact(dim)) {
        for (logit, prototype) in row.iter_mut().zip(prototype.chunks_exact(dim)) {
            *logit = R::of(p.scale) * math::dot(token, prototype);
        }
        let peak = math::largest(row);
        for logit in row {
            *logit -= peak;
        }
    }
    // All rows at once: one has too few intentions for a vector.
    for share in cluster.iter_mut() {
        *share = share.exp_fast();
    }
    for row in cluster.chunks_exact_mut(intentions) {
        let total = row.iter().copied().sum::<R>();
        for share in row {
            *share = *share / total;
        }
    }
}
