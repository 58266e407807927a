//! The model on an engine: its parameters, the training step and the passes that evaluation needs.

use std::collections::VecDeque;

use crate::data::batch::{Batch, Packed, Segments};
use crate::engine::{Ceilings, Description, Engine, PendingRead, Span};
use crate::error::{Error, Result};
use crate::kernels::select_confident::SLOT;
use crate::kernels::{Call, Ragged, Region, adam_catch_up, sum_slices};

mod buffers;
mod parameters;
mod prior;
mod program;
mod represent;
mod shape;

pub use parameters::{ITEM_TABLE, initial_parameters, parameter_shapes};
pub use prior::Prior;
pub use represent::{Represented, TakeScores};
pub use shape::{AdamState, Hyper, Shape, StepLosses, Tensor, Tensors, Variant};

use buffers::{Buffers, Capacity, Chunk, ChunkRows, RATES, RING, SLICES};
use parameters::Layout;
use program::{Counts, Program};

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
    /// Items, scores and intentions of a block of the catalogue; made when they are first needed.
    wide: Option<[Region; 3]>,
    /// How often each item occurs in training; empty where nobody said.
    occurrences: Vec<u32>,
    prior: Prior,
    /// What that adds to each item's score; empty where it is nothing.
    bias: Vec<f32>,
    /// Steps taken.
    step: u64,
    /// Whether every item row is up to date with `step`.
    caught_up: bool,
    losses: Losses,
}

/// What there is of every parameter.
#[derive(Clone, Copy)]
enum Part {
    Parameters,
    FirstMoment,
    SecondMoment,
}

impl Part {
    fn of_chunk(self, chunk: &Chunk) -> Region {
        match self {
            Part::Parameters => chunk.table,
            Part::FirstMoment => chunk.first_moment,
            Part::SecondMoment => chunk.second_moment,
        }
    }

