//! The CPU engine: walks a list of kernel calls and runs each one's Rust twin.

use super::{Description, Engine, PendingRead};
use crate::error::Result;
use crate::kernels::{BufferId, Call, Region};

pub struct CpuEngine {}
impl CpuEngine {
    /// An engine with this many threads.
    pub fn new(_threads: usize) -> Result<Self> {
        todo!()
    }
}
impl Engine for CpuEngine {
    fn describe(&self) -> Description {
        todo!()
    }
    fn allocate(&mut self, _name: &str, _len: usize) -> Result<BufferId> {
        todo!()
    }
    fn allocated(&self) -> usize {
        todo!()
    }
    fn write(&mut self, _region: Region, _elements: &[u32]) -> Result<()> {
        todo!()
    }
    fn run(&mut self, _label: &str, _calls: &[Call]) -> Result<()> {
        todo!()
    }
    fn read(&mut self, _region: Region) -> Result<Vec<u32>> {
        todo!()
    }
    fn read_later(&mut self, _region: Region) -> Result<PendingRead> {
        todo!()
    }
    fn collect(&mut self, _pending: &PendingRead, _wait: bool) -> Result<Option<Vec<u32>>> {
        todo!()
    }
}
