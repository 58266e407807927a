//! Scores of candidates, and ranks in the whole catalogue.

use prismrec::kernels::*;

use crate::case::{Case, EXACT, Output};
use crate::common::Random;

#[test]
fn candidate_scores() {
    let mut random = Random::new();
    for (sequences, candidates, dim, intentions) in [
        (1, 1, 1, 1),
        (1, 63, 3, 2),
        (2, 32, 4, 3),
        (5, 13, 7, 5),
        (3, 101, 31, 32),
        (7, 10, 64, 4),
        (2, 9, 65, 1),
        (2, 3, 256, 5),
        // Many equal scores, and more than 64 workgroups of 64 candidates.
        (65, 65, 1, 5),
    ] {
        let params = candidate_scores::Params {
            sequences: sequences as u32,
            candidates: candidates as u32,
            dim: dim as u32,
            intentions: intentions as u32,
        };
        let (items, axes) = (17, [("sequence", sequences), ("candidate", candidates)]);
        // Scores are exact, so that equal ones are equal and the first intention is taken.
        Case::new(&candidate_scores::KERNEL, params)
            .reals(&random.eighths(sequences * intentions * dim))
            .whole(&random.indices(sequences * candidates, items))
            .reals(&random.eighths(items * dim))
            .writes(Output::new(&axes, EXACT))
            .writes(Output::new(&axes, EXACT))
            .check(&mut random);
    }
}

#[test]
fn catalogue_rank() {
    let mut random = Random::new();
    for (sequences, items, dim, intentions) in [
        (1, 1, 1, 1),
        (31, 31, 3, 1),
        (32, 32, 4, 1),
        (33, 33, 7, 1),
        (16, 1023, 3, 2),
        (11, 1024, 4, 3),
        (13, 1025, 15, 5),
        (3, 70, 31, 32),
        (9, 2500, 16, 4),
        (2, 40, 65, 17),
        (8, 100, 256, 4),
    ] {
        let params = catalogue_rank::Params {
            sequences: sequences as u32,
            items: items as u32,
            dim: dim as u32,
            intentions: intentions as u32,
        };
        let phi = random.eighths(sequences * intentions * dim);
        let mut table = random.eighths(items * dim);
        // The score of an item that is not a number counts as ahead.
        if items > 50 {
            table[items / 2 * dim] = f64::NAN;
        }
        let bias = random.eighths(items);
        let truth: Vec<u32> = (0..sequences).map(|_| random.below(items) as u32).collect();
        let truth_score: Vec<f64> = (0..sequences)
            .map(|s| {
                let h = &table[truth[s] as usize * dim..][..dim];
                let phi = phi[s * intentions * dim..][..intentions * dim].chunks_exact(dim);
                let scores = phi.map(|phi| phi.iter().zip(h).map(|(a, b)| a * b).sum::<f64>());
                scores.fold(f64::NEG_INFINITY, f64::max) + bias[truth[s] as usize]
            })
            .collect();
        // None, some, or all items are known; sometimes the truth is among them, which is never counted anyway.
        let mut known = Vec::new();
        let mut known_offsets = vec![0];
        for _ in 0..sequences {
            let count = random.one_of(&[0, items / 3, items / 3, items]);
            known.extend(random.distinct(count, items));
            known_offsets.push(known.len() as u32);
        }
        Case::new(&catalogue_rank::KERNEL, params)
            .reals(&phi)
            .reals(&table)
            .reals(&bias)
            .whole(&truth)
            .reals(&truth_score)
            .whole(&known_offsets)
            .whole(&known)
            // Ranks are added to.
            .writes(Output::new(&[("sequence", sequences)], EXACT).onto_whole(random.indices(sequences, 100)))
            .check(&mut random);
    }
}
