//! The model on an engine: its parameters, the training step and the passes that evaluation needs.

use std::collections::{BTreeMap, VecDeque};

use crate::data::batch::{Batch, Packed, PositionFrom, Segments};
use crate::engine::{Description, Engine, PendingRead};
use crate::error::{Error, Result};
use crate::kernels::sum_losses::SLOT;
use crate::kernels::{Call, MAX_DIM, MAX_INTENTIONS, MAX_PAIRS, Region, candidate_scores, catalogue_rank, sum_slices};

mod buffers;
mod parameters;
mod program;

pub use parameters::{ITEM_TABLE, initial_parameters, parameter_shapes};

use buffers::{Buffers, Capacity, RATES, RING, SLICES, head};
use parameters::Layout;
use program::{Counts, Program, adam_rates};

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

impl Hyper {
    /// Whether label sequences are encoded: where there is a seq2seq loss that may select pairs.
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

/// The model on an engine.
pub struct Model {
    engine: Box<dyn Engine>,
    shape: Shape,
    hyper: Hyper,
    layout: Layout,
    capacity: Capacity,
    buffers: Buffers,
    /// Items that do not compete in a ranking; grows as needed.
    known: Region,
    /// Steps taken.
    step: u64,
    /// Whether every item row is up to date with `step`.
    caught_up: bool,
    losses: Losses,
}

/// Steps whose losses lie on the device or are on their way.
#[derive(Default)]
struct Losses {
    /// What is known of the steps that were taken since the last read was begun.
    unread: Vec<StepLosses>,
    reads: VecDeque<(PendingRead, usize, Vec<StepLosses>)>,
    done: Vec<StepLosses>,
}

impl Model {
    /// Allocates everything for batches of `hyper.batch` examples. Parameters are zeros until they are set.
    ///
    /// # Errors
    /// Where a setting is out of range or the engine cannot hold it.
    pub fn new(mut engine: Box<dyn Engine>, shape: Shape, hyper: Hyper) -> Result<Model> {
        check(shape, &hyper)?;
        let layout = Layout::new(shape);
        let capacity = Capacity::new(shape, &hyper);
        let buffers = Buffers::new(&mut *engine, shape, &layout, &capacity)?;
        let known = buffers::allocate(&mut *engine, "known", 1 << 14)?;
        let rates: Vec<u32> = (1..=RATES as u64)
            .flat_map(|step| <[f32; 2]>::from(adam_rates(hyper.learning_rate, step)))
            .map(f32::to_bits)
            .collect();
        engine.write(buffers.rates, &rates)?;
        let losses = Losses::default();
        Ok(Model { engine, shape, hyper, layout, capacity, buffers, known, step: 0, caught_up: true, losses })
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What it runs on.
    pub fn describe(&self) -> Description {
        self.engine.describe()
    }

    /// Bytes of all the engine's buffers.
    pub fn allocated_bytes(&self) -> usize {
        self.engine.allocated() * 4
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Sets all parameters; Adam's state stays.
    ///
    /// # Errors
    /// Where a tensor is missing, unknown or of another shape.
    pub fn set_parameters(&mut self, parameters: &Tensors) -> Result<()> {
        // What an item row is yet to be given by momentum belongs to the old parameters.
        self.catch_up()?;
        self.write_tensors(parameters, [self.buffers.item_table, self.buffers.shared])
    }

    /// The parameters after all steps so far (waits for them).
    pub fn parameters(&mut self) -> Result<Tensors> {
        self.catch_up()?;
        self.read_tensors([self.buffers.item_table, self.buffers.shared])
    }

    /// Goes on from what [`state`](Model::state) gave.
    ///
    /// # Errors
    /// Where a tensor is missing, unknown or of another shape.
    pub fn set_state(&mut self, parameters: &Tensors, adam: &AdamState) -> Result<()> {
        let items = self.shape.items;
        if adam.updated.len() != items || adam.updated.iter().any(|&step| u64::from(step) > adam.step) {
            return Err(Error::Data(format!("Adam's state is not one of {items} items after {} steps", adam.step)));
        }
        let [table, first, second] = self.state_regions();
        self.write_tensors(parameters, table)?;
        self.write_tensors(&adam.first_moment, first)?;
        self.write_tensors(&adam.second_moment, second)?;
        self.engine.write(self.buffers.item_updated, &adam.updated)?;
        self.step = adam.step;
        self.caught_up = false;
        Ok(())
    }

    /// Parameters and Adam's state after all steps so far (waits for them), with item rows as they lie there: those that
    /// are behind stay so. Going on from this gives the bits that going on without it gives, which bringing rows up to
    /// date in between would not.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn state(&mut self) -> Result<(Tensors, AdamState)> {
        let [table, first, second] = self.state_regions();
        let parameters = self.read_tensors(table)?;
        let adam = AdamState {
            step: self.step,
            updated: self.engine.read(head(self.buffers.item_updated, self.shape.items))?,
            first_moment: self.read_tensors(first)?,
            second_moment: self.read_tensors(second)?,
        };
        Ok((parameters, adam))
    }

    /// Parameters and both moments: the item table's, then the others'.
    fn state_regions(&self) -> [[Region; 2]; 3] {
        let b = &self.buffers;
        [
            [b.item_table, b.shared],
            [b.item_first_moment, b.shared_first_moment],
            [b.item_second_moment, b.shared_second_moment],
        ]
    }

    /// One training step; returns before it is done where the engine allows that.
    ///
    /// # Errors
    /// Where the batch is larger than the model was made for, or the device fails.
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        let calls = self.program(batch)?;
        self.write_batch(batch)?;
        self.engine.run(&format!("step {}", self.step + 1), &calls)?;
        self.step += 1;
        self.caught_up = false;
        let examples = batch.examples as u32;
        let pairs = if self.hyper.with_labels() { examples * self.shape.intentions as u32 } else { 0 };
        self.losses.unread.push(StepLosses { examples, pairs, ..StepLosses::default() });
        if self.step.is_multiple_of(RING as u64 / 2) {
            self.read_losses()?;
        }
        Ok(())
    }

