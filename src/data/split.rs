//! Leave-one-out: which of a user's items train, validate and test.

use std::ops::Range;
use std::sync::Arc;

use rand::seq::{SliceRandom, index};
use rand::{Rng, RngExt};

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
    interactions: Arc<Interactions>,
    training: Training,
    /// All clicks with noise in place of some of those that train; `None` where there is no noise.
    noisy: Option<Vec<u32>>,
}

impl Split {
    pub fn new(interactions: Interactions, training: Training) -> Split {
        Split { interactions: Arc::new(interactions), training, noisy: None }
    }

    /// The same interactions, of which others may train, and of those that do a share of `noise` (0 to 1) is replaced with
    /// items drawn uniformly from the catalogue. The seed decides which and with what: what is noise at one share is the
    /// same noise at every larger one. All that is evaluated, histories too, stays as it was observed.
    pub fn trained_on(&self, training: Training, noise: f64, seed: u64) -> Split {
        let noisy = (noise > 0.0).then(|| {
            let mut clicks = self.interactions.clicks.clone();
            let ends = |user| [Training::Apart, training].map(|training| self.training_places(user, training).end);
            let places = |user| self.training_places(user, Training::Apart);
            self.replace(
                &mut clicks,
                self.all_users().flat_map(places).collect(),
                noise,
                stream(seed, Stream::Noise(0)),
            );
            // Validation items that train too are drawn apart, and leave the others' noise as it is without them.
            let places = |user| ends(user)[0]..ends(user)[1];
            self.replace(
                &mut clicks,
                self.all_users().flat_map(places).collect(),
                noise,
                stream(seed, Stream::Noise(1)),
            );
            clicks
        });
        Split { interactions: self.interactions.clone(), training, noisy }
    }

    /// Puts items drawn uniformly into a share of these places.
    fn replace(&self, clicks: &mut [u32], mut places: Vec<usize>, share: f64, mut rng: impl Rng) {
        places.shuffle(&mut rng);
        places.truncate((share * places.len() as f64).round() as usize);
        for place in places {
            clicks[place] = rng.random_range(0..self.interactions.items.len() as u32);
        }
    }

    pub fn interactions(&self) -> &Interactions {
        &self.interactions
    }

    pub fn counts(&self) -> Counts {
        self.interactions.counts()
    }

    /// The items of `user` that train, in order of time; with the noise that this split may have.
    pub fn training(&self, user: u32) -> &[u32] {
        let clicks = self.noisy.as_ref().unwrap_or(&self.interactions.clicks);
        &clicks[self.training_places(user, self.training)]
    }

    /// Where the clicks of `user` that train are among all clicks.
    fn training_places(&self, user: u32, training: Training) -> Range<usize> {
        let offsets = &self.interactions.offsets;
        let (first, end) = (offsets[user as usize], offsets[user as usize + 1]);
        let held_out = match training {
            _ if end - first < FEWEST => 0,
            Training::Apart => 2,
            Training::WithValidation => 1,
        };
        first..end - held_out
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

    fn all_users(&self) -> Range<u32> {
        0..self.interactions.users.len() as u32
    }
}
