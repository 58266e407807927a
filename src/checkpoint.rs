//! Checkpoints: one safetensors file that holds the parameters under the names that PyTorch uses, and in its metadata
//! the settings, the items' own ids and what else makes it usable alone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::data::read::Counts;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kernels::storage::ItemStorage;
use crate::model::{AdamState, Hyper, ITEM_TABLE, Model, Tensor, Tensors, parameter_shapes};
use crate::run::write_whole;
use crate::settings::Settings;
use crate::train::Progress;

/// The metadata's only key, so that equal checkpoints are equal files.
const KEY: &str = "prismrec";
/// Raised when older programs could no longer read what is written.
const VERSION: u32 = 1;
const FIRST_MOMENT: &str = "adam.first.";
const SECOND_MOMENT: &str = "adam.second.";
/// The last step that each item row was updated for, as I32: older versions of PyTorch know no U32.
const UPDATED: &str = "adam.updated";
/// As I32, too.
const OCCURRENCES: &str = "occurrences";

/// The data that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    pub counts: Counts,
    /// A hash of every item id and every interaction, in hexadecimal digits.
    pub fingerprint: String,
}

/// A model to evaluate, to ask for recommendations, or to go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub settings: Settings,
    pub data: DataRecord,
    /// The items' own ids, `[items]`.
    pub items: Vec<String>,
    /// How often each item occurs in what was trained on, `[items]`; older files do not say.
    pub occurrences: Option<Vec<u32>>,
    /// The epoch (from 1) that the parameters come from; 0 before the first step.
    pub epoch: u64,
    /// Steps taken.
    pub step: u64,
    /// Whether validation items were trained on.
    pub refit: bool,
    pub parameters: Tensors,
    /// What going on takes; only `last.safetensors` has it. Rows of items that had no gradient lately may then lack the
    /// last updates by Adam's momentum; [`give_to`](Checkpoint::give_to) sees to them.
    pub resume: Option<Resume>,
}

/// What a run is gone on from, beside the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    pub adam: AdamState,
    pub progress: Progress,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    settings: Settings,
    data: DataRecord,
    epoch: u64,
    step: u64,
    refit: bool,
    progress: Option<Progress>,
    items: Vec<String>,
}

impl Checkpoint {
    /// Writes the file beside its place and renames it there.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written, [`Error::Checkpoint`] where the items' ids are too long for the
    /// format.
    pub fn save(&self, path: &Path) -> Result<()> {
        let wrong = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
        let metadata = Metadata {
            version: VERSION,
            settings: self.settings.clone(),
            data: self.data.clone(),
            epoch: self.epoch,
            step: self.step,
            refit: self.refit,
            progress: self.resume.as_ref().map(|resume| resume.progress.clone()),
            items: self.items.clone(),
        };
        let metadata = serde_json::to_string(&metadata).map_err(|e| wrong(format!("cannot be written: {e}")))?;
        let storage = self.settings.item_storage;
        let mut tensors: Vec<_> = parts("", &self.parameters, storage).collect();
        let whole = |name: &str, numbers| -> Part {
            (name.to_owned(), Dtype::I32, vec![self.items.len()], Cow::Borrowed(bytemuck::cast_slice(numbers)))
        };
        tensors.extend(self.occurrences.as_ref().map(|occurrences| whole(OCCURRENCES, &occurrences[..])));
        if let Some(Resume { adam, .. }) = &self.resume {
            tensors.extend(parts(FIRST_MOMENT, &adam.first_moment, storage));
            tensors.extend(parts(SECOND_MOMENT, &adam.second_moment, storage));
            tensors.push(whole(UPDATED, &adam.updated[..]));
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), metadata)]))))
            .map_err(|e| wrong(format!("cannot be written: {e}")))?;
        write_whole(path, &bytes)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, [`Error::Checkpoint`] where it is damaged, was not written by this
    /// program, or its tensors are not those that its settings call for.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
        parse(&bytes).map_err(|reason| Error::Checkpoint { path: path.to_owned(), reason })
    }

    /// The model on an engine, with the parameters, up to date, and scores as the settings have them.
    ///
    /// # Errors
    /// Where the engine cannot hold it, or scores go by occurrences that the checkpoint does not know.
    pub fn model(&self, engine: Box<dyn Engine>, hyper: Hyper) -> Result<Model> {
        let mut model = Model::new(engine, self.settings.shape(self.items.len()), hyper)?;
        self.give_to(&mut model)?;
        let prior = self.settings.prior();
        match &self.occurrences {
            Some(occurrences) => model.set_occurrences(occurrences.clone())?,
            None if prior.is_nothing() => {}
            None => {
                return Err(Error::Data(
                    "scores are to go by how often items occur in training, and the checkpoint is from before that was kept"
                        .into(),
                ));
            }
        }
        model.set_prior(prior)?;
        Ok(model)
    }

    /// Gives a model the parameters, up to date.
    ///
    /// # Errors
    /// Where the model is of another shape, or the device fails.
    pub fn give_to(&self, model: &mut Model) -> Result<()> {
        match &self.resume {
            Some(Resume { adam, .. }) => model.set_state(&self.parameters, adam),
            None => model.set_parameters(&self.parameters),
        }
    }

    /// Reads a checkpoint to go on with.
    ///
    /// # Errors
    /// As [`load`](Checkpoint::load), and where it holds parameters alone.
    pub fn load_resumable(path: &Path) -> Result<(Checkpoint, Resume)> {
        let mut checkpoint = Checkpoint::load(path)?;
        match checkpoint.resume.take() {
            Some(resume) => Ok((checkpoint, resume)),
            None => {
                let reason = "holds parameters alone; going on takes a run's last.safetensors".into();
                Err(Error::Checkpoint { path: path.to_owned(), reason })
            }
        }
    }
}

