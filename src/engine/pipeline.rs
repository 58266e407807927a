//! A kernel made ready to run on a device: its compute pipeline and the bind groups it was given so far.

use std::collections::HashMap;

use crate::kernels::activations::{self, Activations};
use crate::kernels::{Access, BufferId, Entry, Kernel, Region, UniformView};

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

/// Which entry point of a kernel is taken where it has two, see [`Kernel::entry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EntryPoint {
    /// `serial` on adapters that compute on the CPU, `main` on all others.
    #[default]
    ByAdapter,
    Main,
    /// `serial`, whose calls are dealt to parts, see [`Kernel::parts`].
    Serial,
    /// `serial`, whose calls are made whole where it can.
    SerialWhole,
}

/// Everything of a kernel that is made once. All of it bears the kernel's name.
pub(super) struct Pipeline {
    kernel: &'static Kernel,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
    /// The regions, by their places among a call's, that are bound a second time as uniforms.
    uniforms: Vec<usize>,
    /// Fewest elements bound of a region: `serial` may look at it as vectors of four, and binding less than one of
    /// whatever a shader's array has is an error, even where none is read.
    least: usize,
    bind_groups: HashMap<Vec<Region>, wgpu::BindGroup>,
}

impl Pipeline {
    /// Compiles an entry point of the kernel. Errors go to the device.
    pub fn new(device: &wgpu::Device, kernel: &'static Kernel, chosen: &Entry, checks: Checks) -> Self {
        let label = Some(kernel.name);
        let text = activations::source(kernel.source, chosen.activations);
        let source = wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(text) };
        let module = match checks {
            Checks::Checked => device.create_shader_module(source),
            // SAFETY: the kernels index inside the regions they are bound to, divide by parameters that are not 0, and
            // their loops end: the kernel tests run each of them checked, and compare it with its twin, which Rust
            // checks. Regions lie inside their buffers: the engine refuses others.
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
        for (binding, i) in kernel.bindings.iter().zip(1..) {
            let ty = wgpu::BufferBindingType::Storage { read_only: binding.access == Access::read };
            entries.push(entry(i, ty, false, None));
        }
        let mut uniforms = Vec::new();
        let mut constants = Vec::new();
        for (bit, view) in kernel.uniforms.iter().enumerate().filter(|_| chosen.point == "serial") {
            entries.push(entry(entries.len() as u32, wgpu::BufferBindingType::Uniform, false, None));
            uniforms.extend(kernel.bindings.iter().position(|binding| binding.name == view.binding));
            constants.push((format!("{}_from_uniform", view.binding), f64::from(chosen.from_uniform >> bit & 1)));
        }
        if kernel.has_packed().is_some() {
            constants.push(("packed".to_owned(), f64::from(u8::from(chosen.packed))));
        }
        let constants: Vec<_> = constants.iter().map(|(name, value)| (name.as_str(), *value)).collect();
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
            entry_point: Some(chosen.point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: checks == Checks::Checked,
            },
            cache: None,
        });
        let least = if chosen.point == "serial" { 4 } else { 1 };
        Pipeline { kernel, layout, pipeline, uniforms, least, bind_groups: HashMap::new() }
    }

    /// Makes the bind group for these regions, if there is none yet. `params` is the buffer of the calls' parameters,
    /// bound with a dynamic offset.
    pub fn bind<'a>(
        &mut self,
        device: &wgpu::Device,
        regions: &[Region],
        params: &wgpu::Buffer,
        buffer: impl Fn(BufferId) -> (&'a wgpu::Buffer, Activations),
    ) {
        if self.bind_groups.contains_key(regions) {
            return;
        }
        let resource =
            |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
        let width = |region: &Region| buffer(region.buffer).1.width();
        let part = |region: &Region, bytes: u64| {
            resource(buffer(region.buffer).0, (width(region) * region.offset) as u64, wgpu::BufferSize::new(bytes))
        };
        let mut entries =
            vec![wgpu::BindGroupEntry { binding: 0, resource: resource(params, 0, params_size(self.kernel)) }];
        for (region, binding) in regions.iter().zip(1..) {
            // Bindings are whole words.
            let bytes = (width(region) * region.len.max(self.least)).next_multiple_of(4);
            entries.push(wgpu::BindGroupEntry { binding, resource: part(region, bytes as u64) });
        }
        for region in self.uniforms.iter().map(|&i| regions[i]) {
            let resource = part(&region, UniformView::BYTES);
            entries.push(wgpu::BindGroupEntry { binding: entries.len() as u32, resource });
        }
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.kernel.name),
            layout: &self.layout,
            entries: &entries,
        });
        self.bind_groups.insert(regions.to_vec(), bind_group);
    }

    pub fn compute(&self) -> &wgpu::ComputePipeline {
        &self.pipeline
    }

    /// What [`bind`](Self::bind) made for these regions.
    pub fn bind_group(&self, regions: &[Region]) -> &wgpu::BindGroup {
        &self.bind_groups[regions]
    }

    /// How many bind groups there are.
    pub fn bind_groups(&self) -> usize {
        self.bind_groups.len()
    }

    /// Lets go of all bind groups.
    pub fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}

/// Bytes of a kernel's parameters as a uniform binding has them.
fn params_size(kernel: &Kernel) -> Option<wgpu::BufferSize> {
    wgpu::BufferSize::new((4 * kernel.params.len()).next_multiple_of(16) as u64)
}
