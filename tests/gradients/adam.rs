//! Adam against a plain one.

use prismrec::kernels::*;

use crate::common::Random;
use crate::differences::*;

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

/// Those of all steps, as `adam_catch_up` has them.
fn all_rates(steps: usize) -> Vec<f64> {
    adam_catch_up::rates(LEARNING_RATE, steps).into_iter().map(f64::from).collect()
}

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
    let all_rates = all_rates(steps as usize);
    for step in 1..=steps {
        let count = random.below(4);
        let rows = random.distinct(count, items);
        let working = catch_up(&rows, dim, step as u32 - 1, &all_rates, (&table, &m, &v, &updated));
        let gradient = gradients(&mut random, rows.len() * dim);
        let (rate, correction) = rates(step);
        let params = adam_rows::Params {
            first: 0,
            rows: rows.len() as u32,
            dim: dim as u32,
            base: 0,
            plane: (rows.len() * dim) as u32,
            step: step as u32,
            update: 1,
            rate,
            correction,
            packed: 0,
            key: 0,
        };
        adam_rows::twin(&params, &rows, &gradient, &working, &mut table, &mut m, &mut v, &mut updated);
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
    let working = catch_up(&every, dim, steps as u32, &all_rates, (&table, &m, &v, &updated));
    let params = adam_rows::Params {
        first: 0,
        rows: items as u32,
        dim: dim as u32,
        base: 0,
        plane: (items * dim) as u32,
        step: steps as u32,
        update: 0,
        rate: f32::NAN,
        correction: f32::NAN,
        packed: 0,
        key: 0,
    };
    adam_rows::twin(&params, &every, &[], &working, &mut table, &mut m, &mut v, &mut updated);
    assert_eq!(updated, vec![steps as u32; items]);
    for (i, dense) in dense.iter().enumerate() {
        assert!((table[i] - dense.parameter).abs() <= ADAM_TOLERANCE, "element {i}: {}, dense {dense:?}", table[i]);
        assert!((m[i] - dense.m).abs() <= ADAM_TOLERANCE && (v[i] - dense.v).abs() <= ADAM_TOLERANCE);
    }
}

/// Table, both moments and the rows' marks.
type Lazy<'a> = (&'a [f64], &'a [f64], &'a [f64], &'a [u32]);

/// Rows of the table and of both moments, up to date.
fn catch_up(rows: &[u32], dim: usize, step: u32, rates: &[f64], (table, m, v, updated): Lazy) -> Vec<f64> {
    let plane = rows.len() * dim;
    let params = adam_catch_up::Params {
        first: 0,
        rows: rows.len() as u32,
        dim: dim as u32,
        base: 0,
        plane: plane as u32,
        step,
        steps: (rates.len() / adam_catch_up::COLUMNS) as u32,
        packed: 0,
    };
    let mut working = poison(3 * plane);
    adam_catch_up::twin(&params, rows, rates, updated, table, m, v, &mut working);
    working
}

/// One row of one element.
fn catch_up_one(start: [f64; 3], from: u32, step: u32, rates: &[f64]) -> [f64; 3] {
    let [table, m, v] = start.map(|value| [value]);
    catch_up(&[0], 1, step, rates, (&table, &m, &v, &[from])).try_into().unwrap()
}

/// Steps past the table of rates take its last row.
#[test]
fn adam_catch_up() {
    let update = |rates: &[f64]| catch_up_one([0.5, 0.3, 0.2], 2, 9, rates);
    let row = |rate, correction| [rate, correction, f64::NAN, f64::NAN, f64::NAN, f64::NAN];
    let short = [row(0.1, 1.5), row(0.2, 1.3), row(0.3, 1.1), row(0.4, 1.0)].concat();
    let mut long = short.clone();
    (4..9).for_each(|_| long.extend(row(0.4, 1.0)));
    assert_eq!(update(&short), update(&long));
    let decay = 0.9f32 as f64;
    assert!((update(&short)[1] - 0.3 * decay.powi(7)).abs() <= 1e-15);
}

