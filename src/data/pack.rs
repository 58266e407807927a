//! Packs sequences one after the other, and training examples into batches.

use std::sync::Arc;

use super::batch::{Batch, Packed, PositionFrom, Segments};
use super::split::Split;

/// Packs whole sequences, each of which keeps its last `length` items.
pub fn pack_sequences(sequences: &[&[u32]], length: usize, position_from: PositionFrom) -> Packed {
    let mut packed = Packed { offsets: vec![0], ..Packed::default() };
    for sequence in sequences {
        let kept = &sequence[sequence.len().saturating_sub(length)..];
        push(&mut packed, kept.iter().copied(), length, position_from);
    }
    packed
}

/// Adds a sequence of at most `length` items.
fn push(packed: &mut Packed, items: impl ExactSizeIterator<Item = u32>, length: usize, position_from: PositionFrom) {
    let owner = packed.sequences() as u32;
    let first = match position_from {
        PositionFrom::End => (length - items.len()) as u32,
        PositionFrom::Start => 0,
    };
    packed.owners.extend(std::iter::repeat_n(owner, items.len()));
    packed.positions.extend(first..first + items.len() as u32);
    packed.items.extend(items);
    packed.offsets.push(packed.items.len() as u32);
}

/// Makes batches of training examples.
#[derive(Debug)]
pub struct Packer {
    split: Arc<Split>,
    length: usize,
    position_from: PositionFrom,
    targets: usize,
    labels: bool,
    /// The first step that has labels.
    labels_from: u64,
    /// Occurrences of each item in the batch at hand, zeros in between, `[items]`.
    occurrences: Vec<u32>,
}

impl Packer {
    /// `length`: L. `targets`: the most items of an example's future that are its targets. `labels`: whether the loss
    /// needs the label sequences.
    pub fn new(split: Arc<Split>, length: usize, position_from: PositionFrom, targets: usize, labels: bool) -> Packer {
        let occurrences = vec![0; split.counts().items];
        Packer { split, length, position_from, targets, labels, labels_from: 1, occurrences }
    }

    /// Leaves the label sequences out of the batches of the steps (from 1) before this one.
    pub fn labels_from(self, step: u64) -> Packer {
        Packer { labels_from: step, ..self }
    }

    /// The batch of `examples` (places of targets, as a [`Sampler`](super::sample::Sampler) gives them).
    pub fn pack(&mut self, examples: &[u32]) -> Batch {
        self.pack_step(u64::MAX, examples)
    }

    /// As [`pack`](Packer::pack), for a step's number, from 1.
    pub fn pack_step(&mut self, step: u64, examples: &[u32]) -> Batch {
        let labels = self.labels && step >= self.labels_from;
        let Packer { split, length, position_from, .. } = self;
        let (length, position_from) = (*length, *position_from);
        let interactions = split.interactions();
        let mut sequences = Packed { offsets: vec![0], ..Packed::default() };
        // The user's training part, and the target's place in it.
        let parts: Vec<(&[u32], usize)> = examples
            .iter()
            .map(|&target| {
                let user = interactions.offsets.partition_point(|&offset| offset <= target as usize) - 1;
                (split.training(user as u32), target as usize - interactions.offsets[user])
            })
            .collect();
        for &(training, t) in &parts {
            push(&mut sequences, training[t.saturating_sub(length)..t].iter().copied(), length, position_from);
        }
        if labels {
            for &(training, t) in &parts {
                // Reversed, its last items are those nearest to t.
                let future = &training[t..training.len().min(t + length)];
                push(&mut sequences, future.iter().rev().copied(), length, position_from);
            }
        }
        let (mut targets, mut target_offsets) = (Vec::with_capacity(parts.len()), vec![0]);
        for &(training, t) in &parts {
            targets.extend_from_slice(&training[t..training.len().min(t + self.targets)]);
            target_offsets.push(targets.len() as u32);
        }
        let (rows, row_sources) = self.rows(&sequences.items, &targets);
        Batch {
            examples: examples.len(),
            target_offsets,
            rows,
            row_sources,
            position_sources: segments(&sequences.positions, length),
            sequences,
            targets,
        }
    }

    /// The distinct items, ascending, and where each occurs.
    fn rows(&mut self, tokens: &[u32], targets: &[u32]) -> (Vec<u32>, Segments) {
        let keys = || tokens.iter().chain(targets).copied();
        let mut rows = Vec::new();
        for item in keys() {
            let count = &mut self.occurrences[item as usize];
            if *count == 0 {
                rows.push(item);
            }
            *count += 1;
        }
        rows.sort_unstable();
        let mut starts = Vec::with_capacity(rows.len() + 1);
        let mut total = 0;
        for &item in &rows {
            starts.push(total);
            // From here on, where the item's next occurrence is written.
            total += std::mem::replace(&mut self.occurrences[item as usize], total);
        }
        starts.push(total);
        let mut sources = vec![0; total as usize];
        for (source, item) in keys().enumerate() {
            let at = &mut self.occurrences[item as usize];
            sources[*at as usize] = source as u32;
            *at += 1;
        }
        for &item in &rows {
            self.occurrences[item as usize] = 0;
        }
        (rows, Segments { starts, sources })
    }
}

/// For each of `rows` rows, the places in `keys` that name it, ascending.
fn segments(keys: &[u32], rows: usize) -> Segments {
    let mut starts = vec![0; rows + 1];
    for &key in keys {
        starts[key as usize + 1] += 1;
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut sources = vec![0; keys.len()];
    for (source, &key) in keys.iter().enumerate() {
        sources[next[key as usize] as usize] = source as u32;
        next[key as usize] += 1;
    }
    Segments { starts, sources }
}