    /// Losses of finished steps not reported yet, in order; of all steps so far where `wait`.
    pub fn take_losses(&mut self, wait: bool) -> Result<Vec<StepLosses>> {
        if wait {
            self.read_losses()?;
        }
        while let Some((read, first, steps)) = self.losses.reads.front() {
            let Some(elements) = self.engine.collect(read, wait)? else { break };
            let slots = elements[first * SLOT..].chunks_exact(SLOT);
            self.losses.done.extend(steps.iter().zip(slots).map(|(step, slot)| {
                let [seq2item, seq2seq, seq2seq_all, selected] = [0, 1, 2, 3].map(|i| f32::from_bits(slot[i]));
                StepLosses { seq2item, seq2seq, seq2seq_all, selected: selected as u32, ..*step }
            }));
            self.losses.reads.pop_front();
        }
        Ok(std::mem::take(&mut self.losses.done))
    }

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
            self.known = buffers::allocate(&mut *self.engine, "known", len)?;
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

    /// Gradient of every parameter in the last step; of the item table only rows that `batch` (that step's) has are
    /// not zero.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn gradients(&mut self, batch: &Batch) -> Result<Tensors> {
        let params = sum_slices::Params {
            elements: self.layout.len as u32,
            slices: SLICES as u32,
            stride: self.layout.len as u32,
        };
        let sum = buffers::allocate(&mut *self.engine, "gradient sum", self.layout.len)?;
        let bindings = sum_slices::Bindings { gradient: self.buffers.shared_gradient, sum };
        self.engine.run("sum gradients", &[sum_slices::call(params, bindings)])?;
        let mut tensors = self.layout.split(bytemuck::cast_slice(&self.engine.read(sum)?));
        let dim = self.shape.dim;
        let compact = self.engine.read(head(self.buffers.item_gradient, batch.rows.len() * dim))?;
        let mut data = vec![0.0; self.shape.items * dim];
        for (row, gradient) in batch.rows.iter().zip(compact.chunks_exact(dim)) {
            data[*row as usize * dim..][..dim].copy_from_slice(bytemuck::cast_slice(gradient));
        }
        tensors.insert(ITEM_TABLE.to_owned(), Tensor { shape: vec![self.shape.items, dim], data });
        Ok(tensors)
    }

