//! Debugging: the kernels of each list up to a named one run on one engine, the rest on the other. Moving the border
//! through the step finds the kernel that computes something else than its twin.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::cpu::CpuEngine;
use super::gpu::GpuEngine;
use super::{Ceilings, Description, Engine, PendingRead, Span};
use crate::error::{Error, Result};
use crate::kernels::{self, Access, BufferId, Call, Region};

/// Which engine begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    Cpu,
    Gpu,
}

/// Where a list of calls is split: up to and with the last call of `kernel` it runs on `first`, the rest on the other
/// engine. A list without that kernel runs on `first`. Written `cpu:attention` or `gpu:attention`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    pub kernel: String,
    pub first: First,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = if self.first == First::Cpu { "cpu" } else { "gpu" };
        write!(f, "{first}:{}", self.kernel)
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (first, kernel) = match text.split_once(':') {
            Some(("cpu", kernel)) => (First::Cpu, kernel),
            Some(("gpu", kernel)) => (First::Gpu, kernel),
            _ => {
                let form = "expected cpu:KERNEL or gpu:KERNEL, the engine that runs the kernels up to that one";
                return Err(Error::Setting(format!("\"{text}\" says no split: {form}")));
            }
        };
        if kernels::find(kernel).is_none() {
            let names: Vec<_> = kernels::KERNELS.iter().map(|kernel| kernel.name).collect();
            return Err(Error::Setting(format!("there is no kernel \"{kernel}\"; there are: {}", names.join(", "))));
        }
        Ok(Split { kernel: kernel.to_owned(), first })
    }
}

/// Which engine has a buffer's elements as they are now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Both,
    Only(First),
}

/// Both engines, with the same buffers. What a call touches is copied over where the other engine wrote it last.
pub struct SplitEngine {
    split: Split,
    cpu: CpuEngine,
    gpu: GpuEngine,
    /// Length and home of every buffer.
    buffers: Vec<(usize, Home)>,
    reads: HashMap<u64, (First, PendingRead)>,
    reads_begun: u64,
}

impl SplitEngine {
    /// Both engines must be new: without buffers.
    pub fn new(split: Split, cpu: CpuEngine, gpu: GpuEngine) -> Self {
        SplitEngine { split, cpu, gpu, buffers: Vec::new(), reads: HashMap::new(), reads_begun: 0 }
    }

    fn side(&mut self, side: First) -> &mut dyn Engine {
        match side {
            First::Cpu => &mut self.cpu,
            First::Gpu => &mut self.gpu,
        }
    }

    /// The engine that has this buffer as it is now.
    fn home(&self, buffer: BufferId) -> First {
        match self.buffers[buffer.0].1 {
            Home::Both => First::Cpu,
            Home::Only(side) => side,
        }
    }

    /// What goes with a buffer of the GPU's.
    fn allocate_twin(&mut self, id: BufferId, name: &str, len: usize) -> Result<BufferId> {
        let twin = self.cpu.allocate(name, len)?;
        assert_eq!(id, twin, "both engines number their buffers alike");
        self.buffers.push((len.max(1), Home::Both));
        Ok(id)
    }

    fn run_on(&mut self, side: First, label: &str, calls: &[Call]) -> Result<()> {
        for region in calls.iter().flat_map(|call| &call.regions) {
            let (len, home) = self.buffers[region.buffer.0];
            if let Home::Only(other) = home
                && other != side
            {
                let whole = Region { buffer: region.buffer, offset: 0, len };
                let elements = self.side(other).read(whole)?;
                self.side(side).write(whole, &elements)?;
                self.buffers[region.buffer.0].1 = Home::Both;
            }
        }
        self.side(side).run(label, calls)?;
        for call in calls {
            for (region, binding) in call.regions.iter().zip(call.kernel.bindings) {
                if binding.access == Access::write {
                    self.buffers[region.buffer.0].1 = Home::Only(side);
                }
            }
        }
        Ok(())
    }
}

impl Engine for SplitEngine {
    fn describe(&self) -> Description {
        let Split { kernel, first } = &self.split;
        let (first, then) = if *first == First::Cpu { ("cpu", "gpu") } else { ("gpu", "cpu") };
        let gpu = self.gpu.describe();
        Description {
            engine: format!("{first} up to {kernel}, then {then}"),
            threads: self.cpu.describe().threads,
            ..gpu
        }
    }

    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        // The GPU first, which is the one that may refuse.
        let made = self.gpu.allocate(name, len)?;
        self.allocate_twin(made, name, len)
    }

    fn allocate_activations(&mut self, name: &str, len: usize) -> Result<BufferId> {
        let made = self.gpu.allocate_activations(name, len)?;
        self.allocate_twin(made, name, len)
    }

    fn longest_buffer(&self) -> usize {
        self.gpu.longest_buffer()
    }

    fn allocated_bytes(&self) -> usize {
        self.gpu.allocated_bytes()
    }

    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        // Into both: right wherever the rest of the buffer is at home.
        self.cpu.write(region, elements)?;
        self.gpu.write(region, elements)
    }

    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        let first = self.split.first;
        let then = if first == First::Cpu { First::Gpu } else { First::Cpu };
        let last = calls.iter().rposition(|call| call.kernel.name == self.split.kernel);
        let (before, after) = calls.split_at(last.map_or(calls.len(), |last| last + 1));
        self.run_on(first, label, before)?;
        self.run_on(then, label, after)
    }

    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        let home = self.home(region.buffer);
        self.side(home).read(region)
    }

    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        let home = self.home(region.buffer);
        let pending = self.side(home).read_later(region)?;
        self.reads_begun += 1;
        self.reads.insert(self.reads_begun, (home, pending));
        Ok(PendingRead(self.reads_begun))
    }

    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        let mut spans = self.cpu.profile(on)?;
        spans.extend(self.gpu.profile(on)?);
        Ok(spans)
    }

    fn ceilings(&mut self) -> Result<Ceilings> {
        self.gpu.ceilings()
    }

    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>> {
        let Some((home, inner)) = self.reads.remove(&pending.0) else { return Ok(None) };
        let elements = self.side(home).collect(&inner, wait)?;
        if elements.is_none() {
            self.reads.insert(pending.0, (home, inner));
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_and_written_alike() {
        for text in ["cpu:attention", "gpu:sum_slices"] {
            assert_eq!(text.parse::<Split>().unwrap().to_string(), text);
        }
        let message = "cpu:atention".parse::<Split>().unwrap_err().to_string();
        assert!(message.contains("\"atention\"") && message.contains(" attention,"), "{message}");
        for text in ["attention", "npu:attention", ""] {
            let message = text.parse::<Split>().unwrap_err().to_string();
            assert!(message.contains("cpu:KERNEL"), "{message}");
        }
    }
}
