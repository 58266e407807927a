//! Causal single-head attention over packed sequences, with the residual: y = x + dropout(softmax(q k^T / sqrt(D)) v).
//!
//! The shares are dropped out too. Nothing of size T x T is stored: a block of queries meets its keys a block at a time.
//! In the twin, it meets all keys up to its own at once, which are columns of a transpose then.

use multiversion::multiversion;
use rayon::prelude::*;

use super::dropout::factors;
use super::{Activation, Ragged, Real, Region, UniformView, aligned, math, parallel};

/// Queries of a block in the twin: rows of whole blocks of a small product, few of whose keys come after a query.
pub(super) const BLOCK: usize = 12;

kernel! {
    /// A workgroup 16 tokens of a sequence; 16 queries meet 16 keys at a time, one pair an invocation. In `serial`, an
    /// invocation 4 tokens.
    "attention"
    params {
        sequences: u32,
        tokens: u32,
        dim: u32,
        /// 1 / sqrt(D)
        scale: f32,
        /// L, at least the longest sequence's tokens: share (query token, key's place in the sequence) is element `token * length + place` of the shares' mask.
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
        /// First token of each of all sequences, and the number of all tokens
        offsets: read u32,
        /// Sequence of each of all tokens
        owners: read u32,
        /// query, key and value of each token, `[tokens, 3, dim]`
        qkv: read Activation,
        /// The residual, `[tokens, dim]`
        x: read Activation,
        /// `[tokens, dim]`
        y: write Activation,
        /// The attention's own output, before dropout: `[tokens, dim]`
        mixed: write Activation,
        /// ln(sum(exp(scores))) of each of all queries
        log_sum: write f32,
    }
    work |s| [
        s.pairs * (4.0 * dim + 6.0) + 3.0 * s.tokens * dim,
        s.tokens * (6.0 * dim + 2.0) + sequences,
        6.0 * s.tokens * dim
    ]
    groups |p| {
        let [x, y, _] = super::fold(p.sequences);
        [x, y, p.length.div_ceil(16)]
    };
    serial |p| serial_groups(p.tokens, p.dim, p.length);
    uniform qkv |p| UniformView::holds((p.tokens + Region::aligned_rows(p.dim)) * 3 * p.dim);
    parts |p, b, r| {
        let Params { first_sequence, sequences, tokens, base, .. } = p;
        sequence_runs(r, p.dim, SequenceRun { first_sequence, sequences, tokens, base })
            .into_iter()
            .map(|SequenceRun { first_sequence, sequences, tokens, base }| {
                let after = |region: Region, width| region.after((base - p.base) * width);
                let (qkv, x) = (after(b.qkv, 3 * p.dim), after(b.x, p.dim));
                let (y, mixed) = (after(b.y, p.dim), after(b.mixed, p.dim));
                call(Params { sequences, tokens, first_sequence, base, ..p }, Bindings { qkv, x, y, mixed, ..b })
            })
            .collect()
    }
}

/// Sequences that a call of either kernel is made for, of all that one is dealt to.
pub(super) struct SequenceRun {
    pub first_sequence: u32,
    pub sequences: u32,
    pub tokens: u32,
    /// The token that rows begin with: the first one, or one shortly before, where regions may begin.
    pub base: u32,
}

/// Deals the sequences of a call to runs whose queries, keys and values fit a uniform view; those that are too long for
/// one have runs of their own.
pub(super) fn sequence_runs(ragged: &Ragged, dim: u32, whole: SequenceRun) -> Vec<SequenceRun> {
    let offsets = &ragged.offsets;
    if offsets.is_empty() {
        return vec![whole];
    }
    let aligned = Region::aligned_rows(dim);
    let most = (UniformView::BYTES as u32 / 4 / (3 * dim)).saturating_sub(aligned);
    let tokens = |from: u32, to: u32| offsets[to as usize] - offsets[from as usize];
    let end = whole.first_sequence + whole.sequences;
    let mut runs = Vec::new();
    let mut first = whole.first_sequence;
    while first < end {
        let fits = tokens(first, first + 1) <= most;
        let with = |next: u32| if fits { tokens(first, next + 1) <= most } else { tokens(next, next + 1) > most };
        let next = (first + 1..end).find(|&next| !with(next)).unwrap_or(end);
        runs.push(SequenceRun {
            first_sequence: first,
            sequences: next - first,
            tokens: tokens(first, next),
            base: whole.base + (offsets[first as usize] - whole.base) / aligned * aligned,
        });
        first = next;
    }
    runs
}

/// Workgroups of the entry points `serial`: 8 invocations, each with 4 tokens whose rows fit its registers.
pub(super) fn serial_groups(tokens: u32, dim: u32, length: u32) -> Option<super::Groups> {
    // Longer sequences take an invocation more iterations than some drivers let it have.
    (dim.is_multiple_of(4) && dim <= 64 && length <= 8192).then(|| super::fold(tokens.div_ceil(32)))
}

