//! Dropout masks: a hash of (key, element) decides, the same on every engine, recomputed in the backward pass.
//!
//! A key is drawn for every (seed, step, place); the element is an index into what is dropped. Shaders hold a copy of
//! [`factors`]' mask under the name `drop_factor`.

use super::{Real, math};

/// By how much neighbouring elements differ before they are mixed.
const STRIDE: u32 = 0x9e37_79b1;

/// Whether an element of a tensor is kept, and what it is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// An element is dropped where its hash is below this.
    pub below: u32,
    /// What kept elements are multiplied with: 1 / (1 - rate).
    pub scale: f32,
    pub key: u32,
}

impl Dropout {
    /// Keeps everything.
    pub const OFF: Dropout = Dropout { below: 0, scale: 1.0, key: 0 };

    /// Drops `rate` (0 up to, not including, 1) of the elements of one `place` in one step.
    pub fn new(rate: f64, seed: u64, step: u64, place: u64) -> Self {
        if rate <= 0.0 {
            return Dropout::OFF;
        }
        let key = key(seed, step, place);
        Dropout { below: (rate * 4_294_967_296.0) as u32, scale: (1.0 / (1.0 - rate)) as f32, key }
    }

    /// Multiplies `row`, whose first element is `element`, with its mask.
    #[inline(always)]
    pub fn mask<R: Real>(self, row: &mut [R], element: u32) {
        if self.below > 0 {
            for (value, kept) in row.iter_mut().zip(factors::<R>(self.below, self.scale, self.key, element)) {
                *value *= kept;
            }
        }
    }

    /// out += scale * mask * from, of a row whose first element is `element`.
    #[inline(always)]
    pub fn add_masked<R: Real>(self, out: &mut [R], scale: R, from: &[R], element: u32) {
        if self.below > 0 {
            let kept = factors::<R>(self.below, self.scale, self.key, element);
            for ((out, &from), kept) in out.iter_mut().zip(from).zip(kept) {
                *out += scale * kept * from;
            }
        } else {
            math::add_scaled(out, scale, from);
        }
    }
}

/// What is drawn for one `place` in one step.
pub(super) fn key(seed: u64, step: u64, place: u64) -> u32 {
    (mix64(mix64(mix64(seed) ^ step) ^ place) >> 32) as u32
}

/// The key under which element 0 is what element `first` is under `key`.
pub fn shifted(key: u32, first: u32) -> u32 {
    key.wrapping_add(first.wrapping_mul(STRIDE))
}

/// Chris Wellons' lowbias32 of a Weyl sequence.
#[inline(always)]
pub(super) fn hash(key: u32, element: u32) -> u32 {
    mix(element.wrapping_mul(STRIDE).wrapping_add(key))
}

#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The finaliser of SplitMix64.
fn mix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What elements from `element` on are multiplied with: 0 or `scale`.
#[inline(always)]
pub fn factors<R: Real>(below: u32, scale: f32, key: u32, element: u32) -> impl Iterator<Item = R> {
    let mut next = element.wrapping_mul(STRIDE).wrapping_add(key);
    std::iter::repeat_with(move || {
        let x = next;
        next = next.wrapping_add(STRIDE);
        if mix(x) < below { R::zero() } else { R::of(scale) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_key_masks_as_from_that_element_on() {
        for first in [0, 1, 64, 123_456_789, u32::MAX] {
            for element in 0..100 {
                let shifted = hash(shifted(0x1234_5678, first), element);
                assert_eq!(shifted, hash(0x1234_5678, first.wrapping_add(element)));
            }
        }
    }

    #[test]
    fn drops_the_asked_share_and_differs_between_places() {
        for rate in [0.1, 0.5, 0.9] {
            let n = 200_000u32;
            let masks: Vec<Vec<bool>> = (0..3)
                .map(|place| {
                    let d = Dropout::new(rate, 7, 3, place);
                    factors::<f32>(d.below, d.scale, d.key, 0).take(n as usize).map(|kept| kept == 0.0).collect()
                })
                .collect();
            // Five standard deviations of a binomial share.
            let bound = 5.0 * (rate * (1.0 - rate) / f64::from(n)).sqrt();
            for mask in &masks {
                let share = mask.iter().filter(|&&d| d).count() as f64 / f64::from(n);
                assert!((share - rate).abs() <= bound, "{share} of {rate}");
            }
            // Independent masks agree on dropping rate^2 of the elements, and so do neighbours of one mask.
            for (a, b) in [(&masks[0][1..], &masks[1][1..]), (&masks[0][1..], &masks[0][..n as usize - 1])] {
                let both = a.iter().zip(b).filter(|(x, y)| **x && **y).count() as f64 / f64::from(n);
                let want = rate * rate;
                assert!((both - want).abs() <= 5.0 * (want * (1.0 - want) / f64::from(n)).sqrt() + 1e-4);
            }
        }
    }
}
