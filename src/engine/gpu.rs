//! The GPU engine: records lists of kernel calls with wgpu and submits them, several in flight.
//!
//! Everything is made once: buffers by name, a pipeline for each kernel, a bind group for each kernel and the regions
//! it is given. The parameters of all calls of a list lie in one uniform buffer, a slot each, written in one go; the
//! queue orders that write after the lists submitted before, so that slots are never overwritten in use.

use std::borrow::Cow;
use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use wgpu::{BufferUsages, PollType, SubmissionIndex};

use super::adapter::{AdapterKind, AdapterSummary};
use super::pipeline::{Checks, EntryPoint, Pipeline};
use super::profile::measure;
use super::{Ceilings, Description, Engine, PendingRead, Span};
use crate::error::{Error, Result};
use crate::kernels::activations::Activations;
use crate::kernels::{BufferId, Call, Entry, Kernel, Region, UniformView};

/// What profiles use where the adapter has it.
const TIMESTAMPS: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);
/// Submissions that may be in flight; the next one waits for the oldest.
const IN_FLIGHT: usize = 3;
/// Bytes of a call's slot in the uniform buffer: WebGPU's alignment of dynamic offsets.
const SLOT: usize = 256;
/// Written bytes that wait for a submission, at most: wgpu holds a copy of them until then.
const UNSUBMITTED: usize = 64 << 20;
/// Staging buffers up to this size are kept for the next read.
const KEPT_STAGING: u64 = 16 << 20;
/// Bind groups of a kernel that are kept, at most (between runs), in case regions never repeat.
const BIND_GROUPS: usize = 1024;

/// Runs the WGSL kernels on one adapter.
pub struct GpuEngine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterSummary,
    checks: Checks,
    /// Whether kernels' entry points `serial` are taken.
    serial: bool,
    /// Whether those are given whole calls.
    whole: bool,
    /// How activations are stored.
    activations: Activations,
    buffers: Vec<Allocation>,
    pipelines: HashMap<PipelineKey, Pipeline>,
    /// Slots of parameters.
    params: wgpu::Buffer,
    scratch: Vec<u8>,
    in_flight: VecDeque<SubmissionIndex>,
    /// Bytes written since the last submission.
    unsubmitted: usize,
    reads: HashMap<u64, Read>,
    reads_begun: u64,
    profile: Option<Profiling>,
    /// Staging buffers that no read uses now.
    staging: Vec<wgpu::Buffer>,
    /// The first error that wgpu told of. It stays: what came after it cannot be trusted.
    failure: Arc<Mutex<Option<String>>>,
}

struct Allocation {
    name: String,
    buffer: wgpu::Buffer,
    /// In elements.
    len: usize,
    /// How those are stored.
    stored: Activations,
}

impl Allocation {
    fn bytes(&self) -> usize {
        self.stored.width() * self.len
    }
}

/// What is timed, since profiling began.
struct Profiling {
    epoch: Instant,
    /// The device's first timestamp.
    first: Option<u64>,
    spans: Vec<Span>,
}

struct Read {
    staging: wgpu::Buffer,
    /// Where what was asked for lies in it.
    bytes: Range<usize>,
    stored: Activations,
    submission: SubmissionIndex,
    /// Set when the staging buffer is mapped, or could not be.
    mapped: Arc<OnceLock<std::result::Result<(), wgpu::BufferAsyncError>>>,
}

