//! Every backward twin against central finite differences of its forward twin, in f64; Adam against a plain one.
//!
//! A scalar loss is made of a kernel's outputs by fixed random weights; what a backward twin says of its gradient is
//! compared with differences of the loss, element by element.

mod common;

use common::{Random, offsets, owners, scale, segments};
use prismrec::kernels::dropout::Dropout;
use prismrec::kernels::*;

/// Half the step of a central difference. Its own error, h^2 times a third derivative, is near 1e-10 for numbers near 1.
const STEP: f64 = 1e-5;
/// Ten to a hundred times the errors that `STEP` leaves; a wrong term of a gradient is thousands of times this.
const ABSOLUTE: f64 = 2e-8;
/// f32 parameters (1 / sqrt(D), a dropout's scale) are the same on both sides, so this only covers differences' errors.
const RELATIVE: f64 = 2e-7;

/// Compares `gradient` with differences of `loss` in every element of `at`.
fn check(what: &str, at: &[f64], gradient: &[f64], mut loss: impl FnMut(&[f64]) -> f64) {
    assert_eq!(at.len(), gradient.len(), "{what}");
    let mut moved = at.to_vec();
    let mut failures = Vec::new();
    for i in 0..at.len() {
        moved[i] = at[i] + STEP;
        let above = loss(&moved);
        moved[i] = at[i] - STEP;
        let below = loss(&moved);
        moved[i] = at[i];
        let want = (above - below) / (2.0 * STEP);
        let difference = (gradient[i] - want).abs();
        // The loss is itself rounded, in a few additions, before it is divided by the step.
        let rounding = 4.0 * f64::EPSILON * above.abs() / STEP;
        if !(difference <= ABSOLUTE + rounding + RELATIVE * want.abs()) {
            failures.push(format!("[{i}]: {} by the twin, {want} by differences", gradient[i]));
        }
    }
    failures.truncate(10);
    assert!(failures.is_empty(), "{what}: the gradient differs in\n{}", failures.join("\n"));
    // A few elements may all be dropped or cut off by a ReLU, but not as many as these.
    assert!(at.len() < 60 || gradient.iter().any(|g| *g != 0.0), "{what}: a gradient of zeros tests nothing");
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Moves what a ReLU is given away from its kink, where differences do not give the gradient.
fn off_zero(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(|x| x + 0.01f64.copysign(x)).collect()
}

/// Where a gradient is accumulated onto `before`, what it is by itself.
fn less(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

/// What poisons outputs, so that an element that is not written makes a difference.
fn poison(n: usize) -> Vec<f64> {
    vec![f64::NAN; n]
}

/// The sum of a gradient's slices. Between the copies nothing may be written.
fn sum_of_slices(gradient: &[f64], slices: usize, stride: usize, size: usize) -> Vec<f64> {
    for slice in 0..slices - 1 {
        assert!(gradient[slice * stride + size..(slice + 1) * stride].iter().all(|g| g.is_nan()));
    }
    let params = sum_slices::Params { elements: size as u32, slices: slices as u32, stride: stride as u32 };
    let mut sum = poison(size);
    sum_slices::twin(&params, gradient, &mut sum);
    sum
}

/// Copies of a gradient, more than some of the tests have rows, and a gap between them.
fn sliced(size: usize) -> (usize, usize, Vec<f64>) {
    let (slices, stride) = (3, size + 5);
    (slices, stride, poison((slices - 1) * stride + size))
}

fn normed(x: &[f64], norm: &[f64], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = x.len() / dim;
    let (mut y, mut stats) = (poison(x.len()), poison(rows * 2));
    layer_norm::twin(&layer_norm::Params { rows: rows as u32, dim: dim as u32 }, x, norm, &mut y, &mut stats);
    (y, stats)
}

#[test]
fn layer_norm() {
    let mut random = Random::new();
    // D = 1 has a gradient of zeros for the input, so 2 is the least.
    for (rows, dim) in [(1, 2), (2, 3), (5, 7), (70, 4), (3, 65)] {
        let (x, norm, weights) = (random.reals(rows * dim), random.reals(2 * dim), random.reals(rows * dim));
        let (_, stats) = normed(&x, &norm, dim);
        let loss = |x: &[f64], norm: &[f64]| dot(&normed(x, norm, dim).0, &weights);
        for accumulate in [0, 1] {
            let before = if accumulate == 1 { random.reals(x.len()) } else { poison(x.len()) };
            let mut dx = before.clone();
            let params = layer_norm_backward::Params { rows: rows as u32, dim: dim as u32, accumulate };
            layer_norm_backward::twin(&params, &x, &norm, &stats, &weights, &mut dx);
            let dx = if accumulate == 1 { less(&dx, &before) } else { dx };
            check(&format!("dx of {rows} x {dim}"), &x, &dx, |x| loss(x, &norm));
        }
        let (slices, stride, mut gradient) = sliced(2 * dim);
        let params = layer_norm_weight_backward::Params {
            rows: rows as u32,
            dim: dim as u32,
            slices: slices as u32,
            stride: stride as u32,
        };
        layer_norm_weight_backward::twin(&params, &x, &stats, &weights, &mut gradient);
        let gradient = sum_of_slices(&gradient, slices, stride, 2 * dim);
        check(&format!("dnorm of {rows} x {dim}"), &norm, &gradient, |norm| loss(&x, norm));
    }
}

/// A linear layer with all its ends, and the ReLU and dropout before it that its backward pass goes through as a gate.
#[test]
fn linear() {
    let mut random = Random::new();
    for (rows, inner, outer) in [(1, 1, 1), (2, 3, 7), (5, 17, 4), (300, 2, 3)] {
        let p = |inner: usize, outer: usize, relu, residual, drop: Dropout| linear::Params {
            rows: rows as u32,
            inner: inner as u32,
            outer: outer as u32,
            relu,
            residual,
            drop_below: drop.below,
            drop_scale: drop.scale,
            drop_key: drop.key,
        };
        let before_gate = off_zero(random.reals(rows * inner));
        let (weight, residual) = (random.reals((inner + 1) * outer), random.reals(rows * outer));
        let weights = random.reals(rows * outer);
        let (gate, end) =
            if rows == 1 { (Dropout::OFF, Dropout::OFF) } else { (random.dropout(0.4), random.dropout(0.3)) };
        // relu(x I + 0) with dropout: the gate by itself.
        let mut identity = vec![0.0; (inner + 1) * inner];
        (0..inner).for_each(|i| identity[i * inner + i] = 1.0);
        let gated = |before: &[f64]| {
            let mut x = poison(rows * inner);
            linear::twin(&p(inner, inner, 1, 0, gate), before, &identity, &[], &mut x);
            x
        };
        let loss = |x: &[f64], weight: &[f64], residual: &[f64]| {
            let mut y = poison(rows * outer);
            linear::twin(&p(inner, outer, 0, 1, end), x, weight, residual, &mut y);
            dot(&y, &weights)
        };
        let x = gated(&before_gate);
        check("dresidual", &residual, &weights, |residual| loss(&x, &weight, residual));
        // Through the end's dropout.
        let mut dy = poison(rows * outer);
        let params = dropout_backward::Params {
            elements: dy.len() as u32,
            drop_below: end.below,
            drop_scale: end.scale,
            drop_key: end.key,
        };
        dropout_backward::twin(&params, &weights, &mut dy);

        let (slices, stride, mut gradient) = sliced(weight.len());
        let params = linear_weight_backward::Params {
            rows: rows as u32,
            inner: inner as u32,
            outer: outer as u32,
            slices: slices as u32,
            stride: stride as u32,
        };
        // A positive input, so that no weight is left without a gradient.
        let ungated: Vec<f64> = before_gate.iter().map(|x| x.abs()).collect();
        linear_weight_backward::twin(&params, &ungated, &dy, &mut gradient);
        let gradient = sum_of_slices(&gradient, slices, stride, weight.len());
        check("dW and db", &weight, &gradient, |weight| loss(&ungated, weight, &residual));

        for (accumulate, gate_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let before = if accumulate == 1 { random.reals(x.len()) } else { poison(x.len()) };
            let mut dx = before.clone();
            let params = linear_backward::Params {
                rows: rows as u32,
                inner: inner as u32,
                outer: outer as u32,
                accumulate,
                gate: gate_on,
                gate_scale: gate.scale,
            };
            let at = if rows == 1 { &ungated } else { &before_gate };
            let x = gated(at);
            linear_backward::twin(&params, &dy, &weight, &x, &mut dx);
            let dx = if accumulate == 1 { less(&dx, &before) } else { dx };
            if gate_on == 1 {
                check("dx through the gate", at, &dx, |before| loss(&gated(before), &weight, &residual));
            } else {
                check("dx", &x, &dx, |x| loss(x, &weight, &residual));
            }
        }
    }
}

#[test]
fn embed() {
    let mut random = Random::new();
    for (tokens, candidates, items, length, dim) in
        [(1, 1, 1, 1, 1), (7, 3, 5, 4, 3), (150, 20, 9, 3, 2), (4, 0, 6, 2, 65)]
    {
        let (item_of, target_of) = (random.indices(tokens, items), random.indices(candidates, items));
        let position_of = random.indices(tokens, length);
        let (table, position_table) = (random.reals(items * dim), random.reals(length * dim));
        let (weights, dcandidates) = (random.reals(tokens * dim), random.reals(candidates * dim));
        let drop = if tokens == 1 { Dropout::OFF } else { random.dropout(0.5) };
        let l2 = 0.25f32;
        let params = embed::Params {
            tokens: tokens as u32,
            dim: dim as u32,
            scale: (dim as f32).sqrt(),
            drop_below: drop.below,
            drop_scale: drop.scale,
            drop_key: drop.key,
        };
        // The distinct items in use, and where each of them is.
        let all: Vec<u32> = item_of.iter().chain(&target_of).copied().collect();
        let (every_start, _) = segments(&all, items);
        let rows: Vec<u32> =
            (0..items as u32).filter(|&i| every_start[i as usize] < every_start[i as usize + 1]).collect();
        let compact: Vec<u32> = all.iter().map(|i| rows.binary_search(i).unwrap() as u32).collect();
        let (starts, sources) = segments(&compact, rows.len());

        // What the embedding adds to the loss, what the gathered candidates do, and the decay of the rows in use.
        let loss = |table: &[f64], position_table: &[f64]| {
            let mut x = poison(tokens * dim);
            embed::twin(&params, &item_of, &position_of, table, position_table, &mut x);
            let mut target = poison(candidates * dim);
            let gathered = gather::Params { rows: candidates as u32, dim: dim as u32 };
            gather::twin(&gathered, &target_of, table, &mut target);
            let in_use = rows.iter().flat_map(|&i| &table[i as usize * dim..][..dim]);
            dot(&x, &weights) + dot(&target, &dcandidates) + f64::from(l2) * in_use.map(|h| h * h).sum::<f64>()
        };
        let mut gradient = poison(rows.len() * dim);
        let backward = embed_backward::Params {
            rows: rows.len() as u32,
            dim: dim as u32,
            tokens: tokens as u32,
            scale: params.scale,
            drop_below: drop.below,
            drop_scale: drop.scale,
            drop_key: drop.key,
            l2,
        };
        embed_backward::twin(&backward, &rows, &starts, &sources, &weights, &dcandidates, &table, &mut gradient);
        let mut dense = vec![0.0; items * dim];
        for (&item, row) in rows.iter().zip(gradient.chunks_exact(dim)) {
            dense[item as usize * dim..][..dim].copy_from_slice(row);
        }
        check("dtable", &table, &dense, |table| loss(table, &position_table));

        let (starts, sources) = segments(&position_of, length);
        let (slices, stride, mut gradient) = sliced(length * dim);
        let backward = position_backward::Params {
            positions: length as u32,
            dim: dim as u32,
            slices: slices as u32,
            stride: stride as u32,
            drop_below: drop.below,
            drop_scale: drop.scale,
            drop_key: drop.key,
        };
        position_backward::twin(&backward, &starts, &sources, &weights, &mut gradient);
        let gradient = sum_of_slices(&gradient, slices, stride, length * dim);
        check("dposition_table", &position_table, &gradient, |position_table| loss(&table, position_table));
    }
}

#[test]
fn attention() {
    let mut random = Random::new();
    // Blocks of the twin are 32 queries.
    for (lengths, dim, drops) in [
        (vec![1], 1, false),
        (vec![1, 2, 7], 3, true),
        (vec![9, 1, 31, 33], 2, true),
        (vec![70], 1, true),
        (vec![3, 8], 17, false),
    ] {
        let offsets = offsets(&lengths);
        let tokens = *offsets.last().unwrap() as usize;
        let (shares, mixed_drop) =
            if drops { (random.dropout(0.3), random.dropout(0.2)) } else { (Dropout::OFF, Dropout::OFF) };
        let (qkv, x, weights) =
            (random.reals(tokens * 3 * dim), random.reals(tokens * dim), random.reals(tokens * dim));
        let params = attention::Params {
            sequences: lengths.len() as u32,
            dim: dim as u32,
            scale: scale(dim),
            length: *lengths.iter().max().unwrap() as u32,
            share_below: shares.below,
            share_scale: shares.scale,
            share_key: shares.key,
            drop_below: mixed_drop.below,
            drop_scale: mixed_drop.scale,
            drop_key: mixed_drop.key,
        };
        let run = |qkv: &[f64], x: &[f64]| {
            let (mut y, mut mixed, mut log_sum) = (poison(tokens * dim), poison(tokens * dim), poison(tokens));
            attention::twin(&params, &offsets, qkv, x, &mut y, &mut mixed, &mut log_sum);
            (y, mixed, log_sum)
        };
        let (_, mixed, log_sum) = run(&qkv, &x);
        let mut dqkv = poison(qkv.len());
        let backward: attention_backward::Params = bytemuck::cast(params);
        attention_backward::twin(&backward, &offsets, &qkv, &mixed, &log_sum, &weights, &mut dqkv);
        check(&format!("dqkv of {lengths:?}, D = {dim}"), &qkv, &dqkv, |qkv| dot(&run(qkv, &x).0, &weights));
        check("dx", &x, &weights, |x| dot(&run(&qkv, x).0, &weights));
    }
}

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
        // The prototypes' gradient is that of a linear layer's weight, its bias is not there.
        let (slices, stride, mut gradient) = sliced((dim + 1) * intentions);
        let backward = linear_weight_backward::Params {
            rows: tokens as u32,
            inner: dim as u32,
            outer: intentions as u32,
            slices: slices as u32,
            stride: stride as u32,
        };
        linear_weight_backward::twin(&backward, &token, &dlogit, &mut gradient);
        let gradient = sum_of_slices(&gradient, slices, stride, (dim + 1) * intentions);
        check("dprototype", &prototype, &gradient[..dim * intentions], |prototype| {
            dot(&run(&token, prototype), &weights)
        });
    }
}

