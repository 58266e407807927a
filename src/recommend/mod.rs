//! Recommendations: the items that score highest after a history, and why.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

mod catalogue;
mod export;
mod histories;
mod output;
mod ranking;
#[cfg(feature = "parquet")]
mod table;
mod usage;
mod vectors;

pub use catalogue::{Catalogue, Item, Known};
pub use export::{Format, write_items, write_users};
pub use histories::{Histories, Request, read_interactions, read_users};
pub use output::{Line, Output, to_json};
pub use ranking::{Best, Scored, balanced};
pub use usage::Usage;
pub use vectors::{Near, Vectors};

use crate::checkpoint::Checkpoint;
use crate::data::batch::Packed;
use crate::data::pack::pack_sequences;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{Hyper, Model, Represented, Variant};

/// Items of a batch of histories, about.
const TOKENS: usize = 1 << 14;
/// The most histories of a batch.
const BATCH: usize = 128;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How many items.
    pub top: usize,
    /// Whether items of the history may be recommended again.
    pub keep_history: bool,
    /// Whether the list is [`balanced`] over intentions.
    pub diversify: bool,
    /// How many items of the history are named for each intention; 0 for no explanation.
    pub explain: usize,
}

/// A recommended item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    #[serde(flatten)]
    pub item: Item,
    /// phi_k . h, of the intention that scored it.
    pub score: f32,
    /// The intention k that scored it, from 0: the one with the highest score, or whose turn it was.
    pub intention: u32,
}

/// What an intention is to a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intention {
    pub intention: u32,
    /// How much of the history it holds, the sum over i of p_{k|i} p_i: of all intentions together, 1.
    pub share: f32,
    /// The items that feed it most.
    pub from: Vec<Fed>,
}

/// An item of the history that feeds an intention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fed {
    #[serde(flatten)]
    pub item: Item,
    /// p_{k|i} p_i, as a share of the intention's sum; of an item that was met several times, together.
    pub share: f32,
}

/// The answer for one history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub recommendations: Vec<Recommendation>,
    /// All intentions, in order; empty without an explanation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intentions: Vec<Intention>,
}

/// Vectors of one history.
#[derive(Clone, Debug, PartialEq)]
pub struct UserVectors {
    /// phi, `[K, D]`
    pub vectors: Vec<f32>,
    /// The sum over i of p_{k|i} p_i, `[K]`
    pub shares: Vec<f32>,
}

/// A checkpoint's model, ready to be asked.
pub struct Recommender {
    model: Model,
    catalogue: Catalogue,
    hyper: Hyper,
}

