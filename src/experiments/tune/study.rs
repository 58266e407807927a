//! A study: its folder, its trials, and how they compare.
//!
//! ```text
//! STUDY/study.json          what is searched, written once
//!      /trials.jsonl        a line for every trial that is done
//!      /best.toml           the settings of the best of them
//!      /trials/7            an ordinary run's folder
//!      /trials/7.json       its result
//!      /trials/7.lock       locked while a process is at it
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::claim::Claim;
use super::super::recorded;
use super::Space;
use super::space::given;
use crate::error::{Error, Result};
use crate::evaluate::Protocol;
use crate::run::write_whole;
use crate::settings::Settings;

/// What decides a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Decides what the trials draw.
    pub study_seed: u64,
    /// The validation at which a trial is first compared.
    pub first_rung: u64,
    /// One in so many goes on at a rung, and the next rung comes after so many times the validations.
    pub reduction: u64,
    pub space: Space,
    /// What is not drawn.
    pub settings: Settings,
}

impl Definition {
    /// Whether a trial with these validations is to go on: it is at no rung, or among the best there.
    pub(super) fn passes(&self, study: &Study, trial: u64, scores: &[f64]) -> Result<bool> {
        let reached = scores.len() as u64;
        if !self.is_rung(reached) {
            return Ok(true);
        }
        let own = best_of(scores);
        let others: Vec<f64> = study
            .numbers()?
            .into_iter()
            .filter(|&other| other != trial)
            .map(|other| study.score_at(other, reached))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        Ok(among_best(own, &others, self.reduction))
    }

    fn is_rung(&self, validations: u64) -> bool {
        let mut rung = self.first_rung;
        while rung < validations {
            rung = rung.saturating_mul(self.reduction);
        }
        rung == validations
    }
}

/// Whether a score is among the best 1 / `reduction` (at least one) of itself and the others; equals do not harm each other.
fn among_best(own: f64, others: &[f64], reduction: u64) -> bool {
    let pass = ((others.len() as u64 + 1) / reduction).max(1);
    (others.iter().filter(|&&other| other > own).count() as u64) < pass
}

fn best_of(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(0.0, f64::max)
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    /// By its own limits: epochs, steps or patience.
    Finished,
    /// After this many validations it was not among the best.
    Stopped { rung: u64 },
    /// Its settings do not fit the data or the machine.
    Failed { reason: String },
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    pub trial: u64,
    #[serde(flatten)]
    pub status: Status,
    /// The best NDCG@10 of its validations, under the protocol.
    pub score: f64,
    pub protocol: Protocol,
    /// The epoch of the best.
    pub epoch: u64,
    pub validations: u64,
    /// Training time.
    pub seconds: f64,
    pub engine: String,
    /// What was drawn.
    pub drawn: BTreeMap<String, Value>,
}

/// A study in its folder.
#[derive(Debug)]
pub struct Study {
    folder: PathBuf,
    pub definition: Definition,
}

impl Study {
    /// Whether there is a study in the folder.
    pub fn exists(folder: &Path) -> bool {
        folder.join("study.json").is_file()
    }

