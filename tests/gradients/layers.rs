//! Embedding, layer norm, linear layers and attention.

use prismrec::kernels::dropout::Dropout;
use prismrec::kernels::*;

use crate::common::{Random, offsets, owners, scale, segments};
use crate::differences::*;

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
        let (mut x, norm, weights) = (random.reals(rows * dim), random.reals(2 * dim), random.reals(rows * dim));
        // Numbers of a row that are almost equal have derivatives too steep for differences.
        x.chunks_exact_mut(dim).for_each(|row| row[0] += 3.0);
        let (_, stats) = normed(&x, &norm, dim);
        let loss = |x: &[f64], norm: &[f64]| dot(&normed(x, norm, dim).0, &weights);
        for accumulate in [0, 1] {
            let before = if accumulate == 1 { random.reals(x.len()) } else { poison(x.len()) };
            let mut dx = before.clone();
            let (slices, stride, mut gradient) = sliced(2 * dim);
            let params = layer_norm_backward::Params {
                rows: rows as u32,
                dim: dim as u32,
                accumulate,
                slices: slices as u32,
                stride: stride as u32,
                accumulate_gradient: 0,
            };
            layer_norm_backward::twin(&params, &x, &norm, &stats, &weights, &mut dx, &mut gradient);
            let dx = if accumulate == 1 { less(&dx, &before) } else { dx };
            check(&format!("dx of {rows} x {dim}"), &x, &dx, |x| loss(x, &norm));
            let gradient = sum_of_slices(&gradient, slices, stride, 2 * dim);
            check(&format!("dnorm of {rows} x {dim}"), &norm, &gradient, |norm| loss(&x, norm));
        }
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
        // A positive input, so that no weight is left without a gradient.
        let ungated: Vec<f64> = before_gate.iter().map(|x| x.abs()).collect();
        for (accumulate, gate_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let before = if accumulate == 1 { random.reals(x.len()) } else { poison(x.len()) };
            let mut dx = before.clone();
            let (slices, stride, mut gradient) = sliced(weight.len());
            let params = linear_backward::Params {
                rows: rows as u32,
                inner: inner as u32,
                outer: outer as u32,
                accumulate,
                gate: gate_on,
                gate_scale: gate.scale,
                slices: slices as u32,
                stride: stride as u32,
                drop_below: end.below,
                drop_scale: end.scale,
                drop_key: end.key,
                accumulate_gradient: 0,
            };
            let at = if rows == 1 { &ungated } else { &before_gate };
            let x = if gate_on == 1 { gated(at) } else { ungated.clone() };
            linear_backward::twin(&params, &weights, &weight, &x, &mut dx, &mut gradient);
            let gradient = sum_of_slices(&gradient, slices, stride, weight.len());
            check("dW and db", &weight, &gradient, |weight| loss(&x, weight, &residual));
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
            let gathered = gather::Params { first: 0, rows: candidates as u32, dim: dim as u32, base: 0, packed: 0 };
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
        let in_use: Vec<f64> = rows.iter().flat_map(|&i| &table[i as usize * dim..][..dim]).copied().collect();
        embed_backward::twin(&backward, &starts, &sources, &weights, &dcandidates, &in_use, &mut gradient);
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
            tokens: tokens as u32,
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
            first_sequence: 0,
            base: 0,
        };
        let run = |qkv: &[f64], x: &[f64]| {
            let (mut y, mut mixed, mut log_sum) = (poison(tokens * dim), poison(tokens * dim), poison(tokens));
            attention::twin(&params, &offsets, &owners(&offsets), qkv, x, &mut y, &mut mixed, &mut log_sum);
            (y, mixed, log_sum)
        };
        let (_, mixed, log_sum) = run(&qkv, &x);
        let mut dqkv = poison(qkv.len());
        let backward: attention_backward::Params = bytemuck::cast(params);
        attention_backward::twin(&backward, &offsets, &owners(&offsets), &qkv, &mixed, &log_sum, &weights, &mut dqkv);
        check(&format!("dqkv of {lengths:?}, D = {dim}"), &qkv, &dqkv, |qkv| dot(&run(qkv, &x).0, &weights));
        check("dx", &x, &weights, |x| dot(&run(&qkv, x).0, &weights));
    }
}