    /// What a buffer of the step holds after all steps so far, to look at a step from inside: an activation, a loss, an
    /// index, by the name that traces show. `None` where no buffer has that name.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn buffer(&mut self, name: &str) -> Result<Option<Vec<u32>>> {
        self.buffers.named(name).map(|region| self.engine.read(region)).transpose()
    }

    /// The calls of one training step.
    fn program(&self, batch: &Batch) -> Result<Vec<Call>> {
        let labelled = if self.hyper.with_labels() { 2 } else { 1 };
        let counts = Counts {
            tokens: batch.sequences.tokens(),
            sequences: batch.sequences.sequences(),
            inputs: batch.examples,
            candidates: batch.targets.len(),
            rows: batch.rows.len(),
        };
        self.fits(counts)?;
        if counts.sequences != labelled * batch.examples {
            return Err(Error::Data(format!(
                "a batch of {} examples has {} sequences where this variant takes {labelled} for each",
                batch.examples, counts.sequences
            )));
        }
        let step = self.step + 1;
        let mut program = self.begin(counts, Some(step));
        program.catch_up(self.step);
        program.encode();
        program.intend();
        program.losses(self.step as usize % RING);
        program.backward();
        program.update(step);
        Ok(program.calls)
    }

    fn begin(&self, counts: Counts, step: Option<u64>) -> Program<'_> {
        let Model { shape, hyper, layout, buffers, .. } = self;
        Program { shape: *shape, hyper, layout, buffers, counts, step, calls: Vec::new() }
    }

    /// Writes sequences (all with the inputs' beta) to the device and gives the calls that encode them, then `more`.
    fn forward(&mut self, sequences: &Packed, more: impl FnOnce(&mut Program)) -> Result<Vec<Call>> {
        let n = sequences.sequences();
        let counts = Counts { tokens: sequences.tokens(), sequences: n, inputs: n, ..Counts::default() };
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

    fn fits(&self, counts: Counts) -> Result<()> {
        let Capacity { tokens, sequences, candidates, .. } = self.capacity;
        if counts.tokens > tokens || counts.sequences > sequences || counts.candidates > candidates {
            return Err(Error::Data(format!(
                "{} sequences with {} items are more than this model was made for ({sequences} with {tokens})",
                counts.sequences, counts.tokens
            )));
        }
        Ok(())
    }

    fn write_sequences(&mut self, sequences: &Packed) -> Result<()> {
        let b = &self.buffers;
        self.engine.write(b.items, &sequences.items)?;
        self.engine.write(b.positions, &sequences.positions)?;
        self.engine.write(b.owners, &sequences.owners)?;
        self.engine.write(b.offsets, &sequences.offsets)
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        self.write_sequences(&batch.sequences)?;
        let b = &self.buffers;
        self.engine.write(b.targets, &batch.targets)?;
        self.engine.write(b.target_offsets, &batch.target_offsets)?;
        self.engine.write(b.rows, &batch.rows)?;
        self.engine.write(b.row_starts, &batch.row_sources.starts)?;
        self.engine.write(b.row_sources, &batch.row_sources.sources)?;
        self.engine.write(b.position_starts, &batch.position_sources.starts)?;
        self.engine.write(b.position_sources, &batch.position_sources.sources)
    }

    /// Brings every item row up to date with the steps so far.
    fn catch_up(&mut self) -> Result<()> {
        if self.caught_up {
            return Ok(());
        }
        let (items, rows) = (self.shape.items, self.buffers.rows);
        for first in (0..items).step_by(rows.len) {
            let chunk: Vec<u32> = (first as u32..items.min(first + rows.len) as u32).collect();
            self.engine.write(rows, &chunk)?;
            let mut program = self.begin(Counts { rows: chunk.len(), ..Counts::default() }, None);
            program.catch_up(self.step);
            program.mark_updated(self.step);
            let calls = program.calls;
            self.engine.run("catch up", &calls)?;
        }
        self.caught_up = true;
        Ok(())
    }

    /// Begins to read the slots of the steps that were not read yet.
    fn read_losses(&mut self) -> Result<()> {
        if self.losses.unread.is_empty() {
            return Ok(());
        }
        let steps = std::mem::take(&mut self.losses.unread);
        let half = RING / 2;
        let first = (self.step as usize - steps.len()) % RING;
        let sums = Region { offset: first / half * half * SLOT, len: half * SLOT, ..self.buffers.sums };
        let read = self.engine.read_later(sums)?;
        self.losses.reads.push_back((read, first % half, steps));
        Ok(())
    }

    fn write_tensors(&mut self, tensors: &Tensors, [table, shared]: [Region; 2]) -> Result<()> {
        let shapes = parameter_shapes(self.shape);
        for (name, shape) in &shapes {
            let tensor = tensors.get(name).ok_or_else(|| Error::Data(format!("the parameter {name} is missing")))?;
            if tensor.shape != *shape || tensor.data.len() != shape.iter().product::<usize>() {
                let found = &tensor.shape;
                return Err(Error::Data(format!("the parameter {name} has shape {found:?} instead of {shape:?}")));
            }
        }
        if let Some(name) = tensors.keys().find(|name| !shapes.iter().any(|(known, _)| known == *name)) {
            return Err(Error::Data(format!("this model has no parameter {name}")));
        }
        self.engine.write(table, bytemuck::cast_slice(&tensors[ITEM_TABLE].data))?;
        self.engine.write(shared, bytemuck::cast_slice(&self.layout.join(tensors)))
    }

    fn read_tensors(&mut self, [table, shared]: [Region; 2]) -> Result<Tensors> {
        let Shape { items, dim, .. } = self.shape;
        let mut tensors = self.layout.split(bytemuck::cast_slice(&self.engine.read(shared)?));
        let data = bytemuck::cast_slice(&self.engine.read(head(table, items * dim))?).to_vec();
        tensors.insert(ITEM_TABLE.to_owned(), Tensor { shape: vec![items, dim], data });
        Ok(tensors)
    }
}

/// Refuses what the kernels cannot take.
fn check(shape: Shape, hyper: &Hyper) -> Result<()> {
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
    if items.saturating_mul(dim) > most {
        return wrong(format!("{items} items with dim {dim} are too many: their product may be at most {most}"));
    }
    Ok(())
}
