//! Leave-one-out: which of a user's items train, validate and test.

use rand::seq::index;

use super::read::{Counts, Interactions};
use super::{Stream, stream};

/// A user with fewer items has nothing to hold out.
const FEWEST: usize = 3;

/// What a held-out item is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The second to last item of a user.
    Validation,
    /// The last item of a user.
    Test,
}

/// Which items train.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Training {
    /// All but the last two of a user.
    Apart,
    /// All but the last of a user: validation items train too (`--refit`).
    WithValidation,
}

/// Interactions, split by user. All items of a user with fewer than three train; nothing of theirs is evaluated.
#[derive(Clone, Debug)]
pub struct Split {
    interactions: Interactions,
    training: Training,
}

impl Split {
    pub fn new(interactions: Interactions, training: Training) -> Split {
        Split { interactions, training }
    }

    pub fn interactions(&self) -> &Interactions {
        &self.interactions
    }

    pub fn counts(&self) -> Counts {
        self.interactions.counts()
    }

    /// The items of `user` that train, in order of time.
    pub fn training(&self, user: u32) -> &[u32] {
        let all = self.interactions.sequence(user);
        let held_out = match self.training {
            _ if all.len() < FEWEST => 0,
            Training::Apart => 2,
            Training::WithValidation => 1,
        };
        &all[..all.len() - held_out]
    }

    /// Whether `user` has enough items to be evaluated.
    pub fn evaluated(&self, user: u32) -> bool {
        self.interactions.sequence(user).len() >= FEWEST
    }

    /// Number of users with too few items to be evaluated.
    pub fn users_kept_out(&self) -> usize {
        self.all_users().filter(|&user| !self.evaluated(user)).count()
    }

    /// The users to evaluate, ascending: all that can be, or `limit` of them, drawn from `seed`.
    pub fn evaluated_users(&self, limit: Option<usize>, seed: u64) -> Vec<u32> {
        let all: Vec<u32> = self.all_users().filter(|&user| self.evaluated(user)).collect();
        match limit {
            Some(limit) if limit < all.len() => {
                let mut rng = stream(seed, Stream::EvaluatedUsers);
                let mut some: Vec<u32> =
                    index::sample(&mut rng, all.len(), limit).into_iter().map(|i| all[i]).collect();
                some.sort_unstable();
                some
            }
            _ => all,
        }
    }

    /// How often each item occurs, in all parts, `[items]`.
    pub fn frequency(&self) -> Vec<u32> {
        let mut frequency = vec![0; self.interactions.items.len()];
        for &item in &self.interactions.clicks {
            frequency[item as usize] += 1;
        }
        frequency
    }

    /// What an evaluated user had met before the held-out item, in order of time.
    pub fn history(&self, user: u32, part: Part) -> &[u32] {
        let all = self.interactions.sequence(user);
        &all[..self.held_out(user, part)]
    }

    /// The held-out item of an evaluated user.
    pub fn truth(&self, user: u32, part: Part) -> u32 {
        self.interactions.sequence(user)[self.held_out(user, part)]
    }

    /// Place of the held-out item in the user's sequence.
    fn held_out(&self, user: u32, part: Part) -> usize {
        let all = self.interactions.sequence(user).len();
        match part {
            Part::Validation => all - 2,
            Part::Test => all - 1,
        }
    }

    fn all_users(&self) -> std::ops::Range<u32> {
        0..self.interactions.users.len() as u32
    }
}
