//! Gradients of queries, keys and values. The residual's gradient is dy itself.

use multiversion::multiversion;
use rayon::prelude::*;

use super::attention::{BLOCK, scores};
use super::attention::{SequenceRun, sequence_runs};
use super::dropout::factors;
use super::{Activation, Real, Region, UniformView, aligned, math, parallel};

/// Queries whose shares the twin keeps until the gradients of their keys are made of them: some blocks.
const SPAN: usize = 21 * BLOCK;

kernel! {
    /// A workgroup 8 tokens of a sequence; 8 queries meet 8 keys at a time, one pair an invocation. In `serial`, an
    /// invocation 4 tokens.
    "attention_backward"
    params {
        sequences: u32,
        tokens: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        length: u32,
        share_below: u32,
        share_scale: f32,
        share_key: u32,
        drop_below: u32,
        drop_scale: f32,
        drop_key: u32,
        /// The first of the sequences.
        first_sequence: u32,
        /// The token that rows of `[.., dim]` begin with, not after the first sequence's.
        base: u32,
    }
    bindings {
        /// Of all sequences, and the end
        offsets: read u32,
        /// Of all tokens
        owners: read u32,
        /// `[tokens, 3, dim]`
        qkv: read Activation,
        /// `[tokens, dim]`
        mixed: read Activation,
        /// Of all tokens
        log_sum: read f32,
        /// `[tokens, dim]`
        dy: read f32,
        /// `[tokens, 3, dim]`
        dqkv: write f32,
    }
    work |s| [s.pairs * (10.0 * dim + 6.0) + 3.0 * s.tokens * dim, s.tokens * (8.0 * dim + 2.0) + sequences, 4.0 * s.tokens * dim]
    groups |p| {
        let [x, y, _] = super::fold(p.sequences);
        [x, y, p.length.div_ceil(8)]
    };
    serial |p| super::attention::serial_groups(p.tokens, p.dim, p.length);
    uniform qkv |p| UniformView::holds((p.tokens + Region::aligned_rows(p.dim)) * 3 * p.dim);
    uniform mixed |p| UniformView::holds((p.tokens + Region::aligned_rows(p.dim)) * p.dim);
    uniform dy |p| UniformView::holds((p.tokens + Region::aligned_rows(p.dim)) * p.dim);
    parts |p, b, r| {
        let Params { first_sequence, sequences, tokens, base, .. } = p;
        sequence_runs(r, p.dim, SequenceRun { first_sequence, sequences, tokens, base })
            .into_iter()
            .map(|SequenceRun { first_sequence, sequences, tokens, base }| {
                let after = |region: Region, width| region.after((base - p.base) * width);
                let (qkv, mixed) = (after(b.qkv, 3 * p.dim), after(b.mixed, p.dim));
                let (dy, dqkv) = (after(b.dy, p.dim), after(b.dqkv, 3 * p.dim));
                call(Params { sequences, tokens, first_sequence, base, ..p }, Bindings { qkv, mixed, dy, dqkv, ..b })
            })
            .collect()
    }
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    _owners: &[u32],
    qkv: &[R],
    _mixed: &[R],
    log_sum: &[R],
    dy: &[R],
    dqkv: &mut [R],
) {
    let dim = p.dim as usize;
    let (first, base) = (p.first_sequence as usize, p.base as usize);
    let offsets = &offsets[first..=first + p.sequences as usize];
    let begin = offsets[0] as usize;
    parallel::by_sequence(&mut dqkv[(begin - base) * 3 * dim..], offsets, 3 * dim)
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |memory, (s, dqkv)| {
            let (first, last) = (offsets[s] as usize, offsets[s + 1] as usize);
            let (at, end) = ((first - base) * dim, (last - base) * dim);
            let (qkv, dy) = (&qkv[3 * at..3 * end], &dy[at..end]);
            sequence(p, first, qkv, &log_sum[first..last], dy, dqkv, memory);
        });
}

