//! Activations in 16 bits: what an engine that stores them so promises, and what becomes of numbers that f16 does not have.
//! tests/kernels compares shaders with twins, tests/engines_agree.rs training with f32.

use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;
use prismrec::engine::{self, Checks, Engine, EngineChoice, EngineRequest, EntryPoint};
use prismrec::kernels::activations::{Activations, LARGEST};
use prismrec::kernels::{BufferId, Call, Region, linear};

fn request(adapter: &str) -> EngineRequest {
    EngineRequest {
        choice: EngineChoice::Gpu,
        adapter: Some(adapter.to_owned()),
        activations: Activations::F16,
        ..EngineRequest::default()
    }
}

/// An engine that stores f16 on every adapter that has it, with each entry point; others say why they do not.
fn engines() -> Vec<(String, Box<dyn Engine>)> {
    let adapters = engine::adapters();
    assert!(!adapters.is_empty(), "no adapter: these tests need one");
    let mut engines = Vec::new();
    for adapter in adapters {
        match engine::open(&request(&adapter.name)) {
            Err(e) => {
                let message = e.to_string();
                println!("{message}");
                assert!(message.contains(&adapter.name) && message.contains("--activations f16"), "{message}");
            }
            Ok(engine) => {
                engines.push((adapter.name.clone(), engine));
                for entry_point in [EntryPoint::Main, EntryPoint::Serial] {
                    let request = EngineRequest { entry_point, checks: Checks::Checked, ..request(&adapter.name) };
                    engines.push((format!("{}, {entry_point:?}", adapter.name), engine::open(&request).unwrap()));
                }
                let split = Some("cpu:linear".parse().unwrap());
                let request = EngineRequest { split, ..request(&adapter.name) };
                engines.push((format!("{}, the CPU first", adapter.name), engine::open(&request).unwrap()));
            }
        }
    }
    engines
}

fn part(buffer: BufferId, offset: usize, len: usize) -> Region {
    Region { buffer, offset, len }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn numbers(bits: Vec<u32>) -> Vec<f32> {
    bits.into_iter().map(f32::from_bits).collect()
}

#[test]
fn what_lies_in_16_bits_is_written_and_read_at_any_element() {
    for (name, mut engine) in engines() {
        let before = engine.allocated_bytes();
        let half = engine.allocate_activations("half", 7).unwrap();
        assert_eq!(engine.allocated_bytes() - before, 14, "{name}");
        engine.allocate("whole", 7).unwrap();
        assert_eq!(engine.allocated_bytes() - before, 14 + 28, "{name}");
        if name.ends_with("the CPU first") {
            // Its CPU keeps f32: what was not on the GPU in between is not rounded.
            continue;
        }
        assert_eq!(engine.read(part(half, 0, 7)).unwrap(), [0; 7], "{name}");
        engine.write(part(half, 0, 7), &bits(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])).unwrap();
        // Neighbours in the same word stay, whichever end is inside one.
        engine.write(part(half, 1, 1), &bits(&[20.0])).unwrap();
        engine.write(part(half, 3, 2), &bits(&[1.0 + 1.0 / 4096.0, -0.5])).unwrap();
        engine.write(part(half, 6, 1), &bits(&[70.0])).unwrap();
        let want = [1.0, 20.0, 3.0, 1.0, -0.5, 6.0, 70.0];
        assert_eq!(numbers(engine.read(part(half, 0, 7)).unwrap()), want, "{name}");
        for first in 0..7 {
            for len in 0..7 - first {
                let got = numbers(engine.read(part(half, first, len)).unwrap());
                assert_eq!(got, want[first..first + len], "{name}, {first} + {len}");
            }
        }
    }
}

/// y = x W^T + b with one column and no bias.
fn scaled(x: Region, weight: Region, residual: Region, y: Region) -> Call {
    let params = linear::Params {
        rows: y.len as u32,
        inner: 1,
        outer: 1,
        relu: 0,
        residual: 0,
        drop_below: 0,
        drop_scale: 1.0,
        drop_key: 0,
    };
    linear::call(params, linear::Bindings { x, weight, residual, y })
}

