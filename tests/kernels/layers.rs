//! Embedding, layer norm and linear layers.

use prismrec::kernels::dropout::Dropout;
use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::*;

use crate::case::{Case, EXACT, Output, Tolerance, sum_of};
use crate::common::{Random, segments};

/// (rows, width): one row, one column, workgroups of 256 elements not full, full, and one over, primes; and more than 256
/// workgroups, so that a kernel that takes too few elements in each does not reach the end.
const GRIDS: [(usize, usize); 10] =
    [(1, 1), (85, 3), (64, 4), (257, 1), (37, 7), (4, 64), (13, 65), (2, 128), (5, 256), (1021, 67)];

#[test]
fn embed() {
    let mut random = Random::new();
    for (tokens, dim) in GRIDS {
        for drop in [Dropout::OFF, random.dropout(0.37)] {
            let (items, length) = (11, 5);
            let params = embed::Params {
                tokens: tokens as u32,
                dim: dim as u32,
                scale: (dim as f32).sqrt(),
                drop_below: drop.below,
                drop_scale: drop.scale,
                drop_key: drop.key,
            };
            Case::new(&embed::KERNEL, params)
                .whole(&random.indices(tokens, items))
                .whole(&random.indices(tokens, length))
                .reals(&random.reals(items * dim))
                .reals(&random.reals(length * dim))
                // scale is up to 16, so that one rounding is up to 1e-6
                .writes(Output::new(&[("token", tokens), ("d", dim)], Tolerance { absolute: 4e-6, relative: 1e-6 }))
                .check(&mut random);
        }
    }
}

#[test]
fn embed_backward() {
    let mut random = Random::new();
    for (rows, dim) in GRIDS {
        // Some rows are one token, some many tokens and candidates.
        let (tokens, candidates) = (2 * rows + 3, rows / 2 + 1);
        let mut row_of = random.indices(tokens + candidates, rows);
        row_of[..rows].copy_from_slice(&random.order(rows));
        let (starts, sources) = segments(&row_of, rows);
        for drop in [Dropout::OFF, random.dropout(0.5)] {
            let params = embed_backward::Params {
                rows: rows as u32,
                dim: dim as u32,
                tokens: tokens as u32,
                scale: (dim as f32).sqrt(),
                drop_below: drop.below,
                drop_scale: drop.scale,
                drop_key: drop.key,
                l2: 0.3,
            };
            Case::new(&embed_backward::KERNEL, params)
                .whole(&starts)
                .whole(&sources)
                .reals(&random.reals(tokens * dim))
                .reals(&random.reals(candidates * dim))
                .reals(&random.reals(rows * dim))
                // a sum of about 3, at most some 15, terms up to 32
                .writes(Output::new(&[("row", rows), ("d", dim)], Tolerance { absolute: 2e-5, relative: 2e-6 }))
                .check(&mut random);
        }
    }
}

#[test]
fn position_backward() {
    let mut random = Random::new();
    for (positions, dim) in GRIDS {
        let tokens = 9 * positions + 1;
        let position_of = random.indices(tokens, positions);
        let (starts, sources) = segments(&position_of, positions);
        for (slices, gap) in [(1, 0), (3, 5), (8, 64)] {
            let drop = if slices == 1 { Dropout::OFF } else { random.dropout(0.3) };
            let stride = positions * dim + gap;
            let params = position_backward::Params {
                positions: positions as u32,
                dim: dim as u32,
                slices: slices as u32,
                stride: stride as u32,
                drop_below: drop.below,
                drop_scale: drop.scale,
                drop_key: drop.key,
            };
            Case::new(&position_backward::KERNEL, params)
                .whole(&starts)
                .whole(&sources)
                .reals(&random.reals(tokens * dim))
                .writes(Output::slices(&[("position", positions), ("d", dim)], slices, stride, sum_of(30)))
                .check(&mut random);
        }
    }
}

