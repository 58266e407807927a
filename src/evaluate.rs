//! Evaluation: the rank of each user's held-out item, and what the ranks come to.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::data::batch::{Packed, PositionFrom, Segments};
use crate::data::negatives::Negatives;
use crate::data::pack::pack_sequences;
use crate::data::read::Counts;
use crate::data::split::{Part, Split};
use crate::error::{Error, Result};
use crate::model::{Model, Prior};

mod beyond;
mod lists;
mod resample;

pub use beyond::{Beyond, Bucket, Items};
pub use resample::{Difference, Interval, Resampling, differences, intervals};

/// Items that the truth is ranked against in the `sampled` protocol.
pub const NEGATIVES: usize = 100;

/// What the truth is ranked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 100 items that the user never met, drawn in proportion to their frequency.
    #[default]
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
    /// What scores take from items' occurrences.
    pub prior: Prior,
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
    /// What scores took from items' occurrences.
    #[serde(skip_serializing_if = "Prior::is_nothing")]
    pub prior: Prior,
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
    /// Of each of `users`, in the `sampled` protocol.
    negatives: Option<Negatives>,
}

impl Evaluator {
    /// Draws users and negatives.
    ///
    /// # Errors
    /// Where no user can be evaluated.
    pub fn new(split: Arc<Split>, part: Part, protocol: Protocol, options: Options) -> Result<Evaluator> {
        let users = split.evaluated_users(part, options.users, options.seed);
        if users.is_empty() {
            let why = match (split.is_by_time(), part) {
                (false, _) => "none has 3 items or more",
                (true, Part::Validation) => "none has items both before --valid-from and between it and --test-from",
                (true, Part::Test) => "none has items both before and after --test-from",
            };
            return Err(Error::Data(format!("no user can be evaluated: {why}")));
        }
        let negatives = match protocol {
            Protocol::Sampled => Some(Negatives::draw(&split, part, &users, NEGATIVES, options.seed)),
            Protocol::Full => None,
        };
        Ok(Evaluator { split, part, protocol, options, users, negatives })
    }

    /// Number of users evaluated.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Evaluates a model. `progress` is told the number of users done, and says whether to go on.
    ///
    /// # Errors
    /// Where the model has another number of items than the data, or its engine fails; [`Error::Interrupted`] where
    /// `progress` does not want it to go on.
    pub fn run(&self, model: &mut Model, progress: &mut dyn FnMut(usize) -> bool) -> Result<Evaluation> {
        Ok(self.summary(&self.ranks(model, progress)?))
    }

    /// The rank of each evaluated user's held-out item.
    ///
    /// # Errors
    /// As [`run`](Evaluator::run).
    pub fn ranks(&self, model: &mut Model, progress: &mut dyn FnMut(usize) -> bool) -> Result<Vec<Rank>> {
        self.check(model)?;
        model.set_prior(self.options.prior)?;
        let counts = self.split.counts();
        let mut ranks = Vec::with_capacity(self.users.len());
        for block in self.users.chunks(model.evaluation_batch()) {
            let histories: Vec<&[u32]> = block.iter().map(|&user| self.split.history(user, self.part)).collect();
            let truth: Vec<u32> = block.iter().map(|&user| self.split.truth(user, self.part)).collect();
            let packed = pack_sequences(&histories, model.shape().length, self.options.position_from);
            match &self.negatives {
                Some(negatives) => {
                    let negatives: Vec<&[u32]> =
                        (ranks.len()..ranks.len() + block.len()).map(|user| negatives.of(user)).collect();
                    sampled_ranks(model, &packed, &truth, &negatives, &mut ranks)?;
                }
                None => {
                    let known = self.known(&histories);
                    let higher = model.catalogue_ranks(&packed, &truth, &known)?;
                    ranks.extend(higher.into_iter().enumerate().map(|(s, rank)| {
                        let known = &known.sources[known.starts[s] as usize..known.starts[s + 1] as usize];
                        let out = known.len() - usize::from(known.contains(&truth[s]));
                        Rank { rank, competitors: (counts.items - 1 - out) as u32 }
                    }));
                }
            }
            if !progress(ranks.len()) && ranks.len() < self.users.len() {
                return Err(Error::Interrupted);
            }
        }
        Ok(ranks)
    }

    /// What the ranks come to.
    pub fn summary(&self, ranks: &[Rank]) -> Evaluation {
        Evaluation {
            protocol: self.protocol,
            part: self.part,
            users: ranks.len(),
            competitors: ranks.iter().map(|rank| rank.competitors).min().unwrap_or(0),
            counts: self.split.counts(),
            prior: self.options.prior,
            metrics: metrics(ranks, self.protocol),
        }
    }