impl GpuEngine {
    /// An engine on this adapter.
    ///
    /// # Errors
    /// Where the adapter gives no device, or has no 16-bit floats in shaders and activations are to be stored so.
    pub fn new(
        adapter: &wgpu::Adapter,
        checks: Checks,
        entry_point: EntryPoint,
        activations: Activations,
    ) -> Result<Self> {
        let summary = AdapterSummary::new(&adapter.get_info());
        let of_activations = match activations {
            Activations::F32 => wgpu::Features::empty(),
            Activations::F16 => wgpu::Features::SHADER_F16,
        };
        if !adapter.features().contains(of_activations) {
            return Err(Error::Adapter(format!(
                "{summary} has no 16-bit floats in shaders, as --activations f16 takes them: leave that out, or take another \
                 --adapter"
            )));
        }
        let has = adapter.limits();
        // WebGPU's defaults, so that a kernel that runs here runs everywhere; only buffers may be as large as they can.
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
            max_buffer_size: has.max_buffer_size,
            ..wgpu::Limits::default().or_worse_values_from(&has)
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("prismrec"),
            required_limits: limits,
            required_features: adapter.features() & TIMESTAMPS | of_activations,
            ..Default::default()
        }))
        .map_err(|e| Error::Adapter(format!("{summary} gives no device: {e}; --engine cpu does without")))?;

        let failure = Arc::new(Mutex::new(None));
        let keep = |failure: &Mutex<Option<String>>, message: String| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        };
        let (lost, uncaptured) = (failure.clone(), failure.clone());
        device.set_device_lost_callback(move |_, message| {
            keep(&lost, format!("the device was lost ({})", message.trim_end_matches('.')));
        });
        device.on_uncaptured_error(Arc::new(move |error| {
            keep(
                &uncaptured,
                match error {
                    wgpu::Error::OutOfMemory { .. } => {
                        "out of memory: take a smaller --batch, --length or --dim, or --engine cpu".to_owned()
                    }
                    wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                        description
                    }
                },
            );
        }));
        let params = params_buffer(&device, 128);
        let (serial, whole) = match entry_point {
            EntryPoint::ByAdapter => (summary.kind == AdapterKind::Software, loads_are_cheap(&summary)),
            EntryPoint::Main => (false, false),
            EntryPoint::Serial => (true, false),
            EntryPoint::SerialWhole => (true, true),
        };
        Ok(GpuEngine {
            device,
            queue,
            adapter: summary,
            checks,
            serial,
            whole,
            activations,
            buffers: Vec::new(),
            pipelines: HashMap::new(),
            params,
            scratch: Vec::new(),
            in_flight: VecDeque::new(),
            unsubmitted: 0,
            reads: HashMap::new(),
            reads_begun: 0,
            profile: None,
            staging: Vec::new(),
            failure,
        })
    }

    /// The failure that was told of, if any.
    fn check(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(Error::Device(message.clone())),
            None => Ok(()),
        }
    }

    /// How the call's activations are stored.
    fn activations(&self, call: &Call) -> Activations {
        let first = call.kernel.bindings.iter().zip(&call.regions).find(|(binding, _)| binding.activation);
        first.map_or(Activations::F32, |(_, region)| self.buffers[region.buffer.0].stored)
    }

    /// Refuses a call on elements that a buffer does not have, or stores otherwise than the shader reads them; wgpu would not
    /// see the former in what a buffer is longer by, and the latter not at all.
    fn refuse_outside(&self, call: &Call) -> Result<()> {
        let activations = self.activations(call);
        for (binding, region) in call.kernel.bindings.iter().zip(&call.regions) {
            let Allocation { name, len, stored, .. } = &self.buffers[region.buffer.0];
            let at = || format!("{}.{}", call.kernel.name, binding.name);
            let refuse = |message: String| {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
            };
            let end = region.offset + region.len;
            if end > *len {
                refuse(format!("{}: elements {}..{end} of buffer {name}, which has {len}", at(), region.offset));
            }
            let expected = if binding.activation { activations } else { Activations::F32 };
            if *stored != expected {
                refuse(format!("{}: takes {expected:?}, and buffer {name} stores {stored:?}", at()));
            }
        }
        self.check()
    }

    fn poll(&self, poll: PollType) -> Result<()> {
        // wgpu 30 panics where the device is lost while it is waited for, and has no other way to wait.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(poll)));
        self.check()?;
        match polled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(Error::Device(e.to_string())),
            Err(_) => Err(Error::Device("the device was lost while it was waited for".into())),
        }
    }

    /// Submits what was recorded, and all writes before it. Waits where too much is in flight.
    fn submit(&mut self, commands: Option<wgpu::CommandBuffer>) -> Result<SubmissionIndex> {
        while self.in_flight.len() >= IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            self.poll(PollType::Wait { submission_index: oldest, timeout: None })?;
        }
        let submission = self.queue.submit(commands);
        self.unsubmitted = 0;
        self.check()?;
        self.in_flight.push_back(submission.clone());
        Ok(submission)
    }

    fn entry(&self, call: &Call) -> Entry {
        call.kernel.entry(&call.params, self.serial, self.activations(call))
    }

    /// Records a call whose parameters are in this slot.
    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, slot: usize, call: &Call) {
        let entry = self.entry(call);
        let pipeline = &self.pipelines[&key(call.kernel, &entry)];
        let [x, y, z] = entry.groups;
        pass.push_debug_group(call.kernel.name);
        pass.set_pipeline(pipeline.compute());
        pass.set_bind_group(0, pipeline.bind_group(&call.regions), &[(slot * SLOT) as u32]);
        pass.dispatch_workgroups(x, y, z);
        pass.pop_debug_group();
    }

    /// Runs calls and times each: by the device's timestamps where the adapter has them within passes, else by waiting
    /// for each.
    fn run_timed(&mut self, label: &str, calls: &[Call], parts: &[Cow<'_, [Call]>]) -> Result<()> {
        let list: Arc<str> = label.into();
        if !self.device.features().contains(TIMESTAMPS) {
            // What is still in flight is not the first call's.
            if let Some(last) = self.in_flight.back().cloned() {
                self.poll(PollType::Wait { submission_index: Some(last), timeout: None })?;
            }
            let mut slots = 0..;
            for (call, parts) in calls.iter().zip(parts) {
                let began = Instant::now();
                let mut encoder =
                    self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) });
                {
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    slots.by_ref().zip(parts.iter()).for_each(|(slot, part)| self.dispatch(&mut pass, slot, part));
                }
                let submission = self.submit(Some(encoder.finish()))?;
                self.poll(PollType::Wait { submission_index: Some(submission), timeout: None })?;
                let activations = self.activations(call);
                if let Some(Profiling { epoch, spans, .. }) = &mut self.profile {
                    spans.push(span(call, activations, &list, began - *epoch, began.elapsed()));
                }
            }
            return Ok(());
        }
        self.run_between_timestamps(&list, calls, parts)
    }

    /// Runs calls with a timestamp before each and after the last. A step of 32 blocks, the most there are, has far fewer
    /// calls than the 4,096 timestamps that WebGPU allows.
    fn run_between_timestamps(&mut self, list: &Arc<str>, calls: &[Call], parts: &[Cow<'_, [Call]>]) -> Result<()> {
        let label = Some("timestamps");
        let count = calls.len() as u32 + 1;
        let queries =
            self.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty: wgpu::QueryType::Timestamp, count });
        let size = 8 * u64::from(count);
        let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size,
            usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let staging = self.staging(size);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(list) });
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let mut slots = 0..;
            for (i, parts) in parts.iter().enumerate() {
                pass.write_timestamp(&queries, i as u32);
                slots.by_ref().zip(parts.iter()).for_each(|(slot, part)| self.dispatch(&mut pass, slot, part));
            }
            pass.write_timestamp(&queries, calls.len() as u32);
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, 0..size, |_| {});
        let submission = self.submit(Some(encoder.finish()))?;
        self.poll(PollType::Wait { submission_index: Some(submission), timeout: None })?;
        let view = staging.get_mapped_range(0..size).map_err(|e| Error::Device(e.to_string()))?;
        let times: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        staging.unmap();
        self.staging.push(staging);
        let period = f64::from(self.queue.get_timestamp_period());
        let nanos = |ticks: u64| Duration::from_nanos((ticks as f64 * period) as u64);
        let stored: Vec<_> = calls.iter().map(|call| self.activations(call)).collect();
        if let Some(Profiling { first, spans, .. }) = &mut self.profile {
            let zero = *first.get_or_insert(times[0]);
            for ((call, activations), pair) in calls.iter().zip(stored).zip(times.windows(2)) {
                let (start, time) = (pair[0].saturating_sub(zero), pair[1].saturating_sub(pair[0]));
                spans.push(span(call, activations, list, nanos(start), nanos(time)));
            }
        }
        Ok(())
    }

    /// A new buffer of elements that are stored so.
    fn make(&mut self, name: &str, len: usize, stored: Activations) -> Result<BufferId> {
        self.check()?;
        let len = len.max(1);
        // Whole words.
        let bytes = (len as u64).saturating_mul(stored.width() as u64).next_multiple_of(4);
        let limit = 4 * self.longest_buffer() as u64;
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        if bytes > limit {
            return Err(Error::Adapter(format!(
                "buffer {name} takes {:.1} MiB and {} binds at most {:.1} MiB: take a smaller --batch, --length or \
                 --dim, another --adapter, or --engine cpu",
                mib(bytes),
                self.adapter.name,
                mib(limit)
            )));
        }
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            // Every region of it can be bound as a uniform too, whose size is fixed.
            size: bytes + if self.serial { UniformView::BYTES } else { 0 },
            usage: BufferUsages::STORAGE
                | BufferUsages::COPY_SRC
                | BufferUsages::COPY_DST
                | if self.serial { BufferUsages::UNIFORM } else { BufferUsages::empty() },
            mapped_at_creation: false,
        });
        // A buffer that is not there spoils nothing, so that this error does not stay.
        if let Some(reason) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let size = mib(bytes);
            return Err(Error::Device(format!("cannot make buffer {name} of {size:.1} MiB: {reason}")));
        }
        self.buffers.push(Allocation { name: name.to_owned(), buffer, len, stored });
        Ok(BufferId(self.buffers.len() - 1))
    }

    /// Writes bytes from one of a buffer's on.
    fn write_bytes(&mut self, buffer: BufferId, mut offset: usize, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(UNSUBMITTED) {
            if self.unsubmitted + part.len() > UNSUBMITTED {
                self.submit(None)?;
            }
            self.queue.write_buffer(&self.buffers[buffer.0].buffer, offset as u64, part);
            self.unsubmitted += part.len();
            offset += part.len();
        }
        self.check()
    }

    /// A buffer to read back through, of at least this many bytes.
    fn staging(&mut self, bytes: u64) -> wgpu::Buffer {
        let fitting = self.staging.iter().enumerate().filter(|(_, b)| b.size() >= bytes);
        if let Some((smallest, _)) = fitting.min_by_key(|(_, b)| b.size()) {
            return self.staging.swap_remove(smallest);
        }
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: if bytes <= KEPT_STAGING { bytes.next_power_of_two() } else { bytes },
            usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
            mapped_at_creation: false,
        })
    }
}