/// Eq. 9 to 12: from keys before their norm and the ReLU's argument to the weights.
#[test]
fn intention_weight() {
    let mut random = Random::new();
    for (lengths, dim) in [(vec![2], 1), (vec![1, 2, 5], 3), (vec![70, 1, 9], 2), (vec![4, 3], 65)] {
        let offsets = offsets(&lengths);
        let (tokens, sequences) = (*offsets.last().unwrap() as usize, lengths.len());
        // key = normed + relu(argument), the argument taken as an input of its own.
        let (normed, argument) = (random.reals(tokens * dim), off_zero(random.reals(tokens * dim)));
        let (query, weights) = (random.reals(sequences * dim), random.reals(tokens));
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
        let params = intention_weight::Params { sequences: sequences as u32, dim: dim as u32, scale: scale(dim) };
        let run = |key: &[f64], query: &[f64]| {
            let mut weight = poison(tokens);
            intention_weight::twin(&params, &offsets, key, query, &mut weight);
            weight
        };
        let key = keys(&normed, &argument);
        let weight = run(&key, &query);
        let mut dscore = poison(tokens);
        let backward = intention_weight_backward::Params { sequences: sequences as u32 };
        intention_weight_backward::twin(&backward, &offsets, &weight, &weights, &mut dscore);
        let (mut dnormed, mut dlinear, mut dquery) =
            (poison(tokens * dim), poison(tokens * dim), poison(sequences * dim));
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
        check("dnormed", &normed, &dnormed, |normed| dot(&run(&keys(normed, &argument), &query), &weights));
        check("dlinear", &argument, &dlinear, |argument| dot(&run(&keys(&normed, argument), &query), &weights));
        check("dquery", &query, &dquery, |query| dot(&run(&key, query), &weights));
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
        let (slices, stride, mut gradient) = sliced(dim);
        let params = column_sum::Params {
            first: 0,
            rows: sequences as u32,
            columns: dim as u32,
            slices: slices as u32,
            stride: stride as u32,
        };
        column_sum::twin(&params, &toward_query, &mut gradient);
        let gradient = sum_of_slices(&gradient, slices, stride, dim);
        check("dquery_bias", &query_bias, &gradient, |bias| loss(&z, &position_table, bias));
    }
}