/// A row that no step used for long is where dense Adam has it, although only the first updates are made one by one.
#[test]
fn a_row_catches_up_over_a_thousand_steps() {
    let start = Plain { parameter: 0.5, m: 0.3, v: 0.2 };
    let all_rates = all_rates(1010);
    for behind in [1, 63, 64, 65, 257, 1000] {
        let [table, m, v] = catch_up_one([start.parameter, start.m, start.v], 1010 - behind, 1010, &all_rates);
        let mut dense = start;
        (1011 - behind as i32..=1010).for_each(|step| dense.step(step, 0.0));
        assert!((table - dense.parameter).abs() <= ADAM_TOLERANCE, "{behind} steps: {table}, dense {dense:?}");
        // The constants are f32: 6e-8 each, to the power of up to 1000.
        for (got, want) in [(m, dense.m), (v, dense.v)] {
            // A first moment of more than 700 steps ago is given up.
            assert!((got - want).abs() <= 1e-4 * want + 1e-31, "{behind} steps: {got}, dense {dense:?}");
        }
    }
}

/// Many updates made at once are those of dense Adam, one after the other: for moments of all sizes, from early steps on,
/// after which some are made one by one, and late ones, over few and many steps, with a halt between, and past the table's end.
#[test]
fn updates_at_once_are_the_sum_of_all() {
    let steps = 6000;
    let (all_rates, few) = (all_rates(steps as usize), adam_catch_up::FEW);
    let early_steps = [1, 3, 16, 32, 100, 255, 256, 300, 511, 512, 767, 768, 1023];
    for from in early_steps.into_iter().chain([adam_catch_up::EARLY, 1500, 4000, 5990, 6500]) {
        // Of the updates that come to the most.
        let (rate, correction) = (rates(from as i32 + 1).0, rates(from as i32 + 20).1);
        for behind in [few + 1, few + 2, 20, 100, 255, 400, 700, 701, 3000] {
            for (m, v) in
                [(0.3, 0.2), (-0.3, 1e3), (1e-4, 1e-7), (1e-8, 1e-15), (-1e-9, 1e-17), (1e-9, 1e-20), (0.0, 0.1)]
            {
                let start = Plain { parameter: 0.5, m, v };
                let mut dense = start;
                let to = from + behind;
                (from as i32 + 1..=to as i32).for_each(|step| dense.step(step, 0.0));
                let halt = from + behind / 3;
                let all = catch_up_one([start.parameter, m, v], from, to, &all_rates);
                let before = catch_up_one([start.parameter, m, v], from, halt, &all_rates);
                for got in [all, catch_up_one(before, halt, to, &all_rates)] {
                    // The table is of f32: a few roundings of 6e-8 of up to twice what all updates together come to. Where
                    // some are made one by one, beta1 in f32 is off by 3e-8 to the power of their number. Of the table's
                    // last corrections, which later steps take, 2e-3 are missing.
                    let whole = 20.0 * f64::from(rate) * m.abs() / (v.sqrt() * f64::from(correction) + 1e-8);
                    let early = from < adam_catch_up::EARLY;
                    let share = if early { 3e-7 } else { 1e-7 };
                    let tolerance = whole * if to > steps as u32 { 3e-3 } else { share };
                    let off = (got[0] - dense.parameter).abs();
                    assert!(off <= tolerance, "{from}, {behind}, {start:?}: {got:?}, dense {dense:?}, off by {off}");
                    for (got, want) in [(got[1], dense.m), (got[2], dense.v)] {
                        // Powers and constants are f32; a first moment of more than 700 steps ago is given up.
                        let share = if early { 5e-6 } else { 1e-6 };
                        assert!((got - want).abs() <= share * want.abs() + 1e-31 * m.abs(), "{got}, dense {dense:?}");
                    }
                }
            }
        }
    }
}
