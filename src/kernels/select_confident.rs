//! Eq. 4's selection: tau is the rank-th smallest loss of eq. 3; losses up to tau (ties included) are kept. Also sums the
//! step's losses, into its slot of a ring that the host reads now and then.

use super::contrastive_loss::NOTHING;
use super::{NONE, Real};

/// Elements of a slot: eq. 6, eq. 3 of what is kept, eq. 3 of all pairs, number kept.
pub const SLOT: usize = 4;

kernel! {
    /// One workgroup finds tau byte by byte (a radix selection on the losses' bits), then marks the rows and adds losses.
    "select_confident"
    params {
        /// B
        examples: u32,
        /// B * K
        rows: u32,
        /// As many as rows, or 0 where there is no loss of eq. 3.
        labels: u32,
        /// How many of the smallest to keep, 0 to `labels`; 0 keeps none and leaves tau at -infinity.
        rank: u32,
        /// Targets, whose positives come before the labels'.
        targets: u32,
        /// The step's slot.
        slot: u32,
    }
    bindings {
        /// Eq. 6, `[examples]`
        item_loss: read f32,
        /// Eq. 3, `[labels]`
        label_loss: read f32,
        /// See `contrastive`: `[2, rows, 2]`
        normaliser: read f32,
        /// `[1]`
        tau: write f32,
        /// What makes shares of eq. 3, in its second half: `[2, rows, 2]`
        shift: write f32,
        /// Behind the targets': the row itself where kept, else NONE
        positive: write u32,
        /// Number of kept rows, then all rows, those first: `[1 + rows]`
        order: write u32,
        /// `[slots, 4]`
        sums: write f32,
    }
    work |_s| [examples + 6.0 * labels, examples + 2.0 * rows + 8.0 * labels]
    groups |_p| [1, 1, 1]
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    item_loss: &[R],
    label_loss: &[R],
    normaliser: &[R],
    tau: &mut [R],
    shift: &mut [R],
    positive: &mut [u32],
    order: &mut [u32],
    sums: &mut [R],
) {
    let (rows, labels, rank) = (p.rows as usize, p.labels as usize, p.rank as usize);
    let loss = &label_loss[..labels];
    tau[0] = R::neg_infinity();
    if rank > 0 {
        // NaN is the largest, as in the shader's order of bits.
        let order = |a: &R, b: &R| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        tau[0] = *loss.to_vec().select_nth_unstable_by(rank - 1, order).1;
    }
    let kept = |row: usize| rank > 0 && row < labels && loss[row] <= tau[0];
    let of_labels = shift[2 * rows..].chunks_exact_mut(2).zip(normaliser[2 * rows..].chunks_exact(2));
    for (row, (shift, normaliser)) in of_labels.take(labels).enumerate() {
        (shift[0], shift[1]) = if kept(row) { (normaliser[0], normaliser[1]) } else { (R::zero(), R::of(NOTHING)) };
        positive[p.targets as usize + row] = if kept(row) { row as u32 } else { NONE };
    }
    let sorted = (0..rows).filter(|&row| kept(row)).chain((0..rows).filter(|&row| !kept(row)));
    order[1..].iter_mut().zip(sorted).for_each(|(place, row)| *place = row as u32);
    let selected = (0..rows).filter(|&row| kept(row));
    order[0] = selected.clone().count() as u32;
    let slot = &mut sums[p.slot as usize * SLOT..][..SLOT];
    slot[0] = item_loss[..p.examples as usize].iter().copied().sum();
    slot[1] = selected.map(|row| loss[row]).sum();
    slot[2] = loss.iter().copied().sum();
    slot[3] = R::of(order[0] as f32);
}
