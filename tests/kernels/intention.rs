//! The intention layer, eq. 8 to 13.

use prismrec::kernels::*;

use crate::case::{Case, FEW, Output, Tolerance, sum_of};
use crate::common::{Random, offsets, owners, scale};

/// (tokens, D, K): 64 tokens a workgroup; and more than 64 workgroups.
const TOKENS: [(usize, usize, usize); 9] =
    [(4200, 2, 3), (1, 1, 1), (63, 3, 2), (64, 4, 3), (65, 7, 5), (7, 31, 32), (130, 64, 4), (3, 65, 1), (66, 256, 5)];

/// Lengths of sequences, D, K: 64 tokens or columns at a time.
fn sequences() -> Vec<(Vec<usize>, usize, usize)> {
    vec![
        (vec![1], 1, 1),
        (vec![1, 1, 1], 3, 2),
        (vec![7, 2, 9], 4, 3),
        (vec![63, 64, 65, 1], 7, 5),
        (vec![5, 3], 31, 32),
        (vec![9, 4], 36, 12),
        (vec![230, 2], 64, 4),
        (vec![129, 4], 65, 1),
        (vec![6; 13], 128, 2),
        (vec![3, 70], 256, 5),
    ]
}

#[test]
fn prototype_softmax() {
    let mut random = Random::new();
    for (tokens, dim, intentions) in TOKENS {
        // Logits of some hundreds have exponentials that overflow.
        for size in [1.0, 1000.0] {
            let params = prototype_softmax::Params {
                tokens: tokens as u32,
                dim: dim as u32,
                intentions: intentions as u32,
                scale: scale(dim),
            };
            let token: Vec<f64> = random.reals(tokens * dim).iter().map(|x| x * size).collect();
            // A logit is off by the rounding of a sum of D products; a share by as much, relatively.
            let error = 2e-7 * size as f32 * (dim as f32).sqrt();
            let tolerance = Tolerance { absolute: error, relative: 4e-6 };
            Case::new(&prototype_softmax::KERNEL, params)
                .reals(&token)
                .reals(&random.reals(intentions * dim))
                .writes(Output::new(&[("token", tokens), ("k", intentions)], tolerance))
                .check(&mut random);
        }
    }
}

#[test]
fn prototype_softmax_backward() {
    let mut random = Random::new();
    for (tokens, dim, intentions) in TOKENS {
        let params = prototype_softmax_backward::Params {
            tokens: tokens as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            scale: scale(dim),
        };
        Case::new(&prototype_softmax_backward::KERNEL, params)
            .reals(&random.reals(intentions * dim))
            .reals(&random.shares(tokens * intentions))
            .reals(&random.reals(tokens * intentions))
            // sums of K products of sums of K products
            .writes(Output::new(&[("token", tokens), ("k", intentions)], sum_of(3 * intentions)))
            .writes(Output::new(&[("token", tokens), ("d", dim)], sum_of(3 * intentions * intentions)))
            .check(&mut random);
    }
}

#[test]
fn place() {
    let mut random = Random::new();
    for (lengths, dim, _) in sequences() {
        let (offsets, length) = (offsets(&lengths), 5);
        let tokens = *offsets.last().unwrap() as usize;
        let positions = random.indices(tokens, length);
        Case::new(&place::KERNEL, place::Params { tokens: tokens as u32, dim: dim as u32 })
            .reals(&random.reals(tokens * dim))
            .whole(&positions)
            .whole(&owners(&offsets))
            .offsets(&offsets)
            .reals(&random.reals(length * dim))
            .reals(&random.reals(dim))
            // one and two additions
            .writes(Output::new(&[("token", tokens), ("d", dim)], FEW))
            .writes(Output::new(&[("sequence", lengths.len()), ("d", dim)], FEW))
            .check(&mut random);
    }
}

#[test]
fn place_backward() {
    let mut random = Random::new();
    for (lengths, dim, _) in sequences() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for accumulate in [0, 1] {
            let params = place_backward::Params { tokens: tokens as u32, dim: dim as u32, accumulate };
            // two additions
            let mut dz = Output::new(&[("token", tokens), ("d", dim)], FEW);
            if accumulate == 1 {
                dz = dz.onto(random.reals(tokens * dim));
            }
            Case::new(&place_backward::KERNEL, params)
                .whole(&owners(&offsets))
                .offsets(&offsets)
                .reals(&random.reals(lengths.len() * dim))
                .writes(Output::new(&[("token", tokens), ("d", dim)], FEW).onto(random.reals(tokens * dim)))
                .writes(dz)
                .check(&mut random);
        }
    }
}

