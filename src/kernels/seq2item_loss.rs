//! Eq. 6 for every example: the logarithm of the denominator over all its K rows, less the best intention's score of each own candidate.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Real, fold, math, parallel};

kernel! {
    /// One invocation an example.
    "seq2item_loss"
    params {
        examples: u32,
        dim: u32,
        intentions: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// `[examples, intentions, dim]`
        phi: read f32,
        /// `[candidates, dim]`
        candidate: read f32,
        /// Own candidates of example b: `offsets[b] .. offsets[b + 1]`
        offsets: read u32,
        /// Of each row over the candidates, see `contrastive`: `[examples, intentions, 2]`
        normaliser: read f32,
        /// `[examples]`
        loss: write f32,
        /// The example's over all its rows, for each of them: `[examples, intentions, 2]`
        example_normaliser: write f32,
        /// Number of own candidates, for each row: `[examples, intentions]`
        weight: write f32,
        /// The row (example * intentions + k) with the best score of each candidate, `[candidates]`
        positive: write u32,
    }
    work |_s| [2.0 * examples * intentions * dim, examples * ((intentions + 1.0) * dim + 4.0 * intentions)]
    groups |p| fold(p.examples.div_ceil(64))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    phi: &[R],
    candidate: &[R],
    offsets: &[u32],
    normaliser: &[R],
    loss: &mut [R],
    example_normaliser: &mut [R],
    weight: &mut [R],
    positive: &mut [u32],
) {
    let (dim, intentions) = (p.dim as usize, p.intentions as usize);
    let offsets = &offsets[..=p.examples as usize];
    let positive = &mut positive[offsets[0] as usize..];
    loss.par_iter_mut()
        .zip(example_normaliser.par_chunks_exact_mut(2 * intentions))
        .zip(weight.par_chunks_exact_mut(intentions))
        .zip(parallel::by_sequence(positive, offsets, 1))
        .enumerate()
        .for_each(|(b, (((loss, example_normaliser), weight), positive))| {
            let normaliser = &normaliser[2 * b * intentions..][..2 * intentions];
            let peak = normaliser.iter().step_by(2).fold(normaliser[0], |m, &x| if x <= m { m } else { x });
            let total: R = normaliser.chunks_exact(2).map(|pair| (pair[0] - peak + pair[1]).exp_fast()).sum();
            let log = total.ln();
            for pair in example_normaliser.chunks_exact_mut(2) {
                (pair[0], pair[1]) = (peak, log);
            }
            weight.fill(R::of(positive.len() as f32));
            let phi = &phi[b * intentions * dim..][..intentions * dim];
            *loss = R::zero();
            for (candidate, positive) in candidate[offsets[b] as usize * dim..].chunks_exact(dim).zip(positive) {
                let (k, score) = best(R::of(p.scale), phi, candidate);
                *positive = (b * intentions + k) as u32;
                *loss += log + (peak - score);
            }
        });
}

/// The intention with the best score, and the score.
#[multiversion(targets = "simd")]
fn best<R: Real>(scale: R, phi: &[R], candidate: &[R]) -> (usize, R) {
    let mut best = (0, R::neg_infinity());
    for (k, phi) in phi.chunks_exact(candidate.len()).enumerate() {
        let score = scale * math::dot(phi, candidate);
        if score > best.1 {
            best = (k, score);
        }
    }
    best
}
