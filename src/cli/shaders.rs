//! `prismrec shaders`

use std::fs;
use std::path::PathBuf;

use super::print;
use crate::engine::Checks;
use crate::error::{Error, Result};
use crate::kernels::KERNELS;
use crate::kernels::activations::Activations;
use crate::translate::{Language, entry_points, translate};

/// Write the kernels for vendors' compilers and profilers
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec shaders --format spirv --out spirv     for rga -s vk-spv-offline, spirv-val, Nsight, Intel's ocloc
  prismrec shaders --format msl --out metal       for xcrun metal, and Xcode's shader profiler
  prismrec shaders --format hlsl --out hlsl       for dxc -T cs_6_0 -E main, and rga -s dx12 (with --activations f16,
                                                  dxc -T cs_6_2 -enable-16bit-types)
  prismrec shaders --format wgsl --out wgsl       WGSL with every constant resolved

A file for each kernel: NAME.spv is its entry point main, NAME.serial.spv its second one for adapters that compute on
the CPU, where it has one. docs/profiling.md says more.")]
pub(super) struct ShadersArgs {
    /// Language to write them in
    #[arg(long, value_name = "LANGUAGE")]
    format: Language,
    /// Folder to write into; made where there is none, files of these names are overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Check indices, bound loops and clear group memory, as train --checked has it
    #[arg(long)]
    checked: bool,
    /// How activations are stored, as train --activations has it
    #[arg(long, default_value = "f32")]
    activations: Activations,
}

pub(super) fn run(arguments: ShadersArgs) -> Result<()> {
    let ShadersArgs { format, out, checked, activations } = arguments;
    let checks = if checked { Checks::Checked } else { Checks::Unchecked };
    fs::create_dir_all(&out).map_err(Error::file("make the folder", &out))?;
    let mut files = 0;
    for kernel in KERNELS {
        for entry_point in entry_points(kernel) {
            let written = translate(kernel, entry_point, format, checks, activations)?;
            let variant = if entry_point == "main" { String::new() } else { format!(".{entry_point}") };
            let file = out.join(format!("{}{variant}.{}", kernel.name, format.ending()));
            fs::write(&file, written).map_err(Error::file("write", &file))?;
            files += 1;
        }
    }
    print(&format!("{} kernels, {files} files in {}", KERNELS.len(), out.display()));
    Ok(())
}
