//! What scores take from how often items occur in training.

use serde::Serialize;

/// Terms of an item's logit (its score over sqrt(D) and the temperature) that its occurrences in training give.
///
/// The seq2item loss tells a target from the other targets of its batch, which are drawn as targets are: what it learns is
/// how much likelier an item is after a history than at any time, and an item that is likely at any time gets nothing for
/// it. `popularity` gives that back (1: as in the training data). An item that never occurs keeps its initial vector and
/// scores about 0, wherever training has moved the others; `cold_bonus` moves it.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prior {
    /// Adds so many times ln(1 + n) for n occurrences.
    pub popularity: f64,
    /// Adds this where n is 0.
    pub cold_bonus: f64,
}

impl Prior {
    /// Whether scores are the model's alone.
    pub fn is_nothing(&self) -> bool {
        *self == Prior::default()
    }

    /// What is added to each item's score, where a logit of 1 is a score of `unit`.
    pub(super) fn bias(self, occurrences: &[u32], unit: f64) -> Vec<f32> {
        let logit = |&n: &u32| match n {
            0 => self.cold_bonus,
            n => self.popularity * f64::from(n).ln_1p(),
        };
        occurrences.iter().map(|n| (unit * logit(n)) as f32).collect()
    }
}
