//! A page that shows one run or compares several: learning curves, figures, settings, and what the trained intentions make
//! of items and users. One HTML file that loads nothing.

use std::path::PathBuf;

mod chart;
mod figures;
mod inside;
mod page;
mod plane;
mod record;

pub use inside::Look;
pub use plane::{Plane, plane};

use crate::error::{Error, Result};
use inside::Inside;
use page::Reported;
use record::Record;

/// The page for the runs in these folders.
///
/// # Errors
/// Where a folder holds no run or one without an epoch yet, a file cannot be read, the data are not those that a run was
/// trained on, or the engine fails.
pub fn report(folders: &[PathBuf], look: &Look) -> Result<String> {
    if folders.is_empty() {
        return Err(Error::Setting("a report takes the folder of a run".into()));
    }
    // All are read before the first model is opened: a wrong name is told at once.
    let records = folders.iter().map(|folder| Record::read(folder)).collect::<Result<Vec<_>>>()?;
    let runs = records.into_iter().map(|record| {
        let inside = Inside::look(&record, look)?;
        Ok(Reported { record, inside })
    });
    Ok(page::page(&runs.collect::<Result<Vec<_>>>()?))
}
