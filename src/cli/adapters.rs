//! `prismrec adapters`: what `--adapter` can be given.

use super::print;
use crate::engine;
use crate::engine::adapter::none_found;
use crate::error::Result;

/// List the GPU adapters of this machine
#[derive(clap::Args)]
#[command(after_help = "Example: prismrec train --adapter llvmpipe")]
pub struct AdaptersArgs {}

/// Prints a line for each adapter.
///
/// # Errors
/// Where there is none.
pub fn run(_: AdaptersArgs) -> Result<()> {
    let adapters = engine::adapters();
    if adapters.is_empty() {
        return Err(none_found());
    }
    for adapter in adapters {
        print(&adapter.to_string());
    }
    Ok(())
}
