//! Whether a step's time follows its batch alone, or the size of the catalogue too: the same batches for catalogues of
//! several sizes, in turns; see README.md.

mod common;

use std::sync::Arc;
use std::time::Instant;

use prismrec::data::batch::Batch;
use prismrec::data::generate::Generator;
use prismrec::data::pack::Packer;
use prismrec::data::sample::Sampler;
use prismrec::data::split::{Split, Training};
use prismrec::engine::{self, EngineRequest};
use prismrec::kernels::storage::ItemStorage;
use prismrec::model::{AdamState, Model, initial_parameters};
use prismrec::settings::Settings;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use common::{batches, engines};

const SIZES: [usize; 3] = [50_000, 500_000, 5_000_000];
/// The step that models are at: deep in a training run.
const STEP: u32 = 50_000;

/// Steps before those that are timed, rounds, and steps of each size in a round.
struct Effort {
    warm: usize,
    rounds: usize,
    steps: usize,
}

/// Items of a catalogue, and how they are stored.
type Size = (usize, ItemStorage);

/// A model in the midst of training.
struct Subject {
    model: Model,
    /// Items of this catalogue for each of the data's.
    stretch: u32,
    shift: SmallRng,
    batches: (Sampler, Packer),
    /// Milliseconds a step, of each round.
    times: Vec<f64>,
}

impl Subject {
    fn new(request: &EngineRequest, split: &Arc<Split>, (items, item_storage): Size) -> Subject {
        let settings = Settings { item_storage, ..Settings::default() };
        let shape = settings.shape(items);
        let known = split.counts().items;
        assert!(items >= known, "a catalogue has at least the {known} items of the data");
        let mut model = Model::new(engine::open(request).unwrap(), shape, settings.hyper()).unwrap();
        let parameters = initial_parameters(shape, settings.item_deviation.normal(), settings.seed);
        let (mut sampler, mut packer) = batches(split, &settings);
        // Every row has moments, and was last used as long ago as if batches drew items uniformly.
        let rows = packer.pack(sampler.next_batch()).rows.len();
        let longest = (2 * items / rows).clamp(2, STEP as usize) as u32;
        let mut rng = SmallRng::seed_from_u64(1);
        let updated = (0..items).map(|_| STEP - rng.random_range(1..longest)).collect();
        let mut first_moment = parameters.clone();
        let mut second_moment = parameters.clone();
        for tensor in second_moment.values_mut() {
            tensor.data.iter_mut().for_each(|v| *v = 1e-4);
        }
        for tensor in first_moment.values_mut() {
            tensor.data.iter_mut().for_each(|m| *m *= 0.1);
        }
        let state = AdamState { step: STEP.into(), updated, first_moment, second_moment };
        model.set_state(&parameters, &state).unwrap();
        let stretch = (items / known) as u32;
        Subject { model, stretch, shift: rng, batches: (sampler, packer), times: Vec::new() }
    }

    /// The next batch, on items from all of the catalogue: each of the data's stands for a run of them, of which every batch
    /// has another.
    fn batch(&mut self) -> Batch {
        let (sampler, packer) = &mut self.batches;
        let mut batch = packer.pack(sampler.next_batch());
        let shift = self.shift.random_range(0..self.stretch);
        for items in [&mut batch.sequences.items, &mut batch.targets, &mut batch.rows] {
            items.iter_mut().for_each(|item| *item = *item * self.stretch + shift);
        }
        batch
    }

    /// Milliseconds of `steps` steps, each.
    fn run(&mut self, steps: usize) -> f64 {
        let batches: Vec<_> = (0..steps).map(|_| self.batch()).collect();
        let began = Instant::now();
        for batch in &batches {
            self.model.step(batch).unwrap();
        }
        self.model.take_losses(true).unwrap();
        began.elapsed().as_secs_f64() * 1e3 / steps as f64
    }
}

fn measure(name: &str, request: &EngineRequest, sizes: &[Size], split: &Arc<Split>, effort: &Effort) {
    let mut subjects: Vec<Subject> = sizes.iter().map(|&size| Subject::new(request, split, size)).collect();
    for subject in &mut subjects {
        subject.run(effort.warm);
    }
    for _ in 0..effort.rounds {
        for subject in &mut subjects {
            let time = subject.run(effort.steps);
            subject.times.push(time);
        }
    }
    // Of the whole machine's noise, rounds beside each other have the same.
    let against: Vec<f64> = subjects[0].times.clone();
    for ((items, storage), subject) in sizes.iter().zip(&mut subjects) {
        let ratios = subject.times.iter().zip(&against).map(|(time, least)| time / least);
        let ratio = median(ratios.collect());
        let mib = subject.model.allocated_bytes() as f64 / 1_048_576.0;
        let time = median(std::mem::take(&mut subject.times));
        println!("| {name} | {items} | {storage:?} | {mib:.0} | {time:.2} | {ratio:.2} |");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `[cpu|gpu] [bf16] [ITEMS ...]`: an engine, each size also with item rows of 16 bits, and sizes of catalogues.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = if test { vec![5_000, 20_000] } else { SIZES.to_vec() };
    }
    let both = arguments.iter().any(|argument| argument == "bf16");
    let storages = if both { &[ItemStorage::F32, ItemStorage::Bf16][..] } else { &[ItemStorage::F32] };
    let subjects: Vec<Size> = sizes.iter().flat_map(|&items| storages.iter().map(move |&s| (items, s))).collect();
    let items = *sizes.iter().min().unwrap();
    let split = Generator { users: 40_226, items, categories: 64 }.generate(1).interactions;
    let split = Arc::new(Split::new(split, Training::Apart));
    println!(
        "| engine | items | stored as | MiB of buffers | ms a step | against the first |\n| --- | ---: | --- | ---: | ---: | ---: |"
    );
    for (name, request) in engines() {
        if arguments.iter().any(|argument| ["cpu", "gpu"].contains(&argument.as_str()) && argument != name) {
            continue;
        }
        // A driver that computes on the CPU takes longer.
        let effort = match (test, name) {
            (true, _) => Effort { warm: 1, rounds: 1, steps: 1 },
            (_, "cpu") => Effort { warm: 100, rounds: 15, steps: 40 },
            _ => Effort { warm: 4, rounds: 7, steps: 5 },
        };
        measure(name, &request, &subjects, &split, &effort);
    }
}