#[test]
fn gather() {
    let mut random = Random::new();
    for (rows, dim) in GRIDS.into_iter().chain([(3, 36), (70, 24), (2100, 8)]) {
        for storage in [ItemStorage::F32, ItemStorage::Bf16] {
            let (items, base, first, behind) = (11, random.one_of(&[0, 1000]), random.one_of(&[0, 5]), random.below(3));
            let params = gather::Params {
                first: first as u32,
                rows: rows as u32,
                dim: dim as u32,
                base,
                packed: storage.packed(),
            };
            // Rows before and behind are of other tables, which the call must leave alone.
            let own = random.indices(rows, items).into_iter().map(|item| base + item);
            let others = |n| std::iter::repeat_n(2_000_000_000, n);
            let all: Vec<u32> = others(first).chain(own).chain(others(behind)).collect();
            let output = Output::new(&[("row", all.len()), ("d", dim)], EXACT).rows(first..first + rows, dim);
            Case::new(&gather::KERNEL, params)
                .whole(&all)
                .item_rows(storage, &random.reals(items * dim), dim)
                .writes(output)
                .check(&mut random);
        }
    }
}

/// Rows and widths of layer norms: 16 rows a workgroup, 16 invocations a row; and more than 16 workgroups.
const NORMS: [(usize, usize); 12] =
    [(301, 2), (1, 1), (15, 3), (16, 4), (17, 7), (33, 15), (5, 16), (2, 17), (31, 64), (7, 65), (3, 128), (18, 256)];

#[test]
fn layer_norm() {
    let mut random = Random::new();
    for (rows, dim) in NORMS {
        // Every third row is so even that epsilon decides.
        let mut x = random.reals(rows * dim);
        for row in x.chunks_exact_mut(dim).step_by(3) {
            row.iter_mut().for_each(|x| *x *= 1e-3);
        }
        // 1 / sqrt(variance + epsilon) is up to 316, and x - mean is off by 6e-8 of x where it is that large.
        let tolerance = Tolerance { absolute: 4e-5, relative: 1e-5 };
        Case::new(&layer_norm::KERNEL, layer_norm::Params { rows: rows as u32, dim: dim as u32 })
            .reals(&x)
            .reals(&random.reals(2 * dim))
            .writes(Output::new(&[("row", rows), ("d", dim)], tolerance))
            .writes(Output::new(&[("row", rows), ("mean or rstd", 2)], Tolerance { absolute: 1e-6, relative: 1e-5 }))
            .check(&mut random);
    }
}

/// mean and 1 / sqrt(variance + epsilon) of some rows; the backward kernels take them as they are.
fn stats(random: &mut Random, rows: usize) -> Vec<f64> {
    (0..rows).flat_map(|_| [random.reals(1)[0], 0.5 + random.shares(1)[0]]).collect()
}

#[test]
fn layer_norm_backward() {
    let mut random = Random::new();
    // Columns are summed 64 at a time or sixteen, so these end in the middle of both; more rows than slices, and fewer.
    let more = [(3, 3), (4, 63), (97, 60), (256, 7), (300, 130), (7, 132), (300, 68)];
    for (rows, dim) in NORMS.into_iter().chain(more) {
        for (accumulate, accumulate_gradient, slices, gap) in
            [(0, 0, 1, 0), (1, 1, 3, 5), (0, 0, 8, 64), (1, 0, 8, 4), (0, 1, 2, 0)]
        {
            // Where slices are apart as a model's are, `serial` is there for them.
            let stride = if slices == 8 { (2 * dim).next_multiple_of(64) + gap } else { 2 * dim + gap };
            let params = layer_norm_backward::Params {
                rows: rows as u32,
                dim: dim as u32,
                accumulate,
                slices: slices as u32,
                stride: stride as u32,
                accumulate_gradient,
            };
            // means of up to 256 products of three numbers up to 3, then a few operations
            let tolerance = Tolerance { absolute: 4e-6, relative: 4e-6 };
            let mut dx = Output::new(&[("row", rows), ("d", dim)], tolerance);
            if accumulate == 1 {
                dx = dx.onto(random.reals(rows * dim));
            }
            let shape = [("weight or bias", 2), ("d", dim)];
            // the products are up to 3
            let mut gradient = Output::slices(&shape, slices, stride, sum_of(9 * rows)).together();
            if accumulate_gradient == 1 {
                gradient = gradient.onto(random.reals((slices - 1) * stride + 2 * dim));
            }
            Case::new(&layer_norm_backward::KERNEL, params)
                .reals(&random.reals(rows * dim))
                .reals(&random.reals(2 * dim))
                .reals(&stats(&mut random, rows))
                .reals(&random.reals(rows * dim))
                .writes(dx)
                .writes(gradient)
                .check(&mut random);
        }
    }
}

