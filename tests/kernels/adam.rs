//! Adam, on all elements and on the rows in use.

use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::*;

use crate::case::{Case, EXACT, Output, Tolerance};
use crate::common::Random;

/// Moments: a few products and sums.
const MOMENT: Tolerance = Tolerance { absolute: 1e-7, relative: 4e-6 };
/// A parameter near 1 less a step: where the second moment is almost 0, thousands, off by a few units in the last place.
const PARAMETER: Tolerance = Tolerance { absolute: 1e-6, relative: 1e-5 };

/// Numbers of all sizes, as epsilon shows only beside tiny gradients.
fn gradients(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n).map(|_| random.reals(1)[0] * random.one_of(&[1.0, 1e-3, 1e-7, 1e-8, 0.0])).collect()
}

/// A parameter, and moments that fit each other.
struct State {
    parameter: Vec<f64>,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
}

fn state(random: &mut Random, n: usize) -> State {
    let first_moment = gradients(random, n);
    let second_moment = first_moment.iter().map(|m| m * m * (0.1 + random.shares(1)[0])).collect();
    State { parameter: random.reals(n), first_moment, second_moment }
}

#[test]
fn adam() {
    let mut random = Random::new();
    for elements in [1, 255, 256, 257, 70_001] {
        for (slices, gap) in [(1, 0), (3, 5), (8, 64)] {
            let stride = elements + gap;
            let params = adam::Params {
                elements: elements as u32,
                slices: slices as u32,
                stride: stride as u32,
                rate: 0.01,
                correction: 1.5,
            };
            let state = state(&mut random, elements);
            // Where a few copies almost cancel, the sum is off by units of a copy: a gradient of one size each.
            let one = gradients(&mut random, elements);
            let copies: Vec<f64> = (0..slices * stride)
                .map(|i| one[(i % stride).min(elements - 1)] * (0.1 + random.shares(1)[0]))
                .collect();
            let axes = [("element", elements)];
            Case::new(&adam::KERNEL, params)
                .reals(&copies[..(slices - 1) * stride + elements])
                .writes(Output::new(&axes, PARAMETER).onto(state.parameter))
                .writes(Output::new(&axes, MOMENT).onto(state.first_moment))
                .writes(Output::new(&axes, MOMENT).onto(state.second_moment))
                .check(&mut random);
        }
    }
}

/// (rows, items, D): 256 elements a workgroup; and more than 256 workgroups.
const ROWS: [(usize, usize, usize); 10] = [
    (1021, 1050, 67),
    (1, 1, 1),
    (0, 3, 4),
    (85, 90, 3),
    (64, 64, 4),
    (257, 300, 1),
    (13, 40, 65),
    (3, 9, 256),
    (70, 80, 64),
    (33, 40, 20),
];

/// Each as f32 and in 16 bits.
fn with_storage<T: Clone>(sizes: impl IntoIterator<Item = T>) -> impl Iterator<Item = (T, ItemStorage)> {
    sizes.into_iter().flat_map(|size| [ItemStorage::F32, ItemStorage::Bf16].map(|storage| (size.clone(), storage)))
}

/// A chunk of a table that begins at some item, and what a call does with rows of it that are not the first in use.
struct Chunk {
    base: u32,
    first: usize,
    plane: usize,
    /// Rows of the chunk, as the chunk counts them.
    own: Vec<u32>,
    /// Items of all rows in use.
    items: Vec<u32>,
}

impl Chunk {
    fn new(random: &mut Random, rows: usize, items: usize, dim: usize) -> Self {
        let (base, first) = (random.one_of(&[0, 1000]), random.one_of(&[0, 5]));
        let behind = random.below(4);
        let plane = (first + rows + behind) * dim + random.one_of(&[0, 3, 64]);
        let own = random.distinct(rows, items);
        // Rows before and behind are of other chunks, which the call must leave alone.
        let mut all = vec![7; first];
        all.extend(own.iter().map(|row| base + row));
        all.extend(vec![2_000_000_000; behind]);
        Chunk { base, first, plane, own, items: all }
    }

    fn rows(&self) -> impl Iterator<Item = usize> {
        self.own.iter().map(|&row| row as usize)
    }

    /// Where the rows lie in each of the three parts of `working`.
    fn parts(&self, dim: usize) -> impl Iterator<Item = usize> {
        let (first, end) = (self.first * dim, (self.first + self.own.len()) * dim);
        (0..3).flat_map(move |part| part * self.plane + first..part * self.plane + end)
    }

