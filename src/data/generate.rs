//! A data set with planted intentions.

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::read::Interactions;
use super::{Stream, stream};

/// Chance of each of an item's successors, given that its category is gone on with.
const SUCCESSORS: [f64; 3] = [0.85, 0.1, 0.05];
/// Chance that a click goes on with the intention of the click before.
const STAY: f64 = 0.8;
/// Chance that one of the user's intentions gives way to a new one at a click.
const CHANGE: f64 = 0.1;
/// Chance that a click is any item at all.
const NOISE: f64 = 0.1;
/// Clicks of every user, and how many more may come: a geometric number of this mean, cut at the last.
const LENGTH: (usize, f64, usize) = (5, 6.0, 40);

/// What the generator makes. Items belong to hidden categories, in each of which a sparse Markov chain leads from item
/// to item; a user holds up to three intentions (places in categories' chains) that come and go and take turns;
/// some clicks are noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generator {
    pub users: usize,
    pub items: usize,
    pub categories: usize,
}

impl Default for Generator {
    /// Small enough to train within a minute on two cores.
    fn default() -> Self {
        Generator { users: 4000, items: 240, categories: 4 }
    }
}

/// Interactions whose intentions are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    pub interactions: Interactions,
    /// The category of every item, `[items]`.
    pub categories: Vec<u32>,
}

/// The items of a category.
struct Category {
    /// Most popular first.
    items: Vec<u32>,
    popularity: WeightedIndex<f64>,
}

impl Category {
    fn draw(&self, rng: &mut impl Rng) -> u32 {
        self.items[self.popularity.sample(rng)]
    }
}

impl Generator {
    /// Draws the data set; the same seed gives the same.
    ///
    /// # Panics
    /// Where there are no users or fewer items than categories: both are fixed where this is called, not input.
    pub fn generate(&self, seed: u64) -> Planted {
        assert!(self.users > 0 && self.categories > 0 && self.items >= self.categories, "{self:?}");
        let mut rng = stream(seed, Stream::Generator);
        let mut categories: Vec<u32> = (0..self.items).map(|item| (item % self.categories) as u32).collect();
        categories.shuffle(&mut rng);
        let world: Vec<Category> = (0..self.categories)
            .map(|category| {
                let mut items: Vec<u32> =
                    (0..self.items as u32).filter(|&item| categories[item as usize] == category as u32).collect();
                items.shuffle(&mut rng);
                let weights = (1..=items.len()).map(|rank| (rank as f64).powf(-0.5));
                let popularity = WeightedIndex::new(weights).expect("positive weights");
                Category { items, popularity }
            })
            .collect();
        let mut successors = vec![[0; SUCCESSORS.len()]; self.items];
        for category in &world {
            // The likeliest successors form a ring, so that no few items draw all users in.
            let mut ring = category.items.clone();
            ring.shuffle(&mut rng);
            for (&item, &next) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                successors[item as usize] =
                    std::array::from_fn(|rank| if rank == 0 { next } else { category.draw(&mut rng) });
            }
        }
        let mut interactions = Interactions {
            users: (1..=self.users).map(|user| format!("user{user}")).collect(),
            items: (1..=self.items).map(|item| format!("item{item}")).collect(),
            offsets: vec![0],
            clicks: Vec::new(),
        };
        for _ in 0..self.users {
            clicks(&world, &successors, &mut interactions.clicks, &mut rng);
            interactions.offsets.push(interactions.clicks.len());
        }
        Planted { interactions, categories }
    }
}

/// Adds one user's clicks.
fn clicks<R: Rng>(world: &[Category], successors: &[[u32; SUCCESSORS.len()]], out: &mut Vec<u32>, rng: &mut R) {
    let next = WeightedIndex::new(SUCCESSORS).expect("positive weights");
    // An intention is the item that it has led to last.
    let begin = |rng: &mut R| world[rng.random_range(0..world.len())].draw(rng);
    let (least, more, most) = LENGTH;
    let mut intentions: Vec<u32> = (0..rng.random_range(1..=3)).map(|_| begin(rng)).collect();
    let mut current = 0;
    for click in 0..most {
        if click >= least && rng.random_bool(1.0 / (more + 1.0)) {
            return;
        }
        if rng.random_bool(NOISE) {
            out.push(rng.random_range(0..successors.len() as u32));
            continue;
        }
        if rng.random_bool(CHANGE) {
            let gone = rng.random_range(0..intentions.len());
            intentions[gone] = begin(rng);
        }
        if !rng.random_bool(STAY) {
            current = rng.random_range(0..intentions.len());
        }
        let item = &mut intentions[current];
        *item = successors[*item as usize][next.sample(rng)];
        out.push(*item);
    }
}
