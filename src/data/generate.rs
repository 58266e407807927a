//! A data set with planted intentions.

use super::read::Interactions;

/// What the generator makes. Items belong to hidden categories, each with its own item-to-item dynamics; a user holds
/// several intentions (categories) that come and go; some clicks are noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generator {
    pub users: usize,
    pub items: usize,
    pub categories: usize,
}

impl Default for Generator {
    /// Small enough to train within a minute on two cores.
    fn default() -> Self {
        Generator { users: 3000, items: 1000, categories: 4 }
    }
}

/// Interactions whose intentions are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    pub interactions: Interactions,
    /// The category of every item.
    pub categories: Vec<u32>,
}

impl Generator {
    /// Draws the data set; the same seed gives the same.
    pub fn generate(&self, _seed: u64) -> Planted {
        todo!()
    }
}
