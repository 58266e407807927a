//! The intention layer, eq. 8 to 13.

use prismrec::kernels::*;

use crate::common::{Random, offsets, owners, scale};
use crate::differences::*;

#[test]
fn prototype_softmax() {
    let mut random = Random::new();
    for (tokens, dim, intentions) in [(1, 1, 2), (5, 3, 3), (70, 2, 5), (2, 17, 32)] {
        let (token, prototype) = (random.reals(tokens * dim), random.reals(intentions * dim));
        let weights = random.reals(tokens * intentions);
        let params = prototype_softmax::Params {
            tokens: tokens as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            scale: scale(dim),
        };
        let run = |token: &[f64], prototype: &[f64]| {
            let mut cluster = poison(tokens * intentions);
            prototype_softmax::twin(&params, token, prototype, &mut cluster);
            cluster
        };
        let cluster = run(&token, &prototype);
        let (mut dlogit, mut dtoken) = (poison(tokens * intentions), poison(tokens * dim));
        let backward: prototype_softmax_backward::Params = bytemuck::cast(params);
        prototype_softmax_backward::twin(&backward, &prototype, &cluster, &weights, &mut dlogit, &mut dtoken);
        check("dtoken", &token, &dtoken, |token| dot(&run(token, &prototype), &weights));
        let mut dprototype = poison(intentions * dim);
        let backward =
            prototype_backward::Params { tokens: tokens as u32, dim: dim as u32, intentions: intentions as u32 };
        prototype_backward::twin(&backward, &token, &dlogit, &mut dprototype);
        check("dprototype", &prototype, &dprototype, |prototype| dot(&run(&token, prototype), &weights));
    }
}

/// Scores to the weights of each sequence's tokens.
fn softmax(offsets: &[u32], scores: &[f64]) -> Vec<f64> {
    let mut weight = scores.to_vec();
    for ends in offsets.windows(2) {
        let weight = &mut weight[ends[0] as usize..ends[1] as usize];
        let total: f64 = weight.iter().map(|score| score.exp()).sum();
        weight.iter_mut().for_each(|score| *score = score.exp() / total);
    }
    weight
}

/// Eq. 9 to 12: from keys before their norm and the ReLU's argument to what the weights sum up.
#[test]
fn intention_weight() {
    let mut random = Random::new();
    for (lengths, dim) in [(vec![2], 1), (vec![1, 2, 5], 3), (vec![70, 1, 9], 2), (vec![4, 3], 65)] {
        let offsets = offsets(&lengths);
        let (tokens, sequences) = (*offsets.last().unwrap() as usize, lengths.len());
        // key = normed + relu(argument), the argument taken as an input of its own.
        let (normed, argument) = (random.reals(tokens * dim), off_zero(random.reals(tokens * dim)));
        let (query, weights) = (random.reals(sequences * dim), random.reals(sequences * dim));
        let (z, cluster, bias) = (random.reals(tokens * dim), random.shares(tokens), random.reals(dim));
        let keys = |normed: &[f64], argument: &[f64]| {
            let mut identity = vec![0.0; (dim + 1) * dim];
            (0..dim).for_each(|i| identity[i * dim + i] = 1.0);
            let params = linear::Params {
                rows: tokens as u32,
                inner: dim as u32,
                outer: dim as u32,
                relu: 1,
                residual: 1,
                drop_below: 0,
                drop_scale: 1.0,
                drop_key: 0,
            };
            let mut key = poison(tokens * dim);
            linear::twin(&params, argument, &identity, normed, &mut key);
            key
        };
        let (sequences, wide, length) = (sequences as u32, dim as u32, *lengths.iter().max().unwrap() as u32);
        let params = intention_weight::Params { sequences, dim: wide, length, scale: scale(dim) };
        let run = |key: &[f64], query: &[f64]| {
            let mut weight = poison(tokens);
            intention_weight::twin(&params, &offsets, key, query, &mut weight);
            weight
        };
        let loss = |key: &[f64], query: &[f64]| {
            let params = aggregate::Params { sequences, inputs: sequences, dim: wide, intentions: 1, length };
            let mut total = poison(weights.len());
            aggregate::twin(&params, &offsets, &z, &cluster, &run(key, query), &bias, &bias, &mut total);
            dot(&total, &weights)
        };
        let key = keys(&normed, &argument);
        let weight = run(&key, &query);
        let (mut dz, mut dcluster, mut dscore) = (poison(z.len()), poison(tokens), poison(tokens));
        let backward = aggregate_backward::Params { sequences, dim: wide, intentions: 1, length, accumulate: 0 };
        let outputs = (&mut dz, &mut dcluster, &mut dscore);
        aggregate_backward::twin(&backward, &offsets, &z, &cluster, &weight, &weights, outputs.0, outputs.1, outputs.2);
        let (mut dnormed, mut dlinear, mut dquery) = (poison(tokens * dim), poison(tokens * dim), poison(query.len()));
        let backward: intention_key_backward::Params = bytemuck::cast(params);
        intention_key_backward::twin(
            &backward,
            &offsets,
            &dscore,
            &key,
            &normed,
            &query,
            &mut dnormed,
            &mut dlinear,
            &mut dquery,
        );
        check("dnormed", &normed, &dnormed, |normed| loss(&keys(normed, &argument), &query));
        check("dlinear", &argument, &dlinear, |argument| loss(&keys(&normed, argument), &query));
        check("dquery", &query, &dquery, |query| loss(&key, query));
    }
}

