//! How well a model's intentions match known categories.

use rand::seq::SliceRandom;

use crate::data::batch::PositionFrom;
use crate::data::pack::pack_sequences;
use crate::data::split::Split;
use crate::data::{Stream, stream};
use crate::error::Result;
use crate::model::{Model, Shape};

/// Shuffles that the baseline is the mean over.
const SHUFFLES: usize = 10;

/// Normalised mutual information between intentions and categories.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Recovery {
    pub nmi: f64,
    /// The mean over shuffles of the categories: what chance gives.
    pub nmi_shuffled: f64,
    /// Tokens compared.
    pub tokens: usize,
}

/// Compares each token's intention, argmax_k p_{k|i} (eq. 8), with the category of its item (`categories`, `[items]`),
/// over all training parts. Tokens rather than items are compared: p_{k|i} depends on what came before an item. The
/// baseline deals the categories out to the items anew, drawn from `seed`.
///
/// # Errors
/// Where the engine fails.
pub fn recovery(
    model: &mut Model,
    split: &Split,
    categories: &[u32],
    position_from: PositionFrom,
    seed: u64,
) -> Result<Recovery> {
    let intentions = model.shape().intentions;
    // Tokens of each item in each intention, `[items, intentions]`.
    let mut tokens = vec![0_u64; categories.len() * intentions];
    let sequences: Vec<&[u32]> = (0..split.counts().users as u32).map(|user| split.training(user)).collect();
    each_token(model, &sequences, position_from, |item, shares| {
        tokens[item as usize * intentions + most_probable(shares)] += 1;
    })?;
    let kinds = categories.iter().max().map_or(0, |&last| last as usize + 1);
    let compare = |categories: &[u32]| {
        let mut table = vec![0; kinds * intentions];
        for (&category, tokens) in categories.iter().zip(tokens.chunks_exact(intentions)) {
            let row = &mut table[category as usize * intentions..][..intentions];
            row.iter_mut().zip(tokens).for_each(|(sum, n)| *sum += n);
        }
        normalised_mutual_information(&table, intentions)
    };
    let mut rng = stream(seed, Stream::ShuffledCategories);
    let mut dealt = categories.to_vec();
    let shuffled: f64 = (0..SHUFFLES)
        .map(|_| {
            dealt.shuffle(&mut rng);
            compare(&dealt)
        })
        .sum();
    Ok(Recovery {
        nmi: compare(categories),
        nmi_shuffled: shuffled / SHUFFLES as f64,
        tokens: tokens.iter().sum::<u64>() as usize,
    })
}

/// Gives each token's item and p_{k|i} (eq. 8) to `take`, of the last L tokens of every sequence.
///
/// # Errors
/// Where the engine fails.
pub fn each_token(
    model: &mut Model,
    sequences: &[&[u32]],
    position_from: PositionFrom,
    mut take: impl FnMut(u32, &[f32]),
) -> Result<()> {
    let Shape { length, intentions, .. } = model.shape();
    for block in sequences.chunks(model.evaluation_batch()) {
        let packed = pack_sequences(block, length, position_from);
        let shares = model.clusters(&packed)?;
        packed.items.iter().zip(shares.chunks_exact(intentions)).for_each(|(&item, shares)| take(item, shares));
    }
    Ok(())
}

/// The intention with the largest share, from 0; of equal ones the first.
pub fn most_probable<T: PartialOrd>(shares: &[T]) -> usize {
    (1..shares.len()).fold(0, |best, k| if shares[k] > shares[best] { k } else { best })
}

/// Mutual information of a table of counts (`columns` wide), over the mean of its two entropies: 1 where rows and columns
/// say the same, 0 where they are independent or where one of them says nothing.
pub fn normalised_mutual_information(table: &[u64], columns: usize) -> f64 {
    let total = table.iter().sum::<u64>() as f64;
    let entropy = |counts: &mut dyn Iterator<Item = u64>| -> f64 {
        counts.filter(|&n| n > 0).map(|n| n as f64 / total).map(|p| -p * p.ln()).sum()
    };
    let rows = entropy(&mut table.chunks_exact(columns).map(|row| row.iter().sum()));
    let cols = entropy(&mut (0..columns).map(|column| table[column..].iter().step_by(columns).sum()));
    let both = entropy(&mut table.iter().copied());
    if rows == 0.0 || cols == 0.0 { 0.0 } else { ((rows + cols - both) / (0.5 * (rows + cols))).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_shares_is_the_most_probable() {
        assert_eq!(most_probable(&[0.25, 0.375, 0.375]), 1);
        assert_eq!(most_probable(&[f32::NAN]), 0);
    }
}
