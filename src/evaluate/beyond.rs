//! Beyond accuracy: what lists of recommendations are like, whether or not the truth is in them.

use serde::Serialize;

use super::{Evaluator, Rank};
use crate::data::read::Counts;
use crate::data::split::Part;
use crate::data::statistics::gini;
use crate::data::titles::Titles;

/// What the lists of k items are like. The protocol is that of `full`: items of the whole catalogue, without those of the
/// user's history but where these are ranked too. Popularity is the number of interactions that train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beyond {
    pub part: Part,
    /// Lists: one for each user evaluated.
    pub users: usize,
    /// The length of the lists.
    pub k: usize,
    /// Whether items of the user's history are in no list.
    pub history_excluded: bool,
    /// The data set's size.
    pub counts: Counts,
    /// The share of the catalogue that is in some list.
    pub coverage: f64,
    /// Of how often the catalogue's items are in lists: 0 where all are as often, near 1 where a few are in all.
    pub gini: f64,
    /// Mean over recommended items of -log2 of their share of all training interactions; an item with none counts as one
    /// with one.
    pub novelty: f64,
    /// Mean popularity of recommended items.
    pub popularity: f64,
    /// Mean popularity of the held-out items, to compare with.
    pub popularity_of_truth: f64,
    /// Mean over lists of the mean over pairs of 1 - cosine of the items' vectors.
    pub diversity: Option<f64>,
    /// The same of 1 - |common categories| / |categories of either|, over pairs of which both have categories.
    pub category_diversity: Option<f64>,
    /// Recall@k under the `full` protocol by the popularity of the held-out item.
    pub recall: Vec<Bucket>,
}

/// The items of like popularity, and the users whose held-out item is one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// `head`, `middle` and `tail` share the training interactions in thirds, most popular items first; `new` has none.
    pub name: &'static str,
    pub items: usize,
    /// The fewest and the most training interactions of its items.
    pub interactions: [u32; 2],
    pub users: usize,
    /// Nothing without users.
    pub recall: Option<f64>,
}

/// What is known of items.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    /// `[items, dim]`
    pub vectors: &'a [f32],
    pub dim: usize,
    pub titles: Option<&'a Titles>,
}

