//! Leave-one-out evaluation: the rank of each user's held-out item, and what the ranks come to.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::data::batch::PositionFrom;
use crate::data::negatives::Negatives;
use crate::data::read::Counts;
use crate::data::split::{Part, Split};
use crate::error::Result;
use crate::model::Model;

/// Items that the truth is ranked against in the `sampled` protocol.
pub const NEGATIVES: usize = 100;

/// What the truth is ranked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 100 items that the user never met, drawn in proportion to their frequency.
    Sampled,
    /// The whole catalogue.
    Full,
}

/// What else decides an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub position_from: PositionFrom,
    /// `full`: whether the items of the user's history do not compete with the truth.
    pub exclude_known: bool,
    /// Evaluate this many users, drawn from the seed, rather than all.
    pub users: Option<usize>,
    /// Decides the negatives and which users.
    pub seed: u64,
}

/// Figures by name: `recall@10`, `ndcg@10`, `mrr`, `auc`, in that order.
pub type Metrics = IndexMap<String, f64>;

/// Figures, and what they are figures of.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Evaluation {
    pub protocol: Protocol,
    pub part: Part,
    /// Users evaluated.
    pub users: usize,
    /// The fewest items that a user's truth was ranked against.
    pub competitors: u32,
    /// The data set's size.
    pub counts: Counts,
    pub metrics: Metrics,
}

/// An evaluation that was prepared once (users and negatives drawn) and can be run on model after model.
#[derive(Debug)]
pub struct Evaluator {
    split: Arc<Split>,
    part: Part,
    protocol: Protocol,
    options: Options,
    /// Users evaluated, ascending.
    users: Vec<u32>,
    /// Empty but for the `sampled` protocol.
    negatives: Option<Negatives>,
}

impl Evaluator {
    /// # Errors
    /// Where no user can be evaluated.
    pub fn new(_split: Arc<Split>, _part: Part, _protocol: Protocol, _options: Options) -> Result<Evaluator> {
        todo!()
    }

    /// Number of users evaluated.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Evaluates a model. `progress` is told the number of users done.
    ///
    /// # Errors
    /// Where the model has another number of items than the data, or its engine fails.
    pub fn run(&self, _model: &mut Model, _progress: &mut dyn FnMut(usize)) -> Result<Evaluation> {
        let _ = (&self.split, self.part, self.protocol, self.options, &self.negatives);
        todo!()
    }
}
