//! Both contrastive losses from their denominators: eq. 6 for every example, where the best intention's score of each own
//! target counts, and eq. 3 for every example and intention.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Real, fold, math, parallel};

/// The second half of the shift of a row whose shares are all 0: exp(score - `NOTHING`) is 0.
pub const NOTHING: f32 = 1e30;

kernel! {
    /// One invocation an example, then one a row.
    "contrastive_loss"
    params {
        /// B
        examples: u32,
        /// K
        intentions: u32,
        /// B * K, or 0 where there are no labels.
        labels: u32,
        /// Row of the first query in `vector`.
        first_query: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// Targets; from row `first_query` on queries `[examples, intentions]`, then labels: `[.., dim]`
        vector: read f32,
        /// Own targets of example b: `offsets[b] .. offsets[b + 1]`
        offsets: read u32,
        /// See `contrastive`: `[2, rows, 2]`
        normaliser: read f32,
        /// Eq. 6, `[examples]`
        item_loss: write f32,
        /// Eq. 3, `[labels]`
        label_loss: write f32,
        /// What makes shares of eq. 6: exp(score - m - l), as often as an example has own targets, `[rows, 2]`
        shift: write f32,
        /// The row (example * intentions + k) with the best score of each target
        positive: write u32,
    }
    work |_s| [
        2.0 * (examples * intentions + labels) * dim,
        (examples * (intentions + 1.0) + labels) * dim + 6.0 * examples * intentions
    ]
    groups |p| fold((p.examples + p.labels).div_ceil(64))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    vector: &[R],
    offsets: &[u32],
    normaliser: &[R],
    item_loss: &mut [R],
    label_loss: &mut [R],
    shift: &mut [R],
    positive: &mut [u32],
) {
    let (dim, intentions, examples) = (p.dim as usize, p.intentions as usize, p.examples as usize);
    let rows = examples * intentions;
    let (target, query) = vector.split_at(p.first_query as usize * dim);
    let (query, label) = query.split_at(rows * dim);
    let offsets = &offsets[..=examples];
    let positive = &mut positive[offsets[0] as usize..];
    item_loss[..examples]
        .par_iter_mut()
        .zip(shift.par_chunks_exact_mut(2 * intentions))
        .zip(parallel::by_sequence(positive, offsets, 1))
        .enumerate()
        .with_min_len(16)
        .for_each(|(b, ((loss, shift), positive))| {
            let normaliser = &normaliser[2 * b * intentions..][..2 * intentions];
            let peak = normaliser.iter().step_by(2).fold(normaliser[0], |m, &x| if x <= m { m } else { x });
            let total: R = normaliser.chunks_exact(2).map(|pair| (pair[0] - peak + pair[1]).exp_fast()).sum();
            let log = total.ln();
            let often = match positive.len() {
                0 => R::of(NOTHING),
                n => log - R::of(n as f32).ln(),
            };
            for pair in shift.chunks_exact_mut(2) {
                (pair[0], pair[1]) = (peak, often);
            }
            let query = &query[b * intentions * dim..][..intentions * dim];
            *loss = R::zero();
            for (target, positive) in target[offsets[b] as usize * dim..].chunks_exact(dim).zip(positive) {
                let (k, score) = best(R::of(p.scale), query, target);
                *positive = (b * intentions + k) as u32;
                *loss += log + (peak - score);
            }
        });
    parallel::chunks(&mut label_loss[..p.labels as usize], 1, 256, |first, loss| {
        let normaliser = &normaliser[2 * (rows + first)..];
        label_losses(R::of(p.scale), dim, &query[first * dim..], &label[first * dim..], normaliser, loss);
    });
}

/// The intention with the best score, and the score.
#[multiversion(targets = "simd")]
fn best<R: Real>(scale: R, query: &[R], target: &[R]) -> (usize, R) {
    let mut best = (0, R::neg_infinity());
    for (k, query) in query.chunks_exact(target.len()).enumerate() {
        let score = scale * math::dot(query, target);
        if score > best.1 {
            best = (k, score);
        }
    }
    best
}

#[multiversion(targets = "simd")]
fn label_losses<R: Real>(scale: R, dim: usize, query: &[R], label: &[R], normaliser: &[R], loss: &mut [R]) {
    let rows = query.chunks_exact(dim).zip(label.chunks_exact(dim)).zip(normaliser.chunks_exact(2));
    for (loss, ((query, label), normaliser)) in loss.iter_mut().zip(rows) {
        *loss = normaliser[1] + (normaliser[0] - scale * math::dot(query, label));
    }
}
