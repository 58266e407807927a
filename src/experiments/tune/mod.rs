//! Random search with asynchronous successive halving (ASHA, Li et al. 2020, in its stopping form): a trial goes on at a
//! rung only if its best validation so far is among the best of all trials that came there.

use std::collections::BTreeMap;

mod space;
mod study;

pub use space::Space;
pub use study::{Definition, Status, Study, TrialResult};

use super::claim::Claim;
use super::train;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::train::{Dataset, Ended, News, Observer};

/// What a worker tells of its trials.
#[derive(Debug)]
pub enum Told<'a> {
    Begun { trial: u64, drawn: &'a BTreeMap<String, serde_json::Value> },
    Ended(&'a TrialResult),
}

/// What is left when a worker finds nothing more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Trials that other processes are at.
    pub elsewhere: u64,
}

/// Works on the study's first `trials` trials until all are done or in other hands. `here`: what computes, and where the
/// data lie, on this machine. `keep`: leave the checkpoints of trials that are done.
///
/// # Errors
/// [`Error::Interrupted`] where the observer stops a trial, which can then be gone on with; else where files cannot be
/// read or written or the device fails.
pub fn work(
    study: &Study,
    data: &Dataset,
    here: &Settings,
    trials: u64,
    keep: bool,
    observer: &mut dyn Observer,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Left> {
    loop {
        let (mut did, mut elsewhere) = (0, 0);
        for trial in 0..trials {
            if study.result(trial)?.is_some() {
                continue;
            }
            let Some(_claim) = Claim::take(&study.lock(trial))? else {
                elsewhere += 1;
                continue;
            };
            // Another process may have ended it in between.
            if study.result(trial)?.is_some() {
                continue;
            }
            tell(Told::Begun { trial, drawn: &study.drawn(trial)? });
            let result = try_out(study, data, here, trial, observer)?;
            study.record(&result, keep)?;
            tell(Told::Ended(&result));
            did += 1;
        }
        // Another process may have ended before its trial did: look again until there is nothing to do.
        if did == 0 {
            return Ok(Left { elsewhere });
        }
    }
}

fn try_out(
    study: &Study,
    data: &Dataset,
    here: &Settings,
    trial: u64,
    observer: &mut dyn Observer,
) -> Result<TrialResult> {
    let folder = study.folder(trial);
    let settings = study.settings(trial)?.computed_as(here);
    let mut watcher = Watcher { study, trial, observer, scores: Vec::new(), verdict: None, failed: None };
    let ended = train(&folder, &settings, data, false, &mut watcher);
    let Watcher { verdict, failed, .. } = watcher;
    if let Some(error) = failed {
        return Err(error);
    }
    match ended {
        Ok(Ended::Finished { .. }) => study.judge(trial, Status::Finished),
        Ok(Ended::Stopped { .. }) => match verdict {
            Some(rung) => study.judge(trial, Status::Stopped { rung }),
            None => Err(Error::Interrupted),
        },
        // Settings that this machine or this data cannot take: the next trial may.
        Err(Error::Setting(reason) | Error::Adapter(reason)) => study.judge(trial, Status::Failed { reason }),
        Err(error) => Err(error),
    }
}

/// Follows a trial, and stops it where it is hopeless.
struct Watcher<'a> {
    study: &'a Study,
    trial: u64,
    observer: &'a mut dyn Observer,
    /// Of its validations.
    scores: Vec<f64>,
    /// The rung that it did not pass.
    verdict: Option<u64>,
    failed: Option<Error>,
}

impl Watcher<'_> {
    fn look(&mut self) {
        let judged = match self.study.definition.passes(self.study, self.trial, &self.scores) {
            Ok(true) => return,
            Ok(false) => {
                self.verdict = Some(self.scores.len() as u64);
                return;
            }
            Err(error) => error,
        };
        self.failed = Some(judged);
    }
}

impl Observer for Watcher<'_> {
    fn tell(&mut self, news: News<'_>) {
        let choose_by = self.study.definition.settings.choose_by;
        let figures = match &news {
            News::Started(_) => {
                // What was recorded before it was gone on with; the last of it may be a rung that it was not judged at.
                match self.study.scores(self.trial) {
                    Ok(scores) => self.scores = scores,
                    Err(error) => self.failed = Some(error),
                }
                self.look();
                None
            }
            News::Epoch(epoch) => epoch.valid.as_ref(),
            News::Validated { figures, .. } => Some(*figures),
            _ => None,
        };
        if let Some(figures) = figures {
            self.scores.push(figures.score(choose_by));
            self.look();
        }
        self.observer.tell(news);
    }

    fn stop(&mut self) -> bool {
        self.verdict.is_some() || self.failed.is_some() || self.observer.stop()
    }
}