#[test]
fn aggregate() {
    let mut random = Random::new();
    for (lengths, inputs, dim, intentions) in
        [(vec![1], 1, 1, 1), (vec![1, 2, 5], 2, 3, 2), (vec![70, 1, 9, 2], 2, 2, 3), (vec![4, 3], 0, 17, 5)]
    {
        let offsets = offsets(&lengths);
        let (tokens, sequences, wide) = (*offsets.last().unwrap() as usize, lengths.len(), intentions * dim);
        let (z, cluster, weight) =
            (random.reals(tokens * dim), random.shares(tokens * intentions), random.shares(tokens));
        let (input_bias, label_bias) = (random.reals(wide), random.reals(wide));
        let weights = random.reals(sequences * wide);
        let params = aggregate::Params {
            sequences: sequences as u32,
            inputs: inputs as u32,
            dim: dim as u32,
            intentions: intentions as u32,
        };
        let loss = |z: &[f64], cluster: &[f64], weight: &[f64], input_bias: &[f64], label_bias: &[f64]| {
            let mut total = poison(sequences * wide);
            aggregate::twin(&params, &offsets, z, cluster, weight, input_bias, label_bias, &mut total);
            dot(&total, &weights)
        };
        for accumulate in [0, 1] {
            let before = if accumulate == 1 { random.reals(z.len()) } else { poison(z.len()) };
            let (mut dz, mut dcluster, mut dweight) = (before.clone(), poison(cluster.len()), poison(weight.len()));
            let params = aggregate_backward::Params {
                sequences: sequences as u32,
                dim: dim as u32,
                intentions: intentions as u32,
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
                &mut dweight,
            );
            let dz = if accumulate == 1 { less(&dz, &before) } else { dz };
            check("dz", &z, &dz, |z| loss(z, &cluster, &weight, &input_bias, &label_bias));
            check("dcluster", &cluster, &dcluster, |cluster| loss(&z, cluster, &weight, &input_bias, &label_bias));
            check("dweight", &weight, &dweight, |weight| loss(&z, &cluster, weight, &input_bias, &label_bias));
        }
        // Each set of beta has the sum over its own sequences.
        for (labels, first, rows) in [(false, 0, inputs), (true, inputs, sequences - inputs)] {
            if rows == 0 {
                continue;
            }
            let (slices, stride, mut gradient) = sliced(wide);
            let params = column_sum::Params {
                first: first as u32,
                rows: rows as u32,
                columns: wide as u32,
                slices: slices as u32,
                stride: stride as u32,
            };
            column_sum::twin(&params, &weights, &mut gradient);
            let gradient = sum_of_slices(&gradient, slices, stride, wide);
            check("dbeta", if labels { &label_bias } else { &input_bias }, &gradient, |moved| {
                let (input, label) = if labels { (&input_bias[..], moved) } else { (moved, &label_bias[..]) };
                loss(&z, &cluster, &weight, input, label)
            });
        }
    }
}

