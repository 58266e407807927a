//! Gradient of the normalised prototypes, by way of every token's scores with them: dprototype = dlogit^T token.

use rayon::prelude::*;

use super::{Activation, Real, math, slice_rows};

/// Runs of tokens that the twin sums apart.
const RUNS: usize = 8;

kernel! {
    /// A workgroup computes 16 dimensions of four prototypes' gradients, 16 invocations each.
    "prototype_backward"
    params { tokens: u32, dim: u32, intentions: u32 }
    bindings {
        /// `[tokens, dim]`
        token: read Activation,
        /// `[tokens, intentions]`
        dlogit: read f32,
        /// `[intentions, dim]`
        dprototype: write f32,
    }
    work |_s| [2.0 * tokens * dim * intentions, tokens * (dim + intentions) + intentions * dim, tokens * dim]
    groups |p| [p.dim.div_ceil(16), p.intentions.div_ceil(4), 1];
    // One invocation loops over all tokens, which llvmpipe would cut short at 65,535.
    serial |p| (p.tokens < 65_000).then(|| [(p.dim.div_ceil(4) * p.intentions.div_ceil(4)).div_ceil(8), 1, 1])
}

pub fn twin<R: Real>(p: &Params, token: &[R], dlogit: &[R], dprototype: &mut [R]) {
    let (tokens, dim, intentions) = (p.tokens as usize, p.dim as usize, p.intentions as usize);
    let dprototype = &mut dprototype[..intentions * dim];
    let mut sums = vec![R::zero(); RUNS * dprototype.len()];
    sums.par_chunks_mut(dprototype.len()).enumerate().for_each(|(run, sum)| {
        let rows = slice_rows(tokens, RUNS, run);
        let token = math::Matrix::new(&token[rows.start * dim..rows.end * dim], rows.len(), dim, dim);
        let dlogit = &dlogit[rows.start * intentions..rows.end * intentions];
        let dlogit = math::Matrix::new(dlogit, rows.len(), intentions, intentions);
        math::matmul(sum, dim, false, R::one(), dlogit.t(), token);
    });
    dprototype.fill(R::zero());
    for sum in sums.chunks_exact(dprototype.len()) {
        math::add_scaled(dprototype, R::one(), sum);
    }
}
