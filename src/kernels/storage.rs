//! How the item table and its moments lie in memory: as they are, or rounded to 16 bits (bf16), two of them a word.
//!
//! All arithmetic is on f32: kernels widen rows that they read and round rows that they write. bf16 has the range of f32,
//! which second moments need (squares of gradients are far below the least number of f16), and 8 bits of precision. An
//! update is often less than half a unit of those and would be lost to the nearest number each time; so it is left to
//! chance, up with the probability of what is cut off, and the mean is kept. Chance is a hash of (key, word), a key for
//! each (seed, step): the same in shader and twin, and in every run with that seed. Shaders hold copies of [`Stored`]'s two
//! functions under the names `numbers` and `word`.

use half::bf16;

use super::Real;
use super::dropout::{hash, key};

/// How item rows are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ItemStorage {
    /// As they are computed.
    #[default]
    F32,
    /// In half the memory, rounded at random.
    Bf16,
}

impl ItemStorage {
    /// As kernels' parameter `packed`.
    pub fn packed(self) -> u32 {
        (self == ItemStorage::Bf16).into()
    }

    /// Words of a row of `dim` numbers.
    pub fn words(self, dim: usize) -> usize {
        words(self.packed(), dim)
    }

    /// Rows of `dim` numbers as they are stored, each rounded to the nearest.
    pub fn pack(self, rows: &[f32], dim: usize) -> Vec<u32> {
        match self {
            ItemStorage::F32 => bytemuck::cast_slice(rows).to_vec(),
            ItemStorage::Bf16 => {
                let bits = |x: Option<&f32>| x.map_or(0, |x| u32::from(bf16::from_f32(*x).to_bits()));
                let words = rows.chunks_exact(dim).flat_map(|row| row.chunks(2));
                words.map(|pair| bits(pair.first()) | bits(pair.get(1)) << 16).collect()
            }
        }
    }

    /// The numbers of stored rows.
    pub fn unpack(self, rows: &[u32], dim: usize) -> Vec<f32> {
        let mut numbers = vec![0.0; rows.len() / self.words(dim) * dim];
        for (row, to) in rows.chunks_exact(self.words(dim)).zip(numbers.chunks_exact_mut(dim)) {
            u32::load(row, self.packed(), to);
        }
        numbers
    }
}

/// Words of a row of `dim` numbers, by kernels' parameter `packed`.
pub(super) fn words(packed: u32, dim: usize) -> usize {
    if packed == 0 { dim } else { dim.div_ceil(2) }
}

/// Of a table and its two moments, one.
#[derive(Clone, Copy)]
pub enum Plane {
    Table,
    FirstMoment,
    SecondMoment,
}

/// What decides how the numbers of a row are rounded.
#[derive(Clone, Copy)]
pub struct Chance {
    key: u32,
    /// Of the row's first word.
    word: u32,
}

impl Chance {
    /// The key of a step.
    pub fn key(seed: u64, step: u64) -> u32 {
        // No place of dropout.
        key(seed, step, u64::MAX)
    }

    /// For the row of an item that has as many words.
    pub(super) fn new(key: u32, item: u32, plane: Plane, words: usize) -> Chance {
        Chance { key, word: item.wrapping_mul(3).wrapping_add(plane as u32).wrapping_mul(words as u32) }
    }
}

/// What a table is made of: words, or (in tests) the numbers themselves, which are never rounded.
pub trait Stored<R>: Copy + Send + Sync {
    /// The numbers of a row.
    fn load(row: &[Self], packed: u32, to: &mut [R]);
    /// A row of these numbers.
    fn store(row: &mut [Self], packed: u32, from: &[R], chance: Chance);
}

impl<R: Real> Stored<R> for R {
    fn load(row: &[Self], _packed: u32, to: &mut [R]) {
        to.copy_from_slice(row);
    }
    fn store(row: &mut [Self], _packed: u32, from: &[R], _chance: Chance) {
        row.copy_from_slice(from);
    }
}

impl Stored<f32> for u32 {
    #[inline(always)]
    fn load(row: &[Self], packed: u32, to: &mut [f32]) {
        if packed == 0 {
            return to.copy_from_slice(bytemuck::cast_slice(row));
        }
        let (pairs, last) = to.as_chunks_mut::<2>();
        if let ([to], Some(word)) = (last, row.last()) {
            *to = f32::from_bits(word << 16);
        }
        for (to, word) in pairs.iter_mut().zip(row) {
            *to = [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
        }
    }

    #[inline(always)]
    fn store(row: &mut [Self], packed: u32, from: &[f32], chance: Chance) {
        if packed == 0 {
            return bytemuck::cast_slice_mut(row).copy_from_slice(from);
        }
        let word = |at: usize, [low, high]: [f32; 2]| {
            let noise = hash(chance.key, chance.word.wrapping_add(at as u32));
            round(low.to_bits(), noise & 0xffff) >> 16 | round(high.to_bits(), noise >> 16) & 0xffff_0000
        };
        let (pairs, last) = from.as_chunks::<2>();
        if let ([x], Some(to)) = (last, row.last_mut()) {
            *to = word(pairs.len(), [*x, 0.0]);
        }
        for ((at, to), pair) in row.iter_mut().enumerate().zip(pairs) {
            *to = word(at, *pair);
        }
    }
}

/// Bits whose upper half is the number rounded, up with the probability of its lower half; what is not a number stays so.
#[inline(always)]
fn round(bits: u32, noise: u32) -> u32 {
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x0040_0000 } else { bits.wrapping_add(noise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number is one of its two neighbours, whose mean over many steps is the number: updates do not get lost.
    #[test]
    fn rounding_keeps_the_mean() {
        const STEPS: u64 = 20_000;
        let row = [0.1, -0.3001, 1e-20, 1.0 + 1.0 / 1024.0, 3.0f32];
        let mut sums = [0.0f64; 5];
        for step in 0..STEPS {
            let mut words = [0u32; 3];
            u32::store(&mut words, 1, &row, Chance::new(Chance::key(5, step), 77, Plane::FirstMoment, 3));
            let numbers = ItemStorage::Bf16.unpack(&words, 5);
            for ((sum, number), x) in sums.iter_mut().zip(numbers).zip(row) {
                assert!((number - x).abs() <= x.abs() / 128.0, "{number} for {x}");
                *sum += f64::from(number);
            }
        }
        for (sum, x) in sums.into_iter().zip(row) {
            let x = f64::from(x);
            // A unit is up to 1/128 of the number; five standard deviations of the mean, each at most half a unit.
            let bound = 5.0 * x.abs() / 256.0 / (STEPS as f64).sqrt();
            assert!((sum / STEPS as f64 - x).abs() <= bound, "{} for {x}", sum / STEPS as f64);
        }
    }

    #[test]
    fn what_is_stored_already_stays_and_no_number_becomes_another_kind() {
        let row = [1.5, -0.0, f32::INFINITY, f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
        for step in 0..100 {
            let mut words = [0u32; 3];
            u32::store(&mut words, 1, &row, Chance::new(Chance::key(1, step), 2, Plane::Table, 3));
            let numbers = ItemStorage::Bf16.unpack(&words, 6);
            assert!(numbers.iter().zip(&row[..3]).all(|(a, b)| a.to_bits() == b.to_bits()), "{numbers:?}");
            assert!(numbers[3..].iter().all(|x| x.is_nan()), "{numbers:?}");
            assert_eq!(ItemStorage::Bf16.pack(&numbers[..3], 3), [words[0], words[1] & 0xffff]);
        }
    }
}
