//! Interactions as `prismrec data --write` leaves them: one safetensors file that is loaded at once.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::columns::Format;
use super::times::Times;
use super::{Counts, Interactions};
use crate::error::{Error, Result};
use crate::run::write_whole;

/// The metadata's only key.
const KEY: &str = "prismrec-data";
/// Raised when older programs could no longer read what is written.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    counts: Counts,
    /// What the file was made of, for people.
    made_of: String,
    /// Whether times are decimal numbers, as [`Times`] orders them.
    decimal_times: bool,
}

/// Writes interactions, and says in the file what they were made of. Ids hold no line ends.
///
/// # Errors
/// [`Error::File`] where the file cannot be written.
pub fn write_prepared(path: &Path, interactions: &Interactions, times: Option<&Times>, made_of: &str) -> Result<()> {
    let wrong = |reason: String| Error::Data(format!("{}: cannot be written: {reason}", path.display()));
    let metadata = Metadata {
        version: VERSION,
        counts: interactions.counts(),
        made_of: made_of.to_owned(),
        decimal_times: times.is_some_and(|times| times.decimal),
    };
    let metadata = serde_json::to_string(&metadata).map_err(|e| wrong(e.to_string()))?;
    let [users, items] = [&interactions.users, &interactions.items].map(|ids| {
        ids.iter().fold(String::new(), |mut text, id| {
            text.push_str(id);
            text.push('\n');
            text
        })
    });
    let offsets: Vec<u64> = interactions.offsets.iter().map(|&offset| offset as u64).collect();
    let mut tensors = vec![
        ("users", Dtype::U8, users.len(), users.as_bytes()),
        ("items", Dtype::U8, items.len(), items.as_bytes()),
        ("offsets", Dtype::U64, offsets.len(), bytemuck::cast_slice(&offsets)),
        ("clicks", Dtype::U32, interactions.clicks.len(), bytemuck::cast_slice(&interactions.clicks)),
    ];
    if let Some(times) = times {
        tensors.push(("times", Dtype::I64, times.len(), bytemuck::cast_slice(&times.values)));
    }
    let views: std::result::Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, dtype, len, bytes)| Ok((name, TensorView::new(dtype, vec![len], bytes)?)))
        .collect();
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), metadata)]))))
        .map_err(|e: safetensors::SafeTensorError| wrong(e.to_string()))?;
    write_whole(path, &bytes)
}

/// Reads what [`write_prepared`] wrote.
pub(super) fn read(path: &Path, format: &Format) -> Result<(Interactions, Option<Times>)> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let wrong = |reason: String| Error::Data(format!("{}: {reason}", path.display()));
    if format.names_any() || format.min_rating.is_some() {
        return Err(wrong("is prepared by prismrec: it has no columns to name, and no ratings".into()));
    }
    parse(&bytes).map_err(wrong)
}

fn parse(bytes: &[u8]) -> std::result::Result<(Interactions, Option<Times>), String> {
    let damaged = |e| format!("is a damaged safetensors file: {e}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).ok_or(
        "is a safetensors file without interactions: expected one that prismrec data --write wrote, or a text",
    )?;
    let metadata: Metadata = serde_json::from_str(text).map_err(|e| format!("has metadata that do not fit: {e}"))?;
    if metadata.version != VERSION {
        return Err(format!("is of version {}, where this program reads version {VERSION}", metadata.version));
    }
    let data = |name: &str, dtype: Dtype| match file.tensor(name) {
        Ok(view) if view.dtype() == dtype => Ok(view.data()),
        _ => Err(format!("lacks {name}")),
    };
    let ids = |name: &str| -> std::result::Result<Vec<String>, String> {
        let text = std::str::from_utf8(data(name, Dtype::U8)?).map_err(|_| format!("has {name} that are no text"))?;
        Ok(text.split_terminator('\n').map(str::to_owned).collect())
    };
    let long = |bytes: &[u8]| -> Vec<u64> { bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect() };
    let clicks: Vec<u32> =
        data("clicks", Dtype::U32)?.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let offsets = long(data("offsets", Dtype::U64)?).into_iter().map(|offset| offset as usize).collect();
    let interactions = Interactions { users: ids("users")?, items: ids("items")?, offsets, clicks };
    let Interactions { users, items, offsets, clicks } = &interactions;
    let fits = interactions.counts() == metadata.counts
        && offsets.len() == users.len() + 1
        && offsets.first() == Some(&0)
        && offsets.last() == Some(&clicks.len())
        && offsets.is_sorted()
        && clicks.iter().all(|&item| (item as usize) < items.len());
    if !fits || clicks.is_empty() {
        return Err("is damaged: its parts do not fit each other".into());
    }
    let times = match file.tensor("times") {
        Err(_) => None,
        Ok(_) => {
            let values: Vec<i64> = long(data("times", Dtype::I64)?).into_iter().map(|time| time as i64).collect();
            if values.len() != clicks.len() {
                return Err("is damaged: it has not one time for each interaction".into());
            }
            Some(Times { values, decimal: metadata.decimal_times })
        }
    };
    Ok((interactions, times))
}