/// Sizes of a contrastive loss, and the functions both of them share.
struct Contrastive {
    rows: usize,
    candidates: usize,
    first_candidate: usize,
    dim: usize,
}

impl Contrastive {
    fn normalisers(&self, query: &[f64], candidate: &[f64]) -> Vec<f64> {
        let params = contrastive::Params {
            rows: self.rows as u32,
            candidates: self.candidates as u32,
            first_candidate: self.first_candidate as u32,
            dim: self.dim as u32,
            scale: scale(self.dim),
        };
        let mut normaliser = poison(2 * self.rows);
        contrastive::twin(&params, query, candidate, &mut normaliser);
        normaliser
    }

    /// Gradients of queries (added to `before`, where it is given) and of candidates.
    fn backward(
        &self,
        (query, candidate): (&[f64], &[f64]),
        (normaliser, weight, positive): (&[f64], &[f64], &[u32]),
        before: Option<&[f64]>,
    ) -> (Vec<f64>, Vec<f64>) {
        let params = contrastive_query_backward::Params {
            rows: self.rows as u32,
            candidates: self.candidates as u32,
            first_candidate: self.first_candidate as u32,
            dim: self.dim as u32,
            scale: scale(self.dim),
            accumulate: before.is_some().into(),
        };
        let mut dquery = before.map_or_else(|| poison(query.len()), <[f64]>::to_vec);
        contrastive_query_backward::twin(&params, query, candidate, normaliser, weight, positive, &mut dquery);
        let dquery = before.map_or(dquery.clone(), |before| less(&dquery, before));
        let params = contrastive_candidate_backward::Params {
            rows: params.rows,
            candidates: params.candidates,
            first_candidate: params.first_candidate,
            dim: params.dim,
            scale: params.scale,
        };
        let mut dcandidate = poison(candidate.len());
        contrastive_candidate_backward::twin(&params, query, candidate, normaliser, weight, positive, &mut dcandidate);
        // Rows before the first candidate are not this kernel's.
        let (others, own) = dcandidate.split_at_mut(self.first_candidate * self.dim);
        assert!(others.iter().all(|g| g.is_nan()));
        others.fill(0.0);
        assert!(own.iter().all(|g| !g.is_nan()));
        (dquery, dcandidate)
    }
}

