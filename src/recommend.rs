//! Recommendations: the items that score highest after a history.

use std::collections::HashMap;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::data::pack::pack_sequences;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{Hyper, Model};

/// A recommended item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The item's own id.
    pub item: String,
    /// max_k phi_k . h
    pub score: f32,
    /// The intention k that scored it, from 0.
    pub intention: u32,
}

/// A checkpoint's model, ready to be asked.
pub struct Recommender {
    model: Model,
    items: Vec<String>,
    numbers: HashMap<String, u32>,
    hyper: Hyper,
}

impl Recommender {
    /// # Errors
    /// Where the engine cannot hold the model.
    pub fn new(checkpoint: Checkpoint, engine: Box<dyn Engine>) -> Result<Recommender> {
        let Checkpoint { settings, items, .. } = &checkpoint;
        // One sequence at a time: room for a batch would be wasted.
        let hyper = Hyper { batch: 1, ..settings.hyper() };
        let mut model = Model::new(engine, settings.shape(items.len()), hyper)?;
        checkpoint.give_to(&mut model)?;
        let items = checkpoint.items;
        let numbers = items.iter().zip(0..).map(|(id, number)| (id.clone(), number)).collect();
        Ok(Recommender { model, items, numbers, hyper })
    }

    /// The `top` items for a history (item ids, oldest first), best first; equal scores in the catalogue's order. Items
    /// of the history are recommended again only where `keep_history`.
    ///
    /// # Errors
    /// [`Error::Data`] where the history is empty or has an item that the model does not know.
    pub fn recommend(&mut self, history: &[String], top: usize, keep_history: bool) -> Result<Vec<Recommendation>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            history.iter().map(|id| (id, self.numbers.get(id).copied())).partition(|(_, number)| number.is_some());
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.iter().map(|(id, _)| format!("\"{id}\"")).collect();
            return Err(Error::Data(format!(
                "the model does not know {} of the history: {} (it knows the {} items of its training data)",
                if names.len() == 1 { "an item" } else { "items" },
                names.join(", "),
                self.items.len()
            )));
        }
        let history: Vec<u32> = known.into_iter().filter_map(|(_, number)| number).collect();
        if history.is_empty() {
            return Err(Error::Data("the history is empty: a recommendation takes at least one item".into()));
        }
        let packed = pack_sequences(&[&history], self.model.shape().length, self.hyper.position_from);
        let candidates: Vec<u32> =
            (0..self.items.len() as u32).filter(|item| keep_history || !history.contains(item)).collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let (scores, intentions) = self.model.candidate_scores(&packed, &candidates)?;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        Ok(order
            .into_iter()
            .take(top)
            .map(|i| Recommendation {
                item: self.items[candidates[i] as usize].clone(),
                score: scores[i],
                intention: intentions[i],
            })
            .collect())
    }
}
