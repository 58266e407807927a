//! The GPU engine: records lists of kernel calls with wgpu and submits them, several in flight.
//!
//! Everything is made once: buffers by name, a pipeline for each kernel, a bind group for each kernel and the regions
//! it is given. The parameters of all calls of a list lie in one uniform buffer, a slot each, written in one go; the
//! queue orders that write after the lists submitted before, so that slots are never overwritten in use.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wgpu::{BufferUsages, PollType, SubmissionIndex};

use super::adapter::AdapterSummary;
use super::{Description, Engine, PendingRead};
use crate::error::{Error, Result};
use crate::kernels::{Access, BufferId, Call, Kernel, Region};

/// Submissions that may be in flight; the next one waits for the oldest.
const IN_FLIGHT: usize = 3;
/// Bytes of a call's slot in the uniform buffer: WebGPU's alignment of dynamic offsets.
const SLOT: usize = 256;
/// Written bytes that wait for a submission, at most: wgpu holds a copy of them until then.
const UNSUBMITTED: usize = 64 << 20;
/// Staging buffers up to this size are kept for the next read.
const KEPT_STAGING: u64 = 16 << 20;
/// Bind groups of a kernel before they are made anew, in case regions never repeat.
const BIND_GROUPS: usize = 1024;

/// Whether shaders check their indices, bound their loops and clear group memory, as browsers have them do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checks {
    Checked,
    /// Without: several times fewer instructions in the inner loops.
    Unchecked,
}

impl Default for Checks {
    /// Checked in debug builds alone.
    fn default() -> Self {
        if cfg!(debug_assertions) { Checks::Checked } else { Checks::Unchecked }
    }
}

/// Runs the WGSL kernels on one adapter.
pub struct GpuEngine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterSummary,
    checks: Checks,
    buffers: Vec<Allocation>,
    /// By the kernel's address: a test may hand in another kernel of the same name.
    kernels: HashMap<usize, Prepared>,
    /// Slots of parameters.
    params: wgpu::Buffer,
    scratch: Vec<u8>,
    in_flight: VecDeque<SubmissionIndex>,
    /// Bytes written since the last submission.
    unsubmitted: usize,
    reads: HashMap<u64, Read>,
    reads_begun: u64,
    /// Staging buffers that no read uses now.
    staging: Vec<wgpu::Buffer>,
    /// The first error that wgpu told of. It stays: what came after it cannot be trusted.
    failure: Arc<Mutex<Option<String>>>,
}

struct Allocation {
    buffer: wgpu::Buffer,
    /// In elements.
    len: usize,
}

/// A kernel ready to run.
struct Prepared {
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
    bind_groups: HashMap<Vec<Region>, wgpu::BindGroup>,
}

struct Read {
    staging: wgpu::Buffer,
    bytes: u64,
    submission: SubmissionIndex,
    /// Set when the staging buffer is mapped, or could not be.
    mapped: Arc<OnceLock<std::result::Result<(), wgpu::BufferAsyncError>>>,
}

