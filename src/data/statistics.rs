//! What a data set looks like: how long sequences are, how popular items are.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::Serialize;

use super::read::{Counts, Interactions, Times};

/// Figures of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    #[serde(flatten)]
    pub counts: Counts,
    /// The share of all pairs of a user and an item that met.
    pub density: f64,
    /// The share of interactions whose item the user had met before.
    pub repeated: f64,
    /// Users with fewer than 3 interactions: nothing of theirs can be held out.
    pub short_users: usize,
    /// Interactions of a user.
    pub lengths: Distribution,
    /// Interactions of an item.
    pub popularity: Distribution,
    /// The shares of all interactions that the most popular 1% and 10% of the items have.
    pub most_popular: [f64; 2],
    /// Gini's coefficient of the items' interactions: 0 where all have as many, towards 1 where few have all.
    pub gini: f64,
    /// The first and the last time.
    pub times: Option<[f64; 2]>,
}

/// How numbers of interactions are distributed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    pub mean: f64,
    /// The smallest, the quartiles, and the largest.
    pub quartiles: [usize; 5],
    /// The 90th and the 99th percentile.
    pub high: [usize; 2],
    /// How many there are from each of these numbers up to below the next: 1, 2, 3, 5, 10, 20, 30, 50 ...
    pub histogram: Vec<(usize, usize)>,
}

impl Statistics {
    pub fn of(interactions: &Interactions, times: Option<&Times>) -> Statistics {
        let counts = interactions.counts();
        let lengths: Vec<usize> = interactions.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
        let mut popularity: Vec<usize> = interactions.frequency().into_iter().map(|n| n as usize).collect();
        let distinct: usize = (0..counts.users as u32)
            .into_par_iter()
            .map(|user| interactions.sequence(user).iter().collect::<HashSet<_>>().len())
            .sum();
        let total = counts.interactions as f64;
        popularity.sort_unstable();
        let first = |share: f64| {
            let items = ((counts.items as f64 * share).ceil() as usize).max(1);
            popularity.iter().rev().take(items).sum::<usize>() as f64 / total
        };
        let times = times.filter(|times| !times.is_empty()).map(|times| {
            let all = (0..times.len()).map(|place| times.get(place));
            all.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], time| [low.min(time), high.max(time)])
        });
        Statistics {
            counts,
            density: distinct as f64 / (counts.users as f64 * counts.items as f64),
            repeated: (counts.interactions - distinct) as f64 / total,
            short_users: lengths.iter().filter(|&&length| length < 3).count(),
            most_popular: [first(0.01), first(0.1)],
            gini: gini(&popularity),
            lengths: Distribution::of(lengths),
            popularity: Distribution::of(popularity),
            times,
        }
    }
}

/// Of numbers in ascending order.
pub(crate) fn gini(ascending: &[usize]) -> f64 {
    let n = ascending.len() as f64;
    let total: f64 = ascending.iter().map(|&x| x as f64).sum();
    let weighted: f64 = ascending.iter().enumerate().map(|(i, &x)| (i as f64 + 1.0) * x as f64).sum();
    2.0 * weighted / (n * total) - (n + 1.0) / n
}

impl Distribution {
    fn of(mut numbers: Vec<usize>) -> Distribution {
        numbers.sort_unstable();
        let last = numbers.len() - 1;
        // To the nearest rank.
        let at = |share: f64| numbers[(share * last as f64).round() as usize];
        let mut histogram: Vec<(usize, usize)> = Vec::new();
        for from in steps(numbers[last]) {
            histogram.push((from, 0));
        }
        for &number in &numbers {
            let place = histogram.partition_point(|&(from, _)| from <= number) - 1;
            histogram[place].1 += 1;
        }
        let begin = histogram.iter().position(|&(_, n)| n > 0).unwrap_or(0);
        histogram.drain(..begin);
        Distribution {
            mean: numbers.iter().sum::<usize>() as f64 / numbers.len() as f64,
            quartiles: [0.0, 0.25, 0.5, 0.75, 1.0].map(at),
            high: [0.9, 0.99].map(at),
            histogram,
        }
    }
}

/// 1, 2, 3, 5, 10, 20, 30, 50, 100 ... up to `last`.
fn steps(last: usize) -> impl Iterator<Item = usize> {
    let decades = (0..).map(|power| 10_usize.pow(power));
    decades.flat_map(|decade| [1, 2, 3, 5].map(|n| n * decade)).take_while(move |&from| from <= last)
}
