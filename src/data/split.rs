//! Which of a user's items train, validate and test.

use std::ops::Range;
use std::sync::Arc;

use rand::seq::{SliceRandom, index};
use rand::{Rng, RngExt};

use super::read::{Counts, Interactions, Times};
use super::{Stream, stream};
use crate::error::Result;

/// Leave-one-out: a user with fewer items has nothing to hold out.
const FEWEST: usize = 3;

/// What a held-out item is for. Where items are held out by time, it is the user's first one of that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Leave-one-out: the second to last item of a user.
    Validation,
    /// Leave-one-out: the last item of a user.
    Test,
}

/// Which items train.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Training {
    /// All but those that are held out to validate and to test.
    Apart,
    /// All but those that are held out to test: validation items train too (`--refit`).
    WithValidation,
}

/// Interactions, split by user.
///
/// * Leave-one-out: a user's last item tests, the one before it validates. All items of a user with fewer than three train;
///   nothing of theirs is evaluated.
/// * By time: items before one moment train, those from another on test, those between validate. A user with items on both
///   sides of a moment is evaluated there.
#[derive(Clone, Debug)]
pub struct Split {
    interactions: Arc<Interactions>,
    training: Training,
    /// All clicks with noise in place of some of those that train; `None` where there is no noise.
    noisy: Option<Vec<u32>>,
    /// By time: how many items of each user are from before validation, and from before the test.
    before: Option<Vec<[u32; 2]>>,
}

impl Split {
    /// Leave-one-out.
    pub fn new(interactions: Interactions, training: Training) -> Split {
        Split { interactions: Arc::new(interactions), training, noisy: None, before: None }
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
        Split { interactions: self.interactions.clone(), training, noisy, before: self.before.clone() }
    }

    /// Puts items drawn uniformly into a share of these places.
    fn replace(&self, clicks: &mut [u32], mut places: Vec<usize>, share: f64, mut rng: impl Rng) {
        places.shuffle(&mut rng);
        places.truncate((share * places.len() as f64).round() as usize);
        for place in places {
            clicks[place] = rng.random_range(0..self.interactions.items.len() as u32);
        }
    }

    /// By time: validation begins with the first of these moments, the test with the second.
    pub fn by_time(interactions: Interactions, times: &Times, from: [f64; 2]) -> Split {
        let count = |ends: &[usize], moment: f64| {
            // Times grow within a user.
            (ends[0]..ends[1]).take_while(|&place| times.get(place) < moment).count() as u32
        };
        let before = interactions.offsets.windows(2).map(|ends| from.map(|moment| count(ends, moment))).collect();
        Split { interactions: Arc::new(interactions), training: Training::Apart, noisy: None, before: Some(before) }
    }

    /// The same users and items, as a catalogue numbers them.
    ///
    /// # Errors
    /// Where an item is not in the catalogue.
    pub fn renumbered(&self, catalogue: &[String]) -> Result<Split> {
        let interactions = Arc::new(Interactions::clone(&self.interactions).renumbered(catalogue)?);
        Ok(Split { interactions, noisy: None, ..self.clone() })
    }

    /// Whether items are held out by time.
    pub fn is_by_time(&self) -> bool {
        self.before.is_some()
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
        let length = match (&self.before, training) {
            (Some(before), Training::Apart) => before[user as usize][0] as usize,
            (Some(before), Training::WithValidation) => before[user as usize][1] as usize,
            (None, _) if end - first < FEWEST => end - first,
            (None, Training::Apart) => end - first - 2,
            (None, Training::WithValidation) => end - first - 1,
        };
        first..first + length
    }

    /// Whether `user` has a held-out item of this part, and items before it.
    pub fn evaluated(&self, user: u32, part: Part) -> bool {
        let all = self.interactions.sequence(user).len();
        match (&self.before, part) {
            (None, _) => all >= FEWEST,
            (Some(before), Part::Validation) => {
                let [validation, test] = before[user as usize];
                0 < validation && validation < test
            }
            (Some(before), Part::Test) => {
                let test = before[user as usize][1] as usize;
                0 < test && test < all
            }
        }
    }

    /// Number of users of whom nothing is tested.
    pub fn users_kept_out(&self) -> usize {
        self.all_users().filter(|&user| !self.evaluated(user, Part::Test)).count()
    }

    /// The users to evaluate, ascending: all that can be, or `limit` of them, drawn from `seed`.
    pub fn evaluated_users(&self, part: Part, limit: Option<usize>, seed: u64) -> Vec<u32> {
        let all: Vec<u32> = self.all_users().filter(|&user| self.evaluated(user, part)).collect();
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
        self.interactions.frequency()
    }

    /// How often each item occurs in what trains, `[items]`; with the noise that this split may have.
    pub fn occurrences(&self) -> Vec<u32> {
        let mut occurrences = vec![0; self.counts().items];
        for user in self.all_users() {
            self.training(user).iter().for_each(|&item| occurrences[item as usize] += 1);
        }
        occurrences
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
        match (&self.before, part) {
            (None, Part::Validation) => all - 2,
            (None, Part::Test) => all - 1,
            (Some(before), part) => before[user as usize][part as usize] as usize,
        }
    }

    fn all_users(&self) -> Range<u32> {
        0..self.interactions.users.len() as u32
    }
}
