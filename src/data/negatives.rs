//! Items that the truth is ranked against in the `sampled` protocol.

use super::split::{Part, Split};

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
    pub fn draw(_split: &Split, _part: Part, _users: &[u32], _count: usize, _seed: u64) -> Negatives {
        todo!()
    }

    /// The negatives of the user at place `index` of the users that were given.
    pub fn of(&self, index: usize) -> &[u32] {
        &self.items[self.offsets[index]..self.offsets[index + 1]]
    }
}
