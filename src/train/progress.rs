//! How far a run is: all that the loop carries from step to step beside parameters and Adam's state.

use serde::{Deserialize, Serialize};

use crate::data::sample::SamplerState;
use crate::model::StepLosses;

/// What a run does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Trains on the training items and chooses the epoch by validation.
    #[default]
    Choose,
    /// Trains anew on training and validation items for this many steps.
    Refit { steps: u64 },
}

/// The best validation so far.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Best {
    /// NDCG@10 of the protocol that chooses.
    pub score: f64,
    /// From 1; the epoch under way where it was not at its end.
    pub epoch: u64,
    pub step: u64,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    pub phase: Phase,
    /// Where the sampling is after the last step.
    pub sampler: SamplerState,
    /// Steps of this phase.
    pub step: u64,
    /// Epochs of this phase that were recorded.
    pub recorded: u64,
    /// The step at which one was last recorded.
    pub recorded_step: u64,
    /// Losses of the epoch under way.
    pub sums: Sums,
    /// Training time of the epoch under way.
    pub seconds: f64,
    /// Step of the last validation; 0 before the first.
    pub validated: u64,
    pub best: Option<Best>,
    /// Validations since the best.
    pub stale: u64,
    /// Lines of `metrics.jsonl`.
    pub lines: usize,
}

impl Progress {
    /// The epoch under way, from 1, or the one that was just finished; 0 before the first step.
    pub fn epoch(&self) -> u64 {
        u64::from(self.sampler.epoch) + u64::from(self.sampler.batch > 0)
    }

    /// Takes a validation's score. True where it is the best so far.
    pub fn judge(&mut self, score: f64) -> bool {
        self.validated = self.step;
        let better = self.best.is_none_or(|best| score > best.score);
        if better {
            self.best = Some(Best { score, epoch: self.epoch(), step: self.step });
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        better
    }
}

/// Losses summed over steps.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    pub examples: u64,
    pub selected: u64,
    pub pairs: u64,
    pub seq2item: f64,
    pub seq2seq: f64,
    pub seq2seq_all: f64,
}

/// Mean losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Eq. 6, per example.
    pub seq2item: f64,
    /// Eq. 4, per selected pair; 0 where none was.
    pub seq2seq: f64,
    /// Eq. 3, per pair; 0 where there is no such loss.
    pub seq2seq_all: f64,
    /// Eq. 7, per example.
    pub total: f64,
}

impl Sums {
    pub fn add(&mut self, step: &StepLosses) {
        self.examples += u64::from(step.examples);
        self.selected += u64::from(step.selected);
        self.pairs += u64::from(step.pairs);
        self.seq2item += f64::from(step.seq2item);
        self.seq2seq += f64::from(step.seq2seq);
        self.seq2seq_all += f64::from(step.seq2seq_all);
    }

    pub fn means(&self) -> Losses {
        let mean = |sum: f64, n: u64| if n == 0 { 0.0 } else { sum / n as f64 };
        Losses {
            seq2item: mean(self.seq2item, self.examples),
            seq2seq: mean(self.seq2seq, self.selected),
            seq2seq_all: mean(self.seq2seq_all, self.pairs),
            total: mean(self.seq2item + self.seq2seq, self.examples),
        }
    }
}
