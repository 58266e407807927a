//! What tests draw: fresh numbers and sequences from a seed that is printed and can be given again.

use prismrec::kernels::dropout::Dropout;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The environment variable that repeats a run.
const SEED: &str = "PRISMREC_TEST_SEED";

/// Random data of one test.
pub struct Random(ChaCha8Rng);

impl Random {
    /// Draws from the seed in PRISMREC_TEST_SEED, or else a fresh one; prints it, so that a failure shows it.
    pub fn new() -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) => text.parse().unwrap_or_else(|e| panic!("{SEED}={text}: {e}")),
            Err(_) => rand::random::<u64>(),
        };
        println!("{SEED}={seed}");
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A whole number in `0..below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.0.random_range(0..below)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Numbers in -1..1.
    pub fn reals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    /// Numbers in 0..1.
    pub fn shares(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.0.random_range(0.0..1.0)).collect()
    }

    /// Multiples of 1/8 in -1..=1: their products and sums are the same in any order, and some of them are equal.
    pub fn eighths(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.below(17) as f64 / 8.0 - 1.0).collect()
    }

    /// Indices in `0..below`.
    pub fn indices(&mut self, n: usize, below: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(below) as u32).collect()
    }

    /// A mask that drops this share.
    pub fn dropout(&mut self, rate: f64) -> Dropout {
        Dropout::new(rate, self.0.random(), self.0.random(), self.0.random())
    }

    /// The numbers in `0..n`, shuffled.
    pub fn order(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// `n` distinct indices in `0..below`, ascending.
    pub fn distinct(&mut self, n: usize, below: usize) -> Vec<u32> {
        let mut chosen = self.order(below);
        chosen.truncate(n);
        chosen.sort_unstable();
        chosen
    }
}

/// First element of each run of these lengths, and the number of elements.
pub fn offsets(lengths: &[usize]) -> Vec<u32> {
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets.last().unwrap() + *length as u32);
    }
    offsets
}

/// The run each element belongs to.
pub fn owners(offsets: &[u32]) -> Vec<u32> {
    (0u32..).zip(offsets.windows(2)).flat_map(|(run, w)| (w[0]..w[1]).map(move |_| run)).collect()
}

/// For each value in `0..values`, where it occurs, ascending: (starts, sources).
pub fn segments(of: &[u32], values: usize) -> (Vec<u32>, Vec<u32>) {
    let mut sources: Vec<u32> = (0..of.len() as u32).collect();
    sources.sort_by_key(|&i| of[i as usize]);
    let starts = (0..=values as u32).map(|v| sources.partition_point(|&i| of[i as usize] < v) as u32).collect();
    (starts, sources)
}

/// 1 / sqrt(D)
pub fn scale(dim: usize) -> f32 {
    (1.0 / (dim as f64).sqrt()) as f32
}
