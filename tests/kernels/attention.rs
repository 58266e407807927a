//! Attention over packed sequences.

use half::f16;
use prismrec::kernels::dropout::Dropout;
use prismrec::kernels::*;

use crate::case::{Case, Output, Tolerance};
use crate::common::{Random, offsets, owners, scale};

/// Lengths of sequences, D, and how large the scores are: blocks of 8 and of 16 queries and keys, slabs of 64 dimensions.
fn shapes() -> Vec<(Vec<usize>, usize, f64)> {
    vec![
        (vec![1], 1, 1.0),
        (vec![1, 1, 1], 3, 1.0),
        (vec![7, 8, 9, 1, 16, 17], 4, 1.0),
        (vec![2, 31, 3, 33], 7, 1.0),
        (vec![24, 1], 31, 1.0),
        (vec![10, 65], 64, 1.0),
        // Rows of 9 vectors, and blocks of 4 tokens from several sequences.
        (vec![1, 2, 1, 3, 1, 1, 40, 6], 36, 1.0),
        (vec![230, 5], 65, 1.0),
        // More tokens than a uniform view holds, in sequences of which some fit.
        (vec![3, 80, 9, 70, 90, 1, 100, 84, 85, 2], 64, 1.0),
        (vec![50, 60, 40, 300, 7, 9], 20, 1.0),
        (vec![19, 3], 128, 1.0),
        (vec![9, 12], 256, 1.0),
        // Scores of some hundreds, whose exponentials overflow, and whose softmax is all on one key.
        (vec![40, 5, 1], 64, 20.0),
    ]
}

/// Scores are sums of D products; the exponential turns an error of one into a relative error of a share, and a few
/// hundred shares of that kind are summed.
fn tolerance(dim: usize, size: f64) -> Tolerance {
    let score_error = 2e-7 * (dim as f64).sqrt() * size * size;
    Tolerance { absolute: (2e-6 * size + score_error * size) as f32, relative: (1e-5 + score_error) as f32 }
}

fn params(random: &mut Random, lengths: &[usize], dim: usize, drops: bool) -> attention::Params {
    let (shares, mixed) = if drops { (random.dropout(0.4), random.dropout(0.3)) } else { (Dropout::OFF, Dropout::OFF) };
    attention::Params {
        sequences: lengths.len() as u32,
        tokens: lengths.iter().sum::<usize>() as u32,
        dim: dim as u32,
        scale: scale(dim),
        length: (*lengths.iter().max().unwrap() + random.one_of(&[0, 2])) as u32,
        share_below: shares.below,
        share_scale: shares.scale,
        share_key: shares.key,
        drop_below: mixed.below,
        drop_scale: mixed.scale,
        drop_key: mixed.key,
        first_sequence: 0,
        base: 0,
    }
}

/// The same without the first sequences, with rows that begin somewhere in those.
fn without_first(random: &mut Random, params: attention::Params, offsets: &[u32], first: usize) -> attention::Params {
    attention::Params {
        first_sequence: first as u32,
        sequences: params.sequences - first as u32,
        tokens: offsets.last().unwrap() - offsets[first],
        base: random.one_of(&[0, 1, offsets[first] / 2, offsets[first]]).min(offsets[first]),
        ..params
    }
}

#[test]
fn attention() {
    let mut random = Random::new();
    for (lengths, dim, size) in shapes() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for (drops, first) in [(false, 0), (true, 0), (true, lengths.len() / 2)] {
            let params = params(&mut random, &lengths, dim, drops);
            let params = without_first(&mut random, params, &offsets, first);
            let begin = offsets[first] as usize;
            let rows = tokens - params.base as usize;
            let written = tokens - begin;
            let qkv: Vec<f64> = random.reals(rows * 3 * dim).iter().map(|x| x * size).collect();
            let tolerance = tolerance(dim, size);
            let output = |random: &mut Random| {
                let output = Output::new(&[("row", rows), ("d", dim)], tolerance).rows(rows - written..rows, dim);
                output.onto(random.reals(rows * dim))
            };
            let log_sum = Output::new(&[("token", tokens)], tolerance).rows(begin..tokens, 1);
            Case::new(&attention::KERNEL, params)
                .offsets(&offsets)
                .whole(&owners(&offsets))
                .reals(&qkv)
                .reals(&random.reals(rows * dim))
                .writes(output(&mut random))
                .writes(output(&mut random))
                .writes(log_sum)
                .check(&mut random);
        }
    }
}

#[test]
fn attention_backward() {
    let mut random = Random::new();
    for (lengths, dim, size) in shapes() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for (drops, first) in [(false, 0), (true, 0), (true, lengths.len() / 2)] {
            let params = params(&mut random, &lengths, dim, drops);
            let params = without_first(&mut random, params, &offsets, first);
            let rows = tokens - params.base as usize;
            let written = tokens - offsets[first] as usize;
            // What the forward pass keeps, from the very numbers that the kernels are given, in 16 bits too.
            let rounded = |x: Vec<f64>| x.into_iter().map(|x| f16::from_f64(x * size).to_f64()).collect::<Vec<_>>();
            let qkv = rounded(random.reals(rows * 3 * dim));
            let (mut y, mut mixed, mut log_sum) = (vec![0.0; rows * dim], vec![0.0; rows * dim], vec![0.0; tokens]);
            let x = random.reals(rows * dim);
            attention::twin(&params, &offsets, &owners(&offsets), &qkv, &x, &mut y, &mut mixed, &mut log_sum);
            let backward: attention_backward::Params = bytemuck::cast(params);
            // Gradients are differences of sums of D products, times numbers up to `size`.
            let Tolerance { absolute, relative } = tolerance(dim, size);
            let absolute = absolute * (dim as f32).sqrt() * size as f32;
            // The twin makes the mean gradient of a query's shares from them, shaders as dy . mixed: in f16 mixed is off by up
            // to 2^-12 of numbers up to `size`, that sum over D columns of random signs by sqrt(D) times as much, and what
            // it is multiplied with by the scale, 1 / sqrt(D), and keys and queries up to `size`; a key's gradient is a
            // sum of that over the queries that share it.
            let of_f16 = Tolerance { absolute: absolute + 4.0 / 4096.0 * (size * size) as f32, relative };
            Case::new(&attention_backward::KERNEL, backward)
                .offsets(&offsets)
                .whole(&owners(&offsets))
                .reals(&qkv)
                .reals(&mixed)
                .reals(&log_sum)
                .reals(&random.reals(rows * dim))
                .writes(
                    Output::new(&[("row", rows), ("q k v", 3), ("d", dim)], Tolerance { absolute, relative })
                        .rows(rows - written..rows, 3 * dim)
                        .of_f16(of_f16),
                )
                .check(&mut random);
        }
    }
}
