//! A fixture: what `tests/reference/README.md` describes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use prismrec::data::batch::{Batch, Packed, PositionFrom, Segments};
use prismrec::model::{Tensor, Tensors, Variant};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Config {
    pub items: usize,
    pub dim: usize,
    pub intentions: usize,
    pub length: usize,
    pub blocks: usize,
    pub position_from: PositionFrom,
    pub lambda: f64,
    pub variant: Variant,
    pub l2: f64,
    pub batch: usize,
}

#[derive(Deserialize)]
pub struct Adam {
    pub steps: usize,
    pub lr: f64,
}

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    config: Config,
    adam: Adam,
    #[serde(default)]
    selected: u32,
    #[serde(default)]
    zero_gradient: HashSet<String>,
    /// Deviation of a run in f32, and the tensor's largest magnitude.
    #[serde(default)]
    float32_deviation: BTreeMap<String, [f64; 2]>,
}

pub struct Fixture {
    pub config: Config,
    pub adam: Adam,
    /// Pairs that eq. 4 keeps.
    pub selected: u32,
    /// Parameters whose gradient is zero in exact arithmetic.
    pub zero_gradient: HashSet<String>,
    deviation: BTreeMap<String, [f64; 2]>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<u32>)>,
}

impl Fixture {
    /// `path` without its ending.
    pub fn load(path: &Path) -> Self {
        let read = |ending: &str| {
            let path = path.with_extension(ending);
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let d: Description =
            serde_json::from_slice(&read("json")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let bytes = read("safetensors");
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors
            .iter()
            .map(|(name, view)| {
                let elements = view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
                (name.to_owned(), (view.shape().to_vec(), elements))
            })
            .collect();
        let Description { config, adam, selected, zero_gradient, float32_deviation: deviation } = d;
        Fixture { config, adam, selected, zero_gradient, deviation, tensors }
    }

    fn integers(&self, name: &str) -> &[u32] {
        &self.tensors[name].1
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.integers(name).iter().copied().map(f32::from_bits).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].0
    }

    /// All parameters under a prefix.
    pub fn parameters(&self, prefix: &str) -> Tensors {
        let named = self.tensors.keys().filter_map(|name| name.strip_prefix(prefix));
        named
            .map(|name| {
                let full = format!("{prefix}{name}");
                (name.to_owned(), Tensor { shape: self.shape(&full).to_vec(), data: self.values(&full) })
            })
            .collect()
    }

    /// The sequences of `name.items` and `name.offsets`.
    fn sequences(&self, name: &str) -> Vec<&[u32]> {
        let items = self.integers(&format!("{name}.items"));
        let offsets = self.integers(&format!("{name}.offsets"));
        offsets.windows(2).map(|pair| &items[pair[0] as usize..pair[1] as usize]).collect()
    }

    /// The inputs, capped.
    pub fn inputs(&self) -> Packed {
        self.packed(&self.sequences("kept"))
    }

    /// The fixture's batch. Packed here in the plainest way, as a second opinion on what the library packs.
    pub fn batch(&self, labels: bool) -> Batch {
        let mut sequences = self.sequences("kept");
        if labels {
            sequences.extend(self.sequences("label"));
        }
        let sequences = self.packed(&sequences);
        let targets = self.integers("target.items").to_vec();
        let target_offsets = match self.tensors.get("target.offsets") {
            Some((_, offsets)) => offsets.clone(),
            None => (0..=targets.len() as u32).collect(),
        };
        let tokens_and_targets: Vec<u32> = sequences.items.iter().chain(&targets).copied().collect();
        let rows: Vec<u32> = tokens_and_targets.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        Batch {
            examples: self.config.batch,
            row_sources: segments(&rows, &tokens_and_targets),
            position_sources: segments(&(0..self.config.length as u32).collect::<Vec<_>>(), &sequences.positions),
            target_offsets,
            targets,
            rows,
            sequences,
        }
    }

    fn packed(&self, sequences: &[&[u32]]) -> Packed {
        let mut packed = Packed { offsets: vec![0], ..Packed::default() };
        for (owner, items) in sequences.iter().enumerate() {
            let first = match self.config.position_from {
                PositionFrom::End => self.config.length - items.len(),
                PositionFrom::Start => 0,
            };
            packed.items.extend(*items);
            packed.positions.extend((first..first + items.len()).map(|row| row as u32));
            packed.owners.extend(items.iter().map(|_| owner as u32));
            packed.offsets.push(packed.items.len() as u32);
        }
        packed
    }

    /// Sum of the squares of these rows of the item table.
    pub fn squares(&self, rows: &[u32]) -> f64 {
        let table = self.values("param.item_embedding.weight");
        let dim = self.config.dim;
        rows.iter().flat_map(|&row| &table[row as usize * dim..][..dim]).map(|&h| f64::from(h) * f64::from(h)).sum()
    }

    /// What is wrong with `got` where the fixture has `name`: the first values out of bounds.
    ///
    /// Where products are rounded before they are summed, which PyTorch does not, a gradient that is a difference of equal
    /// terms (all of intention 1's labels in `large`) is noise of any sign, of which Adam makes steps of up to lr; where
    /// much of a tensor is like that, the later steps start from other parameters.
    pub fn difference(&self, name: &str, got: &[f32]) -> Option<String> {
        let want = self.values(name);
        if want.len() != got.len() {
            return Some(format!("{name}: {} values instead of {}", got.len(), want.len()));
        }
        // Gradients that are zero in exact arithmetic are rounding noise, bound by the size of the others.
        let zero = name.strip_prefix("grad.").is_some_and(|name| self.zero_gradient.contains(name));
        let bound = if zero { 1e-5 * self.largest_gradient() } else { 0.0 } + self.bound(name);
        let gradient = name.strip_prefix("adam3.").map(|name| format!("grad.{name}"));
        let gradient = gradient.map(|name| (self.values(&name), self.bound(&name)));
        let bound = if gradient.is_some() && self.has_noisy_tensor() { 4.0 * bound } else { bound };
        let steps = 2.0 * self.adam.lr * self.adam.steps as f64;
        let bound_of = |i: usize| match &gradient {
            Some((gradient, noise)) if f64::from(gradient[i].abs()) <= *noise => bound + steps,
            _ => bound,
        };
        let off = |(i, (got, want)): &(usize, (&f32, &f32))| {
            let difference = (f64::from(**got) - f64::from(**want)).abs();
            // Written so that NaN is out of bounds; equal infinities (tau where nothing is selected) are not.
            #[allow(clippy::neg_cmp_op_on_partial_ord)]
            let out = !(difference <= bound_of(*i)) && got != want;
            out
        };
        let all = || got.iter().zip(&want).enumerate().filter(off);
        let first: Vec<String> =
            all().take(10).map(|(i, (got, want))| format!("  [{i}] {got} instead of {want}")).collect();
        (!first.is_empty()).then(|| {
            format!("{name}: {} of {} differ by more than {bound:.3e}\n{}", all().count(), want.len(), first.join("\n"))
        })
    }

    /// The bound that the reference's notes give for f32. Without a deviation (tau where nothing is selected) the value
    /// must be met exactly.
    fn bound(&self, name: &str) -> f64 {
        self.deviation.get(name).map_or(0.0, |[deviation, largest]| 1e-5 * largest + 16.0 * deviation)
    }

    /// Whether a tenth of a parameter's gradient, though not zero, is within rounding.
    fn has_noisy_tensor(&self) -> bool {
        let gradients = self.deviation.keys().filter_map(|name| name.strip_prefix("grad."));
        gradients.filter(|name| !self.zero_gradient.contains(*name)).any(|name| {
            let name = format!("grad.{name}");
            let (values, noise) = (self.values(&name), self.bound(&name));
            let noisy = values.iter().filter(|g| **g != 0.0 && f64::from(g.abs()) <= noise).count();
            noisy * 10 > values.len()
        })
    }

    fn largest_gradient(&self) -> f64 {
        let gradients = self.deviation.iter().filter(|(name, _)| name.starts_with("grad."));
        gradients.map(|(_, [_, largest])| *largest).fold(0.0, f64::max)
    }
}

/// Where each of `rows` occurs in `among`.
fn segments(rows: &[u32], among: &[u32]) -> Segments {
    let mut segments = Segments { starts: vec![0], sources: Vec::new() };
    for row in rows {
        segments.sources.extend((0..among.len() as u32).filter(|&at| among[at as usize] == *row));
        segments.starts.push(segments.sources.len() as u32);
    }
    segments
}