/// (rows, inner, outer) of linear layers: tiles are 64 x 64, slabs 16; blocks of a lone invocation 8 x 32 and 8 x 16, in
/// vectors of 4; W is read as a uniform up to 16,384 elements, x and dy in runs of rows that are no longer.
const LINEARS: [(usize, usize, usize); 15] = [
    (70, 64, 256),
    (1, 1, 1),
    (1, 3, 7),
    (63, 16, 64),
    (64, 15, 65),
    (65, 17, 63),
    (130, 64, 4),
    (2, 7, 192),
    (127, 65, 128),
    (31, 256, 300),
    (23, 4, 8),
    (24, 16, 12),
    (25, 20, 36),
    (2, 32, 28),
    (300, 64, 192),
];

/// What a mask keeps it makes larger, and how far that is off with it.
fn masked(tolerance: Tolerance, drop: Dropout) -> Tolerance {
    Tolerance { absolute: tolerance.absolute * drop.scale, ..tolerance }
}

#[test]
fn linear() {
    let mut random = Random::new();
    for (rows, inner, outer) in LINEARS {
        for (relu, residual, drop) in
            [(0, 0, Dropout::OFF), (1, 1, Dropout::OFF), (1, 0, random.dropout(0.5)), (0, 1, random.dropout(0.2))]
        {
            let params = linear::Params {
                rows: rows as u32,
                inner: inner as u32,
                outer: outer as u32,
                relu,
                residual,
                drop_below: drop.below,
                drop_scale: drop.scale,
                drop_key: drop.key,
            };
            let added = random.reals(if residual == 1 { rows * outer } else { 4 });
            Case::new(&linear::KERNEL, params)
                .reals(&random.reals(rows * inner))
                .reals(&random.reals((inner + 1) * outer))
                .reals(&added)
                .writes(Output::new(&[("row", rows), ("column", outer)], masked(sum_of(2 * inner), drop)))
                .check(&mut random);
        }
    }
}

#[test]
fn linear_backward() {
    let mut random = Random::new();
    let transposed = LINEARS.map(|(outer, rows, inner)| (rows, outer, inner));
    for (rows, outer, inner) in LINEARS.into_iter().chain(transposed) {
        for (accumulate, accumulate_gradient, gate, slices, gap, drop) in [
            (0, 0, 0, 1, 0, Dropout::OFF),
            (1, 1, 0, 3, 5, random.dropout(0.37)),
            (0, 0, 1, 8, 64, Dropout::OFF),
            (1, 0, 1, 8, 0, random.dropout(0.01)),
            (0, 1, 1, 2, 0, random.dropout(0.99)),
        ] {
            let stride = (inner + 1) * outer + gap;
            let params = linear_backward::Params {
                rows: rows as u32,
                inner: inner as u32,
                outer: outer as u32,
                accumulate,
                gate,
                gate_scale: 1.25,
                slices: slices as u32,
                stride: stride as u32,
                drop_below: drop.below,
                drop_scale: drop.scale,
                drop_key: drop.key,
                accumulate_gradient,
            };
            // As a ReLU with dropout leaves it: half of it zeros, and some of them negative ones.
            let mut x = random.reals(rows * inner);
            if gate == 1 {
                x.iter_mut().for_each(|x| *x = if *x < 0.0 { random.one_of(&[0.0, -0.0]) } else { *x });
            }
            let mut dx = Output::new(&[("row", rows), ("column", inner)], masked(sum_of(2 * outer), drop));
            if accumulate == 1 {
                dx = dx.onto(random.reals(rows * inner));
            }
            let shape = [("outer", outer), ("inner, bias", inner + 1)];
            let mut gradient = Output::slices(&shape, slices, stride, masked(sum_of(2 * rows), drop)).together();
            if accumulate_gradient == 1 {
                gradient = gradient.onto(random.reals((slices - 1) * stride + (inner + 1) * outer));
            }
            Case::new(&linear_backward::KERNEL, params)
                .reals(&random.reals(rows * outer))
                .reals(&random.reals(outer * inner))
                .reals(&x)
                .writes(dx)
                .writes(gradient)
                .check(&mut random);
        }
    }
}
