//! From items to losses.

use super::{Ends, PLAIN, Program, dropped, selection_rank};
use crate::kernels::dropout::Dropout;
use crate::kernels::*;

impl Program<'_> {
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
                items: b.token_rows,
                positions: b.positions,
                table: b.working_table,
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
                tokens,
                dim,
                scale: self.scale(),
                length: self.shape.length as u32,
                share_below: shares.below,
                share_scale: shares.scale,
                share_key: shares.key,
                drop_below: mixed.below,
                drop_scale: mixed.scale,
                drop_key: mixed.key,
                first_sequence: 0,
                base: 0,
            },
            attention::Bindings {
                offsets: self.buffers.offsets,
                owners: self.buffers.owners,
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
        let params = intention_weight::Params { sequences, dim, length: self.shape.length as u32, scale: self.scale() };
        self.push(intention_weight::call(
            params,
            intention_weight::Bindings { offsets: b.offsets, key: b.key, query: b.query, weight: b.weight },
        ));
        let inputs = self.counts.inputs as u32;
        self.push(aggregate::call(
            aggregate::Params {
                sequences,
                inputs,
                dim,
                intentions: self.intentions(),
                length: self.shape.length as u32,
            },
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
        let (b, dim, scale, rows) = (self.buffers, self.dim(), self.loss_scale(), self.input_rows());
        let (intentions, examples) = (self.intentions(), self.counts.inputs as u32);
        let (targets, labels, first_query) = (self.counts.candidates as u32, self.label_rows(), self.first_query());
        let params = gather::Params { first: 0, rows: targets, dim, base: 0, packed: 0 };
        self.push(gather::call(
            params,
            gather::Bindings { items: b.target_rows, table: b.working_table, out: b.target },
        ));
        self.push(contrastive::call(
            contrastive::Params { rows, targets, labels, dim, scale, first: 0, accumulate: 0 },
            contrastive::Bindings { candidate: b.target, query: b.phi, normaliser: b.normaliser },
        ));
        self.push(contrastive_loss::call(
            contrastive_loss::Params { examples, intentions, labels, first_query, dim, scale },
            contrastive_loss::Bindings {
                vector: b.compared,
                offsets: b.target_offsets,
                normaliser: b.normaliser,
                item_loss: b.item_loss,
                label_loss: b.pair_loss,
                shift: b.shift,
                positive: b.positive,
            },
        ));
        let rank = selection_rank(self.hyper.lambda, labels);
        self.push(select_confident::call(
            select_confident::Params { examples, rows, labels, rank, targets, slot: slot as u32 },
            select_confident::Bindings {
                item_loss: b.item_loss,
                label_loss: b.pair_loss,
                normaliser: b.normaliser,
                tau: b.tau,
                shift: b.shift,
                positive: b.positive,
                order: b.order,
                sums: b.sums,
            },
        ));
    }
}