/// Eq. 6, where an example may have several candidates of its own.
#[test]
fn seq2item_loss() {
    let mut random = Random::new();
    for (own, dim, intentions) in
        [(vec![1], 2, 2), (vec![1, 1, 1], 3, 1), (vec![2, 0, 3, 1], 4, 3), (vec![1; 70], 2, 2)]
    {
        let offsets = offsets(&own);
        let (examples, candidates) = (own.len(), *offsets.last().unwrap() as usize);
        let sizes = Contrastive { rows: examples * intentions, candidates, first_candidate: 0, dim };
        let phi = random.reals(sizes.rows * dim);
        // No two intentions may be best to within a difference's step: there eq. 6 has a kink.
        let candidate = loop {
            let candidate = random.reals(candidates * dim);
            let close = (0..candidates).any(|n| {
                let mine = &phi[owners(&offsets)[n] as usize * intentions * dim..][..intentions * dim];
                let mut scores: Vec<f64> = mine.chunks(dim).map(|phi| dot(phi, &candidate[n * dim..][..dim])).collect();
                scores.sort_by(f64::total_cmp);
                intentions > 1 && scores[intentions - 1] - scores[intentions - 2] < 1e-3
            });
            if !close {
                break candidate;
            }
        };
        let params = seq2item_loss::Params {
            examples: examples as u32,
            dim: dim as u32,
            intentions: intentions as u32,
            scale: scale(dim),
        };
        let run = |phi: &[f64], candidate: &[f64]| {
            let normaliser = sizes.normalisers(phi, candidate);
            let (mut loss, mut example_normaliser, mut weight) =
                (poison(examples), poison(2 * sizes.rows), poison(sizes.rows));
            let mut positive = vec![NONE; candidates];
            seq2item_loss::twin(
                &params,
                phi,
                candidate,
                &offsets,
                &normaliser,
                &mut loss,
                &mut example_normaliser,
                &mut weight,
                &mut positive,
            );
            (loss, example_normaliser, weight, positive)
        };
        let (loss, example_normaliser, weight, positive) = run(&phi, &candidate);
        // Eq. 6 as it is written.
        for (b, &loss) in loss.iter().enumerate() {
            let similarity = |k: usize, n: usize| {
                f64::from(scale(dim)) * dot(&phi[(b * intentions + k) * dim..][..dim], &candidate[n * dim..][..dim])
            };
            let total: f64 = (0..candidates).flat_map(|n| (0..intentions).map(move |k| similarity(k, n).exp())).sum();
            let want: f64 = (offsets[b] as usize..offsets[b + 1] as usize)
                .map(|n| total.ln() - (0..intentions).map(|k| similarity(k, n)).fold(f64::NEG_INFINITY, f64::max))
                .sum();
            assert!((loss - want).abs() <= 1e-12 * (1.0 + want.abs()), "example {b}: {loss}, by eq. 6 {want}");
        }
        let backward = |before| sizes.backward((&phi, &candidate), (&example_normaliser, &weight, &positive), before);
        let before = random.reals(phi.len());
        for before in [None, Some(&before[..])] {
            let (dphi, dcandidate) = backward(before);
            let sum = |phi: &[f64], candidate: &[f64]| run(phi, candidate).0.iter().sum::<f64>();
            check("dphi", &phi, &dphi, |phi| sum(phi, &candidate));
            check("dcandidate", &candidate, &dcandidate, |candidate| sum(&phi, candidate));
        }
    }
}

