//! One step's sums of losses, into its slot of a ring that the host reads now and then.

use super::Real;

/// Elements of a slot: seq2item, seq2seq of the selected, seq2seq of all pairs, number selected.
pub const SLOT: usize = 4;

kernel! {
    /// One workgroup; each invocation adds every 256th element, then the partial sums are added in order.
    "sum_losses"
    params {
        examples: u32,
        /// B * K, or 0 where there is no seq2seq loss.
        pairs: u32,
        /// The step's slot.
        slot: u32,
    }
    bindings {
        /// `[examples]`
        seq2item: read f32,
        /// `[pairs]`
        seq2seq: read f32,
        /// 1 where selected, `[pairs]`
        selected: read f32,
        /// `[slots, 4]`
        sums: write f32,
    }
    work |_s| [examples + 2.0 * pairs, examples + 2.0 * pairs]
    groups |_p| [1, 1, 1]
}

pub fn twin<R: Real>(p: &Params, seq2item: &[R], seq2seq: &[R], selected: &[R], sums: &mut [R]) {
    let (seq2seq, selected) = (&seq2seq[..p.pairs as usize], &selected[..p.pairs as usize]);
    let slot = &mut sums[p.slot as usize * SLOT..][..SLOT];
    slot[0] = seq2item[..p.examples as usize].iter().copied().sum();
    slot[1] = seq2seq.iter().zip(selected).filter(|(_, kept)| **kept == R::one()).map(|(&loss, _)| loss).sum();
    slot[2] = seq2seq.iter().copied().sum();
    slot[3] = selected.iter().copied().sum();
}
