//! Gradients of eq. 8's scaled dot products and of the normalised tokens.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

kernel! {
    /// `main`: one invocation a token. `serial`: one invocation two tokens. Both four intentions at a time.
    "prototype_softmax_backward"
    params {
        tokens: u32,
        dim: u32,
        intentions: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// `[intentions, dim]`
        prototype: read f32,
        /// p_{k|i}, `[tokens, intentions]`
        cluster: read f32,
        /// `[tokens, intentions]`
        dcluster: read f32,
        /// Gradient of token . prototype (the scale is in it), `[tokens, intentions]`
        dlogit: write f32,
        /// `[tokens, dim]`
        dtoken: write f32,
    }
    work |_s| [tokens * intentions * (2.0 * dim + 4.0), tokens * (dim + 3.0 * intentions) + intentions * dim]
    groups |p| fold(p.tokens.div_ceil(64));
    serial |p| p.dim.is_multiple_of(4).then(|| fold(p.tokens.div_ceil(16)))
}

pub fn twin<R: Real>(p: &Params, prototype: &[R], cluster: &[R], dcluster: &[R], dlogit: &mut [R], dtoken: &mut [R]) {
    let (tokens, dim, intentions) = (p.tokens as usize, p.dim as usize, p.intentions as usize);
    let outputs = (&mut dlogit[..tokens * intentions], &mut dtoken[..tokens * dim]);
    parallel::chunks2(outputs, (intentions, dim), parallel::ROWS, |first, dlogit, dtoken| {
        let (share, dshare) = (&cluster[first * intentions..], &dcluster[first * intentions..]);
        gradient_rows(p, &prototype[..intentions * dim], share, dshare, dlogit, dtoken);
    });
}

#[multiversion(targets = "simd")]
fn gradient_rows<R: Real>(p: &Params, prototype: &[R], share: &[R], dshare: &[R], dlogit: &mut [R], dtoken: &mut [R]) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let shares = share.chunks_exact(intentions).zip(dshare.chunks_exact(intentions));
    let outputs = dlogit.chunks_exact_mut(intentions).zip(dtoken.chunks_exact_mut(dim));
    for ((dlogit, dtoken), (share, dshare)) in outputs.zip(shares) {
        let along = share.iter().zip(dshare).map(|(&a, &b)| a * b).sum::<R>();
        dtoken.fill(R::zero());
        for (k, prototype) in prototype.chunks_exact(dim).enumerate() {
            dlogit[k] = R::of(p.scale) * share[k] * (dshare[k] - along);
            math::add_scaled(dtoken, dlogit[k], prototype);
        }
    }
}
