//! The paper's Table 2 and figures 4 and 5: which runs they take, and the reports of what came out.

use std::fs;
use std::path::{Path, PathBuf};

mod outcome;
mod plan;
mod plot;
mod report;

pub use outcome::Outcome;
pub use plan::{Cell, Experiment, Plan};

use super::claim::Claim;
use super::{recorded, same_settings, train};
use crate::error::{Error, Result};
use crate::run::write_whole;
use crate::settings::Settings;
use crate::train::{Dataset, Ended, Observer};

/// What a worker tells of its runs.
#[derive(Debug)]
pub enum Told<'a> {
    /// A run begins or is gone on with; `number` of `of`, from 1.
    Begun { number: usize, of: usize, cell: &'a Cell, folder: &'a Path },
    /// Reports were written.
    Reported { files: &'a [PathBuf] },
}

/// What is left when a worker finds nothing more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Runs that other processes are at.
    pub elsewhere: usize,
}

/// Where the run of a cell lies.
fn run_folder(out: &Path, cell: &Cell) -> PathBuf {
    out.join("runs").join(cell.name())
}

/// Does all runs of the plan that are not done, in `out`, and writes its reports after each.
///
/// # Errors
/// [`Error::Interrupted`] where the observer stops a run, which is then gone on with the next time; else as in training,
/// and where a run was begun with other settings.
pub fn work(
    plan: &Plan,
    out: &Path,
    data: &Dataset,
    observer: &mut dyn Observer,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Left> {
    let runs = out.join("runs");
    fs::create_dir_all(&runs).map_err(Error::file("make the folder", &runs))?;
    let cells = plan.cells();
    // Before hours go by.
    for cell in &cells {
        check(&run_folder(out, cell), &cell.settings(&plan.settings))?;
    }
    let mut reported = false;
    loop {
        let (mut did, mut elsewhere) = (0, 0);
        for (cell, number) in cells.iter().zip(1..) {
            let (folder, settings) = (run_folder(out, cell), cell.settings(&plan.settings));
            if Outcome::read(&folder, cell, &settings)?.is_some() {
                continue;
            }
            let Some(_claim) = Claim::take(&runs.join(format!("{}.lock", cell.name())))? else {
                elsewhere += 1;
                continue;
            };
            if Outcome::read(&folder, cell, &settings)?.is_some() {
                continue;
            }
            tell(Told::Begun { number, of: cells.len(), cell, folder: &folder });
            if let Ended::Stopped { .. } = train(&folder, &settings, data, true, observer)? {
                return Err(Error::Interrupted);
            }
            did += 1;
            write_reports(plan, out, data, tell)?;
            reported = true;
        }
        // Another process may have ended before its run did: look again until there is nothing to do.
        if did == 0 {
            if !reported {
                write_reports(plan, out, data, tell)?;
            }
            return Ok(Left { elsewhere });
        }
    }
}

/// Refuses a folder whose run has other settings.
fn check(folder: &Path, settings: &Settings) -> Result<()> {
    match recorded(folder)?.first().map(|start| serde_json::from_value::<Settings>(start["settings"].clone())) {
        None => Ok(()),
        Some(Ok(begun)) => same_settings(folder, &begun, settings),
        Some(Err(e)) => Err(Error::Data(format!("{}: its settings are not of this program: {e}", folder.display()))),
    }
}

/// Writes the reports of all experiments of the plan from the runs that are done.
fn write_reports(plan: &Plan, out: &Path, data: &Dataset, tell: &mut dyn FnMut(Told<'_>)) -> Result<()> {
    let mut outcomes = Vec::new();
    for cell in plan.cells() {
        let settings = cell.settings(&plan.settings);
        outcomes.extend(Outcome::read(&run_folder(out, &cell), &cell, &settings)?);
    }
    let mut files = Vec::new();
    for experiment in &plan.experiments {
        for (name, text) in report::files(*experiment, plan, &outcomes, data)? {
            let path = out.join(name);
            write_whole(&path, text.as_bytes())?;
            files.push(path);
        }
    }
    tell(Told::Reported { files: &files });
    Ok(())
}