/// The gradients of the tokens of a sequence, the first of which is `first` of all.
fn sequence<R: Real>(
    p: &Params,
    first: usize,
    qkv: &[R],
    log_sum: &[R],
    dy: &[R],
    dqkv: &mut [R],
    memory: &mut Vec<R>,
) {
    let (dim, tokens) = (p.dim as usize, log_sum.len());
    let wide = 3 * dim;
    let row = math::scattered(tokens);
    let span = SPAN.min(tokens);
    let scratch = aligned::scratch(memory, tokens * dim + 2 * (dim + span) * row + BLOCK * row);
    let (dmixed, rest) = scratch.split_at_mut(tokens * dim);
    let (columns, rest) = rest.split_at_mut(2 * dim * row);
    let (shares, rest) = rest.split_at_mut(span * row);
    let (dscores, probabilities) = rest.split_at_mut(span * row);
    drop_output(p, first * dim, dy, dmixed);
    let mut done = 0;
    for from in (0..tokens).step_by(SPAN) {
        let to = (from + SPAN).min(tokens);
        for start in (from..to).step_by(BLOCK) {
            let end = (start + BLOCK).min(to);
            if done < end {
                let next = end.next_multiple_of(8).min(tokens);
                // Keys and values at once, as they lie together.
                let rows = math::Matrix::new(&qkv[done * wide + dim..], next - done, 2 * dim, wide);
                math::transpose(rows, &mut columns[done..], row);
                done = next;
                let soon = next * wide..(next + BLOCK).min(tokens) * wide;
                parallel::prefetch(&qkv[soon.clone()]);
                parallel::prefetch(&dqkv[soon]);
            }
            let (key, value) = columns.split_at(dim * row);
            let block = (start - from) * row..(end - from) * row;
            let (shares, dscores) = (&mut shares[block.clone()], &mut dscores[block]);
            scores(p.scale, math::Matrix::new(&qkv[start * wide..], end - start, dim, wide), key, end, shares);
            scores(1.0, math::Matrix::new(&dmixed[start * dim..], end - start, dim, dim), value, end, dscores);
            softmax_backward(p, first, start, &log_sum[start..end], (shares, dscores), probabilities);
            let dscores = math::Matrix::new(dscores, end - start, end, row);
            let key = math::Matrix::new(&qkv[dim..], end, dim, wide);
            math::matmul(&mut dqkv[start * wide..], wide, false, R::of(p.scale), dscores, key);
        }
        for start in (0..to).step_by(BLOCK) {
            let end = (start + BLOCK).min(to);
            // The queries of the span that have these keys.
            let after = start.max(from);
            let at = (after - from) * row + start;
            let columns = |data| math::Matrix::new(data, to - after, end - start, row).t();
            let query = math::Matrix::new(&qkv[after * wide..], to - after, dim, wide);
            let douter = math::Matrix::new(&dmixed[after * dim..], to - after, dim, dim);
            let add = from > start;
            let (dkey, dvalue) = (start * wide + dim, start * wide + 2 * dim);
            math::matmul(&mut dqkv[dkey..], wide, add, R::of(p.scale), columns(&dscores[at..]), query);
            math::matmul(&mut dqkv[dvalue..], wide, add, R::one(), columns(&shares[at..]), douter);
        }
    }
}

/// The gradient of the attention's own output, through its dropout, of elements from `first` on.
#[multiversion(targets = "simd")]
fn drop_output<R: Real>(p: &Params, first: usize, dy: &[R], dmixed: &mut [R]) {
    let kept = factors::<R>(p.drop_below, p.drop_scale, p.drop_key, first as u32);
    for ((dmixed, &dy), kept) in dmixed.iter_mut().zip(dy).zip(kept) {
        *dmixed = dy * kept;
    }
}

/// Of a block of queries, from token `start` of the sequence on: scores to shares with their mask, and gradients of masked
/// shares to those of scores.
#[multiversion(targets = "simd")]
fn softmax_backward<R: Real>(
    p: &Params,
    first: usize,
    start: usize,
    log_sum: &[R],
    (shares, dscores): (&mut [R], &mut [R]),
    probabilities: &mut [R],
) {
    let row = probabilities.len() / BLOCK;
    let end = start + log_sum.len();
    let rows = shares.chunks_exact_mut(row).zip(probabilities.chunks_exact_mut(row));
    for (i, (&log, (share, probability))) in (start..).zip(log_sum.iter().zip(rows)) {
        let element = ((first + i) as u32).wrapping_mul(p.length);
        let share = math::until(share, i + 1, end, R::neg_infinity());
        let kept = factors::<R>(p.share_below, p.share_scale, p.share_key, element);
        for ((share, probability), kept) in share.iter_mut().zip(probability).zip(kept) {
            *probability = (*share - log).exp_fast();
            *share = kept * *probability;
        }
    }
    let mut along = [R::zero(); BLOCK];
    let rows = shares.chunks_exact(row).zip(dscores.chunks_exact_mut(row));
    for (i, (along, (share, dscore))) in (start..end).zip(along.iter_mut().zip(rows)) {
        let dscore = math::until(dscore, i + 1, end, R::zero());
        // It is `dmixed . mixed` too. As a sum of these products, it cancels one whose share is all.
        *along = math::dot(&share[..dscore.len()], dscore);
    }
    let rows = dscores.chunks_exact_mut(row).zip(shares.chunks_exact(row).zip(probabilities.chunks_exact(row)));
    for (i, (along, (dscore, (share, probability)))) in (start..end).zip(along.into_iter().zip(rows)) {
        let dscore = &mut dscore[..math::whole(i + 1)];
        for (dscore, (&share, &probability)) in dscore.iter_mut().zip(share.iter().zip(probability)) {
            *dscore = share * *dscore - probability * along;
        }
    }
}
