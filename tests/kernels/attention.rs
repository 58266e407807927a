//! Attention over packed sequences.

use prismrec::kernels::dropout::Dropout;
use prismrec::kernels::*;

use crate::case::{Case, Output, Tolerance};
use crate::common::{Random, offsets, owners, scale};

/// Lengths of sequences, D, and how large the scores are: blocks of 8 queries and keys, slabs of 32 dimensions, and
/// columns 64 apart.
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
    }
}

#[test]
fn attention() {
    let mut random = Random::new();
    for (lengths, dim, size) in shapes() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for drops in [false, true] {
            let qkv: Vec<f64> = random.reals(tokens * 3 * dim).iter().map(|x| x * size).collect();
            let tolerance = tolerance(dim, size);
            Case::new(&attention::KERNEL, params(&mut random, &lengths, dim, drops))
                .offsets(&offsets)
                .whole(&owners(&offsets))
                .reals(&qkv)
                .reals(&random.reals(tokens * dim))
                .writes(Output::new(&[("token", tokens), ("d", dim)], tolerance))
                .writes(Output::new(&[("token", tokens), ("d", dim)], tolerance))
                .writes(Output::new(&[("token", tokens)], tolerance))
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
        for drops in [false, true] {
            let params = params(&mut random, &lengths, dim, drops);
            // What the forward pass keeps, from the very numbers that the kernels are given.
            let rounded = |x: Vec<f64>| x.into_iter().map(|x| f64::from((x * size) as f32)).collect::<Vec<_>>();
            let qkv = rounded(random.reals(tokens * 3 * dim));
            let (mut y, mut mixed, mut log_sum) = (vec![0.0; tokens * dim], vec![0.0; tokens * dim], vec![0.0; tokens]);
            let x = random.reals(tokens * dim);
            attention::twin(&params, &offsets, &owners(&offsets), &qkv, &x, &mut y, &mut mixed, &mut log_sum);
            let backward: attention_backward::Params = bytemuck::cast(params);
            // Gradients are differences of sums of D products, times numbers up to `size`.
            let Tolerance { absolute, relative } = tolerance(dim, size);
            let absolute = absolute * (dim as f32).sqrt() * size as f32;
            Case::new(&attention_backward::KERNEL, backward)
                .offsets(&offsets)
                .whole(&owners(&offsets))
                .reals(&qkv)
                .reals(&mixed)
                .reals(&log_sum)
                .reals(&random.reals(tokens * dim))
                .writes(Output::new(&[("token", tokens), ("q k v", 3), ("d", dim)], Tolerance { absolute, relative }))
                .check(&mut random);
        }
    }
}
