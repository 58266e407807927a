//! What evaluation and serving ask of a model.

use std::ops::Range;

use super::buffers::{Chunk, allocate};
use super::program::{Counts, Program};
use super::{Model, Prior};
use crate::data::batch::{Packed, Segments};
use crate::error::{Error, Result};
use crate::kernels::storage::ItemStorage;
use crate::kernels::{Call, Ragged, Region, candidate_scores, catalogue_rank};

/// Scores of a block of the catalogue's items, where all are scored: few turns, and 4 MiB.
const BLOCK: usize = 1 << 20;

/// Consecutive items, and where their rows can be read as numbers.
struct Stretch {
    first: u32,
    items: u32,
    table: Region,
    /// What is added to their scores.
    bias: Region,
}

/// What the intention layer makes of sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Represented {
    /// phi (eq. 13), `[sequences, K, D]`
    pub phi: Vec<f32>,
    /// p_{k|i} of every token (eq. 8), `[tokens, K]`
    pub cluster: Vec<f32>,
    /// p_i of every token (eq. 9), `[tokens]`
    pub weight: Vec<f32>,
}

/// Takes the scores of a range of items, `[rows, items of the range]`, and the intentions that gave them.
pub type TakeScores<'a> = &'a mut dyn FnMut(Range<u32>, &[f32], &[u32]);

impl Model {
    /// The most sequences one evaluation call takes.
    pub fn evaluation_batch(&self) -> usize {
        self.capacity.sequences
    }

    /// Says how often each item occurs in training, `[items]`: what a [`Prior`] goes by.
    ///
    /// # Errors
    /// Where these are not the items' numbers, or the device fails.
    pub fn set_occurrences(&mut self, occurrences: Vec<u32>) -> Result<()> {
        if occurrences.len() != self.shape.items {
            let (found, items) = (occurrences.len(), self.shape.items);
            return Err(Error::Data(format!("occurrences of {found} items, where the model has {items}")));
        }
        self.occurrences = occurrences;
        self.write_bias(self.prior)
    }

    /// How often each item occurs in training, `[items]`; empty where nobody said.
    pub fn occurrences(&self) -> &[u32] {
        &self.occurrences
    }

    /// Says what scores take from items' occurrences from now on; nothing before it is called.
    ///
    /// # Errors
    /// Where there are no [occurrences](Model::set_occurrences) to go by, or the device fails.
    pub fn set_prior(&mut self, prior: Prior) -> Result<()> {
        if prior == self.prior {
            return Ok(());
        }
        if self.occurrences.is_empty() {
            let reason = "scores are to go by how often items occur in training, which the model was not told";
            return Err(Error::Data(reason.into()));
        }
        self.write_bias(prior)
    }

    fn write_bias(&mut self, prior: Prior) -> Result<()> {
        if prior.is_nothing() && self.bias.is_empty() {
            return Ok(());
        }
        let unit = (self.shape.dim as f64).sqrt() * self.hyper.temperature;
        let bias = prior.bias(&self.occurrences, unit);
        for chunk in self.buffers.chunks.clone() {
            let own = &bias[chunk.first as usize..][..chunk.items as usize];
            self.engine.write(chunk.bias.first(own.len()), bytemuck::cast_slice(own))?;
        }
        self.prior = prior;
        self.bias = if prior.is_nothing() { Vec::new() } else { bias };
        Ok(())
    }

    /// Adds to the scores of items what they have for themselves.
    fn add_bias(&self, scores: &mut [f32], items: impl Iterator<Item = u32>) {
        if !self.bias.is_empty() {
            scores.iter_mut().zip(items).for_each(|(score, item)| *score += self.bias[item as usize]);
        }
    }

