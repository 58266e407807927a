//! max_k phi_k . h of each sequence's own candidates, and the k that gave it.

use multiversion::multiversion;

use super::{Real, math, parallel};

kernel! {
    /// `main`: one invocation a candidate. `serial`: one invocation 8 candidates of a sequence.
    "candidate_scores"
    params {
        sequences: u32,
        /// Candidates of each sequence.
        candidates: u32,
        dim: u32,
        intentions: u32,
    }
    bindings {
        /// `[sequences, intentions, dim]`
        phi: read f32,
        /// `[sequences, candidates]`
        items: read u32,
        /// `[items, dim]`
        table: read f32,
        /// `[sequences, candidates]`
        scores: write f32,
        /// `[sequences, candidates]`
        intention: write u32,
    }
    work |_s| [2.0 * sequences * candidates * intentions * dim, sequences * (intentions * dim + candidates * (dim + 3.0))]
    groups |p| super::fold((p.sequences * p.candidates).div_ceil(64));
    serial |p| p.dim.is_multiple_of(4).then(|| super::fold((p.sequences * p.candidates.div_ceil(8)).div_ceil(8)))
}

pub fn twin<R: Real>(p: &Params, phi: &[R], items: &[u32], table: &[R], scores: &mut [R], intention: &mut [u32]) {
    let n = p.sequences as usize * p.candidates as usize;
    let outputs = (&mut scores[..n], &mut intention[..n]);
    parallel::chunks2(outputs, (1, 1), 1024, |first, scores, intention| {
        best(p, first, phi, &items[first..], table, scores, intention);
    });
}

/// Of the candidates from `first` on, whose items are the first of `items`.
#[multiversion(targets = "simd")]
fn best<R: Real>(
    p: &Params,
    first: usize,
    phi: &[R],
    items: &[u32],
    table: &[R],
    scores: &mut [R],
    intention: &mut [u32],
) {
    let (dim, candidates, intentions) = (p.dim as usize, p.candidates as usize, p.intentions as usize);
    for (i, (score, intention)) in scores.iter_mut().zip(intention).enumerate() {
        let phi = &phi[(first + i) / candidates * intentions * dim..][..intentions * dim];
        let h = &table[items[i] as usize * dim..][..dim];
        (*score, *intention) = (math::dot(&phi[..dim], h), 0);
        for (k, phi) in phi.chunks_exact(dim).enumerate().skip(1) {
            let value = math::dot(phi, h);
            if value > *score {
                (*score, *intention) = (value, k as u32);
            }
        }
    }
}