    /// Begins a study. Of processes that do so at once, one does; all go on with what that one wrote.
    ///
    /// # Errors
    /// Where the space does not fit the settings or a file cannot be written.
    pub fn create(folder: &Path, definition: &Definition) -> Result<Study> {
        definition.space.check(&definition.settings)?;
        if definition.first_rung == 0 || definition.reduction < 2 {
            return Err(Error::Setting("a study takes a first rung from 1 and a reduction from 2".into()));
        }
        let trials = folder.join("trials");
        fs::create_dir_all(&trials).map_err(Error::file("make the folder", &trials))?;
        let path = folder.join("study.json");
        let text = serde_json::to_string_pretty(definition).map_err(|e| Error::Data(format!("study.json: {e}")))?;
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            match file.persist_noclobber(&path) {
                Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => Err(e.error),
                _ => Ok(()),
            }
        };
        write().map_err(Error::file("write", &path))?;
        Study::open(folder)
    }

    /// The study in a folder.
    ///
    /// # Errors
    /// Where there is none, or it is not one of this program's.
    pub fn open(folder: &Path) -> Result<Study> {
        let path = folder.join("study.json");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let definition: Definition =
            serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        definition.settings.check()?;
        definition.space.check(&definition.settings)?;
        Ok(Study { folder: folder.to_owned(), definition })
    }

    pub fn best_settings(&self) -> PathBuf {
        self.folder.join("best.toml")
    }

    pub(super) fn folder(&self, trial: u64) -> PathBuf {
        self.folder.join("trials").join(trial.to_string())
    }

    pub(super) fn lock(&self, trial: u64) -> PathBuf {
        self.folder.join("trials").join(format!("{trial}.lock"))
    }

    fn result_file(&self, trial: u64) -> PathBuf {
        self.folder.join("trials").join(format!("{trial}.json"))
    }

    /// What a trial has drawn.
    pub(super) fn drawn(&self, trial: u64) -> Result<BTreeMap<String, Value>> {
        Ok(self.definition.space.draw(self.definition.study_seed, trial))
    }

    /// All of a trial's settings.
    ///
    /// # Errors
    /// Where the study's space holds values that settings do not take.
    pub fn settings(&self, trial: u64) -> Result<Settings> {
        self.definition.settings.clone().with(&given(&self.drawn(trial)?)?)
    }

    /// A trial's result, where it is done.
    ///
    /// # Errors
    /// Where its file cannot be read.
    pub fn result(&self, trial: u64) -> Result<Option<TrialResult>> {
        let path = self.result_file(trial);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| Error::Data(format!("{} is no trial's result: {e}", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file("read", &path)(e)),
        }
    }

    /// Numbers of all trials that were begun, ascending.
    fn numbers(&self) -> Result<Vec<u64>> {
        let folder = self.folder.join("trials");
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let name = entry.map_err(Error::file("read", &folder))?.file_name();
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".lock")).and_then(|n| n.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// All results so far, best first.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn results(&self) -> Result<Vec<TrialResult>> {
        let results: Result<Vec<_>> = self.numbers()?.into_iter().map(|trial| self.result(trial)).collect();
        let mut results: Vec<_> = results?.into_iter().flatten().collect();
        let failed = |result: &TrialResult| matches!(result.status, Status::Failed { .. });
        results.sort_by(|a, b| failed(a).cmp(&failed(b)).then(b.score.total_cmp(&a.score)));
        Ok(results)
    }

    /// The scores of a trial's validations so far.
    pub(super) fn scores(&self, trial: u64) -> Result<Vec<f64>> {
        let protocol = serde_json::json!(self.definition.settings.choose_by);
        let protocol = protocol.as_str().unwrap_or_default();
        let lines = recorded(&self.folder(trial))?;
        Ok(lines.iter().filter_map(|line| line["valid"][protocol]["ndcg@10"].as_f64()).collect())
    }

    /// The best score that a trial had after so many validations; of one that finished with fewer, its best.
    fn score_at(&self, trial: u64, validations: u64) -> Result<Option<f64>> {
        let scores = self.scores(trial)?;
        if let Some(first) = scores.get(..validations as usize) {
            return Ok(Some(best_of(first)));
        }
        let finished = self.result(trial)?.is_some_and(|result| result.status == Status::Finished);
        Ok(finished.then(|| best_of(&scores)))
    }

    /// The result of a trial that has ended.
    pub(super) fn judge(&self, trial: u64, status: Status) -> Result<TrialResult> {
        let protocol = self.definition.settings.choose_by;
        let name = serde_json::json!(protocol);
        let name = name.as_str().unwrap_or_default();
        let lines = recorded(&self.folder(trial))?;
        let mut result = TrialResult {
            trial,
            status,
            score: 0.0,
            protocol,
            epoch: 0,
            validations: 0,
            seconds: 0.0,
            engine: String::new(),
            drawn: self.drawn(trial)?,
        };
        for line in &lines {
            result.seconds += line["seconds"].as_f64().unwrap_or(0.0);
            if line["event"] == "start" {
                result.engine = line["engine"].as_str().unwrap_or_default().to_owned();
            }
            if let Some(score) = line["valid"][name]["ndcg@10"].as_f64() {
                result.validations += 1;
                if score > result.score {
                    (result.score, result.epoch) = (score, line["epoch"].as_u64().unwrap_or(0));
                }
            }
        }
        Ok(result)
    }

    /// Records a result, and brings `trials.jsonl` and `best.toml` up to date.
    pub(super) fn record(&self, result: &TrialResult, keep: bool) -> Result<()> {
        let line = |result: &TrialResult| serde_json::json!(result).to_string() + "\n";
        write_whole(&self.result_file(result.trial), line(result).as_bytes())?;
        if !keep {
            // Its settings give them again.
            for name in ["best.safetensors", "last.safetensors"] {
                let path = self.folder(result.trial).join(name);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("remove", &path)(e)),
                    _ => {}
                }
            }
        }
        // Of two processes at once, the second must see the first's result.
        let _claim = Claim::wait(&self.folder.join("results.lock"))?;
        let results = self.results()?;
        let mut by_number: Vec<&TrialResult> = results.iter().collect();
        by_number.sort_by_key(|result| result.trial);
        let lines: String = by_number.into_iter().map(line).collect();
        write_whole(&self.folder.join("trials.jsonl"), lines.as_bytes())?;
        let Some(best) = results.first().filter(|best| best.validations > 0) else { return Ok(()) };
        let head = format!(
            "# Trial {}: NDCG@10 {:.4} in validation, {} protocol, epoch {}.\n\n",
            best.trial,
            best.score,
            serde_json::json!(best.protocol).as_str().unwrap_or_default(),
            best.epoch
        );
        write_whole(&self.best_settings(), (head + &self.settings(best.trial)?.to_toml()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_goes_on_and_at_least_one() {
        // Alone, and the better or equal of two.
        assert!(among_best(0.1, &[], 3));
        assert!(among_best(0.2, &[0.1], 3) && among_best(0.1, &[0.1], 3) && !among_best(0.1, &[0.2], 3));
        // Two of six.
        let others = [0.5, 0.4, 0.3, 0.2, 0.1];
        assert!(among_best(0.45, &others, 3) && !among_best(0.35, &others, 3));
    }

    #[test]
    fn rungs_are_powers_of_the_reduction_times_the_first() {
        let definition = Definition {
            study_seed: 1,
            first_rung: 2,
            reduction: 3,
            space: Space::paper().unwrap(),
            settings: Settings::default(),
        };
        let rungs: Vec<u64> = (0..60).filter(|&validations| definition.is_rung(validations)).collect();
        assert_eq!(rungs, [2, 6, 18, 54]);
    }
}