impl GpuEngine {
    /// An engine on this adapter.
    ///
    /// # Errors
    /// Where the adapter gives no device.
    pub fn new(adapter: &wgpu::Adapter, checks: Checks) -> Result<Self> {
        let summary = AdapterSummary::new(&adapter.get_info());
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
        Ok(GpuEngine {
            device,
            queue,
            adapter: summary,
            checks,
            buffers: Vec::new(),
            kernels: HashMap::new(),
            params,
            scratch: Vec::new(),
            in_flight: VecDeque::new(),
            unsubmitted: 0,
            reads: HashMap::new(),
            reads_begun: 0,
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

    /// Makes sure that the kernel's pipeline and the call's bind group are there.
    fn prepare(&mut self, call: &Call) -> Result<()> {
        let prepared = match self.kernels.entry(key(call.kernel)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Prepared::new(&self.device, call.kernel, self.checks))
            }
        };
        if prepared.bind_groups.contains_key(&call.regions) {
            return Ok(());
        }
        if prepared.bind_groups.len() >= BIND_GROUPS {
            prepared.bind_groups.clear();
        }
        let params = wgpu::BufferBinding { buffer: &self.params, offset: 0, size: params_size(call.kernel) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
        for (i, region) in call.regions.iter().enumerate() {
            let binding = wgpu::BufferBinding {
                buffer: &self.buffers[region.buffer.0].buffer,
                offset: 4 * region.offset as u64,
                // An empty region is nothing to read, but must be bound.
                size: wgpu::BufferSize::new(4 * region.len.max(1) as u64),
            };
            entries
                .push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: wgpu::BindingResource::Buffer(binding) });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(call.kernel.name),
            layout: &prepared.layout,
            entries: &entries,
        });
        prepared.bind_groups.insert(call.regions.clone(), bind_group);
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
                "{} MiB a binding, {} MiB a buffer, shaders {}",
                mib(limits.max_storage_buffer_binding_size),
                mib(limits.max_buffer_size),
                if self.checks == Checks::Checked { "checked" } else { "unchecked" }
            ),
        }
    }

    fn allocate(&mut self, name: &str, len: usize) -> Result<BufferId> {
        self.check()?;
        let len = len.max(1);
        let bytes = (len as u64).saturating_mul(4);
        let limits = self.device.limits();
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
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
            size: bytes,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        // A buffer that is not there spoils nothing, so that this error does not stay.
        if let Some(reason) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let size = mib(bytes);
            return Err(Error::Device(format!("cannot make buffer {name} of {size:.1} MiB: {reason}")));
        }
        self.buffers.push(Allocation { buffer, len });
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn allocated(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.len).sum()
    }

    fn write(&mut self, region: Region, elements: &[u32]) -> Result<()> {
        assert!(elements.len() <= region.len, "{} elements into a region of {}", elements.len(), region.len);
        let mut offset = 4 * region.offset as u64;
        for part in elements.chunks(UNSUBMITTED / 4) {
            if self.unsubmitted + 4 * part.len() > UNSUBMITTED {
                self.submit(None)?;
            }
            let buffer = &self.buffers[region.buffer.0].buffer;
            self.queue.write_buffer(buffer, offset, bytemuck::cast_slice(part));
            self.unsubmitted += 4 * part.len();
            offset += 4 * part.len() as u64;
        }
        self.check()
    }

    fn run(&mut self, label: &str, calls: &[Call]) -> Result<()> {
        self.check()?;
        if calls.len() * SLOT > self.params.size() as usize {
            self.params = params_buffer(&self.device, calls.len());
            for kernel in self.kernels.values_mut() {
                kernel.bind_groups.clear();
            }
        }
        self.scratch.clear();
        self.scratch.resize(calls.len() * SLOT, 0);
        for (slot, call) in self.scratch.chunks_exact_mut(SLOT).zip(calls) {
            slot[..call.params.len()].copy_from_slice(&call.params);
        }
        for call in calls {
            self.prepare(call)?;
        }
        if calls.is_empty() {
            return Ok(());
        }
        self.queue.write_buffer(&self.params, 0, &self.scratch);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) });
        encoder.push_debug_group(label);
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None });
            for (i, call) in calls.iter().enumerate() {
                let prepared = &self.kernels[&key(call.kernel)];
                let [x, y, z] = call.groups();
                pass.push_debug_group(call.kernel.name);
                pass.set_pipeline(&prepared.pipeline);
                pass.set_bind_group(0, &prepared.bind_groups[&call.regions], &[(i * SLOT) as u32]);
                pass.dispatch_workgroups(x, y, z);
                pass.pop_debug_group();
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
        let bytes = 4 * region.len.max(1) as u64;
        let staging = self.staging(bytes);
        let mapped = Arc::new(OnceLock::new());
        let told = mapped.clone();
        let label = Some("read back");
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        let source = &self.buffers[region.buffer.0].buffer;
        encoder.copy_buffer_to_buffer(source, 4 * region.offset as u64, &staging, 0, 4 * region.len as u64);
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, 0..bytes, move |result| {
            // Called once.
            let _ = told.set(result);
        });
        let submission = self.submit(Some(encoder.finish()))?;
        self.reads_begun += 1;
        let bytes = 4 * region.len as u64;
        self.reads.insert(self.reads_begun, Read { staging, bytes, submission, mapped });
        Ok(PendingRead(self.reads_begun))
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
        let view = read.staging.get_mapped_range(0..read.bytes.max(4));
        let elements = match &view {
            Ok(view) => bytemuck::pod_collect_to_vec(&view[..read.bytes as usize]),
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

impl Prepared {
    fn new(device: &wgpu::Device, kernel: &Kernel, checks: Checks) -> Self {
        let label = Some(kernel.name);
        let source = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(kernel.source.into()) };
        let module = match checks {
            Checks::Checked => device.create_shader_module(source),
            // SAFETY: the kernels index inside the regions they are bound to, divide by parameters that are not 0, and
            // their loops end: the kernel tests run each of them checked, and compare it with its twin, which Rust
            // checks. Regions lie inside their buffers, or wgpu refuses the bind group.
            Checks::Unchecked => unsafe {
                device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked())
            },
        };
        let entry = |binding, ty, has_dynamic_offset, min_binding_size| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, params_size(kernel))];
        for (i, binding) in kernel.bindings.iter().enumerate() {
            let ty = wgpu::BufferBindingType::Storage { read_only: binding.access == Access::read };
            entries.push(entry(i as u32 + 1, ty, false, None));
        }
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: checks == Checks::Checked,
                ..Default::default()
            },
            cache: None,
        });
        Prepared { layout, pipeline, bind_groups: HashMap::new() }
    }
}

fn key(kernel: &'static Kernel) -> usize {
    std::ptr::from_ref(kernel).addr()
}

/// Bytes of a kernel's parameters as a uniform binding has them.
fn params_size(kernel: &Kernel) -> Option<wgpu::BufferSize> {
    wgpu::BufferSize::new((4 * kernel.params.len()).next_multiple_of(16) as u64)
}

fn params_buffer(device: &wgpu::Device, slots: usize) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("parameters"),
        size: (slots.next_power_of_two() * SLOT) as u64,
        usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}