    /// Scores (max_k phi_k . h, and what the [`Prior`] adds) of each sequence's own candidates,
    /// `[sequences, candidates / sequences]`, and the intention k that gave it.
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
        let columns = (self.capacity.scores.min(self.buffers.rows.len) / n.max(1)).max(1);
        for first in (0..each).step_by(columns) {
            let width = columns.min(each - first);
            let block = || (0..n).map(move |s| s * each + first..s * each + first + width);
            let items: Vec<u32> = block().flat_map(|range| &candidates[range]).copied().collect();
            let b = &self.buffers;
            let at @ [_, scores_at, intentions_at] = [b.candidate_items, b.candidate_score, b.candidate_intention];
            self.score(n, &items, at)?;
            let (got, best) =
                (self.engine.read(scores_at.first(n * width))?, self.engine.read(intentions_at.first(n * width))?);
            for (s, range) in block().enumerate() {
                scores[range.clone()].copy_from_slice(bytemuck::cast_slice(&got[s * width..][..width]));
                intentions[range].copy_from_slice(&best[s * width..][..width]);
            }
        }
        self.add_bias(&mut scores, candidates.iter().copied());
        Ok((scores, intentions))
    }

    /// phi, p_{k|i} and p_i of sequences.
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn represented(&mut self, sequences: &Packed) -> Result<Represented> {
        let calls = self.represent(sequences)?;
        self.engine.run("represent", &calls)?;
        let (n, tokens) = (sequences.sequences(), sequences.tokens());
        let (k, dim) = (self.shape.intentions, self.shape.dim);
        let b = &self.buffers;
        let [phi, cluster, weight] = [b.phi.first(n * k * dim), b.cluster.first(tokens * k), b.weight.first(tokens)]
            .map(|at| self.engine.read(at));
        let floats = |words: Vec<u32>| words.into_iter().map(f32::from_bits).collect();
        Ok(Represented { phi: floats(phi?), cluster: floats(cluster?), weight: floats(weight?) })
    }

    /// As [`represented`](Model::represented), and scores of the whole catalogue, a range of items at a time: a row for each
    /// sequence (max_k phi_k . h, and what the [`Prior`] adds), or, where `apart`, for each intention of each sequence
    /// (phi_k . h, and the same; the intentions that are given along are then zeros).
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn catalogue_scores(&mut self, sequences: &Packed, apart: bool, take: TakeScores) -> Result<Represented> {
        let represented = self.represented(sequences)?;
        let (n, k) = (sequences.sequences(), self.shape.intentions);
        // phi of K intentions lies as that of K sequences with one would.
        let (rows, intentions) = if apart { (n * k, 1) } else { (n, k) };
        let most = BLOCK.min(rows * self.shape.items).max(rows);
        if self.wide.is_none_or(|wide| wide[0].len < most) {
            let [items, scores, intention] = ["scored_items", "scores", "scored_by"];
            let mut make = |name| allocate(&mut *self.engine, name, most);
            self.wide = Some([make(items)?, make(scores)?, make(intention)?]);
        }
        let Some([items_at, scores_at, intention_at]) = self.wide else { return Ok(represented) };
        let columns = most / rows.max(1);
        for stretch in self.stretches() {
            self.bring(&stretch)?;
            for first in (0..stretch.items as usize).step_by(columns) {
                let width = columns.min(stretch.items as usize - first);
                let block = first as u32..(first + width) as u32;
                let items: Vec<u32> = (0..rows).flat_map(|_| block.clone()).collect();
                self.engine.write(items_at.first(items.len()), &items)?;
                let call = self.scoring([rows, width, intentions], stretch.table, [items_at, scores_at, intention_at]);
                self.engine.run("score", &[call])?;
                let mut scores = self.engine.read(scores_at.first(rows * width))?;
                let best = self.engine.read(intention_at.first(rows * width))?;
                let block = block.start + stretch.first..block.end + stretch.first;
                let scores: &mut [f32] = bytemuck::cast_slice_mut(&mut scores);
                scores.chunks_exact_mut(width).for_each(|row| self.add_bias(row, block.clone()));
                take(block, scores, &best);
            }
        }
        Ok(represented)
    }

    /// For each sequence, how many items score (with what the [`Prior`] adds) at least as high as `truth`, among all but the
    /// truth itself and the items listed for the sequence in `excluded` (ascending within a sequence). Scores that are not
    /// numbers count.
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
        let calls = self.represent(sequences)?;
        self.engine.run("represent", &calls)?;
        let b = &self.buffers;
        let [rank, truth_score] = [b.rank, b.truth_score].map(|region| region.first(n));
        let at = [b.truth, b.truth_score, b.truth_intention];
        self.score(n, truth, at)?;
        if !self.bias.is_empty() {
            let mut scores = self.engine.read(truth_score)?;
            self.add_bias(bytemuck::cast_slice_mut(&mut scores), truth.iter().copied());
            self.engine.write(truth_score, &scores)?;
        }
        self.engine.write(rank, &vec![0; n])?;
        // Each stretch with its own numbers for items.
        for stretch in self.stretches() {
            self.bring(&stretch)?;
            let own = stretch.first..stretch.first + stretch.items;
            let mut known = Segments { starts: vec![0], sources: Vec::new() };
            for range in excluded.starts.windows(2) {
                let items = excluded.sources[range[0] as usize..range[1] as usize].iter();
                known.sources.extend(items.filter(|item| own.contains(item)).map(|item| item - stretch.first));
                known.starts.push(known.sources.len() as u32);
            }
            // One that is not in the stretch is no item of it in its numbers either.
            let truth: Vec<u32> = truth.iter().map(|item| item.wrapping_sub(stretch.first)).collect();
            let params = catalogue_rank::Params {
                sequences: n as u32,
                items: stretch.items,
                dim: self.shape.dim as u32,
                intentions: self.shape.intentions as u32,
            };
            let b = &self.buffers;
            let call = catalogue_rank::call(
                params,
                catalogue_rank::Bindings {
                    phi: b.phi,
                    table: stretch.table,
                    bias: stretch.bias,
                    truth: b.truth,
                    truth_score: b.truth_score,
                    known_offsets: b.known_offsets,
                    known: self.known,
                    rank: b.rank,
                },
            );
            self.engine.write(b.truth, &truth)?;
            self.engine.write(b.known_offsets, &known.starts)?;
            self.engine.write(self.known, &known.sources)?;
            self.engine.run("rank in the catalogue", &[call])?;
        }
        self.engine.read(rank)
    }

    /// p_{k|i} of every token, `[tokens, K]` (eq. 8).
    ///
    /// # Errors
    /// Where there are too many sequences, or the device fails.
    pub fn clusters(&mut self, sequences: &Packed) -> Result<Vec<f32>> {
        let calls = self.forward(sequences, |program| program.cluster())?;
        self.engine.run("cluster", &calls)?;
        let cluster = self.buffers.cluster.first(sequences.tokens() * self.shape.intentions);
        Ok(self.engine.read(cluster)?.into_iter().map(f32::from_bits).collect())
    }

    /// Writes sequences (all with the inputs' beta) to the device and gives the calls that encode them, then `more`.
    fn forward(&mut self, sequences: &Packed, more: impl FnOnce(&mut Program)) -> Result<Vec<Call>> {
        let n = sequences.sequences();
        let (items, rows) = distinct(&sequences.items);
        let counts =
            Counts { rows: items.len(), tokens: sequences.tokens(), sequences: n, inputs: n, ..Counts::default() };
        self.fits(counts)?;
        self.catch_up()?;
        self.engine.write(self.buffers.rows, &items)?;
        self.write_sequences(sequences, &rows)?;
        let chunk_rows = self.buffers.chunk_rows(&items);
        let mut program = self.begin(counts, &chunk_rows, None);
        program.ragged = Ragged::new(&sequences.offsets);
        program.bring();
        program.encode();
        more(&mut program);
        Ok(program.calls)
    }

    fn represent(&mut self, sequences: &Packed) -> Result<Vec<Call>> {
        self.forward(sequences, |program| program.intend())
    }

    /// Scores as many of `items` for each of `sequences` sequences, by way of these buffers for items, scores and
    /// intentions.
    fn score(&mut self, sequences: usize, items: &[u32], [at, scores, intention]: [Region; 3]) -> Result<()> {
        let mut calls = Vec::new();
        let mut table = self.buffers.chunks[0].table;
        let of_table = if self.buffers.chunks.len() == 1 && self.hyper.item_storage == ItemStorage::F32 {
            items.to_vec()
        } else {
            // No binding holds the whole table as numbers, so its rows are brought together.
            let (items, rows) = distinct(items);
            calls = self.gather(&items)?;
            table = self.buffers.working_table;
            rows
        };
        self.engine.write(at, &of_table)?;
        let each = items.len() / sequences.max(1);
        calls.push(self.scoring([sequences, each, self.shape.intentions], table, [at, scores, intention]));
        self.engine.run("score", &calls)
    }

    /// The calls that bring item rows (ascending) together.
    fn gather(&mut self, items: &[u32]) -> Result<Vec<Call>> {
        self.engine.write(self.buffers.rows, items)?;
        let chunk_rows = self.buffers.chunk_rows(items);
        let mut program = self.begin(Counts { rows: items.len(), ..Counts::default() }, &chunk_rows, None);
        program.bring();
        Ok(program.calls)
    }

    /// The whole catalogue, a stretch after the other: chunks, or where those are packed, as many rows as can be in use.
    fn stretches(&self) -> Vec<Stretch> {
        let (most, working) = (self.buffers.rows.len, self.buffers.working_table);
        let mut stretches = Vec::new();
        for &Chunk { first, items, table, bias, .. } in &self.buffers.chunks {
            if self.hyper.item_storage == ItemStorage::F32 {
                stretches.push(Stretch { first, items, table, bias });
                continue;
            }
            for at in (0..items).step_by(most) {
                let bias = Region { offset: at as usize, len: bias.len - at as usize, ..bias };
                stretches.push(Stretch {
                    first: first + at,
                    items: (items - at).min(most as u32),
                    table: working,
                    bias,
                });
            }
        }
        stretches
    }

    /// Sees to it that the rows of a stretch are where it says.
    fn bring(&mut self, stretch: &Stretch) -> Result<()> {
        if stretch.table != self.buffers.working_table {
            return Ok(());
        }
        let items: Vec<u32> = (stretch.first..stretch.first + stretch.items).collect();
        let calls = self.gather(&items)?;
        self.engine.run("widen item rows", &calls)
    }

    /// The call that scores as many candidates for each sequence of so many intentions, items counted as in `table`.
    fn scoring(
        &self,
        [sequences, candidates, intentions]: [usize; 3],
        table: Region,
        [items, scores, intention]: [Region; 3],
    ) -> Call {
        let params = candidate_scores::Params {
            sequences: sequences as u32,
            candidates: candidates as u32,
            dim: self.shape.dim as u32,
            intentions: intentions as u32,
        };
        let phi = self.buffers.phi;
        candidate_scores::call(params, candidate_scores::Bindings { phi, items, table, scores, intention })
    }
}

/// The distinct items, ascending, and which of them each item is.
fn distinct(items: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut rows = items.to_vec();
    rows.sort_unstable();
    rows.dedup();
    // Every item is among them.
    let row_of = items.iter().map(|item| rows.partition_point(|row| row < item) as u32).collect();
    (rows, row_of)
}
