//! Eq. 4's selection: tau is the rank-th smallest loss; losses up to tau (ties included) are kept.

use super::{NONE, Real};

kernel! {
    /// One workgroup finds tau byte by byte (a radix selection on the losses' bits), then marks the rows.
    "select_confident"
    params {
        /// B * K
        rows: u32,
        /// How many of the smallest to keep, 0 to `rows`; 0 keeps none and leaves tau at -infinity.
        rank: u32,
    }
    bindings {
        /// `[rows]`
        loss: read f32,
        /// `[1]`
        tau: write f32,
        /// 1 where kept, else 0: `[rows]`
        weight: write f32,
        /// The row itself where kept, else NONE: `[rows]`
        positive: write u32,
    }
    work |_s| [4.0 * rows, 3.0 * rows]
    groups |_p| [1, 1, 1]
}

pub fn twin<R: Real>(p: &Params, loss: &[R], tau: &mut [R], weight: &mut [R], positive: &mut [u32]) {
    let (rows, rank) = (p.rows as usize, p.rank as usize);
    let loss = &loss[..rows];
    tau[0] = R::neg_infinity();
    if rank > 0 {
        // NaN is the largest, as in the shader's order of bits.
        let order = |a: &R, b: &R| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        tau[0] = *loss.to_vec().select_nth_unstable_by(rank - 1, order).1;
    }
    for row in 0..rows {
        let kept = rank > 0 && loss[row] <= tau[0];
        weight[row] = if kept { R::one() } else { R::zero() };
        positive[row] = if kept { row as u32 } else { NONE };
    }
}
