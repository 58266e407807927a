//! Many runs for one answer: the paper's table and figures ([`reproduce`]), and the search for settings ([`tune`]).
//!
//! Every run lies in a folder of its own, as `prismrec train` leaves it. Processes and machines share the work through
//! the folders: each run is claimed by a lock, which ends with the process that holds it.

use std::fs;
use std::path::Path;

use serde_json::Value;

pub mod claim;
pub mod recipes;
pub mod reproduce;
pub mod tune;

use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::settings::Settings;
use crate::train::{Dataset, Ended, Observer, Ready};

/// Trains the run in `folder` from its beginning, or from where it was stopped. `tested`: with the test at its end.
///
/// # Errors
/// As in training, and where the folder holds a run with other settings.
fn train(
    folder: &Path,
    settings: &Settings,
    data: &Dataset,
    tested: bool,
    observer: &mut dyn Observer,
) -> Result<Ended> {
    let engine = engine::open(&settings.engine_request()?)?;
    let ready = Ready::new(settings, data, engine)?;
    let ready = if tested { ready } else { ready.without_test() };
    if folder.join("last.safetensors").is_file() {
        let run = Run::open(folder)?;
        let (checkpoint, resume) = Checkpoint::load_resumable(&run.last())?;
        same_settings(folder, &checkpoint.settings, settings)?;
        data.check(&checkpoint.data)?;
        return ready.train(&run, Some((checkpoint, resume)), observer);
    }
    if folder.exists() {
        // Its process ended before the first save: nothing of it is worth keeping.
        fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
    }
    ready.train(&Run::create(Some(folder), settings)?, None, observer)
}

/// Refuses a run that was begun with other settings, but for where its data lie and what computes it.
fn same_settings(folder: &Path, begun: &Settings, wanted: &Settings) -> Result<()> {
    let differing = begun.differing(wanted);
    if differing.is_empty() {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "{} was begun with another {}: give the settings that it has, or another folder",
        folder.display(),
        differing.join(", ")
    )))
}

/// The whole lines of a run's `metrics.jsonl`; none where there is no such file yet.
fn recorded(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join("metrics.jsonl");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file("read", &path)(e)),
    };
    // A line that is being written has no end yet.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines: std::result::Result<Vec<Value>, _> = whole.map(serde_json::from_str).collect();
    lines.map_err(|e| Error::Data(format!("{}: a line is no JSON: {e}", path.display())))
}
