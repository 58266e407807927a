//! What came of a run.

use std::path::Path;

use serde_json::Value;

use super::super::recorded;
use super::Cell;
use crate::error::Result;
use crate::settings::Settings;

/// The tests of a run that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub cell: Cell,
    /// The epoch that validation chose.
    pub epoch: u64,
    /// Epochs trained.
    pub epochs: u64,
    /// Training time.
    pub seconds: f64,
    /// Users tested.
    pub users: u64,
    /// The lines of `metrics.jsonl`, by their event: `test`, and with refit `refit_test`.
    pub tests: Vec<(String, Value)>,
}

impl Outcome {
    /// The outcome of the run in this folder; `None` where it is not done.
    pub(super) fn read(folder: &Path, cell: &Cell, settings: &Settings) -> Result<Option<Outcome>> {
        let lines = recorded(folder)?;
        let mut outcome = Outcome { cell: *cell, epoch: 0, epochs: 0, seconds: 0.0, users: 0, tests: Vec::new() };
        for line in lines {
            let event = line["event"].as_str().unwrap_or_default().to_owned();
            outcome.seconds += line["seconds"].as_f64().unwrap_or(0.0);
            match event.as_str() {
                "epoch" => outcome.epochs += 1,
                "test" => {
                    outcome.epoch = line["epoch"].as_u64().unwrap_or(0);
                    outcome.users = line["users"].as_u64().unwrap_or(0);
                }
                _ => {}
            }
            if event == "test" || event == "refit_test" {
                outcome.tests.push((event, line));
            }
        }
        let done = outcome.tests.len() == if settings.refit { 2 } else { 1 };
        Ok(done.then_some(outcome))
    }

    /// A figure of a test.
    pub(super) fn figure(&self, test: &str, protocol: &str, metric: &str) -> Option<f64> {
        let (_, line) = self.tests.iter().find(|(event, _)| event == test)?;
        line[protocol][metric].as_f64()
    }
}

/// Mean and standard deviation (that of a sample; 0 where there is one) of figures; `None` where there are none.
pub(super) fn spread(figures: &[f64]) -> Option<(f64, f64)> {
    let n = figures.len() as f64;
    if figures.is_empty() {
        return None;
    }
    let mean = figures.iter().sum::<f64>() / n;
    let squares = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>();
    Some((mean, if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { 0.0 }))
}