#[test]
fn place() {
    let mut random = Random::new();
    for (lengths, dim) in [(vec![1], 1), (vec![1, 2, 5], 3), (vec![70, 1, 9], 2)] {
        let offsets = offsets(&lengths);
        let (tokens, sequences, length) = (*offsets.last().unwrap() as usize, lengths.len(), 4);
        let (owners, positions) = (owners(&offsets), random.indices(tokens, length));
        let (z, position_table, query_bias) =
            (random.reals(tokens * dim), random.reals(length * dim), random.reals(dim));
        let (toward_placed, toward_query) = (random.reals(tokens * dim), random.reals(sequences * dim));
        let loss = |z: &[f64], position_table: &[f64], query_bias: &[f64]| {
            let (mut placed, mut query) = (poison(tokens * dim), poison(sequences * dim));
            let params = place::Params { tokens: tokens as u32, dim: dim as u32 };
            place::twin(&params, z, &positions, &owners, &offsets, position_table, query_bias, &mut placed, &mut query);
            dot(&placed, &toward_placed) + dot(&query, &toward_query)
        };
        for accumulate in [0, 1] {
            let before = if accumulate == 1 { random.reals(z.len()) } else { poison(z.len()) };
            let (mut dplaced, mut dz) = (toward_placed.clone(), before.clone());
            let params = place_backward::Params { tokens: tokens as u32, dim: dim as u32, accumulate };
            place_backward::twin(&params, &owners, &offsets, &toward_query, &mut dplaced, &mut dz);
            let dz = if accumulate == 1 { less(&dz, &before) } else { dz };
            check("dz", &z, &dz, |z| loss(z, &position_table, &query_bias));
            // alpha's gradient is the sum of `dplaced` by position.
            let mut dalpha = vec![0.0; length * dim];
            for (token, &position) in positions.iter().enumerate() {
                for d in 0..dim {
                    dalpha[position as usize * dim + d] += dplaced[token * dim + d];
                }
            }
            check("dalpha", &position_table, &dalpha, |alpha| loss(&z, alpha, &query_bias));
        }
        let (gradient, _) = bias_gradients(dim, &toward_query, (sequences, &vec![0.0; sequences]), 1);
        check("dquery_bias", &query_bias, &gradient, |bias| loss(&z, &position_table, bias));
    }
}