    fn shared(self, buffers: &Buffers) -> Region {
        match self {
            Part::Parameters => buffers.shared,
            Part::FirstMoment => buffers.shared_first_moment,
            Part::SecondMoment => buffers.shared_second_moment,
        }
    }
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
        shape::check(shape, &hyper)?;
        let layout = Layout::new(shape);
        let capacity = Capacity::new(shape, &hyper);
        let buffers = Buffers::new(&mut *engine, shape, &hyper, &layout)?;
        let known = buffers::allocate(&mut *engine, "known", 1 << 14)?;
        engine.write(buffers.rates, bytemuck::cast_slice(&adam_catch_up::rates(hyper.learning_rate, RATES)))?;
        let losses = Losses::default();
        Ok(Model {
            engine,
            shape,
            hyper,
            layout,
            capacity,
            buffers,
            known,
            wide: None,
            occurrences: Vec::new(),
            prior: Prior::default(),
            bias: Vec::new(),
            step: 0,
            caught_up: true,
            losses,
        })
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
        self.engine.allocated_bytes()
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
        self.write_tensors(parameters, Part::Parameters)
    }

    /// The parameters after all steps so far (waits for them).
    pub fn parameters(&mut self) -> Result<Tensors> {
        self.catch_up()?;
        self.read_tensors(Part::Parameters)
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
        self.write_tensors(parameters, Part::Parameters)?;
        self.write_tensors(&adam.first_moment, Part::FirstMoment)?;
        self.write_tensors(&adam.second_moment, Part::SecondMoment)?;
        for chunk in &self.buffers.chunks {
            let updated = &adam.updated[chunk.first as usize..][..chunk.items as usize];
            self.engine.write(chunk.updated, updated)?;
        }
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
        let parameters = self.read_tensors(Part::Parameters)?;
        let mut updated = Vec::with_capacity(self.shape.items);
        for chunk in &self.buffers.chunks {
            updated.extend(self.engine.read(chunk.updated.first(chunk.items as usize))?);
        }
        let adam = AdamState {
            step: self.step,
            updated,
            first_moment: self.read_tensors(Part::FirstMoment)?,
            second_moment: self.read_tensors(Part::SecondMoment)?,
        };
        Ok((parameters, adam))
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
        let pairs = (batch.sequences.sequences() as u32 - examples) * self.shape.intentions as u32;
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
        let compact = self.engine.read(self.buffers.item_gradient.first(batch.rows.len() * dim))?;
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

    /// Begins (or ends) to time kernel calls; gives what was timed since it began.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn profile(&mut self, on: bool) -> Result<Vec<Span>> {
        self.engine.profile(on)
    }

    /// What the engine can do at best; takes a moment.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn ceilings(&mut self) -> Result<Ceilings> {
        self.engine.ceilings()
    }

    /// The calls of one training step.
    fn program(&self, batch: &Batch) -> Result<Vec<Call>> {
        let counts = Counts {
            tokens: batch.sequences.tokens(),
            sequences: batch.sequences.sequences(),
            inputs: batch.examples,
            candidates: batch.targets.len(),
            rows: batch.rows.len(),
        };
        self.fits(counts)?;
        // A batch without labels is trained with seq2item alone.
        let labelled = self.hyper.with_labels() && counts.sequences == 2 * batch.examples;
        if counts.sequences != batch.examples && !labelled {
            return Err(Error::Data(format!(
                "a batch of {} examples has {} sequences, where this variant takes one for each{}",
                batch.examples,
                counts.sequences,
                if self.hyper.with_labels() { ", or two" } else { "" }
            )));
        }
        let step = self.step + 1;
        let rows = self.buffers.chunk_rows(&batch.rows);
        let mut program = self.begin(counts, &rows, Some(step));
        program.ragged = Ragged::new(&batch.sequences.offsets);
        program.catch_up(self.step);
        program.encode();
        program.intend();
        program.losses(self.step as usize % RING);
        program.backward();
        program.update(step);
        Ok(program.calls)
    }

    fn begin<'a>(&'a self, counts: Counts, rows: &'a [ChunkRows], step: Option<u64>) -> Program<'a> {
        let Model { shape, hyper, layout, buffers, .. } = self;
        Program {
            shape: *shape,
            hyper,
            layout,
            buffers,
            counts,
            ragged: Ragged::default(),
            rows,
            step,
            calls: Vec::new(),
        }
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

    /// `rows`: which of the rows in use each token is.
    fn write_sequences(&mut self, sequences: &Packed, rows: &[u32]) -> Result<()> {
        let b = &self.buffers;
        self.engine.write(b.token_rows, rows)?;
        self.engine.write(b.positions, &sequences.positions)?;
        self.engine.write(b.owners, &sequences.owners)?;
        self.engine.write(b.offsets, &sequences.offsets)
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<()> {
        let Segments { starts, sources } = &batch.row_sources;
        let mut row_of = vec![0; sources.len()];
        for (row, range) in (0u32..).zip(starts.windows(2)) {
            for source in &sources[range[0] as usize..range[1] as usize] {
                row_of[*source as usize] = row;
            }
        }
        let (tokens, targets) = row_of.split_at(batch.sequences.tokens());
        self.write_sequences(&batch.sequences, tokens)?;
        let b = &self.buffers;
        self.engine.write(b.target_rows, targets)?;
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
            let parts = self.buffers.chunk_rows(&chunk);
            let mut program = self.begin(Counts { rows: chunk.len(), ..Counts::default() }, &parts, None);
            program.catch_up(self.step);
            program.store(self.step);
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

    fn write_tensors(&mut self, tensors: &Tensors, part: Part) -> Result<()> {
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
        let (table, dim) = (&tensors[ITEM_TABLE].data, self.shape.dim);
        for chunk in &self.buffers.chunks {
            let rows = &table[chunk.first as usize * dim..][..chunk.items as usize * dim];
            self.engine.write(part.of_chunk(chunk), &self.hyper.item_storage.pack(rows, dim))?;
        }
        self.engine.write(part.shared(&self.buffers), bytemuck::cast_slice(&self.layout.join(tensors)))
    }

    fn read_tensors(&mut self, part: Part) -> Result<Tensors> {
        let Shape { items, dim, .. } = self.shape;
        let mut tensors = self.layout.split(bytemuck::cast_slice(&self.engine.read(part.shared(&self.buffers))?));
        let storage = self.hyper.item_storage;
        let mut data: Vec<f32> = Vec::with_capacity(items * dim);
        for chunk in &self.buffers.chunks {
            let rows = self.engine.read(part.of_chunk(chunk).first(chunk.items as usize * storage.words(dim)))?;
            data.extend(storage.unpack(&rows, dim));
        }
        tensors.insert(ITEM_TABLE.to_owned(), Tensor { shape: vec![items, dim], data });
        Ok(tensors)
    }
}
