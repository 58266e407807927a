//! How well a model's intentions match known categories.

use crate::data::batch::PositionFrom;
use crate::data::split::Split;
use crate::error::Result;
use crate::model::Model;

/// Normalised mutual information between intentions and categories.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Recovery {
    pub nmi: f64,
    /// The mean over shuffles of the categories: what chance gives.
    pub nmi_shuffled: f64,
    /// Tokens compared.
    pub tokens: usize,
}

/// Compares each token's intention, argmax_k p_{k|i} (eq. 8), with the category of its item, over all training parts.
/// The baseline deals the categories out to the items anew.
///
/// # Errors
/// Where the engine fails.
pub fn recovery(
    _model: &mut Model,
    _split: &Split,
    _categories: &[u32],
    _position_from: PositionFrom,
    _seed: u64,
) -> Result<Recovery> {
    todo!()
}
