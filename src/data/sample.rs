//! The order in which training examples are drawn.
//!
//! An example (u, t) is held as the place of its target x_{t+1} among all clicks: the input is what the user met before.

use std::sync::Arc;

use rand::seq::SliceRandom;

use super::split::Split;
use super::{Stream, stream};
use crate::error::{Error, Result};

/// Where the sampling is; with the seed this decides all that follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SamplerState {
    /// Epochs completed.
    pub epoch: u32,
    /// Batches done of the epoch under way; fewer than an epoch has.
    pub batch: u64,
}

/// Draws the examples of batch after batch. An epoch is one pass over all, in an order that its number and the seed
/// decide; its last batch may be smaller.
#[derive(Debug)]
pub struct Sampler {
    split: Arc<Split>,
    batch: usize,
    seed: u64,
    state: SamplerState,
    /// Epoch whose order `order` is.
    ordered: Option<u32>,
    order: Vec<u32>,
}

impl Sampler {
    /// Draws batches of `batch` examples from `state` on.
    ///
    /// # Errors
    /// Where there is no example, or `state` lies beyond the epoch (it came from other data or another batch size).
    pub fn new(split: Arc<Split>, batch: usize, seed: u64, state: SamplerState) -> Result<Sampler> {
        if batch == 0 {
            return Err(Error::Setting("batch: a batch needs at least one example".into()));
        }
        let order = examples(&split);
        if order.is_empty() {
            return Err(Error::Data(
                "no training examples: no user has two items left after the last two are held out for evaluation"
                    .into(),
            ));
        }
        let sampler = Sampler { split, batch, seed, state, ordered: None, order };
        if state.batch >= sampler.batches() {
            return Err(Error::Data(format!(
                "the sampler is at batch {} of an epoch of {}: go on with the data and the batch size that it began with",
                state.batch,
                sampler.batches()
            )));
        }
        Ok(sampler)
    }

    /// What the examples are of.
    pub fn split(&self) -> &Arc<Split> {
        &self.split
    }

    /// Examples of an epoch.
    pub fn examples(&self) -> usize {
        self.order.len()
    }

    /// Batches of an epoch.
    pub fn batches(&self) -> u64 {
        self.order.len().div_ceil(self.batch) as u64
    }

    /// The number of the step that the next batch is for, from 1.
    pub fn step(&self) -> u64 {
        u64::from(self.state.epoch) * self.batches() + self.state.batch + 1
    }

    /// Where the sampling is now.
    pub fn state(&self) -> SamplerState {
        self.state
    }

    /// The examples of the next batch; after an epoch's last batch the next epoch begins.
    pub fn next_batch(&mut self) -> &[u32] {
        let SamplerState { epoch, batch } = self.state;
        if self.ordered != Some(epoch) {
            if self.ordered.is_some() {
                self.order = examples(&self.split);
            }
            self.order.shuffle(&mut stream(self.seed, Stream::Epoch(epoch)));
            self.ordered = Some(epoch);
        }
        self.state = if batch + 1 == self.batches() {
            SamplerState { epoch: epoch + 1, batch: 0 }
        } else {
            SamplerState { epoch, batch: batch + 1 }
        };
        let first = batch as usize * self.batch;
        &self.order[first..self.order.len().min(first + self.batch)]
    }
}

/// All examples: every item of a training part but a user's first is a target.
fn examples(split: &Split) -> Vec<u32> {
    let offsets = &split.interactions().offsets;
    (0..offsets.len() - 1)
        .flat_map(|user| {
            let first = offsets[user] as u32;
            first + 1..first + split.training(user as u32).len() as u32
        })
        .collect()
}
