//! Items that the truth is ranked against in the `sampled` protocol.

use std::collections::HashSet;

use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::split::{Part, Split};
use super::{Stream, stream};

/// Negatives of each evaluated user.
#[derive(Clone, Debug, PartialEq)]
pub struct Negatives {
    offsets: Vec<usize>,
    items: Vec<u32>,
}

impl Negatives {
    /// For each of `users`, `count` distinct items that the user never met (in no part), drawn one by one in proportion to
    /// their frequency in the whole data set; as many as there are where a user leaves fewer. What a user gets depends on
    /// the seed, the part and the user alone.
    pub fn draw(split: &Split, part: Part, users: &[u32], count: usize, seed: u64) -> Negatives {
        let frequency = split.frequency();
        let edges: Vec<u64> = frequency
            .iter()
            .scan(0, |sum, &n| {
                *sum += u64::from(n);
                Some(*sum)
            })
            .collect();
        let drawn: Vec<Vec<u32>> = users
            .par_iter()
            .map(|&user| {
                let met = split.interactions().sequence(user).iter().copied().collect();
                let mut rng = stream(seed, Stream::Negatives(part as u32, user));
                draw(&frequency, &edges, met, count, &mut rng)
            })
            .collect();
        let mut offsets = vec![0];
        offsets.extend(drawn.iter().scan(0, |sum, items| {
            *sum += items.len();
            Some(*sum)
        }));
        Negatives { offsets, items: drawn.concat() }
    }

    /// The negatives of the user at place `index` of the users that were given.
    pub fn of(&self, index: usize) -> &[u32] {
        &self.items[self.offsets[index]..self.offsets[index + 1]]
    }
}

/// Up to `count` items outside of `met`, without replacement. `edges`: running sums of `frequency`.
fn draw(frequency: &[u32], edges: &[u64], mut met: HashSet<u32>, count: usize, rng: &mut impl Rng) -> Vec<u32> {
    let mut drawn = Vec::with_capacity(count);
    let total = *edges.last().expect("a data set has items");
    // Draw and throw back what is met already. A user who met nearly everything would take too long so ...
    for _ in 0..16 * count {
        if drawn.len() == count {
            return drawn;
        }
        let at = rng.random_range(0..total);
        let item = edges.partition_point(|&edge| edge <= at) as u32;
        if met.insert(item) {
            drawn.push(item);
        }
    }
    // ... and gets the rest by a race: the order of exponential times with these rates is that of such draws.
    let mut race: Vec<(f64, u32)> = frequency
        .iter()
        .zip(0..)
        .filter(|&(&n, item)| n > 0 && !met.contains(&item))
        .map(|(&n, item)| (-(1.0 - rng.random::<f64>()).ln() / f64::from(n), item))
        .collect();
    race.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let missing = count - drawn.len();
    drawn.extend(race.into_iter().map(|(_, item)| item).take(missing));
    drawn
}