/// Eq. 3 and 4: the labels are rows of the same buffer as the inputs, from `first_label` on.
#[test]
fn seq2seq_loss() {
    let mut random = Random::new();
    for (rows, dim, rank) in [(1, 2, 1), (5, 3, 3), (70, 4, 35), (130, 2, 130)] {
        let sizes = Contrastive { rows, candidates: rows, first_candidate: rows, dim };
        let phi = random.reals(2 * rows * dim);
        let losses = |phi: &[f64]| {
            let normaliser = sizes.normalisers(&phi[..rows * dim], phi);
            let params = seq2seq_loss::Params {
                rows: rows as u32,
                first_label: rows as u32,
                dim: dim as u32,
                scale: scale(dim),
            };
            let mut loss = poison(rows);
            seq2seq_loss::twin(&params, phi, phi, &normaliser, &mut loss);
            (loss, normaliser)
        };
        let (loss, normaliser) = losses(&phi);
        for (r, &loss) in loss.iter().enumerate() {
            let similarity =
                |n: usize| f64::from(scale(dim)) * dot(&phi[r * dim..][..dim], &phi[(rows + n) * dim..][..dim]);
            let want = (0..rows).map(|n| similarity(n).exp()).sum::<f64>().ln() - similarity(r);
            assert!((loss - want).abs() <= 1e-12 * (1.0 + want.abs()), "row {r}: {loss}, by eq. 3 {want}");
        }
        let (mut tau, mut weight, mut positive) = (poison(1), poison(rows), vec![7; rows]);
        let params = select_confident::Params { rows: rows as u32, rank: rank as u32 };
        select_confident::twin(&params, &loss, &mut tau, &mut weight, &mut positive);
        assert_eq!(weight.iter().sum::<f64>(), rank as f64);
        let before = random.reals(rows * dim);
        for before in [None, Some(&before[..])] {
            let inputs = &phi[..rows * dim];
            let (mut gradient, dlabel) = sizes.backward((inputs, &phi), (&normaliser, &weight, &positive), before);
            gradient.extend_from_slice(&dlabel[rows * dim..]);
            // With one row the loss is 0 whatever phi is.
            if rows > 1 {
                check("dphi", &phi, &gradient, |phi| dot(&losses(phi).0, &weight));
            } else {
                assert!(gradient.iter().all(|g| g.abs() <= ABSOLUTE));
            }
        }
    }
}