impl Evaluator {
    /// What these lists of up to `k` items are like; `ranks` are those of the `full` protocol. Both as for
    /// [`users`](Evaluator::users).
    pub fn beyond(&self, lists: &[Vec<u32>], k: usize, ranks: &[Rank], items: Items<'_>) -> Beyond {
        let counts = self.split.counts();
        let popularity = self.split.occurrences();
        let truths: Vec<u32> = self.users.iter().map(|&user| self.split.truth(user, self.part)).collect();
        let mut shown = vec![0_usize; counts.items];
        let recommended = || lists.iter().flatten().map(|&item| item as usize);
        recommended().for_each(|item| shown[item] += 1);
        let total = popularity.iter().map(|&n| f64::from(n)).sum::<f64>().max(1.0);
        let surprise = |item: usize| -(f64::from(popularity[item].max(1)) / total).log2();
        let coverage = shown.iter().filter(|&&n| n > 0).count() as f64 / counts.items as f64;
        shown.sort_unstable();
        Beyond {
            part: self.part,
            users: lists.len(),
            k,
            history_excluded: self.options.exclude_known,
            counts,
            coverage,
            gini: gini(&shown),
            novelty: mean(recommended().map(surprise)).unwrap_or(0.0),
            popularity: mean(recommended().map(|item| f64::from(popularity[item]))).unwrap_or(0.0),
            popularity_of_truth: mean(truths.iter().map(|&item| f64::from(popularity[item as usize]))).unwrap_or(0.0),
            diversity: vector_diversity(lists, items.vectors, items.dim),
            category_diversity: items.titles.and_then(|titles| category_diversity(lists, titles)),
            recall: buckets(&popularity, &truths, ranks, k),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// The mean cosine of all pairs is ((sum of unit vectors)^2 - n) / (n (n - 1)). A vector of zeros is at a right angle to all.
fn vector_diversity(lists: &[Vec<u32>], vectors: &[f32], dim: usize) -> Option<f64> {
    let of_list = |list: &Vec<u32>| {
        let n = list.len() as f64;
        let (mut sum, mut own) = (vec![0.0_f64; dim], 0.0);
        for &item in list {
            let vector = &vectors[item as usize * dim..][..dim];
            let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 {
                own += 1.0;
                sum.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x) / length);
            }
        }
        let square: f64 = sum.iter().map(|x| x * x).sum();
        1.0 - (square - own) / (n * (n - 1.0))
    };
    mean(lists.iter().filter(|list| list.len() > 1).map(of_list))
}

fn category_diversity(lists: &[Vec<u32>], titles: &Titles) -> Option<f64> {
    let distance = |a: u32, b: u32| {
        let [a, b] = [a, b].map(|item| titles.categories(item));
        let common = a.iter().filter(|category| b.contains(category)).count();
        (!a.is_empty() && !b.is_empty()).then(|| 1.0 - common as f64 / (a.len() + b.len() - common) as f64)
    };
    let of_list = |list: &Vec<u32>| {
        let pairs = list.iter().enumerate().flat_map(|(i, &a)| list[i + 1..].iter().map(move |&b| (a, b)));
        mean(pairs.filter_map(|(a, b)| distance(a, b)))
    };
    mean(lists.iter().filter_map(of_list))
}

/// Items as popular as each other are in one bucket: in the first third as long as those more popular have less than a third
/// of all interactions.
fn buckets(popularity: &[u32], truths: &[u32], ranks: &[Rank], k: usize) -> Vec<Bucket> {
    const NAMES: [&str; 4] = ["head", "middle", "tail", "new"];
    let mut order: Vec<u32> = popularity.to_vec();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let total: u64 = order.iter().map(|&n| u64::from(n)).sum();
    // The fewest interactions of head and middle.
    let (mut least, mut before) = ([u32::MAX; 2], 0);
    for group in order.chunk_by(|a, b| a == b) {
        for (third, least) in (1..).zip(&mut least) {
            if 3 * before < third * total {
                *least = group[0];
            }
        }
        before += u64::from(group[0]) * group.len() as u64;
    }
    let bucket = |n: u32| if n == 0 { 3 } else { least.iter().position(|&least| n >= least).unwrap_or(2) };
    (0..NAMES.len())
        .filter_map(|number| {
            let own = || popularity.iter().copied().filter(|&n| bucket(n) == number);
            let hits = || {
                let users =
                    truths.iter().zip(ranks).filter(|(truth, _)| bucket(popularity[**truth as usize]) == number);
                users.map(|(_, rank)| f64::from(u8::from((rank.rank as usize) < k)))
            };
            Some(Bucket {
                name: NAMES[number],
                items: own().count(),
                interactions: [own().min()?, own().max()?],
                users: hits().count(),
                recall: mean(hits()),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_by_hand() {
        // Of 12 interactions, 6 are the first item's, 3 the second's; a third is 4, two are 8.
        let popularity = [6, 3, 2, 1, 0];
        let ranks = [0, 9, 10, 3, 50, 2].map(|rank| Rank { rank, competitors: 99 });
        let found = buckets(&popularity, &[0, 0, 1, 2, 3, 4], &ranks, 10);
        let bucket = |name, items, interactions, users, recall| Bucket { name, items, interactions, users, recall };
        assert_eq!(
            found,
            [
                bucket("head", 1, [6, 6], 2, Some(1.0)),
                bucket("middle", 1, [3, 3], 1, Some(0.0)),
                bucket("tail", 2, [1, 2], 2, Some(0.5)),
                bucket("new", 1, [0, 0], 1, Some(1.0)),
            ]
        );
        // One item has nearly all: nothing is left for the middle.
        let found = buckets(&[90, 1, 1], &[1], &ranks[..1], 10);
        assert_eq!(found, [bucket("head", 1, [90, 90], 0, None), bucket("tail", 2, [1, 1], 1, Some(1.0))]);
        // Those as popular as each other stay together.
        let found = buckets(&[2, 2, 2, 2], &[3], &ranks[..1], 10);
        assert_eq!(found, [bucket("head", 4, [2, 2], 1, Some(1.0))]);
    }
}
