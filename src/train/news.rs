//! What a run tells of itself: to an observer as it happens, and as lines of `metrics.jsonl`.

use serde_json::{Value, json};

use super::progress::{Losses, Phase};
use crate::data::clean::Dropped;
use crate::data::read::{Counts, Source};
use crate::data::split::Part;
use crate::engine::Description;
use crate::evaluate::{Evaluation, Protocol};
use crate::intentions::Recovery;
use crate::memory;
use crate::profile::Profile;
use crate::settings::Settings;

/// Follows a run, and may stop it.
pub trait Observer {
    fn tell(&mut self, news: News<'_>);

    /// Whether to save and stop at the next step.
    fn stop(&mut self) -> bool {
        false
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum News<'a> {
    Started(&'a Start),
    /// A step was handed to the engine.
    Step(Step),
    /// So many users of an evaluation are done.
    Evaluating {
        part: Part,
        protocol: Protocol,
        done: usize,
        users: usize,
    },
    Epoch(&'a Epoch),
    /// Some steps were profiled.
    Profiled(&'a Profile),
    /// A validation inside an epoch.
    Validated {
        epoch: u64,
        step: u64,
        figures: &'a Figures,
    },
    Tested(&'a Test),
    /// How well the intentions recover planted categories.
    Recovered(Recovery),
    /// The training anew on training and validation items begins.
    Refitting {
        steps: u64,
    },
}

/// What a run begins with.
#[derive(Clone, Debug)]
pub struct Start {
    pub data: String,
    pub counts: Counts,
    /// How the data were read, where from a file.
    pub source: Option<Source>,
    /// What was left out of it.
    pub dropped: Dropped,
    /// Whether items are held out by time, or leave-one-out.
    pub by_time: bool,
    /// Users with too few items to be tested, or with none after the time that the test begins with, or none before.
    pub kept_out: usize,
    pub validation_users: usize,
    pub examples: usize,
    pub parameters: usize,
    /// Bytes of the engine's buffers.
    pub bytes: usize,
    pub engine: Description,
    /// The step that is gone on from.
    pub step: u64,
}

/// How an epoch goes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// From 1.
    pub epoch: u64,
    /// Steps of the epoch done, of all it has.
    pub batch: u64,
    pub batches: u64,
    /// Of the steps whose losses have been read; `None` before the first.
    pub losses: Option<Losses>,
    pub examples_per_second: f64,
    /// Seconds until the epoch ends, and until the last one would.
    pub left: [f64; 2],
}

/// An epoch that was finished.
#[derive(Clone, Debug)]
pub struct Epoch {
    pub phase: Phase,
    pub epoch: u64,
    pub step: u64,
    /// Training time alone.
    pub seconds: f64,
    pub examples_per_second: f64,
    pub losses: Losses,
    pub valid: Option<Figures>,
    /// Validations since the best one.
    pub stale: u64,
}

/// One evaluation under both protocols.
#[derive(Clone, Debug)]
pub struct Figures {
    pub sampled: Evaluation,
    pub full: Evaluation,
}

/// Test figures of a chosen epoch.
#[derive(Clone, Debug)]
pub struct Test {
    /// Whether of the training on training and validation items.
    pub refit: bool,
    pub epoch: u64,
    pub figures: Figures,
}

impl Figures {
    /// NDCG@10, by which epochs are chosen.
    pub fn score(&self, protocol: Protocol) -> f64 {
        let evaluation = match protocol {
            Protocol::Sampled => &self.sampled,
            Protocol::Full => &self.full,
        };
        evaluation.metrics.get("ndcg@10").copied().unwrap_or(0.0)
    }

    fn json(&self) -> Value {
        json!({ "sampled": self.sampled.metrics, "full": self.full.metrics })
    }
}

impl Start {
    pub(super) fn line(&self, settings: &Settings) -> Value {
        let Counts { users, items, interactions } = self.counts;
        json!({
            "event": "start", "users": users, "items": items, "interactions": interactions,
            "examples": self.examples, "parameters": self.parameters, "engine": self.engine.engine,
            "adapter": self.engine.adapter, "driver": self.engine.driver, "threads": self.engine.threads,
            "users_kept_out": self.kept_out, "settings": settings,
        })
    }
}

impl Epoch {
    pub(super) fn line(&self) -> Value {
        let Losses { seq2item, seq2seq, seq2seq_all, total } = self.losses;
        let event = if self.phase == Phase::Choose { "epoch" } else { "refit_epoch" };
        let mut line = json!({
            "event": event, "epoch": self.epoch, "step": self.step, "seconds": self.seconds,
            "examples_per_second": self.examples_per_second, "loss_s2i": seq2item, "loss_s2s": seq2seq,
            "loss_s2s_all": seq2seq_all, "loss_total": total, "peak_memory_bytes": memory::peak(),
        });
        if let Some(valid) = &self.valid {
            line["valid"] = valid.json();
        }
        line
    }
}

pub(super) fn validation_line(epoch: u64, step: u64, figures: &Figures) -> Value {
    json!({ "event": "validation", "epoch": epoch, "step": step, "valid": figures.json() })
}

impl Test {
    pub(super) fn line(&self) -> Value {
        let Figures { sampled, full } = &self.figures;
        json!({
            "event": if self.refit { "refit_test" } else { "test" }, "epoch": self.epoch, "users": sampled.users,
            "sampled": sampled.metrics, "full": full.metrics,
        })
    }
}

pub(super) fn recovery_line(recovery: &Recovery) -> Value {
    let Recovery { nmi, nmi_shuffled, tokens } = recovery;
    json!({ "event": "intentions", "nmi": nmi, "nmi_shuffled": nmi_shuffled, "tokens": tokens })
}