#[test]
fn select_confident() {
    let mut random = Random::new();
    let run = |loss: &[f64], rank: usize| {
        let rows = loss.len();
        let (mut tau, mut weight, mut positive) = (poison(1), poison(rows), vec![7; rows]);
        let params = select_confident::Params { rows: rows as u32, rank: rank as u32 };
        select_confident::twin(&params, loss, &mut tau, &mut weight, &mut positive);
        for (row, &positive) in positive.iter().enumerate() {
            assert_eq!(positive, if weight[row] == 1.0 { row as u32 } else { NONE });
        }
        (tau[0], weight)
    };
    for (rows, tied) in [(1, false), (2, false), (7, false), (300, false), (300, true)] {
        let loss = if tied { random.eighths(rows) } else { random.reals(rows) };
        let mut sorted = loss.clone();
        sorted.sort_by(f64::total_cmp);
        for rank in [1, rows.div_ceil(2), rows] {
            let (tau, weight) = run(&loss, rank);
            assert_eq!(tau, sorted[rank - 1]);
            assert_eq!(weight, loss.iter().map(|l| f64::from(*l <= tau)).collect::<Vec<_>>());
            assert!(weight.iter().sum::<f64>() == rank as f64 || tied);
        }
        assert_eq!(run(&loss, 0), (f64::NEG_INFINITY, vec![0.0; rows]));
    }
    // Ties with tau are kept; what is not a number counts as the largest and is never kept.
    assert_eq!(run(&[2.0, 1.0, 2.0, 2.0, 3.0], 2), (2.0, vec![1.0, 1.0, 1.0, 1.0, 0.0]));
    assert_eq!(run(&[f64::NAN, 1.0, f64::INFINITY], 2), (f64::INFINITY, vec![0.0, 1.0, 1.0]));
    let (tau, weight) = run(&[f64::NAN, 1.0], 2);
    assert!(tau.is_nan() && weight == [0.0, 0.0]);
}

#[test]
fn sum_losses() {
    let mut sums = poison(12);
    let params = sum_losses::Params { examples: 2, pairs: 3, slot: 1 };
    let (seq2item, seq2seq, selected) = ([1.0, 2.5, 9.0], [4.0, f64::INFINITY, 0.5, 9.0], [1.0, 0.0, 1.0, 1.0]);
    sum_losses::twin(&params, &seq2item, &seq2seq, &selected, &mut sums);
    assert_eq!(sums[4..8], [3.5, 4.5, f64::INFINITY, 2.0]);
    assert!(sums[..4].iter().chain(&sums[8..]).all(|s| s.is_nan()));
    let params = sum_losses::Params { pairs: 0, slot: 2, ..params };
    sum_losses::twin(&params, &seq2item, &[], &[], &mut sums);
    assert_eq!(sums[8..], [3.5, 0.0, 0.0, 0.0]);
}

/// Adam as its paper writes it, on one element a struct.
#[derive(Clone, Copy, Debug)]
struct Plain {
    parameter: f64,
    m: f64,
    v: f64,
}

const LEARNING_RATE: f64 = 0.01;

impl Plain {
    fn step(&mut self, step: i32, gradient: f64) {
        self.m = 0.9 * self.m + 0.1 * gradient;
        self.v = 0.999 * self.v + 0.001 * gradient * gradient;
        let (m, v) = (self.m / (1.0 - 0.9f64.powi(step)), self.v / (1.0 - 0.999f64.powi(step)));
        self.parameter -= LEARNING_RATE * m / (v.sqrt() + 1e-8);
    }
}

/// The two parameters of a step of Adam.
fn rates(step: i32) -> (f32, f32) {
    let rate = LEARNING_RATE / (1.0 - 0.9f64.powi(step));
    (rate as f32, (1.0 / (1.0 - 0.999f64.powi(step)).sqrt()) as f32)
}

/// The twin's constants and rates are f32 (6e-8 each, a few of them); a step moves a parameter by about 0.01, and there
/// are up to 30 steps.
const ADAM_TOLERANCE: f64 = 1e-7;

/// Gradients of all sizes, as epsilon shows only in tiny ones, and zeros.
fn gradients(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n).map(|_| random.reals(1)[0] * random.one_of(&[1.0, 1e-3, 1e-7, 1e-8, 0.0])).collect()
}

#[test]
fn adam() {
    let mut random = Random::new();
    for elements in [1, 5, 5000] {
        let (slices, stride) = (3, elements + 2);
        let mut parameter = random.reals(elements);
        let (mut m, mut v) = (vec![0.0; elements], vec![0.0; elements]);
        let mut plain: Vec<Plain> = parameter.iter().map(|&parameter| Plain { parameter, m: 0.0, v: 0.0 }).collect();
        for step in 1..=8 {
            let copies: Vec<Vec<f64>> = (0..slices).map(|_| gradients(&mut random, elements)).collect();
            let mut gradient = poison(slices * stride);
            for (slice, copy) in copies.iter().enumerate() {
                gradient[slice * stride..][..elements].copy_from_slice(copy);
            }
            let (rate, correction) = rates(step);
            let params = adam::Params { elements: elements as u32, slices: 3, stride: stride as u32, rate, correction };
            adam::twin(&params, &gradient, &mut parameter, &mut m, &mut v);
            for (i, plain) in plain.iter_mut().enumerate() {
                plain.step(step, copies.iter().map(|copy| copy[i]).sum());
                assert!(
                    (parameter[i] - plain.parameter).abs() <= ADAM_TOLERANCE,
                    "step {step}, {}, {plain:?}",
                    parameter[i]
                );
            }
        }
    }
}

