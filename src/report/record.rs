//! What a run's folder tells of it: its settings, and the lines of `metrics.jsonl`.

use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;

use crate::data::read::Counts;
use crate::error::{Error, Result};
use crate::evaluate::Protocol;
use crate::settings::Settings;

/// Figures by name; `None` for what was no number, as in a run that diverged.
pub type Figures = IndexMap<String, Option<f64>>;

/// A run as it was recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// The folder, as it was given.
    pub folder: PathBuf,
    pub settings: Settings,
    pub start: Start,
    pub epochs: Vec<Epoch>,
    /// Those of the refit, where there is one.
    pub refit: Vec<Epoch>,
    /// Validations at the end of epochs and within them, in order of their steps.
    pub validations: Vec<Validation>,
    pub test: Option<Test>,
    pub refit_test: Option<Test>,
    pub recovery: Option<Recovery>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Start {
    #[serde(flatten)]
    pub counts: Counts,
    pub parameters: usize,
    pub engine: String,
    #[serde(default)]
    pub adapter: String,
    #[serde(default)]
    pub threads: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Epoch {
    pub epoch: u64,
    pub step: u64,
    pub seconds: f64,
    pub examples_per_second: Option<f64>,
    pub loss_s2i: Option<f64>,
    pub loss_s2s: Option<f64>,
    pub loss_total: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    valid: Option<Both>,
}

/// One validation.
#[derive(Clone, Debug, Deserialize)]
pub struct Validation {
    pub epoch: u64,
    pub step: u64,
    pub valid: Both,
}

/// Figures under both protocols.
#[derive(Clone, Debug, Deserialize)]
pub struct Both {
    pub sampled: Figures,
    pub full: Figures,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Test {
    pub users: usize,
    #[serde(flatten)]
    pub figures: Both,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Recovery {
    pub nmi: f64,
    pub nmi_shuffled: f64,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Start(Start),
    Epoch(Epoch),
    RefitEpoch(Epoch),
    Validation(Validation),
    Test(Test),
    RefitTest(Test),
    Intentions(Recovery),
    #[serde(other)]
    Other,
}

impl Both {
    pub fn of(&self, protocol: Protocol) -> &Figures {
        match protocol {
            Protocol::Sampled => &self.sampled,
            Protocol::Full => &self.full,
        }
    }

    /// One figure, where it is a number.
    pub fn figure(&self, protocol: Protocol, name: &str) -> Option<f64> {
        self.of(protocol).get(name).copied().flatten()
    }
}

impl Record {
    /// Reads a run's folder; the run may still go on.
    ///
    /// # Errors
    /// Where the folder holds no run, no epoch was recorded yet, or a line is none that a run writes.
    pub fn read(folder: &Path) -> Result<Record> {
        let name = folder.display();
        if folder.is_file() {
            return Err(Error::Setting(format!(
                "{name} is a file: a report is of a run's folder, such as runs/beauty-1"
            )));
        }
        let path = folder.join("metrics.jsonl");
        for needed in [&path, &folder.join("settings.toml")] {
            if !needed.is_file() {
                let needed = needed.file_name().unwrap_or_default().display();
                return Err(Error::Setting(format!("{name} is no run's folder: it has no {needed}")));
            }
        }
        let settings = Settings::read(&folder.join("settings.toml"))?;
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let mut start = None;
        let (mut epochs, mut refit, mut validations) = (Vec::new(), Vec::new(), Vec::new());
        let (mut test, mut refit_test, mut recovery) = (None, None, None);
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |e| Error::Line {
                path: path.clone(),
                line: number,
                reason: format!("is no line that a run writes: {e}"),
            };
            match serde_json::from_str(line).map_err(wrong)? {
                Line::Start(line) => start = Some(line),
                Line::Epoch(line) => {
                    if let Some(valid) = line.valid.clone() {
                        validations.push(Validation { epoch: line.epoch, step: line.step, valid });
                    }
                    epochs.push(line);
                }
                Line::RefitEpoch(line) => refit.push(line),
                Line::Validation(line) => validations.push(line),
                Line::Test(line) => test = Some(line),
                Line::RefitTest(line) => refit_test = Some(line),
                Line::Intentions(line) => recovery = Some(line),
                Line::Other => {}
            }
        }
        let start = start.filter(|_| !epochs.is_empty()).ok_or_else(|| {
            Error::Data(format!("{name}: no epoch is recorded yet; there is something to report after the first one"))
        })?;
        let folder = folder.to_owned();
        Ok(Record { folder, settings, start, epochs, refit, validations, test, refit_test, recovery })
    }

    /// The run's name in a report: its folder.
    pub fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// A step as epochs, so that runs with batches of different sizes share an axis.
    pub fn epochs_at(&self, step: u64) -> f64 {
        epochs_at(&self.epochs, step)
    }

    /// A step of the refit as epochs of it: it has more examples.
    pub fn refit_epochs_at(&self, step: u64) -> f64 {
        epochs_at(&self.refit, step)
    }

    /// The validation that chooses the epoch: the first of those with the best NDCG@10.
    pub fn best(&self) -> Option<&Validation> {
        let score = |validation: &Validation| {
            validation.valid.figure(self.settings.choose_by, "ndcg@10").unwrap_or(f64::NEG_INFINITY)
        };
        self.validations.iter().reduce(|best, next| if score(next) > score(best) { next } else { best })
    }

    /// Seconds of training alone, all epochs together.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.seconds).sum()
    }

    /// Training examples a second, over all epochs.
    pub fn examples_per_second(&self) -> Option<f64> {
        let examples: f64 =
            self.epochs.iter().filter_map(|epoch| Some(epoch.examples_per_second? * epoch.seconds)).sum();
        Some(examples / self.seconds()).filter(|speed| speed.is_finite() && *speed > 0.0)
    }

    /// The most memory that any process of the run took.
    pub fn peak_memory(&self) -> Option<u64> {
        self.epochs.iter().filter_map(|epoch| epoch.peak_memory_bytes).max()
    }
}

fn epochs_at(epochs: &[Epoch], step: u64) -> f64 {
    let per_epoch = epochs.first().map_or(1, |first| first.step.max(1));
    step as f64 / per_epoch as f64
}