impl Recommender {
    /// One that takes a batch of histories at a time, or where not `many`, one. Items are shown with the titles in a file.
    ///
    /// # Errors
    /// Where the engine cannot hold the model, or the titles cannot be read.
    pub fn new(
        checkpoint: Checkpoint,
        engine: Box<dyn Engine>,
        titles: Option<&Path>,
        many: bool,
    ) -> Result<Recommender> {
        let settings = &checkpoint.settings;
        let batch = if many { (TOKENS / settings.length).clamp(1, BATCH) } else { 1 };
        // Nothing is trained: room for labels and targets would be wasted.
        let hyper = Hyper { batch, lambda: 0.0, variant: Variant::SequenceToItem, ..settings.hyper() };
        let model = checkpoint.model(engine, hyper)?;
        Ok(Recommender { model, catalogue: Catalogue::new(checkpoint.items, titles)?, hyper })
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The most histories that are asked for at once.
    pub fn batch(&self) -> usize {
        self.model.evaluation_batch()
    }

    /// K
    pub fn intentions(&self) -> usize {
        self.model.shape().intentions
    }

    /// D
    pub fn dim(&self) -> usize {
        self.model.shape().dim
    }

    /// L, the most items of a history that count: its last ones.
    pub fn length(&self) -> usize {
        self.model.shape().length
    }

    /// The answer for each history (numbers of items, oldest first, not empty): best items first, or balanced; equal scores
    /// in the catalogue's order.
    ///
    /// # Errors
    /// Where there are more histories than [`batch`](Recommender::batch) says, scores are not numbers, or the device fails.
    pub fn recommend(&mut self, histories: &[&[u32]], options: Options) -> Result<Vec<Answer>> {
        let Options { top, keep_history, diversify, explain } = options;
        let packed = self.pack(histories);
        let seen: Vec<Vec<u32>> = histories.iter().map(|history| sorted(history)).collect();
        let (intentions, catalogue) = (self.intentions(), &self.catalogue);
        let rows_each = if diversify { intentions } else { 1 };
        let mut best: Vec<Best> = (0..histories.len() * rows_each).map(|_| Best::new(top)).collect();
        let represented = self.model.catalogue_scores(&packed, diversify, &mut |items, scores, by| {
            let rows = best.par_iter_mut().zip(scores.par_chunks(items.len())).zip(by.par_chunks(items.len()));
            rows.enumerate().for_each(|(row, ((best, scores), by))| {
                let seen = &seen[row / rows_each];
                let excluded = |item| !keep_history && seen.binary_search(&item).is_ok();
                for ((item, &score), &by) in items.clone().zip(scores).zip(by) {
                    let intention = if diversify { (row % rows_each) as u32 } else { by };
                    best.offer(Scored { score, item, intention }, excluded);
                }
            });
        })?;
        if best.iter().any(|best| best.broken) {
            return Err(Error::Data("the model's scores are not numbers: its training has diverged".into()));
        }
        let mut rankings = best.into_iter().map(Best::sorted);
        let shares = shares(&packed, &represented, intentions);
        Ok((0..histories.len())
            .map(|sequence| {
                let shares = &shares[sequence * intentions..][..intentions];
                let rankings: Vec<Vec<Scored>> = rankings.by_ref().take(rows_each).collect();
                let list = if diversify { balanced(&rankings, shares, top) } else { rankings.concat() };
                let shown =
                    |Scored { score, item, intention }| Recommendation { item: catalogue.item(item), score, intention };
                let explained = |k: usize| Intention {
                    intention: k as u32,
                    share: shares[k],
                    from: fed(&packed, &represented, sequence, (k, intentions), explain)
                        .into_iter()
                        .map(|(item, share)| Fed { item: catalogue.item(item), share })
                        .collect(),
                };
                Answer {
                    recommendations: list.into_iter().map(shown).collect(),
                    intentions: if explain > 0 { (0..intentions).map(explained).collect() } else { Vec::new() },
                }
            })
            .collect())
    }

    /// The vectors of each history, whose dot products with items' vectors are the scores.
    ///
    /// # Errors
    /// As [`recommend`](Recommender::recommend).
    pub fn user_vectors(&mut self, histories: &[&[u32]]) -> Result<Vec<UserVectors>> {
        let packed = self.pack(histories);
        let represented = self.model.represented(&packed)?;
        let (k, dim) = (self.intentions(), self.dim());
        let shares = shares(&packed, &represented, k);
        let each = represented.phi.chunks_exact(k * dim).zip(shares.chunks_exact(k));
        Ok(each.map(|(phi, shares)| UserVectors { vectors: phi.to_vec(), shares: shares.to_vec() }).collect())
    }

    fn pack(&self, histories: &[&[u32]]) -> Packed {
        pack_sequences(histories, self.length(), self.hyper.position_from)
    }
}

fn sorted(items: &[u32]) -> Vec<u32> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

/// How much of each sequence each intention holds, `[sequences, K]`.
fn shares(packed: &Packed, represented: &Represented, intentions: usize) -> Vec<f32> {
    let Represented { cluster, weight, .. } = represented;
    let mut shares = vec![0.0; packed.sequences() * intentions];
    for (token, &owner) in packed.owners.iter().enumerate() {
        let sums = &mut shares[owner as usize * intentions..][..intentions];
        for (sum, p) in sums.iter_mut().zip(&cluster[token * intentions..]) {
            *sum += p * weight[token];
        }
    }
    shares
}

/// The items of a sequence that feed intention k of K most, with their share of it.
fn fed(
    packed: &Packed,
    represented: &Represented,
    sequence: usize,
    (k, intentions): (usize, usize),
    most: usize,
) -> Vec<(u32, f32)> {
    let tokens = packed.offsets[sequence] as usize..packed.offsets[sequence + 1] as usize;
    let mut fed: Vec<(u32, f32)> = tokens
        .map(|token| (packed.items[token], represented.cluster[token * intentions + k] * represented.weight[token]))
        .collect();
    let total: f32 = fed.iter().map(|(_, share)| share).sum();
    fed.sort_by_key(|(item, _)| *item);
    fed.dedup_by(|(item, share), (kept, sum)| {
        let same = item == kept;
        if same {
            *sum += *share;
        }
        same
    });
    fed.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    fed.truncate(most);
    fed.into_iter().map(|(item, share)| (item, if total > 0.0 { share / total } else { 0.0 })).collect()
}