impl Engine for GpuEngine {
    fn describe(&self) -> Description {
        let limits = self.device.limits();
        let mib = |bytes: u64| bytes >> 20;
        Description {
            engine: "gpu".into(),
            adapter: self.adapter.name.clone(),
            driver: format!("{} ({})", self.adapter.driver, self.adapter.backend),
            threads: 0,
            limits: format!(
                "{} MiB a binding, {} MiB a buffer, shaders {}{}",
                mib(limits.max_storage_buffer_binding_size),
                mib(limits.max_buffer_size),
                if self.checks == Checks::Checked { "checked" } else { "unchecked" },
                if self.activations == Activations::F16 { ", activations in 16 bits" } else { "" }
            ),
        }
    }

    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.make(name, len, Activations::F32)
    }

    fn allocate_activations(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.make(name, len, self.activations)
    }

    fn longest_buffer(&self) -> usize {
        let limits = self.device.limits();
        let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        // Kernels index with 32 bits.
        (bytes / 4).min(u64::from(u32::MAX)) as usize
    }

    fn allocated_bytes(&self) -> usize {
        self.buffers.iter().map(Allocation::bytes).sum()
    }

    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        assert!(elements.len() <= region.len, "{} elements into a region of {}", elements.len(), region.len);
        let stored = self.buffers[region.buffer.0].stored;
        let whole = whole_words(Region { len: elements.len(), ..region }, stored);
        if whole.len == elements.len() {
            return self.write_bytes(region.buffer, stored.width() * region.offset, &stored.pack(elements));
        }
        // A neighbour that shares a word stays what it is.
        let mut all = self.read(whole)?;
        all[region.offset - whole.offset..][..elements.len()].copy_from_slice(elements);
        self.write_bytes(region.buffer, stored.width() * whole.offset, &stored.pack(&all))
    }

    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        self.check()?;
        if calls.is_empty() {
            return Ok(());
        }
        let parts = |call| Call::parts(call, self.serial, self.whole, self.activations(call));
        let parts: Vec<_> = calls.iter().map(parts).collect();
        let dispatched = || parts.iter().flat_map(|parts| parts.iter());
        let count = dispatched().count();
        let grown = count * SLOT > self.params.size() as usize;
        if grown {
            self.params = params_buffer(&self.device, count);
        }
        for pipeline in self.pipelines.values_mut() {
            if grown || pipeline.bind_groups() > BIND_GROUPS {
                pipeline.forget_bind_groups();
            }
        }
        self.scratch.clear();
        self.scratch.resize(count * SLOT, 0);
        for (slot, call) in self.scratch.chunks_exact_mut(SLOT).zip(dispatched()) {
            slot[..call.params.len()].copy_from_slice(&call.params);
        }
        for call in dispatched() {
            self.refuse_outside(call)?;
            let entry = self.entry(call);
            let pipeline = match self.pipelines.entry(key(call.kernel, &entry)) {
                Place::Occupied(made) => made.into_mut(),
                Place::Vacant(place) => place.insert(Pipeline::new(&self.device, call.kernel, &entry, self.checks)),
            };
            let buffer = |id: BufferId| (&self.buffers[id.0].buffer, self.buffers[id.0].stored);
            pipeline.bind(&self.device, &call.regions, &self.params, buffer);
            self.check()?;
        }
        self.queue.write_buffer(&self.params, 0, &self.scratch);
        if self.profile.is_some() {
            return self.run_timed(label, calls, &parts);
        }
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) });
        encoder.push_debug_group(label);
        {
            // One pass for the list, and each call a debug group with its kernel's name, which is what profilers show
            // in its place. A pass for each call would cost its own command buffers: twice the time to record a step
            // of 100 calls (210 us against 90), and on llvmpipe three times the time to run it.
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None });
            for (slot, call) in dispatched().enumerate() {
                self.dispatch(&mut pass, slot, call);
            }
        }
        encoder.pop_debug_group();
        self.submit(Some(encoder.finish())).map(drop)
    }

    fn read(&mut self, region: Region) -> Result<Vec<u32>> {
        let pending = self.read_later(region)?;
        Ok(self.collect(&pending, true)?.unwrap_or_default())
    }

    fn read_later(&mut self, region: Region) -> Result<PendingRead> {
        self.check()?;
        let stored = self.buffers[region.buffer.0].stored;
        let whole = whole_words(region, stored);
        let width = stored.width();
        let size = (width * whole.len) as u64;
        let staging = self.staging(size.max(4));
        let mapped = Arc::new(OnceLock::new());
        let told = mapped.clone();
        let label = Some("read back");
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let source = &self.buffers[region.buffer.0].buffer;
        encoder.copy_buffer_to_buffer(source, (width * whole.offset) as u64, &staging, 0, size);
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, 0..size.max(4), move |result| {
            // Called once.
            let _ = told.set(result);
        });
        let submission = self.submit(Some(encoder.finish()))?;
        self.reads_begun += 1;
        let first = width * (region.offset - whole.offset);
        let bytes = first..first + width * region.len;
        self.reads.insert(self.reads_begun, Read { staging, bytes, stored, submission, mapped });
        Ok(PendingRead(self.reads_begun))
    }

    fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        let next = on.then(|| Profiling { epoch: Instant::now(), first: None, spans: Vec::new() });
        let before = std::mem::replace(&mut self.profile, next);
        Ok(before.map(|profiling| profiling.spans).unwrap_or_default())
    }

    fn ceilings(&mut self) -> Result<Ceilings> {
        measure(self)
    }

    fn collect(&mut self, pending: &PendingRead, wait: bool) -> Result<Option<Vec<u32>>> {
        let Some(read) = self.reads.get(&pending.0) else { return Ok(None) };
        if read.mapped.get().is_none() {
            self.poll(match wait {
                true => PollType::Wait { submission_index: Some(read.submission.clone()), timeout: None },
                false => PollType::Poll,
            })?;
        }
        match read.mapped.get() {
            None if !wait => return Ok(None),
            Some(Ok(())) => {}
            _ => {
                self.check()?;
                return Err(Error::Device("a buffer that was read could not be mapped".into()));
            }
        }
        let view = read.staging.get_mapped_range(0..read.bytes.end.next_multiple_of(4).max(4) as u64);
        let elements = match &view {
            Ok(view) => read.stored.unpack(&view[read.bytes.clone()]),
            Err(e) => return Err(Error::Device(e.to_string())),
        };
        drop(view);
        let Some(Read { staging, .. }) = self.reads.remove(&pending.0) else { return Ok(None) };
        staging.unmap();
        if staging.size() <= KEPT_STAGING {
            self.staging.push(staging);
        }
        Ok(Some(elements))
    }
}

