//! The model on an engine: its parameters, the training step and the passes that evaluation needs.

use std::collections::BTreeMap;

use crate::data::batch::{Batch, Packed, PositionFrom, Segments};
use crate::engine::{Description, Engine};
use crate::error::Result;

/// What decides the shapes of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// M
    pub items: usize,
    /// D
    pub dim: usize,
    /// K
    pub intentions: usize,
    /// L, the most items of a sequence that are encoded
    pub length: usize,
    pub blocks: usize,
}

/// Which losses are trained (Table 2 of the paper).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
pub enum Variant {
    /// seq2item and seq2seq (0).
    #[default]
    #[serde(rename = "full")]
    #[value(name = "full")]
    Full,
    /// seq2item alone (1).
    #[serde(rename = "s2i")]
    #[value(name = "s2i")]
    SequenceToItem,
}

/// What else decides a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    pub variant: Variant,
    pub position_from: PositionFrom,
    /// The most examples in a batch (B).
    pub batch: usize,
    pub dropout: f64,
    /// lambda of eq. 4
    pub lambda: f64,
    pub l2: f64,
    pub learning_rate: f64,
    /// Decides the dropout masks.
    pub seed: u64,
}

/// A parameter tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Tensors by the names of the checkpoint.
pub type Tensors = BTreeMap<String, Tensor>;

/// Everything that Adam carries from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamState {
    /// Steps taken.
    pub step: u64,
    pub first_moment: Tensors,
    pub second_moment: Tensors,
}

/// The sums that one step's losses were, over its batch.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct StepLosses {
    pub examples: u32,
    /// Pairs (example, intention) that eq. 4 selected.
    pub selected: u32,
    /// All pairs, B * K; 0 where there is no seq2seq loss.
    pub pairs: u32,
    pub seq2item: f32,
    /// Over the selected pairs.
    pub seq2seq: f32,
    /// Over all pairs.
    pub seq2seq_all: f32,
}

/// The model on an engine.
pub struct Model {
    shape: Shape,
}

impl Model {
    /// Allocates everything for batches of `hyper.batch` examples.
    ///
    /// # Errors
    /// Where a setting is out of range or the engine cannot hold it.
    pub fn new(_engine: Box<dyn Engine>, _shape: Shape, _hyper: Hyper) -> Result<Model> {
        todo!()
    }
    pub fn shape(&self) -> Shape {
        self.shape
    }
    pub fn describe(&self) -> Description {
        todo!()
    }
    /// Bytes of all the engine's buffers.
    pub fn allocated_bytes(&self) -> usize {
        todo!()
    }
    /// # Errors
    /// Where a tensor is missing, unknown or of another shape.
    pub fn set_parameters(&mut self, _parameters: &Tensors) -> Result<()> {
        todo!()
    }
    /// The parameters after all steps so far (waits for them).
    pub fn parameters(&mut self) -> Result<Tensors> {
        todo!()
    }
    pub fn set_adam(&mut self, _state: &AdamState) -> Result<()> {
        todo!()
    }
    pub fn adam(&mut self) -> Result<AdamState> {
        todo!()
    }
    /// One training step; returns before it is done where the engine allows that.
    pub fn step(&mut self, _batch: &Batch) -> Result<()> {
        todo!()
    }
    /// Losses of finished steps not reported yet, in order; of all steps so far where `wait`.
    pub fn take_losses(&mut self, _wait: bool) -> Result<Vec<StepLosses>> {
        todo!()
    }
    /// The most sequences one evaluation call takes.
    pub fn evaluation_batch(&self) -> usize {
        todo!()
    }
    /// Scores (max_k phi_k . h) of each sequence's own candidates, `[sequences, candidates / sequences]`, and the
    /// intention k that gave it.
    pub fn candidate_scores(&mut self, _sequences: &Packed, _candidates: &[u32]) -> Result<(Vec<f32>, Vec<u32>)> {
        todo!()
    }
    /// For each sequence, how many items score at least as high as `truth`, among all but the truth itself and the
    /// items listed for the sequence in `excluded` (ascending within a sequence). Scores that are not numbers count.
    pub fn catalogue_ranks(&mut self, _sequences: &Packed, _truth: &[u32], _excluded: &Segments) -> Result<Vec<u32>> {
        todo!()
    }
    /// p_{k|i} of every token, `[tokens, K]` (eq. 8).
    pub fn clusters(&mut self, _sequences: &Packed) -> Result<Vec<f32>> {
        todo!()
    }
}

/// Names and shapes of all parameters, in the order they are stored.
pub fn parameter_shapes(_shape: Shape) -> Vec<(String, Vec<usize>)> {
    todo!()
}

/// Initial parameters (spec: Glorot uniform, zeros, ones, N(0, 1/sqrt(D)) for both betas), drawn from `seed`.
/// `item_deviation`: the item table is drawn from N(0, item_deviation) instead.
pub fn initial_parameters(_shape: Shape, _item_deviation: Option<f64>, _seed: u64) -> Tensors {
    todo!()
}
