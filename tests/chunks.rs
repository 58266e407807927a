//! An item table that no buffer holds lies in several: what a model computes does not show it, to the bit.

use std::sync::Arc;

use prismrec::data::batch::{PositionFrom, Segments};
use prismrec::data::generate::Generator;
use prismrec::data::pack::{Packer, pack_sequences};
use prismrec::data::sample::{Sampler, SamplerState};
use prismrec::data::split::{Split, Training};
use prismrec::engine::{self, Ceilings, Checks, Description, Engine, EngineChoice, EngineRequest, PendingRead, Span};
use prismrec::error::Result;
use prismrec::kernels::storage::ItemStorage;
use prismrec::kernels::{BufferId, Call, Region};
use prismrec::model::{AdamState, Hyper, Model, Prior, Shape, Tensors, Variant, initial_parameters};

/// An engine that says that its buffers of item rows are shorter than they could be.
struct Short {
    engine: Box<dyn Engine>,
    longest: usize,
}

impl Engine for Short {
    fn describe(&self) -> Description {
        self.engine.describe()
    }
    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        assert!(!name.starts_with("items.") || len <= self.longest, "{name} of {len} elements");
        self.engine.allocate(name, len)
    }
    fn longest_buffer(&self) -> usize {
        self.longest
    }
    fn allocated_bytes(&self) -> usize {
        self.engine.allocated_bytes()
    }
    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        self.engine.write(region, elements)
    }
    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        self.engine.run(label, calls)
    }
    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        self.engine.read(region)
    }
    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        self.engine.read_later(region)
    }
    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        self.engine.profile(on)
    }
    fn ceilings(&mut self) -> Result<Ceilings> {
        self.engine.ceilings()
    }
    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>> {
        self.engine.collect(pending, wait)
    }
}

const ITEMS: usize = 203;

fn shape() -> Shape {
    Shape { items: ITEMS, dim: 12, intentions: 3, length: 9, blocks: 1 }
}

/// All that a model tells.
#[derive(PartialEq)]
struct Told {
    losses: Vec<(f32, f32)>,
    state: (Tensors, AdamState),
    scores: (Vec<u32>, Vec<u32>),
    ranks: Vec<u32>,
    clusters: Vec<u32>,
    parameters: Tensors,
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Trains, goes on from a state, evaluates.
fn tell(engine: impl Fn() -> Box<dyn Engine>, item_storage: ItemStorage, longest: usize) -> Told {
    let interactions = Generator { users: 150, items: ITEMS, categories: 3 }.generate(5).interactions;
    let split = Arc::new(Split::new(interactions, Training::Apart));
    let hyper = Hyper {
        variant: Variant::Full,
        position_from: PositionFrom::End,
        // Fewer than the chunks, so that some have no row in a step.
        batch: 2,
        dropout: 0.3,
        lambda: 0.5,
        l2: 1e-4,
        temperature: 0.7,
        learning_rate: 1e-2,
        item_storage,
        seed: 11,
    };
    let mut sampler = Sampler::new(split.clone(), hyper.batch, hyper.seed, SamplerState::default()).unwrap();
    let mut packer = Packer::new(split, shape().length, hyper.position_from, 1, true);
    let open = || Model::new(Box::new(Short { engine: engine(), longest }), shape(), hyper).unwrap();
    let mut model = open();
    model.set_parameters(&initial_parameters(shape(), None, 3)).unwrap();
    for _ in 0..20 {
        model.step(&packer.pack(sampler.next_batch())).unwrap();
    }
    let losses = model.take_losses(true).unwrap().iter().map(|l| (l.seq2item, l.seq2seq_all)).collect();
    let state = model.state().unwrap();
    let mut model = open();
    model.set_state(&state.0, &state.1).unwrap();
    for _ in 0..10 {
        model.step(&packer.pack(sampler.next_batch())).unwrap();
    }
    let histories: [&[u32]; 2] = [&[3, 200, 77, 77, 5], &[150]];
    let sequences = pack_sequences(&histories, shape().length, hyper.position_from);
    // Each of the catalogue for both, so that several turns are needed.
    let candidates: Vec<u32> = (0..2).flat_map(|_| 0..ITEMS as u32).collect();
    model.set_occurrences((0..ITEMS as u32).map(|item| item * 7 % 11).collect()).unwrap();
    model.set_prior(Prior { popularity: 0.5, cold_bonus: 1.5 }).unwrap();
    let (scores, intentions) = model.candidate_scores(&sequences, &candidates).unwrap();
    let excluded = Segments { starts: vec![0, 4, 5], sources: vec![3, 5, 77, 200, 150] };
    let ranks = model.catalogue_ranks(&sequences, &[201, 0], &excluded).unwrap();
    let clusters = bits(model.clusters(&sequences).unwrap());
    Told { losses, state, scores: (bits(scores), intentions), ranks, clusters, parameters: model.parameters().unwrap() }
}

/// `longest`: the most elements of a chunk.
fn check(name: &str, longest: &[usize], engine: &dyn Fn() -> Box<dyn Engine>) {
    for storage in [ItemStorage::F32, ItemStorage::Bf16] {
        check_stored(&format!("{name}, {storage:?}"), longest, storage, engine);
    }
}

fn check_stored(name: &str, longest: &[usize], storage: ItemStorage, engine: &dyn Fn() -> Box<dyn Engine>) {
    let whole = tell(engine, storage, 1 << 20);
    assert!(whole.losses.iter().all(|(item, label)| item.is_finite() && label.is_finite()));
    for &longest in longest {
        let told = tell(engine, storage, longest);
        assert!(whole.losses == told.losses, "{name}, {longest} elements: losses");
        assert!(whole.state == told.state, "{name}, {longest} elements: state");
        assert!(whole.scores == told.scores, "{name}, {longest} elements: scores");
        assert!(whole.ranks == told.ranks, "{name}, {longest} elements: {:?} {:?}", whole.ranks, told.ranks);
        assert!(whole.clusters == told.clusters, "{name}, {longest} elements: clusters");
        assert!(whole.parameters == told.parameters, "{name}, {longest} elements: parameters");
    }
}

#[test]
fn a_table_in_chunks_gives_the_bits_of_one_in_a_piece_on_the_cpu() {
    // Two chunks, an uneven number of them, and one for every five rows.
    check("cpu", &[1280, 576, 64], &|| {
        engine::open(&EngineRequest { choice: EngineChoice::Cpu, ..EngineRequest::default() }).unwrap()
    });
}

#[test]
fn a_table_in_chunks_gives_the_bits_of_one_in_a_piece_on_adapters() {
    let adapters = engine::adapters();
    assert!(
        !adapters.is_empty(),
        "no Vulkan, Metal or Direct3D 12 adapter: this test needs one. On Debian or Ubuntu `apt-get install \
         mesa-vulkan-drivers` installs one that computes on the CPU"
    );
    for adapter in adapters {
        let request = EngineRequest {
            choice: EngineChoice::Gpu,
            adapter: Some(adapter.name.clone()),
            checks: Checks::Checked,
            ..EngineRequest::default()
        };
        check(&adapter.name, &[576], &|| engine::open(&request).unwrap());
    }
}
