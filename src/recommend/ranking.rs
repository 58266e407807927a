//! The best items of a ranking, and one list of several rankings.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashSet};

/// An item and what it scored. The greater is the better: the higher score, of equal ones the lower number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub score: f32,
    pub item: u32,
    /// The intention that scored it.
    pub intention: u32,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.item.cmp(&self.item))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best so far of items that come in any order.
#[derive(Debug)]
pub struct Best {
    most: usize,
    /// The worst of them first.
    heap: BinaryHeap<Reverse<Scored>>,
    /// Whether a score was not a number.
    pub broken: bool,
}

impl Best {
    /// The best `most`.
    pub fn new(most: usize) -> Best {
        Best { most, heap: BinaryHeap::new(), broken: false }
    }

    /// Takes an item, unless it is `excluded`, which is asked only of items that would be among the best.
    pub fn offer(&mut self, scored: Scored, excluded: impl FnOnce(u32) -> bool) {
        self.broken |= scored.score.is_nan();
        let full = self.heap.len() >= self.most;
        if full && self.heap.peek().is_none_or(|worst| scored <= worst.0) || excluded(scored.item) {
            return;
        }
        if full {
            self.heap.pop();
        }
        self.heap.push(Reverse(scored));
    }

    /// Best first.
    pub fn sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(scored)| scored).collect()
    }
}

/// One list of at most `top` items from the rankings of all intentions (best first, each with its own score), balanced by
/// their `shares`. Place by place the turn goes to the intention that is most behind what is due to it: its share of the
/// places so far and this one, less the places that it has; of equal ones to the first. It gives the best item of its
/// ranking that is not in the list yet. When only as many places are left as there are intentions with a share but
/// without a place, only those have turns. An intention whose ranking is at its end has no more turns.
pub fn balanced(rankings: &[Vec<Scored>], shares: &[f32], top: usize) -> Vec<Scored> {
    let total: f64 = shares.iter().map(|&share| f64::from(share)).sum();
    let mut next = vec![0; rankings.len()];
    let mut places = vec![0_usize; rankings.len()];
    let (mut list, mut listed) = (Vec::new(), HashSet::new());
    while list.len() < top {
        for (ranking, next) in rankings.iter().zip(&mut next) {
            while ranking.get(*next).is_some_and(|scored| listed.contains(&scored.item)) {
                *next += 1;
            }
        }
        let can: Vec<usize> = (0..rankings.len()).filter(|&k| shares[k] > 0.0 && next[k] < rankings[k].len()).collect();
        let without: Vec<usize> = can.iter().copied().filter(|&k| places[k] == 0).collect();
        let turns = if without.len() >= top - list.len() { &without } else { &can };
        let place = (list.len() + 1) as f64;
        let behind = |k: usize| f64::from(shares[k]) / total * place - places[k] as f64;
        let Some(k) = turns.iter().copied().reduce(|a, b| if behind(b) > behind(a) { b } else { a }) else { break };
        let scored = rankings[k][next[k]];
        places[k] += 1;
        listed.insert(scored.item);
        list.push(scored);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(intention: u32, items: &[u32]) -> Vec<Scored> {
        items.iter().zip(0u8..).map(|(&item, n)| Scored { score: -f32::from(n), item, intention }).collect()
    }

    fn intentions(list: &[Scored]) -> Vec<u32> {
        list.iter().map(|scored| scored.intention).collect()
    }

    #[test]
    fn the_best_are_kept_in_order_and_ties_go_by_number() {
        let mut best = Best::new(3);
        for (item, score) in [(5, 1.0), (1, 0.5), (2, 2.0), (4, 1.0), (0, 1.0), (9, 3.0)] {
            best.offer(Scored { score, item, intention: 0 }, |item| item == 9);
        }
        assert!(!best.broken);
        assert_eq!(best.sorted().iter().map(|s| s.item).collect::<Vec<_>>(), [2, 0, 4]);
        let mut broken = Best::new(1);
        broken.offer(Scored { score: f32::NAN, item: 0, intention: 0 }, |_| true);
        assert!(broken.broken);
    }

    #[test]
    fn turns_are_in_proportion_to_shares() {
        let rankings: Vec<_> = (0..3).map(|k| ranking(k, &(0..20).map(|n| n * 3 + k).collect::<Vec<_>>())).collect();
        let list = balanced(&rankings, &[0.5, 0.25, 0.25], 8);
        assert_eq!(intentions(&list), [0, 1, 2, 0, 0, 1, 2, 0]);
        assert_eq!(list.iter().map(|s| s.item).collect::<Vec<_>>(), [0, 1, 2, 3, 6, 4, 5, 9]);
    }

    #[test]
    fn each_intention_with_a_share_has_a_place() {
        let rankings: Vec<_> = (0..4).map(|k| ranking(k, &(0..20).map(|n| n * 4 + k).collect::<Vec<_>>())).collect();
        let shares = [0.989, 0.001, 0.01, 0.0];
        assert_eq!(intentions(&balanced(&rankings, &shares, 6)), [0, 0, 0, 0, 2, 1]);
        // As many as there are places.
        assert_eq!(intentions(&balanced(&rankings, &shares, 2)), [0, 2]);
    }

    #[test]
    fn no_item_has_two_places_and_rankings_may_end() {
        let rankings = [ranking(0, &[7, 8]), ranking(1, &[7, 8, 9])];
        let list = balanced(&rankings, &[0.5, 0.5], 10);
        assert_eq!(list.iter().map(|s| (s.intention, s.item)).collect::<Vec<_>>(), [(0, 7), (1, 8), (1, 9)]);
    }
}
