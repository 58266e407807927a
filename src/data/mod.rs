//! Interactions: reading or generating, splitting, sampling, packing.

pub mod batch;
pub mod clean;
pub mod generate;
pub mod negatives;
pub mod pack;
pub mod prefetch;
pub mod read;
pub mod sample;
pub mod split;
pub mod statistics;
pub mod titles;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for. Each purpose has streams of its own, so that one more draw here changes nothing
/// there; the initial parameters' begin at 2^32.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Epoch(u32),
    /// Part 0 or 1, user.
    Negatives(u32, u32),
    EvaluatedUsers,
    Generator,
    ShuffledCategories,
    /// Of training items, or (1) of validation items that train too.
    Noise(u8),
    /// What a trial of a study has.
    Trial(u64),
    /// Of the users of an evaluation.
    Resample(u32),
}

/// The generator of one stream of `seed`.
pub(crate) fn stream(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(match stream {
        Stream::Epoch(epoch) => u64::from(epoch),
        Stream::Negatives(part, user) => ((2 + u64::from(part)) << 32) + u64::from(user),
        Stream::EvaluatedUsers => 4 << 32,
        Stream::Generator => 5 << 32,
        Stream::ShuffledCategories => 6 << 32,
        Stream::Noise(kind) => (7 + u64::from(kind)) << 32,
        Stream::Trial(trial) => (9 << 32) + trial,
        Stream::Resample(resample) => (10 << 32) + u64::from(resample),
    });
    rng
}
