//! The parts of a run: reading, batches, training steps, evaluation; see README.md.

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use prismrec::data::read::read;
use prismrec::data::split::{Part, Split, Training};
use prismrec::engine;
use prismrec::evaluate::{Evaluator, Options, Protocol};
use prismrec::settings::Settings;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use common::{batches, data, engines, model};

/// Interactions in the files that are read.
const ROWS: usize = 1_000_000;
/// Users evaluated.
const USERS: usize = 256;

/// From opening a file to the split that training uses.
fn reading(criterion: &mut Criterion) {
    let mut rng = SmallRng::seed_from_u64(1);
    let (mut pairs, mut table) = (String::new(), String::from("userId,movieId,rating,timestamp\n"));
    for row in 0..ROWS {
        let (user, time) = (row / 144, rng.random_range(800_000_000..1_400_000_000));
        // Few items are most of what is met.
        let item = (27_000.0 * rng.random::<f64>().powi(3)) as u32;
        writeln!(pairs, "{user} {item}").unwrap();
        writeln!(table, "{user},{item},3.5,{time}").unwrap();
    }
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(table.as_bytes()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, content) in
        [("pairs", pairs.into_bytes()), ("table", table.into_bytes()), ("zipped table", zipped.finish().unwrap())]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| Split::new(read(&path).unwrap(), Training::Apart));
        });
    }
}

/// What the thread that prepares batches does for each.
fn batch(criterion: &mut Criterion) {
    let (split, settings) = (data(), Settings::default());
    let (mut sampler, mut packer) = batches(&split, &settings);
    criterion.bench_function("batch", |bencher| bencher.iter(|| packer.pack(sampler.next_batch())));
}

/// A whole training step, waited for.
fn step(criterion: &mut Criterion) {
    let (split, settings) = (data(), Settings::default());
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(settings.batch as u64));
    for (name, request) in engines() {
        let mut model = model(engine::open(&request).unwrap(), &split, &settings);
        let (mut sampler, mut packer) = batches(&split, &settings);
        let batches: Vec<_> = (0..32).map(|_| packer.pack(sampler.next_batch())).collect();
        let mut next = batches.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                model.step(next.next().unwrap()).unwrap();
                model.take_losses(true).unwrap()
            });
        });
    }
}

fn evaluation(criterion: &mut Criterion) {
    let (split, settings) = (data(), Settings::default());
    let mut group = criterion.benchmark_group("evaluate");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(USERS as u64));
    for (name, request) in engines() {
        let mut model = model(engine::open(&request).unwrap(), &split, &settings);
        for (protocol, of) in [(Protocol::Sampled, "sampled"), (Protocol::Full, "full")] {
            let options = Options {
                position_from: settings.position_from,
                exclude_known: true,
                users: Some(USERS),
                seed: settings.data_seed,
                prior: settings.prior(),
            };
            let evaluator = Evaluator::new(split.clone(), Part::Validation, protocol, options).unwrap();
            group.bench_function(format!("{name}/{of}"), |bencher| {
                bencher.iter(|| evaluator.run(&mut model, &mut |_| true).unwrap());
            });
        }
    }
}

criterion_group!(benches, reading, batch, step, evaluation);
criterion_main!(benches);
