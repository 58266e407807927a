//! What vectors say by themselves: items that are alike, and items that are typical of an intention.

use std::path::Path;

use serde::Serialize;

use super::catalogue::{Catalogue, Item};
use super::ranking::{Best, Scored};
use crate::checkpoint::Checkpoint;
use crate::engine::{self, EngineChoice, EngineRequest};
use crate::error::{Error, Result};
use crate::kernels::layer_norm;
use crate::model::{Hyper, ITEM_TABLE, Tensors, Variant};

/// An item and how near it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    #[serde(flatten)]
    pub item: Item,
    /// From -1 to 1.
    pub cosine: f32,
}

/// A checkpoint's vectors and items.
#[derive(Debug)]
pub struct Vectors {
    catalogue: Catalogue,
    dim: usize,
    /// `[items, dim]`
    items: Vec<f32>,
    /// Items' vectors as eq. 8 has them, were they z: LayerNorm_1(h), `[items, dim]`.
    tokens: Vec<f32>,
    /// LayerNorm_2(c) of eq. 8, `[K, dim]`
    prototypes: Vec<f32>,
}

impl Vectors {
    /// Those of a checkpoint; items are shown with the titles in a file.
    ///
    /// # Errors
    /// Where the titles cannot be read, or the vectors are not of numbers.
    pub fn of(checkpoint: Checkpoint, titles: Option<&Path>) -> Result<Vectors> {
        let dim = checkpoint.settings.dim;
        let mut parameters = up_to_date(&checkpoint)?;
        let catalogue = Catalogue::new(checkpoint.items, titles)?;
        let items = take(&mut parameters, ITEM_TABLE)?;
        let prototypes = take(&mut parameters, "intention.prototypes")?;
        let [tokens, prototypes] = [(&items, "intention.token_norm"), (&prototypes, "intention.prototype_norm")]
            .map(|(rows, norm)| normed(rows, dim, &mut parameters, norm));
        let (tokens, prototypes) = (tokens?, prototypes?);
        if [&items, &tokens, &prototypes].into_iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::Data("the model's vectors are not numbers: its training has diverged".into()));
        }
        Ok(Vectors { catalogue, dim, items, tokens, prototypes })
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// D
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// K
    pub fn intentions(&self) -> usize {
        self.prototypes.len() / self.dim
    }

    /// All items' vectors, `[items, dim]`.
    pub fn items(&self) -> &[f32] {
        &self.items
    }

    /// The `top` items whose vectors are nearest to an item's, by their cosine.
    pub fn similar(&self, item: u32, top: usize) -> Vec<Near> {
        self.nearest(&self.items[item as usize * self.dim..][..self.dim], &self.items, top, |other| other == item)
    }

    /// The `top` items that are most typical of an intention: by the cosine that eq. 8 compares intentions with, of the
    /// prototype and the item's own vector in the place of z, each through its layer norm. Items that are `excluded` are
    /// passed over.
    pub fn typical(&self, intention: usize, top: usize, excluded: impl Fn(u32) -> bool) -> Vec<Near> {
        self.nearest(&self.prototypes[intention * self.dim..][..self.dim], &self.tokens, top, excluded)
    }

    fn nearest(&self, to: &[f32], rows: &[f32], top: usize, excluded: impl Fn(u32) -> bool) -> Vec<Near> {
        let mut best = Best::new(top);
        for (item, row) in (0..).zip(rows.chunks_exact(self.dim)) {
            best.offer(Scored { score: cosine(to, row), item, intention: 0 }, &excluded);
        }
        let near = |scored: Scored| Near { item: self.catalogue.item(scored.item), cosine: scored.score };
        best.sorted().into_iter().map(near).collect()
    }
}

/// a . b / (|a| |b|), or 0 where one of them is nothing.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

/// A checkpoint's parameters. Those that training goes on from may have item rows that are behind.
fn up_to_date(checkpoint: &Checkpoint) -> Result<Tensors> {
    if checkpoint.resume.is_none() {
        return Ok(checkpoint.parameters.clone());
    }
    let engine = engine::open(&EngineRequest { choice: EngineChoice::Cpu, ..EngineRequest::default() })?;
    let hyper = Hyper { batch: 1, lambda: 0.0, variant: Variant::SequenceToItem, ..checkpoint.settings.hyper() };
    checkpoint.model(engine, hyper)?.parameters()
}

fn take(parameters: &mut Tensors, name: &str) -> Result<Vec<f32>> {
    match parameters.remove(name) {
        Some(tensor) => Ok(tensor.data),
        None => Err(Error::Data(format!("the parameter {name} is missing"))),
    }
}

/// Rows through the layer norm of this name.
fn normed(rows: &[f32], dim: usize, parameters: &mut Tensors, name: &str) -> Result<Vec<f32>> {
    let norm = [take(parameters, &format!("{name}.weight"))?, take(parameters, &format!("{name}.bias"))?].concat();
    let count = rows.len() / dim;
    let (mut normed, mut stats) = (vec![0.0; rows.len()], vec![0.0; 2 * count]);
    let params = layer_norm::Params { rows: count as u32, dim: dim as u32 };
    layer_norm::twin(&params, rows, &norm, &mut normed, &mut stats);
    Ok(normed)
}
