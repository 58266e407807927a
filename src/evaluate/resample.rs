//! How sure figures are: percentile intervals of the bootstrap over users, and the paired bootstrap of two runs.

use indexmap::IndexMap;
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use super::{Figure, Metrics, Protocol, Rank, figures};
use crate::data::{Stream, stream};

/// Which resamples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    pub resamples: u32,
    pub seed: u64,
}

/// The middle 95% of the resamples' means.
pub type Interval = [f64; 2];

/// A figure of two runs on the same users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub first: f64,
    pub second: f64,
    /// first - second
    pub difference: f64,
    /// Of the difference.
    pub interval: Interval,
    /// Two-sided, of no difference: twice the share of resamples on the other side of zero (or on it), at least
    /// 2 / (resamples + 1), at most 1.
    pub p: f64,
}

/// Every figure's interval: users are drawn with replacement, as many as there are, so many times.
pub fn intervals(ranks: &[Rank], protocol: Protocol, how: Resampling) -> IndexMap<String, Interval> {
    let figures = figures(protocol);
    let values: Vec<f64> = ranks.iter().flat_map(|&rank| figures.iter().map(move |figure| figure.of(rank))).collect();
    let means = means(&values, figures.len(), how);
    figures.iter().enumerate().map(|(i, figure)| (figure.to_string(), interval(of(&means, i)))).collect()
}

/// Compares two runs by their ranks of the same users' items, against the same competitors.
pub fn differences(
    first: &[Rank],
    second: &[Rank],
    protocol: Protocol,
    how: Resampling,
) -> IndexMap<String, Difference> {
    let figures = figures(protocol);
    let pairs = first.iter().zip(second);
    let values: Vec<f64> =
        pairs.flat_map(|(&a, &b)| figures.iter().map(move |figure| figure.of(a) - figure.of(b))).collect();
    let means = means(&values, figures.len(), how);
    let [first, second]: [Metrics; 2] = [first, second].map(|ranks| super::metrics(ranks, protocol));
    let compared = figures.iter().enumerate().map(|(i, figure)| {
        let name = Figure::to_string(figure);
        let (first, second) = (first[&name], second[&name]);
        let means = of(&means, i);
        let share = |side: &dyn Fn(f64) -> bool| {
            let n = means.iter().filter(|&&mean| side(mean)).count();
            (n + 1) as f64 / (means.len() + 1) as f64
        };
        let p = 2.0 * share(&|mean| mean <= 0.0).min(share(&|mean| mean >= 0.0));
        let interval = interval(means);
        (name, Difference { first, second, difference: first - second, interval, p: p.min(1.0) })
    });
    compared.collect()
}

/// The means of each resample, `[resamples][width]`, of values `[users, width]`. Each resample has random numbers of its own,
/// so that the number of threads changes nothing.
fn means(values: &[f64], width: usize, how: Resampling) -> Vec<Vec<f64>> {
    let users = values.len() / width;
    let resample = |number: u32| {
        let mut rng = stream(how.seed, Stream::Resample(number));
        let mut sums = vec![0.0; width];
        for _ in 0..users {
            let user = rng.random_range(0..users as u32) as usize;
            sums.iter_mut().zip(&values[user * width..][..width]).for_each(|(sum, value)| *sum += value);
        }
        sums.iter_mut().for_each(|sum| *sum /= users as f64);
        sums
    };
    (0..how.resamples).into_par_iter().map(resample).collect()
}

/// One figure's means.
fn of(means: &[Vec<f64>], figure: usize) -> Vec<f64> {
    means.iter().map(|means| means[figure]).collect()
}

fn interval(mut means: Vec<f64>) -> Interval {
    means.sort_unstable_by(f64::total_cmp);
    let out = (0.025 * means.len() as f64) as usize;
    [means[out], means[means.len() - 1 - out]]
}