/// Name, type, shape and bytes of every tensor.
fn parts<'a>(prefix: &str, tensors: &'a Tensors, storage: ItemStorage) -> impl Iterator<Item = Part<'a>> {
    tensors.iter().map(move |(name, tensor)| {
        let dtype = dtype(name, storage);
        let bytes = match dtype {
            // Nothing is lost: the model holds no more than this.
            Dtype::BF16 => tensor.data.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => Cow::Borrowed(bytemuck::cast_slice(&tensor.data)),
        };
        (format!("{prefix}{name}"), dtype, tensor.shape.clone(), bytes)
    })
}

type Part<'a> = (String, Dtype, Vec<usize>, Cow<'a, [u8]>);

/// What a parameter and its moments are stored as: as in the model.
fn dtype(name: &str, storage: ItemStorage) -> Dtype {
    match storage {
        ItemStorage::Bf16 if name == ITEM_TABLE => Dtype::BF16,
        _ => Dtype::F32,
    }
}

/// The checkpoint in these bytes, or what is wrong with them.
fn parse(bytes: &[u8]) -> std::result::Result<Checkpoint, String> {
    let damaged = |e| format!("is no safetensors file, or a damaged one: {e}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let text = text.ok_or("holds tensors, but no settings and item ids: prismrec did not write it")?;
    let version = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|value| value["version"].as_u64());
    if version != Some(u64::from(VERSION)) {
        let version = version.map_or("of no version".to_owned(), |version| format!("of version {version}"));
        return Err(format!("has metadata {version}, where this program reads version {VERSION}"));
    }
    let metadata: Metadata = serde_json::from_str(text).map_err(|e| format!("has metadata that do not fit: {e}"))?;
    let Metadata { settings, data, epoch, step, refit, progress, items, .. } = metadata;
    if items.is_empty() {
        return Err("has no items".into());
    }
    settings.check().map_err(|e| e.to_string())?;
    let shapes = parameter_shapes(settings.shape(items.len()));
    let prefixes: &[&str] = if progress.is_some() { &["", FIRST_MOMENT, SECOND_MOMENT] } else { &[""] };
    let [mut parameters, mut first_moment, mut second_moment] = [Tensors::new(), Tensors::new(), Tensors::new()];
    for (prefix, tensors) in prefixes.iter().zip([&mut parameters, &mut first_moment, &mut second_moment]) {
        for (name, shape) in &shapes {
            let dtype = dtype(name, settings.item_storage);
            tensors.insert(name.clone(), tensor(&file, &format!("{prefix}{name}"), dtype, shape)?);
        }
    }
    let updated = match progress {
        Some(_) => elements(&file, UPDATED, Dtype::I32, &[items.len()], u32::from_le_bytes)?,
        None => Vec::new(),
    };
    if updated.iter().any(|&at| u64::from(at) > step) {
        return Err(format!("has item rows that were updated after its step {step}"));
    }
    let occurrences = match file.tensor(OCCURRENCES) {
        Ok(_) => Some(elements(&file, OCCURRENCES, Dtype::I32, &[items.len()], u32::from_le_bytes)?),
        Err(_) => None,
    };
    let expected = shapes.len() * prefixes.len() + usize::from(progress.is_some()) + usize::from(occurrences.is_some());
    if file.len() != expected {
        return Err(format!("has {} tensors, where its settings call for {expected}", file.len()));
    }
    let resume =
        progress.map(|progress| Resume { adam: AdamState { step, updated, first_moment, second_moment }, progress });
    Ok(Checkpoint { settings, data, items, occurrences, epoch, step, refit, parameters, resume })
}

fn tensor(file: &SafeTensors, name: &str, dtype: Dtype, shape: &[usize]) -> std::result::Result<Tensor, String> {
    let data = match dtype {
        Dtype::BF16 => elements(file, name, dtype, shape, |bytes| bf16::from_le_bytes(bytes).to_f32())?,
        _ => elements(file, name, dtype, shape, f32::from_le_bytes)?,
    };
    Ok(Tensor { shape: shape.to_vec(), data })
}

/// A tensor's elements of N bytes.
fn elements<T, const N: usize>(
    file: &SafeTensors,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    from: fn([u8; N]) -> T,
) -> std::result::Result<Vec<T>, String> {
    let view = file.tensor(name).map_err(|_| format!("lacks the tensor {name}"))?;
    if view.dtype() != dtype || view.shape() != shape {
        let (found, of) = (view.dtype(), view.shape());
        return Err(format!("has {name} as {found} {of:?}, where its settings call for {dtype} {shape:?}"));
    }
    // The file's bytes may lie at any address.
    Ok(view.data().as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect())
}
