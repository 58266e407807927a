//! The training step, written once as a straight list of kernel calls: what its parts share. The parts are in `forward`
//! and `backward`.

mod backward;
mod forward;

use super::buffers::{Buffers, ChunkRows, RATES, SLICES};
use super::parameters::{Group, Layout};
use super::{Hyper, Shape};
use crate::kernels::dropout::Dropout;
use crate::kernels::storage::Chance;
use crate::kernels::*;

/// How much of everything a list of calls is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub tokens: usize,
    /// Inputs, then labels.
    pub sequences: usize,
    /// Sequences that get the inputs' beta: the examples of a batch.
    pub inputs: usize,
    pub candidates: usize,
    /// Distinct items.
    pub rows: usize,
}

/// Writes calls down, one after the other.
pub struct Program<'a> {
    pub shape: Shape,
    pub hyper: &'a Hyper,
    pub layout: &'a Layout,
    pub buffers: &'a Buffers,
    pub counts: Counts,
    pub ragged: Ragged,
    /// The item rows in use, chunk by chunk.
    pub rows: &'a [ChunkRows],
    /// The step that is taken, from 1; `None` in evaluation, where nothing is dropped out.
    pub step: Option<u64>,
    pub calls: Vec<Call>,
}

/// Where dropout happens; block n adds 4 n to the last four.
mod dropped {
    pub const EMBEDDED: u64 = 0;
    pub const SHARES: u64 = 1;
    pub const MIXED: u64 = 2;
    pub const INNER: u64 = 3;
    pub const OUTER: u64 = 4;
}

/// A linear layer's fused ends.
#[derive(Clone, Copy)]
struct Ends {
    relu: bool,
    residual: Option<Region>,
    dropout: Dropout,
}

const PLAIN: Ends = Ends { relu: false, residual: None, dropout: Dropout::OFF };

