//! The CPU engine: walks a list of kernel calls and runs each one's Rust twin on a pool of threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::profile::measure_cpu;
use super::{Ceilings, Description, Engine, PendingRead, Span};
use crate::error::{Error, Result};
use crate::kernels::activations::Activations;
use crate::kernels::aligned::Aligned;
use crate::kernels::{Arguments, BufferId, Call, Region};

/// Runs twins, spread over its own threads. Results do not depend on their number.
pub struct CpuEngine {
    pool: rayon::ThreadPool,
    buffers: Vec<Aligned<u32>>,
    reads: HashMap<u64, Vec<u32>>,
    reads_begun: u64,
    /// When profiling began, and what was timed since.
    profile: Option<(Instant, Vec<Span>)>,
}

impl CpuEngine {
    /// An engine with this many threads; 0 takes all cores.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("kernels {i}"))
            .build()
            .map_err(|e| Error::Setting(format!("cannot start {threads} threads: {e}")))?;
        Ok(CpuEngine { pool, buffers: Vec::new(), reads: HashMap::new(), reads_begun: 0, profile: None })
    }

    fn slice(&mut self, region: Region) -> &mut [u32] {
        &mut self.buffers[region.buffer.0][region.offset..region.offset + region.len]
    }
}

impl Engine for CpuEngine {
    fn describe(&self) -> Description {
        Description {
            engine: "cpu".into(),
            adapter: processor_name(),
            driver: String::new(),
            threads: self.pool.current_num_threads(),
            limits: format!("{} instructions", instructions()),
        }
    }

    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        Vec::<u32>::new().try_reserve_exact(len).map_err(|_| {
            Error::Device(format!("no memory for buffer {name} of {:.1} MiB", len as f64 * 4.0 / 1_048_576.0))
        })?;
        self.buffers.push(Aligned::zeroed(len.max(1)));
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn longest_buffer(&self) -> usize {
        // Kernels index with 32 bits.
        u32::MAX as usize
    }

    fn allocated_bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| 4 * buffer.len()).sum()
    }

    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        self.slice(region)[..elements.len()].copy_from_slice(elements);
        Ok(())
    }

    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        let CpuEngine { pool, buffers, profile, .. } = self;
        let mut profile = profile.as_mut().map(|(epoch, spans)| (Arc::<str>::from(label), *epoch, spans));
        awake(pool, || {
            for call in calls {
                let slots = call
                    .regions
                    .iter()
                    .zip(call.kernel.bindings)
                    .map(|(region, binding)| {
                        let buffer = &mut buffers[region.buffer.0];
                        assert!(region.offset + region.len <= buffer.len(), "{}.{}", call.kernel.name, binding.name);
                        // SAFETY: inside the buffer, as just checked.
                        (unsafe { buffer.as_mut_ptr().add(region.offset) }, region.len, binding.access)
                    })
                    .collect();
                // SAFETY: the slots were checked against their buffers just above, which this engine owns and lends to
                // nobody else while the twin runs; `Call::new` has seen to it that written regions overlap no other.
                let mut arguments = unsafe { Arguments::new(&call.params, slots) };
                let Some((list, epoch, spans)) = &mut profile else {
                    (call.kernel.twin)(&mut arguments);
                    continue;
                };
                let began = Instant::now();
                (call.kernel.twin)(&mut arguments);
                spans.push(Span {
                    kernel: call.kernel.name,
                    list: list.clone(),
                    start: began - *epoch,
                    time: began.elapsed(),
                    work: call.work(Activations::F32),
                });
            }
        });
        Ok(())
    }

    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        Ok(self.slice(region).to_vec())
    }

    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        let elements = self.read(region)?;
        self.reads_begun += 1;
        self.reads.insert(self.reads_begun, elements);
        Ok(PendingRead(self.reads_begun))
    }

    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        let before = std::mem::replace(&mut self.profile, on.then(|| (Instant::now(), Vec::new())));
        Ok(before.map(|(_, spans)| spans).unwrap_or_default())
    }

    fn ceilings(&mut self) -> Result<Ceilings> {
        self.pool.install(measure_cpu)
    }

    fn collect(&mut self, pending: &PendingRead, _wait: bool) -> Result<Option<Vec<u32>>> {
        Ok(self.reads.remove(&pending.0))
    }
}

/// Runs `work` on a thread of the pool; the others look for its parts without pause until it is done. Between calls, or while
/// one thread alone has something to do, they would go to sleep, and take longer to wake than most calls last.
fn awake(pool: &rayon::ThreadPool, work: impl FnOnce() + Send) {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let (here, done) = (&AtomicUsize::new(1), &AtomicBool::new(false));
    pool.scope(|scope| {
        // Set also where the work panics.
        let _done = Done(done);
        let own = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) == own {
                return;
            }
            here.fetch_add(1, Ordering::Relaxed);
            while !done.load(Ordering::Acquire) {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    std::thread::yield_now();
                }
            }
        });
        // A thread that came later would do so while it waits inside a part of the work, which it then would never end.
        while here.load(Ordering::Relaxed) < pool.current_num_threads() {
            std::thread::yield_now();
        }
        work();
    });
}

/// The widest instructions that twins are run in.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return "AVX-512";
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return "AVX2";
    }
    std::env::consts::ARCH
}

/// The processor's name, as far as the system tells it.
fn processor_name() -> String {
    let named = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rayon::prelude::*;

    use super::*;

    /// Parts of parts, which threads take from each other while they wait, in many short works.
    #[test]
    fn work_ends_with_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let parts = |n: u64| (0..n).into_par_iter().map(|i| (0..i % 100).into_par_iter().sum::<u64>()).sum::<u64>();
            for _ in 0..500 {
                let mut sum = 0;
                awake(&pool, || sum = parts(200));
                assert_eq!(sum, 2 * (1..100).map(|i| i * (i - 1) / 2).sum::<u64>());
            }
            assert!(catch_unwind(AssertUnwindSafe(|| awake(&pool, || panic!("a kernel's")))).is_err());
        }
    }
}
