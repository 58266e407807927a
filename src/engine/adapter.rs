//! Choosing an adapter: what wgpu calls a GPU, or a driver that computes on the CPU in its place.

use std::fmt;

use super::EngineChoice;
use crate::error::{Error, Result};

/// What an adapter is, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AdapterKind {
    Discrete,
    Integrated,
    /// A share of a GPU in a virtual machine.
    Virtual,
    Other,
    /// A driver that computes on the CPU (llvmpipe, SwiftShader).
    Software,
}

/// An adapter as a list shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdapterSummary {
    pub name: String,
    pub kind: AdapterKind,
    /// "vulkan", "metal" or "dx12".
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
}

impl AdapterSummary {
    pub(super) fn new(info: &wgpu::AdapterInfo) -> Self {
        AdapterSummary {
            name: info.name.clone(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Other => AdapterKind::Other,
                wgpu::DeviceType::Cpu => AdapterKind::Software,
            },
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        }
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_lowercase();
        write!(f, "{} ({kind}, {}, driver {})", self.name, self.backend, self.driver)
    }
}

/// All adapters of this machine, best first.
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate().into_iter().map(|(summary, _)| summary).collect()
}

fn enumerate() -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        // Gives labels and debug groups to the driver, where profilers find them, also in release builds.
        // WGPU_VALIDATION=1 adds the validation layer.
        flags: wgpu::InstanceFlags::DEBUG.with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let mut found: Vec<_> = found.into_iter().map(|a| (AdapterSummary::new(&a.get_info()), a)).collect();
    found.sort_by_key(|(summary, _)| summary.kind);
    found
}

/// The adapter to open; `None` where the CPU engine is to run.
///
/// # Errors
/// Where an adapter is asked for and there is none, or none of that name.
pub(super) fn choose(choice: EngineChoice, name: Option<&str>) -> Result<Option<wgpu::Adapter>> {
    if choice == EngineChoice::Cpu {
        return Ok(None);
    }
    let (summaries, mut found): (Vec<_>, Vec<_>) = enumerate().into_iter().unzip();
    Ok(pick(&summaries, choice, name)?.map(|i| found.swap_remove(i)))
}

/// The index of the adapter to take among those there are, best first.
fn pick(summaries: &[AdapterSummary], choice: EngineChoice, name: Option<&str>) -> Result<Option<usize>> {
    let real = |a: &AdapterSummary| matches!(a.kind, AdapterKind::Discrete | AdapterKind::Integrated);
    match (choice, name) {
        (EngineChoice::Cpu, _) => Ok(None),
        (EngineChoice::Auto, None) => Ok(summaries.iter().position(real)),
        _ if summaries.is_empty() => Err(none_found()),
        (EngineChoice::Gpu, None) => Ok(Some(0)),
        (_, Some(name)) => {
            let wanted = name.to_lowercase();
            let exact = summaries.iter().position(|a| a.name.to_lowercase() == wanted);
            let part = || summaries.iter().position(|a| a.name.to_lowercase().contains(&wanted));
            exact.or_else(part).map(Some).ok_or_else(|| {
                let names: Vec<_> = summaries.iter().map(|a| format!("\n  {a}")).collect();
                Error::Adapter(format!("no adapter's name contains \"{name}\"; there are:{}", names.concat()))
            })
        }
    }
}

/// What to say where there is no adapter at all.
pub(crate) fn none_found() -> Error {
    Error::Adapter(
        "no adapter (GPU) found. Install a Vulkan driver: on Debian or Ubuntu `apt-get install mesa-vulkan-drivers` \
         (it also holds one that computes on the CPU), elsewhere the GPU vendor's driver; or compute with --engine cpu"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind) -> AdapterSummary {
        AdapterSummary { name: name.into(), kind, backend: "vulkan".into(), driver: "some 1.0".into() }
    }

    #[test]
    fn auto_takes_a_gpu_and_never_a_software_adapter() {
        use EngineChoice::{Auto, Gpu};
        let software = adapter("llvmpipe (LLVM 15)", AdapterKind::Software);
        let virtual_gpu = adapter("vGPU", AdapterKind::Virtual);
        let integrated = adapter("Iris Xe", AdapterKind::Integrated);
        assert_eq!(pick(&[], Auto, None).unwrap(), None);
        assert_eq!(pick(std::slice::from_ref(&software), Auto, None).unwrap(), None);
        assert_eq!(pick(&[virtual_gpu.clone(), software.clone()], Auto, None).unwrap(), None);
        assert_eq!(pick(&[integrated, virtual_gpu, software.clone()], Auto, None).unwrap(), Some(0));
        assert_eq!(pick(std::slice::from_ref(&software), Gpu, None).unwrap(), Some(0));
        assert_eq!(pick(&[software], Auto, Some("LLVMpipe")).unwrap(), Some(0));
    }

    #[test]
    fn a_whole_name_goes_before_a_part_of_one() {
        let cards = [adapter("Arc A770", AdapterKind::Discrete), adapter("Arc A7", AdapterKind::Discrete)];
        assert_eq!(pick(&cards, EngineChoice::Gpu, Some("arc a7")).unwrap(), Some(1));
        assert_eq!(pick(&cards, EngineChoice::Gpu, Some("a77")).unwrap(), Some(0));
    }

    #[test]
    fn errors_say_what_there_is_and_what_to_install() {
        let error = pick(&[adapter("Iris Xe", AdapterKind::Integrated)], EngineChoice::Auto, Some("radeon"));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("radeon") && message.contains("Iris Xe (integrated, vulkan, driver some 1.0)"));
        for name in [None, Some("radeon")] {
            let message = pick(&[], EngineChoice::Gpu, name).unwrap_err().to_string();
            assert!(message.contains("mesa-vulkan-drivers"), "{message}");
        }
    }
}
