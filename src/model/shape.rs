//! What a model is made of: its shape, what else decides a step, and what goes in and out of it.

use std::collections::BTreeMap;

use super::buffers::Capacity;
use crate::data::batch::PositionFrom;
use crate::error::{Error, Result};
use crate::kernels::storage::ItemStorage;
use crate::kernels::{MAX_DIM, MAX_INTENTIONS, MAX_PAIRS};

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
    /// seq2item on every item of the future, the nearest L of them (2).
    #[serde(rename = "all-future")]
    #[value(name = "all-future")]
    AllFuture,
    /// seq2item on the next three items (3).
    #[serde(rename = "next3")]
    #[value(name = "next3")]
    NextThree,
}

impl Variant {
    /// The most items of an example's future that seq2item reconstructs, where sequences have up to `length` items.
    pub fn targets(self, length: usize) -> usize {
        match self {
            Variant::Full | Variant::SequenceToItem => 1,
            Variant::AllFuture => length,
            Variant::NextThree => 3,
        }
    }
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
    /// What the losses' scores are divided by, beside sqrt(D); 1 in the paper.
    pub temperature: f64,
    pub learning_rate: f64,
    /// How the item table and its moments lie in memory.
    pub item_storage: ItemStorage,
    /// Decides the dropout masks, and how item rows of 16 bits are rounded.
    pub seed: u64,
}

impl Hyper {
    /// Whether label sequences may be encoded: where there is a seq2seq loss that may select pairs.
    pub fn with_labels(&self) -> bool {
        self.variant == Variant::Full && self.lambda > 0.0
    }
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
    /// The last step that each item row was updated for, `[items]`: rows without a gradient are behind.
    pub updated: Vec<u32>,
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

/// Refuses what the kernels cannot take.
pub(super) fn check(shape: Shape, hyper: &Hyper) -> Result<()> {
    let Shape { items, dim, intentions, length, .. } = shape;
    let wrong = |text: String| Err(Error::Setting(text));
    for (name, value, most) in [
        ("dim", dim, MAX_DIM),
        ("intentions", intentions, MAX_INTENTIONS),
        ("length", length, 1 << 16),
        ("batch", hyper.batch, MAX_PAIRS),
        ("number of items", items, u32::MAX as usize),
    ] {
        if value == 0 || value > most {
            return wrong(format!("{name} {value} is not between 1 and {most}"));
        }
    }
    if hyper.batch * intentions > MAX_PAIRS {
        let most = MAX_PAIRS / intentions;
        return wrong(format!("batch {} with {intentions} intentions is too large: at most {most}", hyper.batch));
    }
    for (name, value, fits) in [
        ("dropout", hyper.dropout, (0.0..1.0).contains(&hyper.dropout)),
        ("lambda", hyper.lambda, (0.0..=1.0).contains(&hyper.lambda)),
        ("l2", hyper.l2, hyper.l2 >= 0.0 && hyper.l2.is_finite()),
        ("temperature", hyper.temperature, hyper.temperature > 0.0 && hyper.temperature.is_finite()),
        ("lr", hyper.learning_rate, hyper.learning_rate > 0.0 && hyper.learning_rate.is_finite()),
    ] {
        if !fits {
            return wrong(format!("{name} {value} is out of range"));
        }
    }
    // Kernels index elements, also those of dropout's masks, with 32 bits.
    let tokens = Capacity::new(shape, hyper).tokens;
    let most = u32::MAX as usize;
    if tokens.saturating_mul((3 * dim).max(length)) > most {
        return wrong(format!("batch {} with length {length} and dim {dim} is too large", hyper.batch));
    }
    Ok(())
}