impl Program<'_> {
    fn dim(&self) -> u32 {
        self.shape.dim as u32
    }

    fn intentions(&self) -> u32 {
        self.shape.intentions as u32
    }

    fn tokens(&self) -> u32 {
        self.counts.tokens as u32
    }

    fn sequences(&self) -> u32 {
        self.counts.sequences as u32
    }

    /// Rows of phi that inputs have: B * K.
    fn input_rows(&self) -> u32 {
        (self.counts.inputs * self.shape.intentions) as u32
    }

    /// Rows of phi that labels have.
    fn label_rows(&self) -> u32 {
        if self.with_labels() { self.input_rows() } else { 0 }
    }

    /// Row of `compared` where phi begins.
    fn first_query(&self) -> u32 {
        (self.buffers.phi.offset / self.shape.dim) as u32
    }

    /// 1 / sqrt(D)
    fn scale(&self) -> f32 {
        (1.0 / (self.shape.dim as f64).sqrt()) as f32
    }

    /// What scores are multiplied with in the losses.
    fn loss_scale(&self) -> f32 {
        (1.0 / (self.shape.dim as f64).sqrt() / self.hyper.temperature) as f32
    }

    fn stride(&self) -> u32 {
        self.layout.len as u32
    }

    fn with_labels(&self) -> bool {
        self.counts.sequences > self.counts.inputs
    }

    fn dropout(&self, place: u64) -> Dropout {
        match self.step {
            Some(step) => Dropout::new(self.hyper.dropout, self.hyper.seed, step, place),
            None => Dropout::OFF,
        }
    }

    fn parameters(&self, group: Group) -> Region {
        self.buffers.parameters(group)
    }

    fn gradient(&self, group: Group) -> Region {
        self.buffers.gradient(group, self.layout.len)
    }

    /// What the last block left, or the embedded tokens where there are no blocks.
    fn stream(&self, blocks: usize) -> Region {
        if blocks == 0 { self.buffers.embedded } else { self.buffers.blocks[blocks - 1].out }
    }

    fn push(&mut self, mut call: Call) {
        call.ragged = self.ragged.clone();
        self.calls.push(call);
    }

    // The layers that are used more than once.

    fn norm(&mut self, rows: u32, x: Region, norm: Group, y: Region, stats: Region) {
        let params = layer_norm::Params { rows, dim: self.dim() };
        let norm = self.parameters(norm);
        self.push(layer_norm::call(params, layer_norm::Bindings { x, norm, y, stats }));
    }

    /// Gradients of a layer norm's parameters and of its input, the latter added to `dx` where `accumulate`.
    fn norm_backward(&mut self, rows: u32, (x, stats): (Region, Region), norm: Group, dy: Region, dx: (Region, bool)) {
        let params = layer_norm_backward::Params {
            rows,
            dim: self.dim(),
            accumulate: dx.1.into(),
            slices: SLICES as u32,
            stride: self.stride(),
            accumulate_gradient: 0,
        };
        let (gradient, norm) = (self.gradient(norm), self.parameters(norm));
        let bindings = layer_norm_backward::Bindings { x, norm, stats, dy, dx: dx.0, gradient };
        self.push(layer_norm_backward::call(params, bindings));
    }

    /// A linear layer from D to `outer` on every token.
    fn linear(&mut self, x: Region, weight: Group, outer: u32, ends: Ends, y: Region) {
        let Dropout { below, scale, key } = ends.dropout;
        let params = linear::Params {
            rows: self.tokens(),
            inner: self.dim(),
            outer,
            relu: ends.relu.into(),
            residual: ends.residual.is_some().into(),
            drop_below: below,
            drop_scale: scale,
            drop_key: key,
        };
        let residual = ends.residual.unwrap_or(x);
        self.push(linear::call(params, linear::Bindings { x, weight: self.parameters(weight), residual, y }));
    }

    /// Gradients of a linear layer's weight and bias, and of its input. `dropout` is that of the layer's end; `gate`: the
    /// scale of the dropout that, after a ReLU, made the layer's input.
    fn linear_backward(
        &mut self,
        (dy, dropout): (Region, Dropout),
        (weight, outer): (Group, u32),
        (x, gate): (Region, Option<f32>),
        (dx, accumulate): (Region, bool),
    ) {
        let params = linear_backward::Params {
            rows: self.tokens(),
            inner: self.dim(),
            outer,
            accumulate: accumulate.into(),
            gate: gate.is_some().into(),
            gate_scale: gate.unwrap_or(1.0),
            slices: SLICES as u32,
            stride: self.stride(),
            drop_below: dropout.below,
            drop_scale: dropout.scale,
            drop_key: dropout.key,
            accumulate_gradient: 0,
        };
        let gradient = self.gradient(weight);
        let weight = self.parameters(weight);
        self.push(linear_backward::call(params, linear_backward::Bindings { dy, weight, x, dx, gradient }));
    }

    fn position_backward(&mut self, dx: Region, dropout: Dropout, table: Group) {
        let params = position_backward::Params {
            positions: self.shape.length as u32,
            dim: self.dim(),
            slices: SLICES as u32,
            stride: self.stride(),
            drop_below: dropout.below,
            drop_scale: dropout.scale,
            drop_key: dropout.key,
        };
        let b = self.buffers;
        self.push(position_backward::call(
            params,
            position_backward::Bindings {
                starts: b.position_starts,
                sources: b.position_sources,
                dx,
                gradient: self.gradient(table),
            },
        ));
    }

    /// Takes the item rows in use to where the step works on them, up to date with the steps before this one.
    pub fn catch_up(&mut self, step: u64) {
        let b = self.buffers;
        for ChunkRows { chunk, first, rows } in self.rows {
            let chunk = &b.chunks[*chunk];
            let params = adam_catch_up::Params {
                first: *first,
                rows: *rows,
                dim: self.dim(),
                base: chunk.first,
                plane: b.plane() as u32,
                step: step as u32,
                steps: RATES as u32,
                packed: self.hyper.item_storage.packed(),
            };
            self.push(adam_catch_up::call(
                params,
                adam_catch_up::Bindings {
                    items: b.rows,
                    rates: b.rates,
                    updated: chunk.updated,
                    table: chunk.table,
                    first_moment: chunk.first_moment,
                    second_moment: chunk.second_moment,
                    working: b.working,
                },
            ));
        }
    }

    /// Takes the item rows in use to where evaluation reads them. They are up to date, and their moments stay where they are.
    pub fn bring(&mut self) {
        let b = self.buffers;
        for ChunkRows { chunk, first, rows } in self.rows {
            let chunk = &b.chunks[*chunk];
            let params = gather::Params {
                first: *first,
                rows: *rows,
                dim: self.dim(),
                base: chunk.first,
                packed: self.hyper.item_storage.packed(),
            };
            let bindings = gather::Bindings { items: b.rows, table: chunk.table, out: b.working_table };
            self.push(gather::call(params, bindings));
        }
    }

    /// Puts the item rows in use back to where they lie, and notes that they are up to date with `step`.
    pub fn store(&mut self, step: u64) {
        self.put_back(step, None);
    }

    /// As [`store`](Program::store), with Adam's update of that step by this rate and correction where they are given.
    fn put_back(&mut self, step: u64, update: Option<(f32, f32)>) {
        let b = self.buffers;
        let (rate, correction) = update.unwrap_or_default();
        for ChunkRows { chunk, first, rows } in self.rows {
            let chunk = &b.chunks[*chunk];
            let params = adam_rows::Params {
                first: *first,
                rows: *rows,
                dim: self.dim(),
                base: chunk.first,
                plane: b.plane() as u32,
                step: step as u32,
                update: update.is_some().into(),
                rate,
                correction,
                packed: self.hyper.item_storage.packed(),
                key: Chance::key(self.hyper.seed, step),
            };
            self.push(adam_rows::call(
                params,
                adam_rows::Bindings {
                    items: b.rows,
                    gradient: b.item_gradient,
                    working: b.working,
                    table: chunk.table,
                    first_moment: chunk.first_moment,
                    second_moment: chunk.second_moment,
                    updated: chunk.updated,
                },
            ));
        }
    }

    fn attention_dropout(&self, n: usize) -> (Dropout, Dropout) {
        let first = 4 * n as u64;
        (self.dropout(first + dropped::SHARES), self.dropout(first + dropped::MIXED))
    }

    fn feed_forward_dropout(&self, n: usize) -> (Dropout, Dropout) {
        let first = 4 * n as u64;
        (self.dropout(first + dropped::INNER), self.dropout(first + dropped::OUTER))
    }

    /// Adam's step on all shared parameters and on the item rows in use.
    pub fn update(&mut self, step: u64) {
        let b = self.buffers;
        // As `adam_catch_up` has them.
        let (rate, correction) = adam::rates(self.hyper.learning_rate, step.min(RATES as u64));
        let (rate, correction) = (rate as f32, correction as f32);
        let params = adam::Params {
            elements: self.layout.len as u32,
            slices: SLICES as u32,
            stride: self.stride(),
            rate,
            correction,
        };
        self.push(adam::call(
            params,
            adam::Bindings {
                gradient: b.shared_gradient,
                parameter: b.shared,
                first_moment: b.shared_first_moment,
                second_moment: b.shared_second_moment,
            },
        ));
        self.put_back(step, Some((rate, correction)));
    }
}

/// How many pairs eq. 4 keeps: ceil(lambda * B * K), guarded against products such as 0.7 * 10 = 7.000000001.
pub fn selection_rank(lambda: f64, rows: u32) -> u32 {
    (lambda * f64::from(rows) - 1e-9).ceil().max(0.0) as u32
}
