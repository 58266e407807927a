//! Eq. 3 for every example and intention: the row's log-sum over all labels, less the score of its own.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

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
    work |_s| [2.0 * rows * dim, rows * (2.0 * dim + 3.0)]
    groups |p| fold(p.rows.div_ceil(64))
}

pub fn twin<R: Real>(p: &Params, phi: &[R], label: &[R], normaliser: &[R], loss: &mut [R]) {
    let dim = p.dim as usize;
    let label = &label[p.first_label as usize * dim..];
    parallel::chunks(&mut loss[..p.rows as usize], 1, 1024, |first, loss| {
        let normaliser = &normaliser[2 * first..];
        losses(R::of(p.scale), dim, &phi[first * dim..], &label[first * dim..], normaliser, loss);
    });
}

#[multiversion(targets = "simd")]
fn losses<R: Real>(scale: R, dim: usize, phi: &[R], label: &[R], normaliser: &[R], loss: &mut [R]) {
    let rows = phi.chunks_exact(dim).zip(label.chunks_exact(dim)).zip(normaliser.chunks_exact(2));
    for (loss, ((phi, label), normaliser)) in loss.iter_mut().zip(rows) {
        *loss = normaliser[1] + (normaliser[0] - scale * math::dot(phi, label));
    }
}