    /// Rows in use, where they are worked on.
    fn working(&self, random: &mut Random) -> Vec<f64> {
        let State { parameter, first_moment, second_moment } = state(random, self.plane);
        [parameter, first_moment, second_moment].concat()
    }
}

#[test]
fn adam_rows() {
    let mut random = Random::new();
    let with_update = with_storage(ROWS).map(|(size, storage)| (size, storage, true));
    let as_they_are =
        with_storage(ROWS.into_iter().chain([(66_000, 66_001, 1)])).map(|(size, storage)| (size, storage, false));
    for ((rows, items, dim), storage, update) in with_update.chain(as_they_are) {
        let chunk = Chunk::new(&mut random, rows, items, dim);
        let params = adam_rows::Params {
            first: chunk.first as u32,
            rows: rows as u32,
            dim: dim as u32,
            base: chunk.base,
            plane: chunk.plane as u32,
            step: 1234,
            update: update.into(),
            rate: if update { 0.01 } else { f32::NAN },
            correction: if update { 1.5 } else { f32::NAN },
            packed: storage.packed(),
            key: random.below(1 << 32) as u32,
        };
        let gradient = if update {
            gradients(&mut random, chunk.items.len() * dim)
        } else {
            vec![f64::NAN; chunk.items.len() * dim]
        };
        let (parameter_tolerance, moment_tolerance) = if update { (PARAMETER, MOMENT) } else { (EXACT, EXACT) };
        let State { parameter, first_moment, second_moment } = state(&mut random, items * dim);
        let words = storage.words(dim);
        let rows_of = |tolerance, before: &[f64]| {
            Output::new(&[("item", items), ("word", words)], tolerance)
                .onto_rows(storage, before, dim)
                .rows(chunk.rows(), words)
        };
        Case::new(&adam_rows::KERNEL, params)
            .whole(&chunk.items)
            .reals(&gradient)
            .reals(&chunk.working(&mut random))
            .writes(rows_of(parameter_tolerance, &parameter))
            .writes(rows_of(moment_tolerance, &first_moment))
            .writes(rows_of(moment_tolerance, &second_moment))
            .writes(
                Output::new(&[("item", items)], EXACT).onto_whole(random.indices(items, 1234)).rows(chunk.rows(), 1),
            )
            .check(&mut random);
    }
}

#[test]
fn adam_catch_up() {
    let mut random = Random::new();
    let rates: Vec<f64> = adam_catch_up::rates(0.01, 2000).into_iter().map(f64::from).collect();
    for ((rows, items, dim), storage) in with_storage(ROWS) {
        // Rows from 0 to 40 steps behind, and some since steps after which more or fewer updates are made one by one; rates of
        // their own for the first steps only.
        let (step, steps) = random.one_of(&[(600, 500), (2000, 1950), (2000, 2000)]);
        let chunk = Chunk::new(&mut random, rows, items, dim);
        let params = adam_catch_up::Params {
            first: chunk.first as u32,
            rows: rows as u32,
            dim: dim as u32,
            base: chunk.base,
            plane: chunk.plane as u32,
            step,
            steps,
            packed: storage.packed(),
        };
        let far = [63, 64, 65, 200, 330, 600, 700, 701, 976, 977, 1100, 1300, step].map(|n| n.min(step));
        let behind: Vec<u32> = (0..items)
            .map(|_| if random.below(2) == 0 { random.one_of(&far) } else { random.below(41) as u32 })
            .collect();
        let updated: Vec<u32> = behind.iter().map(|behind| step - behind).collect();
        let state = state(&mut random, items * dim);
        // Decay alone: the same products in each engine, then a power, whose logarithm GPUs round.
        let moment = Tolerance { absolute: 1e-30, relative: 2e-5 };
        let working = Output::new(&[("table or moment", 3), ("element", chunk.plane)], PARAMETER)
            .but_rows(1..3, chunk.plane, moment)
            .rows(chunk.parts(dim), 1);
        Case::new(&adam_catch_up::KERNEL, params)
            .whole(&chunk.items)
            .reals(&rates[..steps as usize * adam_catch_up::COLUMNS])
            .whole(&updated)
            .item_rows(storage, &state.parameter, dim)
            .item_rows(storage, &state.first_moment, dim)
            .item_rows(storage, &state.second_moment, dim)
            .writes(working)
            .check(&mut random);
    }
}
