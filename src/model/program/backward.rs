//! From losses to the gradient of every parameter.

use super::{Program, dropped};
use crate::kernels::dropout::Dropout;
use crate::kernels::*;
use crate::model::buffers::SLICES;
use crate::model::parameters::Group;

impl Program<'_> {
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
        let (b, dim, scale, rows) = (self.buffers, self.dim(), self.loss_scale(), self.input_rows());
        let (targets, labels) = (self.counts.candidates as u32, self.label_rows());
        self.push(contrastive_backward::call(
            contrastive_backward::Params::whole(rows, [targets, labels], dim, scale),
            contrastive_backward::Bindings {
                candidate: b.target,
                query: b.phi,
                shift: b.shift,
                positive: b.positive,
                order: b.order,
                dcandidate: b.dtarget,
                dquery: b.dphi,
            },
        ));
    }

    /// From the gradient of phi to that of z.
    fn intend_backward(&mut self) {
        let (b, l, dim, intentions) = (self.buffers, self.layout, self.dim(), self.intentions());
        let sequences = self.sequences();
        self.norm_backward(sequences * intentions, (b.total, b.phi_stats), l.output_norm, b.dphi, (b.dtotal, false));
        self.push(aggregate_backward::call(
            aggregate_backward::Params { sequences, dim, intentions, length: self.shape.length as u32, accumulate: 0 },
            aggregate_backward::Bindings {
                offsets: b.offsets,
                z: b.z,
                cluster: b.cluster,
                weight: b.weight,
                dtotal: b.dtotal,
                dz: b.dz,
                dcluster: b.dcluster,
                dscore: b.dscore,
            },
        ));
        self.cluster_backward();
        self.weight_backward();
        self.bias_backward();
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
        self.push(prototype_backward::call(
            prototype_backward::Params { tokens, dim, intentions },
            prototype_backward::Bindings { token: b.token, dlogit: b.dlogit, dprototype: b.dprototype },
        ));
        // Few rows: both gradients have one slice, their others stay zero.
        self.push(layer_norm_backward::call(
            layer_norm_backward::Params {
                rows: intentions,
                dim,
                accumulate: 0,
                slices: 1,
                stride: self.stride(),
                accumulate_gradient: 0,
            },
            layer_norm_backward::Bindings {
                x: self.parameters(l.prototypes),
                norm: self.parameters(l.prototype_norm),
                stats: b.prototype_stats,
                dy: b.dprototype,
                dx: self.gradient(l.prototypes).first(l.prototypes.len),
                gradient: self.gradient(l.prototype_norm).first(l.prototype_norm.len),
            },
        ));
        self.norm_backward(tokens, (b.z, b.token_stats), l.token_norm, b.da, (b.dz, true));
    }

    /// Eq. 9 to 12: the gradients of keys and queries, and of z by way of them.
    fn weight_backward(&mut self) {
        let (b, l, dim, tokens, sequences) = (self.buffers, self.layout, self.dim(), self.tokens(), self.sequences());
        self.push(intention_key_backward::call(
            intention_key_backward::Params { sequences, dim, length: self.shape.length as u32, scale: self.scale() },
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
        self.linear_backward((b.db, Dropout::OFF), (l.key, dim), (b.key_normed, None), (b.da, true));
        self.norm_backward(tokens, (b.placed, b.key_stats), l.key_norm, b.da, (b.db, false));
        let query = (b.query_input, b.query_stats);
        self.norm_backward(sequences, query, l.query_norm, b.dquery, (b.dquery_input, false));
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

    /// Gradients of the biases that whole sequences are given.
    fn bias_backward(&mut self) {
        let (b, l, dim) = (self.buffers, self.layout, self.dim());
        // One region from the first of them to the end of the last.
        let (first, last) = (l.query_bias, l.label_bias);
        let all = Group { offset: first.offset, len: last.offset + last.len - first.offset };
        self.push(bias_backward::call(
            bias_backward::Params {
                sequences: self.sequences(),
                inputs: self.counts.inputs as u32,
                dim,
                columns: self.intentions() * dim,
                input_at: (l.input_bias.offset - first.offset) as u32,
                label_at: (l.label_bias.offset - first.offset) as u32,
                slices: SLICES as u32,
                stride: self.stride(),
            },
            bias_backward::Bindings { dquery: b.dquery_input, dtotal: b.dtotal, gradient: self.gradient(all) },
        ));
    }

    /// `dstream`: from the gradient of the block's output to that of its input.
    fn block_backward(&mut self, n: usize) {
        let (b, groups, x) = (self.buffers, self.layout.blocks[n], self.stream(n));
        let block = &b.blocks[n];
        let (tokens, dim) = (self.tokens(), self.dim());
        let (inner, outer) = self.feed_forward_dropout(n);
        let hidden = (block.hidden, Some(inner.scale));
        self.linear_backward((b.dstream, outer), (groups.outer, dim), hidden, (b.db, false));
        let normed = (block.middle_normed, None);
        self.linear_backward((b.db, Dropout::OFF), (groups.inner, dim), normed, (b.da, false));
        let middle = (block.middle, block.middle_stats);
        self.norm_backward(tokens, middle, groups.feed_forward_norm, b.da, (b.dstream, true));
        let (shares, mixed) = self.attention_dropout(n);
        self.push(attention_backward::call(
            attention_backward::Params {
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
            attention_backward::Bindings {
                offsets: b.offsets,
                owners: b.owners,
                qkv: block.qkv,
                mixed: block.mixed,
                log_sum: block.log_sum,
                dy: b.dstream,
                dqkv: b.dqkv,
            },
        ));
        let normed = (block.normed, None);
        self.linear_backward((b.dqkv, Dropout::OFF), (groups.qkv, 3 * dim), normed, (b.da, false));
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
                starts: b.row_starts,
                sources: b.row_sources,
                dx: b.dstream,
                dcandidates: b.dtarget,
                table: b.working_table,
                gradient: b.item_gradient,
            },
        ));
        self.position_backward(b.dstream, dropout, self.layout.position_table);
    }
}
