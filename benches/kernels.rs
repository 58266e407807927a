//! Each kernel on each engine, at the shapes that a training step has; see README.md.

mod common;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prismrec::engine::Engine;
use prismrec::kernels::activations::Activations;
use prismrec::kernels::{Access, Call, Region, Work};
use prismrec::settings::Settings;

use common::{Shared, batches, data, engines, model};

/// Steps before the one whose calls are measured, so that rows of the item table are behind by different numbers.
const STEPS: usize = 8;
/// Steps that the budget is the mean of.
const BUDGET_STEPS: usize = 50;

/// The kernels of a step with their calls, in the order of their first.
fn by_kernel(calls: &[Call]) -> Vec<(&'static str, Vec<Call>)> {
    let mut kernels: Vec<(&'static str, Vec<Call>)> = Vec::new();
    for call in calls {
        match kernels.iter_mut().find(|(name, _)| *name == call.kernel.name) {
            Some((_, calls)) => calls.push(call.clone()),
            None => kernels.push((call.kernel.name, vec![call.clone()])),
        }
    }
    kernels
}

fn work(calls: &[Call], stored: impl Fn(&Call) -> Activations) -> Work {
    calls
        .iter()
        .map(|call| call.work(stored(call)))
        .fold(Work::default(), |sum, work| Work { flops: sum.flops + work.flops, bytes: sum.bytes + work.bytes })
}

/// The binding of a call that is named so.
fn region(call: &Call, name: &str) -> Option<Region> {
    let place = call.kernel.bindings.iter().position(|binding| binding.name == name)?;
    Some(call.regions[place])
}

/// Begins a run of calls and waits for it.
fn run(engine: &mut Shared, calls: &[Call]) {
    engine.run("bench", calls).unwrap();
    let last = &calls[calls.len() - 1];
    let written = last.kernel.bindings.iter().position(|binding| binding.access == Access::write).unwrap();
    engine.read(Region { len: 1, ..last.regions[written] }).unwrap();
}

fn kernels(criterion: &mut Criterion) {
    let (split, settings) = (data(), Settings::default());
    if std::env::var_os("PRISMREC_BENCH_BUDGET").is_some() {
        return budget(&split, &settings);
    }
    for (name, request) in engines() {
        let mut engine = Shared::open(&request);
        eprintln!("{name}: {}", engine.describe().adapter);
        let mut model = model(Box::new(engine.clone()), &split, &settings);
        let (mut sampler, mut packer) = batches(&split, &settings);
        for _ in 0..STEPS {
            model.step(&packer.pack(sampler.next_batch())).unwrap();
        }
        // Rows that the measured step brings up to date are so afterwards: they are put back.
        let updated = engine.last_step().iter().find_map(|call| region(call, "updated"));
        let behind = updated.map(|region| (region, engine.read(region).unwrap()));
        let batch = packer.pack(sampler.next_batch());
        model.step(&batch).unwrap();
        let mut group = criterion.benchmark_group(format!("kernels/{name}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
        for (kernel, calls) in by_kernel(&engine.last_step()) {
            if let Some((region, elements)) = &behind {
                engine.write(*region, elements).unwrap();
            }
            let least = work(&calls, |_| Activations::F32);
            group.throughput(Throughput::Bytes(least.bytes as u64));
            let id = BenchmarkId::new(kernel, format!("{} calls", calls.len()));
            group.bench_function(id, |bencher| bencher.iter(|| run(&mut engine, &calls)));
            // Kernels that work in place have changed what others read; nothing may overflow.
            model.step(&batch).unwrap();
        }
        group.finish();
    }
}

/// Prints the table of README.md: what each kernel has to do at the least in one step.
fn budget(split: &std::sync::Arc<prismrec::data::split::Split>, settings: &Settings) {
    let (_, request) = &engines()[0];
    let engine = Shared::open(request);
    let mut model = model(Box::new(engine.clone()), split, settings);
    let (mut sampler, mut packer) = batches(split, settings);
    let half = std::env::var("PRISMREC_BENCH_ACTIVATIONS").is_ok_and(|stored| stored == "f16");
    let stored = |call: &Call| match call.regions.iter().any(|region| engine.may_be_half(region.buffer)) {
        true if half => Activations::F16,
        _ => Activations::F32,
    };
    let mut steps = Vec::new();
    for _ in 0..BUDGET_STEPS {
        model.step(&packer.pack(sampler.next_batch())).unwrap();
        steps.extend(engine.last_step());
    }
    let each = 1.0 / BUDGET_STEPS as f64;
    let row = |name: &str, calls: &[Call]| {
        let Work { flops, bytes } = work(calls, stored);
        let (flops, bytes) = (flops * each / 1e6, bytes * each / 1e6);
        println!("| {name} | {:.0} | {flops:.2} | {bytes:.2} |", calls.len() as f64 * each);
    };
    println!("| kernel | calls | MFLOP | MB |\n| --- | ---: | ---: | ---: |");
    for (kernel, calls) in by_kernel(&steps) {
        row(&format!("`{kernel}`"), &calls);
    }
    row("all", &steps);
}

criterion_group!(benches, kernels);
criterion_main!(benches);
