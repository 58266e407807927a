//! Eq. 3 for every example and intention: the row's log-sum over all labels, less the score of its own.

use super::{Real, fold, math};

kernel! {
    /// One invocation a row.
    "seq2seq_loss"
    params {
        /// B * K
        rows: u32,
        /// The label of row r is row `first_label + r` of `label`.
        first_label: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
    }
    bindings {
        /// phi of the inputs, `[rows, dim]`
        phi: read f32,
        /// phi of the labels, `[first_label + rows, dim]`
        label: read f32,
        /// Of each row over all labels, see `contrastive`: `[rows, 2]`
        normaliser: read f32,
        /// `[rows]`
        loss: write f32,
    }
    groups |p| fold(p.rows.div_ceil(64))
}

pub fn twin<R: Real>(p: &Params, phi: &[R], label: &[R], normaliser: &[R], loss: &mut [R]) {
    let dim = p.dim as usize;
    for row in 0..p.rows as usize {
        let own = math::dot(&phi[row * dim..][..dim], &label[(p.first_label as usize + row) * dim..][..dim]);
        loss[row] = normaliser[2 * row + 1] + (normaliser[2 * row] - R::of(p.scale) * own);
    }
}
