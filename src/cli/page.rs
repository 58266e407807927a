//! `prismrec report`

use std::path::PathBuf;

use super::{EngineArgs, print};
use crate::error::Result;
use crate::report::{Look, report};
use crate::run::write_whole;
use crate::settings::Files;

/// Show a run, or compare several, on a page of their own
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  prismrec report runs/beauty-1
  prismrec report runs/beauty-1 runs/beauty-2 --out compare.html
  prismrec report runs/ml-1m-1 --data ml-1m.txt --items movies.dat     with example users, and items by their titles

The page is one HTML file with learning curves, figures under both protocols, settings, a map of items and intentions, and
example users. Data and titles are those that a run names, if they are still there; --data and --items name others.")]
pub(super) struct ReportArgs {
    /// Folders of runs; several are compared
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File of the interactions that the runs were trained on; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<String>,
    /// File of the items' titles
    #[arg(long, value_name = "FILE")]
    items: Option<String>,
    /// The page to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(arguments: ReportArgs) -> Result<()> {
    let ReportArgs { runs, data, items, out, engine } = arguments;
    let page = report(&runs, &Look { data: Files(data), items, computed: engine.given() })?;
    write_whole(&out, page.as_bytes())?;
    let (size, out) = (page.len().div_ceil(1024), out.display());
    print(&format!(
        "{out}: {} run{}, {size} KiB; open it in a browser",
        runs.len(),
        if runs.len() == 1 { "" } else { "s" }
    ));
    Ok(())
}