/// The kernel's address (a test may hand in another kernel of the same name), the entry point, which bindings it reads as
/// uniforms, whether item rows lie in 16 bits, and how activations are stored.
type PipelineKey = (usize, &'static str, u32, bool, Activations);

fn key(kernel: &'static Kernel, entry: &Entry) -> PipelineKey {
    (std::ptr::from_ref(kernel).addr(), entry.point, entry.from_uniform, entry.packed, entry.activations)
}

/// A region, and the elements before and behind it that share a word with its own.
fn whole_words(region: Region, stored: Activations) -> Region {
    let each = 4 / stored.width();
    let (offset, end) = (region.offset / each * each, (region.offset + region.len).next_multiple_of(each));
    Region { offset, len: end - offset, ..region }
}

fn span(call: &Call, activations: Activations, list: &Arc<str>, start: Duration, time: Duration) -> Span {
    Span { kernel: call.kernel.name, list: list.clone(), start, time, work: call.work(activations) }
}

/// Whether an adapter loads from storage buffers at little more than from uniforms, so that dealing calls to parts that fit
/// uniforms costs more dispatches than it saves. llvmpipe does where it has AVX-512: it puts what it loads into vectors
/// one by one, which is done in registers there, and through memory elsewhere.
fn loads_are_cheap(adapter: &AdapterSummary) -> bool {
    #[cfg(target_arch = "x86_64")]
    return adapter.driver.contains("llvmpipe") && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn params_buffer(device: &wgpu::Device, slots: usize) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("parameters"),
        size: (slots.next_power_of_two() * SLOT) as u64,
        usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineChoice, adapter};
    use crate::kernels::sum_slices;

    fn engine() -> GpuEngine {
        let adapter = adapter::choose(EngineChoice::Gpu, None).unwrap().unwrap();
        GpuEngine::new(&adapter, Checks::Checked, EntryPoint::ByAdapter, Activations::F32).unwrap()
    }

    fn region(engine: &mut GpuEngine, name: &str, len: usize) -> Region {
        Region { buffer: engine.allocate(name, len).unwrap(), offset: 0, len }
    }

    fn sum(gradient: Region, sum: Region) -> Call {
        let params = sum_slices::Params { elements: sum.len as u32, slices: 1, stride: sum.len as u32 };
        sum_slices::call(params, sum_slices::Bindings { gradient, sum })
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        match result.unwrap_err() {
            Error::Device(message) => message,
            other => panic!("not an error of the device: {other}"),
        }
    }

    #[test]
    fn a_lost_device_is_an_error_of_every_call() {
        let mut engine = engine();
        let (from, to) = (region(&mut engine, "from", 64), region(&mut engine, "to", 64));
        engine.run("before", &[sum(from, to)]).unwrap();
        let pending = engine.read_later(to).unwrap();
        engine.device.destroy();
        // The read was submitted before, so that it may be there; the wait for it is where the loss comes to light.
        let _ = engine.collect(&pending, true);
        let lost = message(engine.run("after", &[sum(from, to)]));
        assert!(lost.contains("lost"), "{lost}");
        assert_eq!(message(engine.write(from, &[1])), lost);
        assert_eq!(message(engine.read(to)), lost);
        assert_eq!(message(engine.allocate("more", 1)), lost);
    }

    #[test]
    fn an_invalid_call_is_told_at_once_and_not_forgotten() {
        let mut engine = engine();
        let (from, to) = (region(&mut engine, "from", 64), region(&mut engine, "to", 64));
        let past_the_end = Region { offset: 64, ..from };
        let told = message(engine.run("wrong", &[sum(past_the_end, to)]));
        assert!(told.contains("sum_slices") && told.contains("from"), "{told}");
        assert_eq!(message(engine.read(to)), told);
    }

    #[test]
    fn a_shader_that_does_not_compile_is_named() {
        let mut engine = engine();
        let (from, to) = (region(&mut engine, "from", 64), region(&mut engine, "to", 64));
        let broken = Kernel { name: "broken", source: "fn main( {", ..sum_slices::KERNEL };
        let call = Call { kernel: Box::leak(Box::new(broken)), ..sum(from, to) };
        let told = message(engine.run("wrong", &[call]));
        assert!(told.contains("broken"), "{told}");
    }

    #[test]
    fn bind_groups_and_staging_buffers_are_used_again() {
        let mut engine = engine();
        let (from, to) = (region(&mut engine, "from", 4096), region(&mut engine, "to", 4096));
        for _ in 0..10 {
            engine.run("sum", &[sum(from, to), sum(to, from)]).unwrap();
            engine.read(to).unwrap();
        }
        assert_eq!(engine.pipelines.len(), 1);
        assert_eq!(engine.pipelines.values().map(Pipeline::bind_groups).sum::<usize>(), 2);
        assert_eq!(engine.staging.len(), 1);
        assert!(engine.in_flight.len() <= IN_FLIGHT);
    }
}
