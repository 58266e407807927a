//! The lists that a model would show: the k items of the whole catalogue that score highest for each user.

use rayon::prelude::*;

use super::Evaluator;
use crate::data::pack::pack_sequences;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::recommend::{Best, Scored};

impl Evaluator {
    /// For each user evaluated, the `k` items of the whole catalogue that score highest, best first; equal scores in the
    /// catalogue's order. Items of the user's history are in no list, but where they are ranked with the others; those whose
    /// score is no number are in none. `progress` as in [`run`](Evaluator::run).
    ///
    /// # Errors
    /// As [`run`](Evaluator::run).
    pub fn lists(&self, model: &mut Model, k: usize, progress: &mut dyn FnMut(usize) -> bool) -> Result<Vec<Vec<u32>>> {
        self.check(model)?;
        model.set_prior(self.options.prior)?;
        let mut lists = Vec::with_capacity(self.users.len());
        for block in self.users.chunks(model.evaluation_batch()) {
            let histories: Vec<&[u32]> = block.iter().map(|&user| self.split.history(user, self.part)).collect();
            let packed = pack_sequences(&histories, model.shape().length, self.options.position_from);
            let known = self.known(&histories);
            let mut best: Vec<Best> = (0..block.len()).map(|_| Best::new(k)).collect();
            model.catalogue_scores(&packed, false, &mut |range, scores, _| {
                let rows = best.par_iter_mut().zip(scores.par_chunks(range.len())).enumerate();
                rows.for_each(|(s, (best, scores))| {
                    let known = &known.sources[known.starts[s] as usize..known.starts[s + 1] as usize];
                    for (item, &score) in range.clone().zip(scores) {
                        if score.is_finite() {
                            let scored = Scored { score, item, intention: 0 };
                            best.offer(scored, |item| known.binary_search(&item).is_ok());
                        }
                    }
                });
            })?;
            lists.extend(
                best.into_iter().map(|best| best.sorted().iter().map(|scored| scored.item).collect::<Vec<_>>()),
            );
            if !progress(lists.len()) && lists.len() < self.users.len() {
                return Err(Error::Interrupted);
            }
        }
        Ok(lists)
    }
}
