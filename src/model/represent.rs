//! What evaluation and serving ask of a model.

use super::Model;
use super::buffers::{allocate, head};
use super::program::{Counts, Program};
use crate::data::batch::{Packed, Segments};
use crate::error::Result;
use crate::kernels::{Call, Region, candidate_scores, catalogue_rank};

impl Model {
    /// The most sequences one evaluation call takes.
    pub fn evaluation_batch(&self) -> usize {
        self.capacity.sequences
    }

    /// Scores (max_k phi_k . h) of each sequence's own candidates, `[sequences, candidates / sequences]`, and the
    /// intention k that gave it.
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn candidate_scores(&mut self, sequences: &Packed, candidates: &[u32]) -> Result<(Vec<f32>, Vec<u32>)> {
        let n = sequences.sequences();
        let each = candidates.len() / n.max(1);
        let calls = self.represent(sequences)?;
        self.engine.run("represent", &calls)?;
        let (mut scores, mut intentions) = (vec![0.0; candidates.len()], vec![0; candidates.len()]);
        // As many columns at a time as the buffers hold.
        let columns = (self.capacity.scores / n.max(1)).max(1);
        for first in (0..each).step_by(columns) {
            let width = columns.min(each - first);
            let block = || (0..n).map(move |s| s * each + first..s * each + first + width);
            let items: Vec<u32> = block().flat_map(|range| &candidates[range]).copied().collect();
            let b = &self.buffers;
            let (items_at, scores_at, intentions_at) = (b.candidate_items, b.candidate_score, b.candidate_intention);
            let call = self.score_call(n, width, [items_at, scores_at, intentions_at]);
            self.engine.write(items_at, &items)?;
            self.engine.run("score candidates", &[call])?;
            let (got, best) =
                (self.engine.read(head(scores_at, n * width))?, self.engine.read(head(intentions_at, n * width))?);
            for (s, range) in block().enumerate() {
                scores[range.clone()].copy_from_slice(bytemuck::cast_slice(&got[s * width..][..width]));
                intentions[range].copy_from_slice(&best[s * width..][..width]);
            }
        }
        Ok((scores, intentions))
    }

    /// For each sequence, how many items score at least as high as `truth`, among all but the truth itself and the
    /// items listed for the sequence in `excluded` (ascending within a sequence). Scores that are not numbers count.
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn catalogue_ranks(&mut self, sequences: &Packed, truth: &[u32], excluded: &Segments) -> Result<Vec<u32>> {
        let n = sequences.sequences();
        if excluded.sources.len() > self.known.len {
            // Doubled, so that few buffers are left behind.
            let len = excluded.sources.len().next_power_of_two();
            self.known = allocate(&mut *self.engine, "known", len)?;
        }
        let mut calls = self.represent(sequences)?;
        let b = &self.buffers;
        calls.push(self.score_call(n, 1, [b.truth, b.truth_score, b.truth_intention]));
        let params = catalogue_rank::Params {
            sequences: n as u32,
            items: self.shape.items as u32,
            dim: self.shape.dim as u32,
            intentions: self.shape.intentions as u32,
        };
        calls.push(catalogue_rank::call(
            params,
            catalogue_rank::Bindings {
                phi: b.phi,
                table: b.item_table,
                truth: b.truth,
                truth_score: b.truth_score,
                known_offsets: b.known_offsets,
                known: self.known,
                rank: b.rank,
            },
        ));
        let rank = head(b.rank, n);
        self.engine.write(b.truth, truth)?;
        self.engine.write(b.known_offsets, &excluded.starts)?;
        self.engine.write(self.known, &excluded.sources)?;
        self.engine.write(b.rank, &vec![0; n])?;
        self.engine.run("rank in the catalogue", &calls)?;
        self.engine.read(rank)
    }

    /// p_{k|i} of every token, `[tokens, K]` (eq. 8).
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn clusters(&mut self, sequences: &Packed) -> Result<Vec<f32>> {
        let calls = self.forward(sequences, |program| program.cluster())?;
        self.engine.run("cluster", &calls)?;
        let cluster = head(self.buffers.cluster, sequences.tokens() * self.shape.intentions);
        Ok(self.engine.read(cluster)?.into_iter().map(f32::from_bits).collect())
    }

    /// Writes sequences (all with the inputs' beta) to the device and gives the calls that encode them, then `more`.
    fn forward(&mut self, sequences: &Packed, more: impl FnOnce(&mut Program)) -> Result<Vec<Call>> {
        let n = sequences.sequences();
        let counts = Counts {
            tokens: sequences.tokens(),
            pairs: sequences.pairs(),
            sequences: n,
            inputs: n,
            ..Counts::default()
        };
        self.fits(counts)?;
        self.catch_up()?;
        self.write_sequences(sequences)?;
        let mut program = self.begin(counts, None);
        program.encode();
        more(&mut program);
        Ok(program.calls)
    }

    fn represent(&mut self, sequences: &Packed) -> Result<Vec<Call>> {
        self.forward(sequences, |program| program.intend())
    }

    fn score_call(&self, sequences: usize, candidates: usize, [items, scores, intention]: [Region; 3]) -> Call {
        let params = candidate_scores::Params {
            sequences: sequences as u32,
            candidates: candidates as u32,
            dim: self.shape.dim as u32,
            intentions: self.shape.intentions as u32,
        };
        let (phi, table) = (self.buffers.phi, self.buffers.item_table);
        candidate_scores::call(params, candidate_scores::Bindings { phi, items, table, scores, intention })
    }
}