/// Rows updated only when a step uses them, and caught up before, are where dense Adam has them.
#[test]
fn adam_rows() {
    let mut random = Random::new();
    let (items, dim, steps) = (11usize, 3usize, 30);
    let mut table = random.reals(items * dim);
    let (mut m, mut v, mut updated) = (vec![0.0; items * dim], vec![0.0; items * dim], vec![0u32; items]);
    let mut dense: Vec<Plain> = table.iter().map(|&parameter| Plain { parameter, m: 0.0, v: 0.0 }).collect();
    let all_rates: Vec<f64> =
        (1..=steps).flat_map(|step| [f64::from(rates(step).0), f64::from(rates(step).1)]).collect();
    for step in 1..=steps {
        let count = random.below(4);
        let rows = random.distinct(count, items);
        catch_up(&rows, dim, step as u32 - 1, &all_rates, (&mut table, &mut m, &mut v, &mut updated));
        let gradient = gradients(&mut random, rows.len() * dim);
        let (rate, correction) = rates(step);
        let params =
            adam_rows::Params { rows: rows.len() as u32, dim: dim as u32, step: step as u32, rate, correction };
        adam_rows::twin(&params, &rows, &gradient, &mut table, &mut m, &mut v, &mut updated);
        for item in 0..items {
            let at = rows.binary_search(&(item as u32)).ok();
            for d in 0..dim {
                dense[item * dim + d].step(step, at.map_or(0.0, |row| gradient[row * dim + d]));
            }
        }
        for &row in &rows {
            assert_eq!(updated[row as usize], step as u32);
        }
    }
    let every: Vec<u32> = (0..items as u32).collect();
    catch_up(&every, dim, steps as u32, &all_rates, (&mut table, &mut m, &mut v, &mut updated));
    for (i, dense) in dense.iter().enumerate() {
        assert!((table[i] - dense.parameter).abs() <= ADAM_TOLERANCE, "element {i}: {}, dense {dense:?}", table[i]);
        assert!((m[i] - dense.m).abs() <= ADAM_TOLERANCE && (v[i] - dense.v).abs() <= ADAM_TOLERANCE);
    }
}

/// Table, both moments and the rows' marks.
type Lazy<'a> = (&'a mut [f64], &'a mut [f64], &'a mut [f64], &'a mut [u32]);

fn catch_up(rows: &[u32], dim: usize, step: u32, rates: &[f64], (table, m, v, updated): Lazy) {
    let count = rows.len() as u32;
    let params = adam_catch_up::Params { rows: count, dim: dim as u32, step, steps: rates.len() as u32 / 2 };
    adam_catch_up::twin(&params, rows, rates, updated, table, m, v);
    mark_updated::twin(&mark_updated::Params { rows: count, step }, rows, updated);
}

/// Steps past the table of rates take its last row.
#[test]
fn adam_catch_up() {
    let update = |steps: u32, rates: &[f64]| {
        let (mut table, mut m, mut v) = ([0.5], [0.3], [0.2]);
        let params = adam_catch_up::Params { rows: 1, dim: 1, step: 9, steps };
        adam_catch_up::twin(&params, &[0], rates, &[2], &mut table, &mut m, &mut v);
        (table, m, v)
    };
    let short = [0.1, 1.5, 0.2, 1.3, 0.3, 1.1, 0.4, 1.0];
    let mut long = short.to_vec();
    (4..9).for_each(|_| long.extend([0.4, 1.0]));
    assert_eq!(update(4, &short), update(9, &long));
    let decay = 0.9f32 as f64;
    assert!((update(4, &short).1[0] - 0.3 * decay.powi(7)).abs() <= 1e-15);
}

/// A row that no step used for long is where dense Adam has it, although only the first updates are made one by one.
#[test]
fn a_row_catches_up_over_a_thousand_steps() {
    let start = Plain { parameter: 0.5, m: 0.3, v: 0.2 };
    for behind in [1, 255, 256, 257, 1000] {
        let all_rates: Vec<f64> =
            (1..=1010).flat_map(|step| [f64::from(rates(step).0), f64::from(rates(step).1)]).collect();
        let (mut table, mut m, mut v) = ([start.parameter], [start.m], [start.v]);
        let params = adam_catch_up::Params { rows: 1, dim: 1, step: 1010, steps: 1010 };
        adam_catch_up::twin(&params, &[0], &all_rates, &[1010 - behind], &mut table, &mut m, &mut v);
        let mut dense = start;
        (1011 - behind as i32..=1010).for_each(|step| dense.step(step, 0.0));
        assert!((table[0] - dense.parameter).abs() <= ADAM_TOLERANCE, "{behind} steps: {}, dense {dense:?}", table[0]);
        // The constants are f32: 6e-8 each, to the power of up to 1000.
        for (got, want) in [(m[0], dense.m), (v[0], dense.v)] {
            assert!((got - want).abs() <= 1e-4 * want, "{behind} steps: {got}, dense {dense:?}");
        }
    }
}