/// Gradients of the query's bias and of those of the inputs' and labels' outputs, `columns` wide.
fn bias_gradients(
    dim: usize,
    dquery: &[f64],
    (inputs, dtotal): (usize, &[f64]),
    columns: usize,
) -> (Vec<f64>, [Vec<f64>; 2]) {
    let size = dim + 2 * columns;
    let (slices, stride, mut gradient) = sliced(size);
    let params = bias_backward::Params {
        sequences: (dquery.len() / dim) as u32,
        inputs: inputs as u32,
        dim: dim as u32,
        columns: columns as u32,
        input_at: dim as u32,
        label_at: (dim + columns) as u32,
        slices: slices as u32,
        stride: stride as u32,
    };
    bias_backward::twin(&params, dquery, dtotal, &mut gradient);
    let gradient = sum_of_slices(&gradient, slices, stride, size);
    let (query, betas) = gradient.split_at(dim);
    let (input, label) = betas.split_at(columns);
    (query.to_vec(), [input.to_vec(), label.to_vec()])
}

#[test]
fn aggregate() {
    let mut random = Random::new();
    for (lengths, inputs, dim, intentions) in
        [(vec![1], 1, 1, 1), (vec![1, 2, 5], 2, 3, 2), (vec![70, 1, 9, 2], 2, 2, 3), (vec![4, 3], 0, 17, 5)]
    {
        let offsets = offsets(&lengths);
        let (tokens, sequences, wide) = (*offsets.last().unwrap() as usize, lengths.len(), intentions * dim);
        let (z, cluster, scores) =
            (random.reals(tokens * dim), random.shares(tokens * intentions), random.reals(tokens));
        let (input_bias, label_bias) = (random.reals(wide), random.reals(wide));
        let weight = softmax(&offsets, &scores);
        let weights = random.reals(sequences * wide);
        let params = aggregate::Params {
            sequences: sequences as u32,
            inputs: inputs as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            length: *lengths.iter().max().unwrap() as u32,
        };
        let loss = |z: &[f64], cluster: &[f64], weight: &[f64], input_bias: &[f64], label_bias: &[f64]| {
            let mut total = poison(sequences * wide);
            aggregate::twin(&params, &offsets, z, cluster, weight, input_bias, label_bias, &mut total);
            dot(&total, &weights)
        };
        for accumulate in [0, 1] {
            let before = if accumulate == 1 { random.reals(z.len()) } else { poison(z.len()) };
            let (mut dz, mut dcluster, mut dscore) = (before.clone(), poison(cluster.len()), poison(weight.len()));
            let params = aggregate_backward::Params {
                sequences: sequences as u32,
                dim: dim as u32,
                intentions: intentions as u32,
                length: *lengths.iter().max().unwrap() as u32,
                accumulate,
            };
            aggregate_backward::twin(
                &params,
                &offsets,
                &z,
                &cluster,
                &weight,
                &weights,
                &mut dz,
                &mut dcluster,
                &mut dscore,
            );
            let dz = if accumulate == 1 { less(&dz, &before) } else { dz };
            check("dz", &z, &dz, |z| loss(z, &cluster, &weight, &input_bias, &label_bias));
            check("dcluster", &cluster, &dcluster, |cluster| loss(&z, cluster, &weight, &input_bias, &label_bias));
            check("dscore", &scores, &dscore, |scores| {
                loss(&z, &cluster, &softmax(&offsets, scores), &input_bias, &label_bias)
            });
        }
        // Each set of beta has the sum over its own sequences.
        let no_query = vec![0.0; sequences * dim];
        let (_, [input, label]) = bias_gradients(dim, &no_query, (inputs, &weights), wide);
        if inputs > 0 {
            check("dbeta of inputs", &input_bias, &input, |bias| loss(&z, &cluster, &weight, bias, &label_bias));
        }
        if inputs < sequences {
            check("dbeta of labels", &label_bias, &label, |bias| loss(&z, &cluster, &weight, &input_bias, bias));
        }
    }
}
