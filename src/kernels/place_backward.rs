//! Adds the queries' gradient to that of their last tokens (the gradient of alpha's rows), and all to that of z.

use multiversion::multiversion;

use super::{Real, fold, math, parallel};

kernel! {
    /// `main`: one invocation an element. `serial`: one invocation sixteen elements of a row. `dplaced` is
    /// completed in place.
    "place_backward"
    params { tokens: u32, dim: u32, accumulate: u32 }
    bindings {
        /// `[tokens]`
        owners: read u32,
        /// `[sequences + 1]`
        offsets: read u32,
        /// `[sequences, dim]`
        dquery: read f32,
        /// `[tokens, dim]`: given without, left with the queries' part
        dplaced: write f32,
        /// `[tokens, dim]`
        dz: write f32,
    }
    work |_s| [tokens * dim, tokens * ((2.0 + accumulate) * dim + 1.0)]
    groups |p| fold((p.tokens * p.dim).div_ceil(256));
    serial |p| p.dim.is_multiple_of(4).then(|| fold((p.tokens * p.dim.div_ceil(16)).div_ceil(8)))
}

pub fn twin<R: Real>(p: &Params, owners: &[u32], offsets: &[u32], dquery: &[R], dplaced: &mut [R], dz: &mut [R]) {
    let (tokens, dim) = (p.tokens as usize, p.dim as usize);
    let outputs = (&mut dplaced[..tokens * dim], &mut dz[..tokens * dim]);
    parallel::chunks2(outputs, (dim, dim), parallel::ROWS, |first, dplaced, dz| {
        for (i, dplaced) in dplaced.chunks_exact_mut(dim).enumerate() {
            let owner = owners[first + i] as usize;
            if first + i + 1 == offsets[owner + 1] as usize {
                add(&dquery[owner * dim..][..dim], dplaced);
            }
        }
        if p.accumulate == 1 {
            add(dplaced, dz);
        } else {
            dz.copy_from_slice(dplaced);
        }
    });
}

#[multiversion(targets = "simd")]
fn add<R: Real>(from: &[R], to: &mut [R]) {
    math::add_scaled(to, R::one(), from);
}