    /// Refuses a model of another catalogue.
    fn check(&self, model: &Model) -> Result<()> {
        let (known, items) = (model.shape().items, self.split.counts().items);
        if known == items {
            return Ok(());
        }
        Err(Error::Data(format!(
            "the model has {known} items and the data {items}: evaluate on the data that it was trained on"
        )))
    }

    /// The items that do not compete with each history's truth.
    fn known(&self, histories: &[&[u32]]) -> Segments {
        let mut known = Segments { starts: vec![0], sources: Vec::new() };
        for history in histories {
            if self.options.exclude_known {
                let mut items = history.to_vec();
                items.sort_unstable();
                items.dedup();
                known.sources.extend(items);
            }
            known.starts.push(known.sources.len() as u32);
        }
        known
    }
}

/// Ranks each sequence's truth among its own negatives.
fn sampled_ranks(
    model: &mut Model,
    sequences: &Packed,
    truth: &[u32],
    negatives: &[&[u32]],
    ranks: &mut Vec<Rank>,
) -> Result<()> {
    // As wide for all: what a user lacks is filled up and not looked at.
    let width = 1 + negatives.iter().map(|negatives| negatives.len()).max().unwrap_or(0);
    let mut candidates = Vec::with_capacity(truth.len() * width);
    for (&truth, negatives) in truth.iter().zip(negatives) {
        candidates.push(truth);
        candidates.extend_from_slice(negatives);
        candidates.resize(candidates.len().next_multiple_of(width), truth);
    }
    let (scores, _) = model.candidate_scores(sequences, &candidates)?;
    ranks.extend(scores.chunks_exact(width).zip(negatives).map(|(scores, negatives)| {
        let others = &scores[1..=negatives.len()];
        Rank { rank: rank(scores[0], others), competitors: others.len() as u32 }
    }));
    Ok(())
}

/// The place of a truth among those it competes with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rank {
    /// Competitors that are ahead; 0 is the best.
    pub rank: u32,
    pub competitors: u32,
}

/// How many of `others` are ahead of the truth: those with as high a score, too, and those whose score is not finite. All
/// are ahead of a truth whose own score is not finite.
pub fn rank(truth: f32, others: &[f32]) -> u32 {
    let ahead = |&&score: &&f32| !truth.is_finite() || !score.is_finite() || score >= truth;
    others.iter().filter(ahead).count() as u32
}

/// A figure that a rank has; users' mean is the figure of an evaluation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Figure {
    /// Whether the truth is among the first n.
    Recall(u32),
    /// 1 / log2(place + 1) where it is, places from 1.
    Ndcg(u32),
    /// 1 / place
    Mrr,
    /// The share of competitors behind the truth; 1 where there are none.
    Auc,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Recall(n) => write!(f, "recall@{n}"),
            Figure::Ndcg(n) => write!(f, "ndcg@{n}"),
            Figure::Mrr => f.write_str("mrr"),
            Figure::Auc => f.write_str("auc"),
        }
    }
}

impl Figure {
    fn of(self, at: Rank) -> f64 {
        match self {
            Figure::Recall(n) => f64::from(u8::from(at.rank < n)),
            Figure::Ndcg(n) if at.rank < n => 1.0 / (f64::from(at.rank) + 2.0).log2(),
            Figure::Ndcg(_) => 0.0,
            Figure::Mrr => 1.0 / (f64::from(at.rank) + 1.0),
            Figure::Auc => 1.0 - f64::from(at.rank) / f64::from(at.competitors.max(1)),
        }
    }
}

/// The figures of a protocol.
fn figures(protocol: Protocol) -> Vec<Figure> {
    let first: &[u32] = match protocol {
        Protocol::Sampled => &[1, 5, 10],
        Protocol::Full => &[1, 5, 10, 20, 100],
    };
    // NDCG@1 is Recall@1.
    let (recall, ndcg) = (first.iter().map(|&n| Figure::Recall(n)), first[1..].iter().map(|&n| Figure::Ndcg(n)));
    recall.chain(ndcg).chain([Figure::Mrr, Figure::Auc]).collect()
}

/// Means over users: Recall@n (the truth is among the first n), NDCG@n (1 / log2(place + 1) where it is, places from 1),
/// MRR (1 / place) and AUC (the share of competitors behind the truth; 1 where there are none).
pub fn metrics(ranks: &[Rank], protocol: Protocol) -> Metrics {
    let mean = |figure: Figure| ranks.iter().map(|&rank| figure.of(rank)).sum::<f64>() / ranks.len() as f64;
    figures(protocol).into_iter().map(|figure| (figure.to_string(), mean(figure))).collect()
}
