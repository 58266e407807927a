//! Engines run lists of kernel calls on named buffers: `gpu` records and submits them, `cpu` walks their twins.

use crate::error::Result;
use crate::kernels::{BufferId, Call, Region};

pub mod cpu;
pub mod gpu;
pub mod split;

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

/// Runs kernel calls. Buffers are allocated once, hold 4-byte elements and begin as zeros.
pub trait Engine {
    /// What this engine runs on.
    fn describe(&self) -> Description;

    /// A new buffer of `len` elements (at least one is made), zeroed.
    ///
    /// # Errors
    /// Where the device's memory or the adapter's binding limit does not hold it; the message names the buffer, its
    /// size and the limit.
    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId>;

    /// Elements of all buffers together.
    fn allocated(&self) -> usize;

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

    /// The elements of a read begun earlier; `None` where it is not done and `wait` is false.
    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>>;
}
