//! The training step, written once as a straight list of kernel calls.

use super::buffers::{Buffers, RATES, SLICES, head};
use super::parameters::{Group, Layout};
use super::{Hyper, Shape};
use crate::kernels::dropout::Dropout;
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

    /// 1 / sqrt(D)
    fn scale(&self) -> f32 {
        (1.0 / (self.shape.dim as f64).sqrt()) as f32
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

    fn push(&mut self, call: Call) {
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
        let (dim, stride) = (self.dim(), self.stride());
        let params = layer_norm_weight_backward::Params { rows, dim, slices: SLICES as u32, stride };
        let gradient = self.gradient(norm);
        let bindings = layer_norm_weight_backward::Bindings { x, stats, dy, gradient };
        self.push(layer_norm_weight_backward::call(params, bindings));
        let params = layer_norm_backward::Params { rows, dim, accumulate: dx.1.into() };
        let norm = self.parameters(norm);
        self.push(layer_norm_backward::call(params, layer_norm_backward::Bindings { x, norm, stats, dy, dx: dx.0 }));
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

    fn linear_weight_backward(&mut self, x: Region, dy: Region, outer: u32, weight: Group) {
        let params = linear_weight_backward::Params {
            rows: self.tokens(),
            inner: self.dim(),
            outer,
            slices: SLICES as u32,
            stride: self.stride(),
        };
        let gradient = self.gradient(weight);
        self.push(linear_weight_backward::call(params, linear_weight_backward::Bindings { x, dy, gradient }));
    }

    /// `gate`: what ReLU and dropout made of the layer's input, and the dropout's scale.
    fn linear_backward(
        &mut self,
        dy: Region,
        weight: Group,
        outer: u32,
        gate: Option<(Region, f32)>,
        (dx, accumulate): (Region, bool),
    ) {
        let params = linear_backward::Params {
            rows: self.tokens(),
            inner: self.dim(),
            outer,
            accumulate: accumulate.into(),
            gate: gate.is_some().into(),
            gate_scale: gate.map_or(1.0, |(_, scale)| scale),
        };
        let x = gate.map_or(dy, |(x, _)| x);
        self.push(linear_backward::call(
            params,
            linear_backward::Bindings { dy, weight: self.parameters(weight), x, dx },
        ));
    }

    /// Gradient of a bias that rows `first .. first + rows` of `x` were given.
    fn bias_backward(&mut self, x: Region, (first, rows): (u32, u32), columns: u32, bias: Group) {
        let params = column_sum::Params { first, rows, columns, slices: SLICES as u32, stride: self.stride() };
        let gradient = self.gradient(bias);
        self.push(column_sum::call(params, column_sum::Bindings { x, gradient }));
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

    // Forward.

    /// Brings the item rows in use up to date with the steps before this one.
    pub fn catch_up(&mut self, step: u64) {
        let b = self.buffers;
        let params = adam_catch_up::Params {
            rows: self.counts.rows as u32,
            dim: self.dim(),
            step: step as u32,
            steps: RATES as u32,
        };
        self.push(adam_catch_up::call(
            params,
            adam_catch_up::Bindings {
                items: b.rows,
                rates: b.rates,
                updated: b.item_updated,
                table: b.item_table,
                first_moment: b.item_first_moment,
                second_moment: b.item_second_moment,
            },
        ));
    }

    /// Notes that the item rows in use are up to date with `step`.
    pub fn mark_updated(&mut self, step: u64) {
        let params = mark_updated::Params { rows: self.counts.rows as u32, step: step as u32 };
        let bindings = mark_updated::Bindings { items: self.buffers.rows, updated: self.buffers.item_updated };
        self.push(mark_updated::call(params, bindings));
    }

    /// The encoder: from items to z.
    pub fn encode(&mut self) {
        let (b, tokens, dim) = (self.buffers, self.tokens(), self.dim());
        let dropout = self.dropout(dropped::EMBEDDED);
        self.push(embed::call(
            embed::Params {
                tokens,
                dim,
                scale: (self.shape.dim as f64).sqrt() as f32,
                drop_below: dropout.below,
                drop_scale: dropout.scale,
                drop_key: dropout.key,
            },
            embed::Bindings {
                items: b.items,
                positions: b.positions,
                table: b.item_table,
                position_table: self.parameters(self.layout.position_table),
                x: b.embedded,
            },
        ));
        for n in 0..self.shape.blocks {
            self.block(n);
        }
        self.norm(tokens, self.stream(self.shape.blocks), self.layout.encoder_norm, b.z, b.encoder_stats);
    }

    fn block(&mut self, n: usize) {
        let (block, groups, x) = (&self.buffers.blocks[n], self.layout.blocks[n], self.stream(n));
        let (tokens, dim) = (self.tokens(), self.dim());
        self.norm(tokens, x, groups.attention_norm, block.normed, block.stats);
        self.linear(block.normed, groups.qkv, 3 * dim, PLAIN, block.qkv);
        let (shares, mixed) = self.attention_dropout(n);
        self.push(attention::call(
            attention::Params {
                sequences: self.sequences(),
                dim,
                scale: self.scale(),
                length: self.shape.length as u32,
                share_below: shares.below,
                share_scale: shares.scale,
                share_key: shares.key,
                drop_below: mixed.below,
                drop_scale: mixed.scale,
                drop_key: mixed.key,
            },
            attention::Bindings {
                offsets: self.buffers.offsets,
                qkv: block.qkv,
                x,
                y: block.middle,
                mixed: block.mixed,
                log_sum: block.log_sum,
            },
        ));
        self.norm(tokens, block.middle, groups.feed_forward_norm, block.middle_normed, block.middle_stats);
        let (inner, outer) = self.feed_forward_dropout(n);
        let ends = Ends { relu: true, residual: None, dropout: inner };
        self.linear(block.middle_normed, groups.inner, dim, ends, block.hidden);
        let ends = Ends { relu: false, residual: Some(block.middle), dropout: outer };
        self.linear(block.hidden, groups.outer, dim, ends, block.out);
    }

    fn attention_dropout(&self, n: usize) -> (Dropout, Dropout) {
        let first = 4 * n as u64;
        (self.dropout(first + dropped::SHARES), self.dropout(first + dropped::MIXED))
    }

    fn feed_forward_dropout(&self, n: usize) -> (Dropout, Dropout) {
        let first = 4 * n as u64;
        (self.dropout(first + dropped::INNER), self.dropout(first + dropped::OUTER))
    }

    /// p_{k|i} of every token (eq. 8).
    pub fn cluster(&mut self) {
        let (b, l) = (self.buffers, self.layout);
        self.norm(self.tokens(), b.z, l.token_norm, b.token, b.token_stats);
        self.norm(self.intentions(), self.parameters(l.prototypes), l.prototype_norm, b.prototype, b.prototype_stats);
        let params = prototype_softmax::Params {
            tokens: self.tokens(),
            dim: self.dim(),
            intentions: self.intentions(),
            scale: self.scale(),
        };
        let bindings = prototype_softmax::Bindings { token: b.token, prototype: b.prototype, cluster: b.cluster };
        self.push(prototype_softmax::call(params, bindings));
    }

    /// The intention layer: from z to phi (eq. 8 to 13).
    pub fn intend(&mut self) {
        let (b, l, tokens, dim, sequences) = (self.buffers, self.layout, self.tokens(), self.dim(), self.sequences());
        self.cluster();
        self.push(place::call(
            place::Params { tokens, dim },
            place::Bindings {
                z: b.z,
                positions: b.positions,
                owners: b.owners,
                offsets: b.offsets,
                position_table: self.parameters(l.intention_positions),
                query_bias: self.parameters(l.query_bias),
                placed: b.placed,
                query: b.query_input,
            },
        ));
        self.norm(tokens, b.placed, l.key_norm, b.key_normed, b.key_stats);
        self.norm(sequences, b.query_input, l.query_norm, b.query, b.query_stats);
        let ends = Ends { relu: true, residual: Some(b.key_normed), dropout: Dropout::OFF };
        self.linear(b.key_normed, l.key, dim, ends, b.key);
        let params = intention_weight::Params { sequences, dim, scale: self.scale() };
        self.push(intention_weight::call(
            params,
            intention_weight::Bindings { offsets: b.offsets, key: b.key, query: b.query, weight: b.weight },
        ));
        let inputs = self.counts.inputs as u32;
        self.push(aggregate::call(
            aggregate::Params { sequences, inputs, dim, intentions: self.intentions() },
            aggregate::Bindings {
                offsets: b.offsets,
                z: b.z,
                cluster: b.cluster,
                weight: b.weight,
                input_bias: self.parameters(l.input_bias),
                label_bias: self.parameters(l.label_bias),
                total: b.total,
            },
        ));
        self.norm(sequences * self.intentions(), b.total, l.output_norm, b.phi, b.phi_stats);
    }

    /// Both losses (eq. 3, 4, 6) and their sums, into `slot` of the ring.
    pub fn losses(&mut self, slot: usize) {
        let (b, dim, scale, rows) = (self.buffers, self.dim(), self.scale(), self.input_rows());
        let (intentions, examples) = (self.intentions(), self.counts.inputs as u32);
        let candidates = self.counts.candidates as u32;
        let params = gather::Params { rows: candidates, dim };
        self.push(gather::call(params, gather::Bindings { items: b.targets, table: b.item_table, out: b.target }));
        self.push(contrastive::call(
            contrastive::Params { rows, candidates, first_candidate: 0, dim, scale },
            contrastive::Bindings { query: b.phi, candidate: b.target, normaliser: b.item_normaliser },
        ));
        self.push(seq2item_loss::call(
            seq2item_loss::Params { examples, dim, intentions, scale },
            seq2item_loss::Bindings {
                phi: b.phi,
                candidate: b.target,
                offsets: b.target_offsets,
                normaliser: b.item_normaliser,
                loss: b.item_loss,
                example_normaliser: b.example_normaliser,
                weight: b.item_weight,
                positive: b.item_positive,
            },
        ));
        let mut pairs = 0;
        if self.with_labels() {
            pairs = rows;
            // phi of the labels lies behind that of the inputs.
            self.push(contrastive::call(
                contrastive::Params { rows, candidates: rows, first_candidate: rows, dim, scale },
                contrastive::Bindings { query: b.phi, candidate: b.phi, normaliser: b.label_normaliser },
            ));
            self.push(seq2seq_loss::call(
                seq2seq_loss::Params { rows, first_label: rows, dim, scale },
                seq2seq_loss::Bindings { phi: b.phi, label: b.phi, normaliser: b.label_normaliser, loss: b.pair_loss },
            ));
            let rank = selection_rank(self.hyper.lambda, rows);
            self.push(select_confident::call(
                select_confident::Params { rows, rank },
                select_confident::Bindings {
                    loss: b.pair_loss,
                    tau: b.tau,
                    weight: b.label_weight,
                    positive: b.label_positive,
                },
            ));
        }
        self.push(sum_losses::call(
            sum_losses::Params { examples, pairs, slot: slot as u32 },
            sum_losses::Bindings {
                seq2item: b.item_loss,
                seq2seq: b.pair_loss,
                selected: b.label_weight,
                sums: b.sums,
            },
        ));
    }

    // Backward.

    /// Gradients of everything.
    pub fn backward(&mut self) {
        self.losses_backward();
        self.intend_backward();
        let b = self.buffers;
        let x = (self.stream(self.shape.blocks), b.encoder_stats);
        self.norm_backward(self.tokens(), x, self.layout.encoder_norm, b.dz, (b.dstream, false));
        for n in (0..self.shape.blocks).rev() {
            self.block_backward(n);
        }
        self.embed_backward();
    }

    /// To the gradients of phi and of the targets.
    fn losses_backward(&mut self) {
        let (b, dim, scale, rows) = (self.buffers, self.dim(), self.scale(), self.input_rows());
        let candidates = self.counts.candidates as u32;
        self.push(contrastive_query_backward::call(
            contrastive_query_backward::Params { rows, candidates, first_candidate: 0, dim, scale, accumulate: 0 },
            contrastive_query_backward::Bindings {
                query: b.phi,
                candidate: b.target,
                normaliser: b.example_normaliser,
                weight: b.item_weight,
                positive: b.item_positive,
                dquery: b.dphi,
            },
        ));
        self.push(contrastive_candidate_backward::call(
            contrastive_candidate_backward::Params { rows, candidates, first_candidate: 0, dim, scale },
            contrastive_candidate_backward::Bindings {
                query: b.phi,
                candidate: b.target,
                normaliser: b.example_normaliser,
                weight: b.item_weight,
                positive: b.item_positive,
                dcandidate: b.dtarget,
            },
        ));
        if !self.with_labels() {
            return;
        }
        let (candidates, first_candidate) = (rows, rows);
        self.push(contrastive_query_backward::call(
            contrastive_query_backward::Params { rows, candidates, first_candidate, dim, scale, accumulate: 1 },
            contrastive_query_backward::Bindings {
                query: b.phi,
                candidate: b.phi,
                normaliser: b.label_normaliser,
                weight: b.label_weight,
                positive: b.label_positive,
                dquery: b.dphi,
            },
        ));
        self.push(contrastive_candidate_backward::call(
            contrastive_candidate_backward::Params { rows, candidates, first_candidate, dim, scale },
            contrastive_candidate_backward::Bindings {
                query: b.phi,
                candidate: b.phi,
                normaliser: b.label_normaliser,
                weight: b.label_weight,
                positive: b.label_positive,
                dcandidate: b.dphi,
            },
        ));
    }

    /// From the gradient of phi to that of z.
    fn intend_backward(&mut self) {
        let (b, l, dim, intentions) = (self.buffers, self.layout, self.dim(), self.intentions());
        let (sequences, inputs) = (self.sequences(), self.counts.inputs as u32);
        self.norm_backward(sequences * intentions, (b.total, b.phi_stats), l.output_norm, b.dphi, (b.dtotal, false));
        self.bias_backward(b.dtotal, (0, inputs), intentions * dim, l.input_bias);
        if self.with_labels() {
            self.bias_backward(b.dtotal, (inputs, sequences - inputs), intentions * dim, l.label_bias);
        }
        self.push(aggregate_backward::call(
            aggregate_backward::Params { sequences, dim, intentions, accumulate: 0 },
            aggregate_backward::Bindings {
                offsets: b.offsets,
                z: b.z,
                cluster: b.cluster,
                weight: b.weight,
                dtotal: b.dtotal,
                dz: b.dz,
                dcluster: b.dcluster,
                dweight: b.dweight,
            },
        ));
        self.cluster_backward();
        self.weight_backward();
    }

    /// Eq. 8: the gradients of prototypes, and of z by way of them.
    fn cluster_backward(&mut self) {
        let (b, l, dim, intentions) = (self.buffers, self.layout, self.dim(), self.intentions());
        let tokens = self.tokens();
        self.push(prototype_softmax_backward::call(
            prototype_softmax_backward::Params { tokens, dim, intentions, scale: self.scale() },
            prototype_softmax_backward::Bindings {
                prototype: b.prototype,
                cluster: b.cluster,
                dcluster: b.dcluster,
                dlogit: b.dlogit,
                dtoken: b.da,
            },
        ));
        // The normalised prototypes are to the tokens what a linear layer's weights are.
        let stride = ((intentions * (dim + 1)) as usize).next_multiple_of(Region::ALIGNMENT) as u32;
        let slices = SLICES as u32;
        self.push(linear_weight_backward::call(
            linear_weight_backward::Params { rows: tokens, inner: dim, outer: intentions, slices, stride },
            linear_weight_backward::Bindings { x: b.token, dy: b.dlogit, gradient: b.dprototype_slices },
        ));
        let elements = intentions * dim;
        self.push(sum_slices::call(
            sum_slices::Params { elements, slices, stride },
            sum_slices::Bindings { gradient: b.dprototype_slices, sum: b.dprototype },
        ));
        let prototypes = (self.parameters(l.prototypes), b.prototype_stats);
        // The gradient's other slices stay zero.
        let gradient = head(self.gradient(l.prototypes), l.prototypes.len);
        self.norm_backward(intentions, prototypes, l.prototype_norm, b.dprototype, (gradient, false));
        self.norm_backward(tokens, (b.z, b.token_stats), l.token_norm, b.da, (b.dz, true));
    }

    /// Eq. 9 to 12: the gradients of keys and queries, and of z by way of them.
    fn weight_backward(&mut self) {
        let (b, l, dim, tokens, sequences) = (self.buffers, self.layout, self.dim(), self.tokens(), self.sequences());
        self.push(intention_weight_backward::call(
            intention_weight_backward::Params { sequences },
            intention_weight_backward::Bindings {
                offsets: b.offsets,
                weight: b.weight,
                dweight: b.dweight,
                dscore: b.dscore,
            },
        ));
        self.push(intention_key_backward::call(
            intention_key_backward::Params { sequences, dim, scale: self.scale() },
            intention_key_backward::Bindings {
                offsets: b.offsets,
                dscore: b.dscore,
                key: b.key,
                normed: b.key_normed,
                query: b.query,
                dnormed: b.da,
                dlinear: b.db,
                dquery: b.dquery,
            },
        ));
        self.linear_weight_backward(b.key_normed, b.db, dim, l.key);
        self.linear_backward(b.db, l.key, dim, None, (b.da, true));
        self.norm_backward(tokens, (b.placed, b.key_stats), l.key_norm, b.da, (b.db, false));
        let query = (b.query_input, b.query_stats);
        self.norm_backward(sequences, query, l.query_norm, b.dquery, (b.dquery_input, false));
        self.bias_backward(b.dquery_input, (0, sequences), dim, l.query_bias);
        self.push(place_backward::call(
            place_backward::Params { tokens, dim, accumulate: 1 },
            place_backward::Bindings {
                owners: b.owners,
                offsets: b.offsets,
                dquery: b.dquery_input,
                dplaced: b.db,
                dz: b.dz,
            },
        ));
        self.position_backward(b.db, Dropout::OFF, l.intention_positions);
    }

    /// `dstream`: from the gradient of the block's output to that of its input.
    fn block_backward(&mut self, n: usize) {
        let (b, groups, x) = (self.buffers, self.layout.blocks[n], self.stream(n));
        let block = &b.blocks[n];
        let (tokens, dim) = (self.tokens(), self.dim());
        let (inner, outer) = self.feed_forward_dropout(n);
        let mut douter = b.dstream;
        if outer.below > 0 {
            douter = b.da;
            let params = dropout_backward::Params {
                elements: tokens * dim,
                drop_below: outer.below,
                drop_scale: outer.scale,
                drop_key: outer.key,
            };
            self.push(dropout_backward::call(params, dropout_backward::Bindings { dy: b.dstream, dx: b.da }));
        }
        self.linear_weight_backward(block.hidden, douter, dim, groups.outer);
        self.linear_backward(douter, groups.outer, dim, Some((block.hidden, inner.scale)), (b.db, false));
        self.linear_weight_backward(block.middle_normed, b.db, dim, groups.inner);
        self.linear_backward(b.db, groups.inner, dim, None, (b.da, false));
        let middle = (block.middle, block.middle_stats);
        self.norm_backward(tokens, middle, groups.feed_forward_norm, b.da, (b.dstream, true));
        let (shares, mixed) = self.attention_dropout(n);
        self.push(attention_backward::call(
            attention_backward::Params {
                sequences: self.sequences(),
                dim,
                scale: self.scale(),
                length: self.shape.length as u32,
                share_below: shares.below,
                share_scale: shares.scale,
                share_key: shares.key,
                drop_below: mixed.below,
                drop_scale: mixed.scale,
                drop_key: mixed.key,
            },
            attention_backward::Bindings {
                offsets: b.offsets,
                qkv: block.qkv,
                mixed: block.mixed,
                log_sum: block.log_sum,
                dy: b.dstream,
                dqkv: b.dqkv,
            },
        ));
        self.linear_weight_backward(block.normed, b.dqkv, 3 * dim, groups.qkv);
        self.linear_backward(b.dqkv, groups.qkv, 3 * dim, None, (b.da, false));
        self.norm_backward(tokens, (x, block.stats), groups.attention_norm, b.da, (b.dstream, true));
    }

    /// To the gradients of the item rows in use and of the position table.
    fn embed_backward(&mut self) {
        let b = self.buffers;
        let dropout = self.dropout(dropped::EMBEDDED);
        self.push(embed_backward::call(
            embed_backward::Params {
                rows: self.counts.rows as u32,
                dim: self.dim(),
                tokens: self.tokens(),
                scale: (self.shape.dim as f64).sqrt() as f32,
                drop_below: dropout.below,
                drop_scale: dropout.scale,
                drop_key: dropout.key,
                l2: self.hyper.l2 as f32,
            },
            embed_backward::Bindings {
                items: b.rows,
                starts: b.row_starts,
                sources: b.row_sources,
                dx: b.dstream,
                dcandidates: b.dtarget,
                table: b.item_table,
                gradient: b.item_gradient,
            },
        ));
        self.position_backward(b.dstream, dropout, self.layout.position_table);
    }

    /// Adam's step on all shared parameters and on the item rows in use.
    pub fn update(&mut self, step: u64) {
        let b = self.buffers;
        let (rate, correction) = adam_rates(self.hyper.learning_rate, step);
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
        let params =
            adam_rows::Params { rows: self.counts.rows as u32, dim: self.dim(), step: step as u32, rate, correction };
        self.push(adam_rows::call(
            params,
            adam_rows::Bindings {
                items: b.rows,
                gradient: b.item_gradient,
                table: b.item_table,
                first_moment: b.item_first_moment,
                second_moment: b.item_second_moment,
                updated: b.item_updated,
            },
        ));
    }
}

/// How many pairs eq. 4 keeps: ceil(lambda * B * K), guarded against products such as 0.7 * 10 = 7.000000001.
pub fn selection_rank(lambda: f64, rows: u32) -> u32 {
    (lambda * f64::from(rows) - 1e-9).ceil().max(0.0) as u32
}

/// Adam's lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) of step t, from 1.
pub fn adam_rates(learning_rate: f64, step: u64) -> (f32, f32) {
    let step = step.min(RATES as u64) as i32;
    let rate = learning_rate / (1.0 - 0.9f64.powi(step));
    let correction = 1.0 / (1.0 - 0.999f64.powi(step)).sqrt();
    (rate as f32, correction as f32)
}