#[test]
fn a_number_that_f16_does_not_have_becomes_none() {
    for (name, mut engine) in engines().into_iter().filter(|(name, _)| !name.ends_with("the CPU first")) {
        // As vectors, which `serial` takes, each row's one product in the first of four columns; and one by one.
        for width in [1, 4] {
            let [x, y] = ["x", "y"].map(|name| engine.allocate_activations(name, 5 * width).unwrap());
            let [x, y] = [x, y].map(|buffer| part(buffer, 0, 5 * width));
            let weight = part(engine.allocate("weight", (width + 1) * width).unwrap(), 0, (width + 1) * width);
            let mut content = vec![0.0; 5 * width];
            for (row, value) in [1.0, 65_504.0, 32_752.0, -65_504.0, -32_752.0].into_iter().enumerate() {
                content[row * width] = value;
            }
            engine.write(x, &bits(&content)).unwrap();
            for (factor, want) in [
                (1.0, [1.0, LARGEST, 32_752.0, -LARGEST, -32_752.0]),
                (2.0, [2.0, f32::NAN, 65_504.0, f32::NAN, -65_504.0]),
                // Beyond f32, too.
                (1e37, [f32::NAN; 5]),
            ] {
                let mut weights = vec![0.0; (width + 1) * width];
                weights[0] = factor;
                engine.write(weight, &bits(&weights)).unwrap();
                let mut call = scaled(x, weight, x, y);
                let params = linear::Params {
                    rows: 5,
                    inner: width as u32,
                    outer: width as u32,
                    ..bytemuck::pod_read_unaligned(&call.params)
                };
                call.params = bytemuck::bytes_of(&params).to_vec();
                engine.run("scale", &[call]).unwrap();
                let got: Vec<f32> = numbers(engine.read(y).unwrap()).into_iter().step_by(width).collect();
                // As bits, but that one NaN is as good as another.
                let same = |(got, want): (&f32, &f32)| got == want || got.is_nan() && want.is_nan();
                assert!(got.iter().zip(&want).all(same), "{name}, {width} columns, by {factor}: {got:?} for {want:?}");
            }
        }
    }
}

#[test]
fn a_call_whose_activations_are_stored_in_two_ways_is_refused() {
    for (name, mut engine) in engines() {
        let [x, y] = ["x", "y"].map(|name| part(engine.allocate_activations(name, 64).unwrap(), 0, 64));
        let [weight, whole] = ["weight", "whole"].map(|name| part(engine.allocate(name, 64).unwrap(), 0, 64));
        let another = part(engine.allocate("another", 64).unwrap(), 0, 64);
        engine.run("right", &[scaled(whole, weight, whole, another)]).unwrap();
        engine.run("right", &[scaled(x, weight, x, y)]).unwrap();
        if name.ends_with("the CPU first") {
            continue;
        }
        let told = engine.run("wrong", &[scaled(x, weight, x, whole)]).unwrap_err().to_string();
        assert!(told.contains("linear.y") && told.contains("whole"), "{name}: {told}");
    }
}

#[test]
fn the_cpu_engine_is_refused() {
    let cpu = EngineRequest { choice: EngineChoice::Cpu, activations: Activations::F16, ..EngineRequest::default() };
    let message = match engine::open(&cpu) {
        Ok(_) => panic!("not refused"),
        Err(error) => error.to_string(),
    };
    assert!(message.contains("--activations f16") && message.contains("CPU"), "{message}");
}

fn train(folder: &Path, run: &str, more: &[&str]) -> assert_cmd::assert::Assert {
    let small =
        ["--dim", "32", "--length", "6", "--batch", "16", "--steps", "150", "--valid-users", "4", "--seed", "1"];
    let mut command = assert_cmd::Command::cargo_bin("prismrec").unwrap();
    command.current_dir(folder).arg("train").args(small).args(["--run", run]).args(more).assert()
}

#[test]
fn training_on_numbers_that_f16_does_not_have_ends_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for adapter in engine::adapters().into_iter().filter(|adapter| engine::open(&request(&adapter.name)).is_ok()) {
        // Steps of 1: after some dozens, products of parameters are too large for f16, not for f32.
        let on = ["--engine", "gpu", "--adapter", &adapter.name, "--lr", "1"];
        train(folder.path(), "f32", &on).success();
        train(folder.path(), "f16", &[&on[..], &["--activations", "f16"]].concat())
            .failure()
            .stderr(contains("is not a number: training diverged").and(contains("65,504")));
    }
    // Before anything is written.
    train(folder.path(), "cpu", &["--engine", "cpu", "--activations", "f16"])
        .failure()
        .stderr(contains("--activations f16 is for GPUs"));
    assert!(!folder.path().join("cpu").exists());
}