#[allow(clippy::too_many_arguments)] // the shader's bindings, one for one
pub fn twin<R: Real>(
    p: &Params,
    offsets: &[u32],
    _owners: &[u32],
    qkv: &[R],
    x: &[R],
    y: &mut [R],
    mixed: &mut [R],
    log_sum: &mut [R],
) {
    let dim = p.dim as usize;
    let (first, base) = (p.first_sequence as usize, p.base as usize);
    let offsets = &offsets[first..=first + p.sequences as usize];
    let begin = offsets[0] as usize;
    parallel::by_sequence(&mut y[(begin - base) * dim..], offsets, dim)
        .into_par_iter()
        .zip(parallel::by_sequence(&mut mixed[(begin - base) * dim..], offsets, dim))
        .zip(parallel::by_sequence(&mut log_sum[begin..], offsets, 1))
        .enumerate()
        .for_each_init(Vec::new, |memory, (s, ((y, mixed), log_sum))| {
            let first = offsets[s] as usize;
            let tokens = log_sum.len();
            let row = math::scattered(tokens);
            let (key, shares) = aligned::scratch(memory, (dim + BLOCK) * row).split_at_mut(dim * row);
            let at = (first - base) * dim;
            let qkv = &qkv[3 * at..][..tokens * 3 * dim];
            let mut done = 0;
            for start in (0..tokens).step_by(BLOCK) {
                let end = (start + BLOCK).min(tokens);
                if done < end {
                    let next = end.next_multiple_of(8).min(tokens);
                    let rows = math::Matrix::new(&qkv[done * 3 * dim + dim..], next - done, dim, 3 * dim);
                    math::transpose(rows, &mut key[done..], row);
                    done = next;
                    parallel::prefetch(&qkv[next * 3 * dim..(next + BLOCK).min(tokens) * 3 * dim]);
                }
                let query = math::Matrix::new(&qkv[start * 3 * dim..], end - start, dim, 3 * dim);
                scores(p.scale, query, key, end, shares);
                softmax(p, (first, start), row, shares, &mut log_sum[start..end]);
                let value = math::Matrix::new(&qkv[2 * dim..], end, dim, 3 * dim);
                let shares = math::Matrix::new(shares, end - start, end, row);
                math::matmul(&mut mixed[start * dim..end * dim], dim, false, R::one(), shares, value);
            }
            add_residual(p, first * dim, mixed, &x[at..][..tokens * dim], y);
        });
}

/// Scores of `rows` queries, from the first of `query` on, with the keys before `end`, which `key` holds as columns, and some
/// that mean nothing, up to whole vectors. Both passes make them here, so that they are the same to the bit.
pub(super) fn scores<R: Real>(scale: f32, query: math::Matrix<R>, key: &[R], end: usize, out: &mut [R]) {
    let row = key.len() / query.columns;
    let key = math::Matrix::new(key, query.columns, end.next_multiple_of(8), row);
    math::matmul(out, row, false, R::of(scale), query, key);
}

/// The scores of a block of queries, from token `start` of a sequence on, to shares with their mask, zero for later keys
/// of the block; and their log-sums. A step at a time for all rows: the sums that end one row's overlap with the next row.
#[multiversion(targets = "simd")]
fn softmax<R: Real>(p: &Params, (first, start): (usize, usize), row: usize, shares: &mut [R], log_sum: &mut [R]) {
    let end = start + log_sum.len();
    let (mut peaks, mut totals) = ([R::zero(); BLOCK], [R::zero(); BLOCK]);
    let shares = &mut shares[..log_sum.len() * row];
    for (i, (share, peak)) in (start..).zip(shares.chunks_exact_mut(row).zip(&mut peaks)) {
        *peak = math::largest(math::until(share, i + 1, end, R::neg_infinity()));
    }
    for (i, ((share, &peak), total)) in (start..).zip(shares.chunks_exact_mut(row).zip(&peaks).zip(&mut totals)) {
        *total = math::map_sum(&mut share[..math::whole(i + 1)], |share| (share - peak).exp_fast());
    }
    for (i, (share, total)) in (start..).zip(shares.chunks_exact_mut(row).zip(&totals)) {
        let share = &mut share[..math::whole(i + 1)];
        let scale = total.recip();
        if p.share_below == 0 {
            for share in share {
                *share *= scale;
            }
        } else {
            let element = ((first + i) as u32).wrapping_mul(p.length);
            let kept = factors::<R>(p.share_below, p.share_scale, p.share_key, element);
            for (share, kept) in share.iter_mut().zip(kept) {
                *share *= scale * kept;
            }
        }
    }
    for (log_sum, (&peak, &total)) in log_sum.iter_mut().zip(peaks.iter().zip(&totals)) {
        *log_sum = peak + total.ln();
    }
}

/// y = x + dropout(mixed), of elements from `first` on.
#[multiversion(targets = "simd")]
fn add_residual<R: Real>(p: &Params, first: usize, mixed: &[R], x: &[R], y: &mut [R]) {
    let (mixed, x) = (&mixed[..y.len()], &x[..y.len()]);
    if p.drop_below == 0 {
        for e in 0..y.len() {
            y[e] = x[e] + mixed[e];
        }
    } else {
        let kept = factors::<R>(p.drop_below, p.drop_scale, p.drop_key, first as u32);
        for ((y, kept), (&x, &mixed)) in y.iter_mut().zip(kept).zip(x.iter().zip(mixed)) {
            *y = x + kept * mixed;
        }
    }
}
