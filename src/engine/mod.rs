//! Engines run lists of kernel calls on named buffers: `gpu` records and submits them, `cpu` walks their twins.

use crate::error::{Error, Result};
use crate::kernels::activations::Activations;
use crate::kernels::{BufferId, Call, Region};

pub mod adapter;
pub mod cpu;
pub mod gpu;
mod pipeline;
mod profile;
pub mod split;

pub use adapter::{AdapterKind, AdapterSummary, adapters};
pub use pipeline::{Checks, EntryPoint};
pub use profile::{Ceilings, Span};
pub use split::{First, Split};

/// What an engine runs on, for the log and the run's record.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Description {
    /// "cpu" or "gpu" (or, when debugging, which kernels run where).
    pub engine: String,
    /// The processor's or adapter's name.
    pub adapter: String,
    /// Driver name and version; empty on the CPU.
    pub driver: String,
    /// Threads that compute (CPU engine).
    pub threads: usize,
    /// Limits that matter, in words.
    pub limits: String,
}

/// A read that was begun and can be collected later.
#[derive(Debug)]
pub struct PendingRead(pub u64);

/// Runs kernel calls. Buffers are allocated once, begin as zeros, and hold elements that are 4 bytes as they are written and
/// read here.
pub trait Engine {
    /// What this engine runs on.
    fn describe(&self) -> Description;

    /// A new buffer of `len` elements (at least one is made), zeroed.
    ///
    /// # Errors
    /// Where the device's memory or the adapter's binding limit does not hold it; the message names the buffer, its
    /// size and the limit.
    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId>;

    /// As [`allocate`](Engine::allocate), of numbers that the engine may store in 16 bits, for bindings of which all or none
    /// are; see [`activations`](crate::kernels::activations).
    ///
    /// # Errors
    /// As of [`allocate`](Engine::allocate).
    fn allocate_activations(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.allocate(name, len)
    }

    /// The most elements that a buffer may have, as kernels can bind and index it.
    fn longest_buffer(&self) -> usize;

    /// Bytes of all buffers together.
    fn allocated_bytes(&self) -> usize;

    /// Writes elements from `region.offset` on. Takes effect after the calls given before and before those given after.
    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()>;

    /// Runs the calls in order. May return before they are done. `label` names them in traces.
    ///
    /// # Errors
    /// A lost device, exhausted memory or a validation error, also of earlier calls.
    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()>;

    /// The region's elements after all calls given so far.
    fn read(&mut self, region: Region) -> Result<Vec<u32>>;

    /// Begins to read a region as it is after all calls given so far, without waiting.
    fn read_later(&mut self, region: Region) -> Result<PendingRead>;

    /// Begins (or ends) to time each call; gives what was timed since it began.
    fn profile(&mut self, on: bool) -> Result<Vec<Span>>;

    /// Measures what this engine can do at best; takes a moment.
    fn ceilings(&mut self) -> Result<Ceilings>;

    /// The elements of a read begun earlier; `None` where it is not done and `wait` is false.
    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>>;
}

/// Which engine is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// A discrete or integrated GPU if there is one, else the CPU engine.
    #[default]
    Auto,
    /// WGSL kernels on the best adapter, even one that computes on the CPU.
    Gpu,
    /// Rust twins on the CPU.
    Cpu,
}

/// What decides the engine that [`open`] gives.
#[derive(Clone, Debug, Default)]
pub struct EngineRequest {
    pub choice: EngineChoice,
    /// Part of the name of the adapter to take, in any case of letters; the only way beside [`EngineChoice::Gpu`] to an
    /// adapter that computes on the CPU.
    pub adapter: Option<String>,
    /// Threads of the CPU engine; 0 takes all cores.
    pub threads: usize,
    /// Debugging: run a part of the kernels on the CPU and the rest on the GPU.
    pub split: Option<Split>,
    pub checks: Checks,
    pub entry_point: EntryPoint,
    /// How the GPU engine stores activations.
    pub activations: Activations,
}

/// The engine that was asked for.
///
/// # Errors
/// Where no adapter is as asked for (the message lists those there are, or says what to install), the settings
/// contradict each other, or the device or the threads cannot be had.
pub fn open(request: &EngineRequest) -> Result<Box<dyn Engine>> {
    let EngineRequest { choice, adapter, threads, split, checks, entry_point, activations } = request;
    if let (EngineChoice::Cpu, Some(name)) = (choice, adapter) {
        return Err(Error::Setting(format!("--engine cpu takes no adapter: leave out --adapter {name}")));
    }
    let Some(split) = split else {
        return Ok(match adapter::choose(*choice, adapter.as_deref())? {
            Some(adapter) => Box::new(gpu::GpuEngine::new(&adapter, *checks, *entry_point, *activations)?),
            None if *activations == Activations::F16 => {
                let reason = "--activations f16 is for GPUs, and the CPU engine is what would compute: leave it out, or take --engine gpu";
                return Err(Error::Setting(reason.into()));
            }
            None => Box::new(cpu::CpuEngine::new(*threads)?),
        });
    };
    if *choice == EngineChoice::Cpu {
        return Err(Error::Setting(format!("--split {split} takes both engines: leave out --engine cpu")));
    }
    let adapter = adapter::choose(EngineChoice::Gpu, adapter.as_deref())?.ok_or_else(adapter::none_found)?;
    let gpu = gpu::GpuEngine::new(&adapter, *checks, *entry_point, *activations)?;
    Ok(Box::new(split::SplitEngine::new(split.clone(), cpu::CpuEngine::new(*threads)?, gpu)))
}
