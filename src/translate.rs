//! Kernels in the languages that vendors' compilers and profilers take.

use naga::back::pipeline_constants::process_overrides;
use naga::back::{hlsl, msl, spv, wgsl};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess};

use crate::engine::Checks;
use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::kernels::activations::{self, Activations};

/// A language of shaders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Language {
    /// SPIR-V 1.3, with names and the WGSL source: Vulkan.
    Spirv,
    /// Metal Shading Language 2.4.
    Msl,
    /// HLSL for shader model 6.0 (6.2 where activations are f16): Direct3D 12.
    Hlsl,
    /// WGSL again, as it is after its constants are resolved.
    Wgsl,
}

impl Language {
    /// How names of such files end.
    pub fn ending(self) -> &'static str {
        match self {
            Language::Spirv => "spv",
            Language::Msl => "metal",
            Language::Hlsl => "hlsl",
            Language::Wgsl => "wgsl",
        }
    }
}

/// The entry points of a kernel: `main`, and `serial` where it has that.
pub fn entry_points(kernel: &Kernel) -> impl Iterator<Item = &'static str> {
    [Some("main"), kernel.serial.map(|_| "serial")].into_iter().flatten()
}

/// An entry point of a kernel in `language`, with its constants resolved, as the engine has drivers compile it; bindings
/// keep their numbers (in MSL as buffers, behind which one for the buffers' sizes follows). `activations`: how they are
/// stored.
///
/// # Errors
/// Where the kernel is no valid WGSL or cannot be said in that language: no kernel that passes the tests.
pub fn translate(
    kernel: &Kernel,
    entry_point: &str,
    language: Language,
    checks: Checks,
    activations: Activations,
) -> Result<Vec<u8>> {
    let wrong = |reason: String| Error::Data(format!("{}.{entry_point}: {reason}", kernel.name));
    let source = &activations::source(kernel.source, activations);
    let capabilities = match activations {
        Activations::F32 => Capabilities::empty(),
        Activations::F16 => Capabilities::SHADER_FLOAT16,
    };
    let parsed = naga::front::wgsl::parse_str(source);
    let module = parsed.map_err(|e| wrong(e.emit_to_string_with_path(source, kernel.name)))?;
    let valid = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
    let info = valid.map_err(|e| wrong(e.emit_to_string_with_path(source, kernel.name)))?;
    let stage = ShaderStage::Compute;
    let (module, info) = process_overrides(&module, &info, Some((stage, entry_point)), &Default::default())
        .map_err(|e| wrong(e.to_string()))?;
    // All are constants now, but the arena still lists them.
    let mut module = module.into_owned();
    module.overrides = naga::Arena::new();
    let entry_point = (stage, entry_point.to_owned());
    match language {
        Language::Spirv => spirv((kernel.name, source), &module, &info, entry_point, checks),
        Language::Msl => metal(&module, &info, entry_point, checks),
        Language::Hlsl => direct3d(&module, &info, entry_point, checks, activations),
        Language::Wgsl => {
            wgsl::write_string(&module, &info, wgsl::WriterFlags::empty()).map(String::into_bytes).map_err(text)
        }
    }
    .map_err(wrong)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn policies(checks: Checks) -> BoundsCheckPolicies {
    let policy = match checks {
        Checks::Checked => BoundsCheckPolicy::Restrict,
        Checks::Unchecked => BoundsCheckPolicy::Unchecked,
    };
    BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: policy }
}

type Written = std::result::Result<Vec<u8>, String>;
type EntryPoint = (ShaderStage, String);

fn spirv(
    (kernel, source_code): (&str, &str),
    module: &Module,
    info: &ModuleInfo,
    (stage, name): EntryPoint,
    checks: Checks,
) -> Written {
    let checked = checks == Checks::Checked;
    let zero = if checked {
        spv::ZeroInitializeWorkgroupMemoryMode::Polyfill
    } else {
        spv::ZeroInitializeWorkgroupMemoryMode::None
    };
    let file_name = format!("{kernel}.wgsl");
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::DEBUG,
        bounds_check_policies: policies(checks),
        zero_initialize_workgroup_memory: zero,
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        // No number of 16 bits goes from one stage to another.
        use_storage_input_output_16: false,
        debug_info: Some(spv::DebugInfo {
            source_code,
            file_name: &file_name,
            // Older tools do not know WGSL's number.
            language: spv::SourceLanguage::Unknown,
        }),
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: stage, entry_point: name };
    let words = spv::write_vec(module, info, &options, Some(&pipeline)).map_err(text)?;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

fn metal(module: &Module, info: &ModuleInfo, entry_point: EntryPoint, checks: Checks) -> Written {
    let checked = checks == Checks::Checked;
    let mut resources = msl::EntryPointResources::default();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let slot = msl::Slot::try_from(binding.binding).map_err(text)?;
        let mutable =
            matches!(variable.space, AddressSpace::Storage { access } if access.contains(StorageAccess::STORE));
        resources.resources.insert(binding, msl::BindTarget { buffer: Some(slot), mutable, ..Default::default() });
        resources.sizes_buffer = resources.sizes_buffer.max(Some(slot + 1));
    }
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [(entry_point.1.clone(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: policies(checks),
        zero_initialize_workgroup_memory: checked,
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        ..msl::Options::default()
    };
    let pipeline = msl::PipelineOptions { entry_point: Some(entry_point), ..Default::default() };
    let (source, translated) = msl::write_string(module, info, &options, &pipeline).map_err(text)?;
    match translated.entry_point_names.into_iter().find_map(std::result::Result::err) {
        Some(error) => Err(text(error)),
        None => Ok(source.into_bytes()),
    }
}

fn direct3d(
    module: &Module,
    info: &ModuleInfo,
    entry_point: EntryPoint,
    checks: Checks,
    activations: Activations,
) -> Written {
    let checked = checks == Checks::Checked;
    let options = hlsl::Options {
        shader_model: match activations {
            Activations::F32 => hlsl::ShaderModel::V6_0,
            Activations::F16 => hlsl::ShaderModel::V6_2,
        },
        // A binding without a place is given the register of its number, in the space of its group.
        fake_missing_bindings: true,
        zero_initialize_workgroup_memory: checked,
        restrict_indexing: checked,
        force_loop_bounding: checked,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: Some(entry_point) };
    let mut source = String::new();
    let translated = hlsl::Writer::new(&mut source, &options, &pipeline).write(module, info, None).map_err(text)?;
    match translated.entry_point_names.into_iter().find_map(std::result::Result::err) {
        Some(error) => Err(text(error)),
        None => Ok(source.into_bytes()),
    }
}