#[test]
fn intention_weight() {
    let mut random = Random::new();
    for (lengths, dim, _) in sequences() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for size in [1.0, 1000.0] {
            let params = intention_weight::Params {
                sequences: lengths.len() as u32,
                dim: dim as u32,
                length: *lengths.iter().max().unwrap() as u32,
                scale: scale(dim),
            };
            let key: Vec<f64> = random.reals(tokens * dim).iter().map(|x| x * size).collect();
            // As in `prototype_softmax`; the sum over a few hundred tokens adds as many roundings.
            let error = 2e-7 * size as f32 * (dim as f32).sqrt();
            Case::new(&intention_weight::KERNEL, params)
                .offsets(&offsets)
                .reals(&key)
                .reals(&random.reals(lengths.len() * dim))
                .writes(Output::new(&[("token", tokens)], Tolerance { absolute: error, relative: 1e-5 }))
                .check(&mut random);
        }
    }
}

#[test]
fn intention_key_backward() {
    let mut random = Random::new();
    for (lengths, dim, _) in sequences() {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        // key = normed + ReLU(..): half of them are the same.
        let normed: Vec<f64> = random.reals(tokens * dim);
        let key: Vec<f64> = normed.iter().map(|x| x + random.reals(1)[0].max(0.0)).collect();
        let params = intention_key_backward::Params {
            sequences: lengths.len() as u32,
            dim: dim as u32,
            length: *lengths.iter().max().unwrap() as u32,
            scale: scale(dim),
        };
        Case::new(&intention_key_backward::KERNEL, params)
            .offsets(&offsets)
            .reals(&random.reals(tokens))
            .reals(&key)
            .reals(&normed)
            .reals(&random.reals(lengths.len() * dim))
            // two products
            .writes(Output::new(&[("token", tokens), ("d", dim)], FEW))
            .writes(Output::new(&[("token", tokens), ("d", dim)], FEW))
            .writes(Output::new(&[("sequence", lengths.len()), ("d", dim)], sum_of(2 * lengths.iter().max().unwrap())))
            .check(&mut random);
    }
}

#[test]
fn aggregate() {
    let mut random = Random::new();
    for (lengths, dim, intentions) in sequences() {
        let offsets = offsets(&lengths);
        let (tokens, count) = (*offsets.last().unwrap() as usize, lengths.len());
        let longest = *lengths.iter().max().unwrap();
        for inputs in [0, count / 2, count] {
            let params = aggregate::Params {
                sequences: count as u32,
                inputs: inputs as u32,
                dim: dim as u32,
                intentions: intentions as u32,
                length: *lengths.iter().max().unwrap() as u32,
            };
            let axes = [("sequence", count), ("k", intentions), ("d", dim)];
            Case::new(&aggregate::KERNEL, params)
                .offsets(&offsets)
                .reals(&random.reals(tokens * dim))
                .reals(&random.shares(tokens * intentions))
                .reals(&random.shares(tokens))
                .reals(&random.reals(intentions * dim))
                .reals(&random.reals(intentions * dim))
                .writes(Output::new(&axes, sum_of(longest)))
                .check(&mut random);
        }
    }
}

#[test]
fn aggregate_backward() {
    let mut random = Random::new();
    // More sequences than one dimension of a dispatch has workgroups.
    let many = (vec![1; 65_537], 1, 1);
    for (lengths, dim, intentions) in sequences().into_iter().chain([many]) {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        for accumulate in [0, 1] {
            let params = aggregate_backward::Params {
                sequences: lengths.len() as u32,
                dim: dim as u32,
                intentions: intentions as u32,
                length: *lengths.iter().max().unwrap() as u32,
                accumulate,
            };
            let mut dz = Output::new(&[("token", tokens), ("d", dim)], sum_of(intentions));
            if accumulate == 1 {
                dz = dz.onto(random.reals(tokens * dim));
            }
            Case::new(&aggregate_backward::KERNEL, params)
                .offsets(&offsets)
                .reals(&random.reals(tokens * dim))
                .reals(&random.shares(tokens * intentions))
                .reals(&random.shares(tokens))
                .reals(&random.reals(lengths.len() * intentions * dim))
                .writes(dz)
                .writes(Output::new(&[("token", tokens), ("k", intentions)], sum_of(dim)))
                // The mean over the sequence, by shares that are no softmax here and add up to as many, is as large as that.
                .writes(Output::new(
                    &[("token", tokens)],
                    sum_of(dim * intentions * (1 + lengths.iter().max().unwrap())),
                ))
                .check(&mut random);
        }
    }
}
