//! The rank of each sequence's true next item in the whole catalogue: how many other items score at least as high.
//!
//! Scores are made a tile at a time; users x items is never stored.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Real, math};

/// Items of a block in the twin.
const ITEMS: usize = 512;
/// Sequences of a block in the twin.
const SEQUENCES: usize = 16;
/// Items a workgroup walks through.
pub const ITEMS_A_GROUP: u32 = 1024;

kernel! {
    /// `main`: a workgroup meets 32 rows of phi with 1024 items, 32 at a time, an invocation 4 x 4 scores. `serial`: a
    /// workgroup meets 16 sequences with 1024 items, an invocation 16 x 32 of them at a time. `rank` is added to, in whole
    /// numbers.
    "catalogue_rank"
    params {
        sequences: u32,
        /// M
        items: u32,
        dim: u32,
        intentions: u32,
    }
    bindings {
        /// `[sequences, intentions, dim]`
        phi: read f32,
        /// `[items, dim]`
        table: read f32,
        /// What is added to an item's score, `[items]`
        bias: read f32,
        /// `[sequences]`
        truth: read u32,
        /// Score of the truth, with what is added to it, `[sequences]`
        truth_score: read f32,
        /// Items that do not compete with sequence s: `known[known_offsets[s] .. known_offsets[s + 1]]`, ascending
        known_offsets: read u32,
        known: read u32,
        /// `[sequences]`
        rank: write u32,
    }
    work |_s| [2.0 * sequences * intentions * items * dim, (sequences * intentions + items) * dim + items + 3.0 * sequences]
    groups |p| [p.sequences.div_ceil(32 / p.intentions), p.items.div_ceil(ITEMS_A_GROUP), 1];
    serial |p| p.dim.is_multiple_of(4).then(|| [p.sequences.div_ceil(16), p.items.div_ceil(ITEMS_A_GROUP), 1])
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    phi: &[R],
    table: &[R],
    bias: &[R],
    truth: &[u32],
    truth_score: &[R],
    known_offsets: &[u32],
    known: &[u32],
    rank: &mut [u32],
) {
    let (dim, items, intentions, sequences) =
        (p.dim as usize, p.items as usize, p.intentions as usize, p.sequences as usize);
    // A block of items is transposed once, for all sequences.
    let counts: Vec<Vec<u32>> = (0..items.div_ceil(ITEMS))
        .into_par_iter()
        .map(|block| {
            let start = block * ITEMS;
            let n = ITEMS.min(items - start);
            let (block, row) = math::transposed(&table[start * dim..], n, dim);
            let block = math::Matrix::new(&block, dim, n, row);
            let bias = &bias[start..start + n];
            let mut scores = vec![R::zero(); SEQUENCES.min(sequences) * intentions * n];
            let mut counts = vec![0; sequences];
            for (i, counts) in counts.chunks_mut(SEQUENCES).enumerate() {
                let first = i * SEQUENCES;
                let rows = counts.len() * intentions;
                let phi = math::Matrix::new(&phi[first * intentions * dim..][..rows * dim], rows, dim, dim);
                math::matmul(&mut scores[..rows * n], n, false, R::one(), phi, block);
                for (i, count) in counts.iter_mut().enumerate() {
                    let (s, bar) = (first + i, truth_score[first + i]);
                    let scores = &mut scores[i * intentions * n..][..intentions * n];
                    *count = count_ahead(scores, bias, bar);
                    let best = &scores[..n];
                    let known = &known[known_offsets[s] as usize..known_offsets[s + 1] as usize];
                    let from = known.partition_point(|&item| (item as usize) < start);
                    let out = known[from..].iter().copied().take_while(|&item| (item as usize) < start + n);
                    for item in out.filter(|&item| item != truth[s]) {
                        *count -= u32::from(ahead(best[item as usize - start], bar));
                    }
                    if (start..start + n).contains(&(truth[s] as usize)) {
                        *count -= u32::from(ahead(best[truth[s] as usize - start], bar));
                    }
                }
            }
            counts
        })
        .collect();
    for (s, rank) in rank[..sequences].iter_mut().enumerate() {
        *rank += counts.iter().map(|counts| counts[s]).sum::<u32>();
    }
}

/// How many items are ahead by their best intention and bias; leaves what they score in the first of the rows.
#[multiversion(targets = "simd")]
fn count_ahead<R: Real>(scores: &mut [R], bias: &[R], bar: R) -> u32 {
    let n = bias.len();
    let (best, others) = scores.split_at_mut(n);
    for row in others.chunks_exact(n) {
        for (best, &score) in best.iter_mut().zip(row) {
            *best = if score > *best { score } else { *best };
        }
    }
    for (best, &bias) in best.iter_mut().zip(bias) {
        *best += bias;
    }
    best.iter().map(|&score| u32::from(ahead(score, bar))).sum()
}

/// A score that is not a number counts against the truth.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // its NaN is meant
#[inline(always)]
fn ahead<R: Real>(score: R, bar: R) -> bool {
    !(score < bar)
}
