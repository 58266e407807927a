//! What benchmarks run on: a data set (generated, or the one in PRISMREC_BENCH_DATA), the engines of this machine, and a
//! model on one of them.

#![allow(dead_code)] // each benchmark takes its part

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use prismrec::data::generate::Generator;
use prismrec::data::pack::Packer;
use prismrec::data::read::read;
use prismrec::data::sample::{Sampler, SamplerState};
use prismrec::data::split::{Split, Training};
use prismrec::engine::{self, Ceilings, Description, Engine, EngineChoice, EngineRequest, PendingRead, Span};
use prismrec::error::Result;
use prismrec::kernels::{BufferId, Call, Region};
use prismrec::model::{Model, initial_parameters};
use prismrec::settings::Settings;

/// The file to take instead of generated data.
const DATA: &str = "PRISMREC_BENCH_DATA";

/// The data: as many users and items as Amazon Beauty has, with sequences of about its lengths, where no file is given.
pub fn data() -> Arc<Split> {
    let interactions = match std::env::var(DATA) {
        Ok(path) => read(Path::new(&path)).unwrap_or_else(|e| panic!("{DATA}: {e}")),
        Err(_) => Generator { users: 40_226, items: 54_542, categories: 64 }.generate(1).interactions,
    };
    Arc::new(Split::new(interactions, Training::Apart))
}

/// The CPU engine, and the GPU engine where there is an adapter for it (even one that computes on the CPU).
pub fn engines() -> Vec<(&'static str, EngineRequest)> {
    let request = |choice| EngineRequest { choice, ..EngineRequest::default() };
    let mut engines = vec![("cpu", request(EngineChoice::Cpu))];
    if !engine::adapters().is_empty() {
        engines.push(("gpu", request(EngineChoice::Gpu)));
    }
    engines
}

/// Batches of the data, in the order of training.
pub fn batches(split: &Arc<Split>, settings: &Settings) -> (Sampler, Packer) {
    let sampler = Sampler::new(split.clone(), settings.batch, settings.seed, SamplerState::default()).unwrap();
    let Settings { length, position_from, variant, .. } = *settings;
    let labels = settings.hyper().with_labels();
    (sampler, Packer::new(split.clone(), length, position_from, variant.targets(length), labels))
}

/// An engine that is shared with a model, and keeps the calls of its last step.
#[derive(Clone)]
pub struct Shared {
    engine: Rc<RefCell<Box<dyn Engine>>>,
    step: Rc<RefCell<Vec<Call>>>,
    /// Buffers that an engine may store in 16 bits.
    activations: Rc<RefCell<HashSet<BufferId>>>,
}

impl Shared {
    pub fn open(request: &EngineRequest) -> Shared {
        let engine = engine::open(request).unwrap();
        Shared { engine: Rc::new(RefCell::new(engine)), step: Rc::default(), activations: Rc::default() }
    }

    /// The calls of the last step.
    pub fn last_step(&self) -> Vec<Call> {
        self.step.borrow().clone()
    }

    /// Whether an engine may store this buffer in 16 bits.
    pub fn may_be_half(&self, buffer: BufferId) -> bool {
        self.activations.borrow().contains(&buffer)
    }
}

impl Engine for Shared {
    fn describe(&self) -> Description {
        self.engine.borrow().describe()
    }

    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.engine.borrow_mut().allocate(name, len)
    }

    fn allocate_activations(&mut self, name: &str, len: usize) -> Result<BufferId> {
        let made = self.engine.borrow_mut().allocate_activations(name, len)?;
        self.activations.borrow_mut().insert(made);
        Ok(made)
    }

    fn longest_buffer(&self) -> usize {
        self.engine.borrow().longest_buffer()
    }

    fn allocated_bytes(&self) -> usize {
        self.engine.borrow().allocated_bytes()
    }

    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        self.engine.borrow_mut().write(region, elements)
    }

    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        if label.starts_with("step ") {
            *self.step.borrow_mut() = calls.to_vec();
        }
        self.engine.borrow_mut().run(label, calls)
    }

    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        self.engine.borrow_mut().read(region)
    }

    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        self.engine.borrow_mut().read_later(region)
    }

    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        self.engine.borrow_mut().profile(on)
    }

    fn ceilings(&mut self) -> Result<Ceilings> {
        self.engine.borrow_mut().ceilings()
    }

    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>> {
        self.engine.borrow_mut().collect(pending, wait)
    }
}

/// A model with initial parameters.
pub fn model(engine: Box<dyn Engine>, split: &Split, settings: &Settings) -> Model {
    let shape = settings.shape(split.counts().items);
    let mut model = Model::new(engine, shape, settings.hyper()).unwrap();
    model.set_parameters(&initial_parameters(shape, settings.item_deviation.normal(), settings.seed)).unwrap();
    model
}
