//! Eq. 6 for every example: the logarithm of the denominator over all its K rows, less the best intention's score of each own candidate.

use super::{Real, fold, math};

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
    for b in 0..p.examples as usize {
        let rows = b * intentions..(b + 1) * intentions;
        let own_normaliser = &normaliser[2 * rows.start..2 * rows.end];
        let peak = own_normaliser.iter().step_by(2).fold(own_normaliser[0], |m, &x| if x <= m { m } else { x });
        let total: R = own_normaliser.chunks_exact(2).map(|pair| (pair[0] - peak + pair[1]).exp_fast()).sum();
        let log = total.ln();
        let own = offsets[b] as usize..offsets[b + 1] as usize;
        for pair in example_normaliser[2 * rows.start..2 * rows.end].chunks_exact_mut(2) {
            (pair[0], pair[1]) = (peak, log);
        }
        weight[rows.clone()].fill(R::of(own.len() as f32));
        loss[b] = R::zero();
        for n in own {
            let mut best = R::neg_infinity();
            positive[n] = rows.start as u32;
            for row in rows.clone() {
                let score = R::of(p.scale) * math::dot(&phi[row * dim..][..dim], &candidate[n * dim..][..dim]);
                if score > best {
                    best = score;
                    positive[n] = row as u32;
                }
            }
            loss[b] += log + (peak - best);
        }
    }
}
