//! Reads interactions from files.
//!
//! A thread reads (and unzips) blocks of whole lines. Blocks are parsed in parallel, each with numbers of its own for
//! users and items ([`block`]), and put together in the file's order ([`merge`]), so that numbers go by first appearance
//! and nothing depends on the number of threads or the size of the blocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod block;
mod columns;
mod fields;
mod files;
mod ids;
mod json;
mod layout;
mod lines;
mod merge;
#[cfg(feature = "parquet")]
mod parquet;
mod prepared;
mod times;

pub use columns::{Columns, Format};
pub(crate) use columns::{is_item, plain};
pub use fields::Separator;
pub use layout::{Layout, Table};
pub use prepared::write_prepared;
pub use times::Times;

use crate::error::{Error, Result};
use files::Opened;
use merge::Merged;

/// Bytes of a block, about: small enough for caches, large enough that most ids of a block occur there more than once.
const BLOCK: usize = 1 << 22;

/// Who met what, in order of time. Users and items are numbered by first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interactions {
    /// The users' own ids, `[users]`.
    pub users: Vec<String>,
    /// The items' own ids, `[items]`.
    pub items: Vec<String>,
    /// Where each user's clicks begin, and the number of clicks: `[users + 1]`.
    pub offsets: Vec<usize>,
    /// Items, a user's together and in order of time.
    pub clicks: Vec<u32>,
}

/// The size of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub users: usize,
    pub items: usize,
    pub interactions: usize,
}

impl Interactions {
    pub fn counts(&self) -> Counts {
        Counts { users: self.users.len(), items: self.items.len(), interactions: self.clicks.len() }
    }

    /// The items that a user met, in order of time.
    pub fn sequence(&self, user: u32) -> &[u32] {
        &self.clicks[self.offsets[user as usize]..self.offsets[user as usize + 1]]
    }

    /// The user of this id.
    ///
    /// # Errors
    /// [`Error::Data`] where there is none.
    pub fn user(&self, id: &str) -> Result<u32> {
        match self.users.iter().position(|user| user == id) {
            Some(number) => Ok(number as u32),
            None => Err(Error::Data(format!("there is no user \"{id}\" in the data ({} users)", self.users.len()))),
        }
    }

    /// How often each item occurs, `[items]`.
    pub fn frequency(&self) -> Vec<u32> {
        let mut frequency = vec![0; self.items.len()];
        for &item in &self.clicks {
            frequency[item as usize] += 1;
        }
        frequency
    }

    /// The same interactions with items numbered as in `catalogue` (a checkpoint's), which may hold further items.
    ///
    /// # Errors
    /// Where an item is not in the catalogue.
    pub fn renumbered(self, catalogue: &[String]) -> Result<Interactions> {
        let numbers: HashMap<&str, u32> = catalogue.iter().map(String::as_str).zip(0..).collect();
        let number = |item: &String| {
            numbers.get(item.as_str()).copied().ok_or_else(|| {
                Error::Data(format!(
                    "item `{item}` is not among the {} that the model knows: use the data that it was trained on",
                    catalogue.len()
                ))
            })
        };
        let numbers: Vec<u32> = self.items.iter().map(number).collect::<Result<_>>()?;
        let clicks = self.clicks.iter().map(|&item| numbers[item as usize]).collect();
        Ok(Interactions { items: catalogue.to_vec(), clicks, ..self })
    }
}

/// Files that were read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub interactions: Interactions,
    /// The interactions' times, where there are any and they are to be kept: as `clicks`.
    pub times: Option<Times>,
    pub source: Source,
}

/// How files were read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Of the first file.
    pub layout: Layout,
    pub files: usize,
    /// Interactions that were left out for their rating.
    pub low_rated: usize,
    /// What may be wrong.
    pub warnings: Vec<String>,
    /// From opening the first file until everything was in order.
    pub time: Duration,
}

/// Reads a file of interactions, packed with gzip or zstd or not, of a layout that its first line tells:
///
/// * `user item` or `user item item ...` lines: fields are separated by spaces or tabs; an id is any text without them.
///   A user's items are in order of time. Where every line has two fields, a user may have many lines, anywhere in the
///   file. Where a line has more, it is a whole sequence, and a user that has a second line is an error: such a file is a
///   table with further columns, not sequences.
/// * A table: a header, then a line for each interaction, with commas or tabs between columns. The header's names say
///   where the user, the item and the time are ([`Format`] where they do not). Between commas, a field may be in double
///   quotes. An id is any text that is not empty. With times (numbers), a user's items are put in their order, and ties
///   stay in the file's; without, the file's order is taken for that of time. All other columns are passed over.
/// * `user item` lines under a header of two such names (`user item`, `item_id user_id`): a table too. Its first line is
///   not read as an interaction.
/// * MovieLens' lines without a header, `user::item::rating::time` or `user::item`.
/// * A JSON object a line: as a table, with keys for names.
/// * Parquet: as a table.
/// * What [`write_prepared`] wrote.
///
/// Blank lines are skipped.
///
/// # Errors
/// [`Error::Line`] for a line that is not of the file's layout or not UTF-8, and for a header whose columns cannot be
/// told; [`Error::File`] where the file cannot be read, and [`Error::Data`] where it holds no interaction.
pub fn read(path: &Path) -> Result<Interactions> {
    Ok(read_as(path, &Format::default())?.interactions)
}

/// As [`read`], with columns by the names of `format`.
///
/// # Errors
/// As [`read`].
pub fn read_as(path: &Path, format: &Format) -> Result<Reading> {
    read_files(&[path.to_owned()], format)
}

/// As [`read_as`], with several files that are taken for one, each with a layout and a header of its own; a folder stands
/// for all files in it. Users' interactions may lie in any of them.
///
/// # Errors
/// As [`read`], and where some files have times and others none.
pub fn read_files(paths: &[PathBuf], format: &Format) -> Result<Reading> {
    in_blocks(paths, format, BLOCK)
}

/// As [`read_as`], in blocks of this many bytes: for tests, as the outcome is the same.
#[doc(hidden)]
pub fn read_blocks(path: &Path, format: &Format, block: usize) -> Result<Reading> {
    in_blocks(&[path.to_owned()], format, block)
}

fn in_blocks(paths: &[PathBuf], format: &Format, block: usize) -> Result<Reading> {
    let began = Instant::now();
    let files = files::expand(paths)?;
    let mut merged = Merged::default();
    let mut first = None;
    // The first file with interactions, and whether they have times.
    let mut timed: Option<(&Path, bool)> = None;
    let mut warnings = Vec::new();
    for path in &files {
        let layout = match files::open(path)? {
            Opened::Text(reader) => merge::read_text(path, reader, format, block, &mut merged)?,
            Opened::Parquet => read_parquet(path, format, &mut merged)?,
            Opened::Prepared if files.len() == 1 => {
                let (interactions, times) = prepared::read(path, format)?;
                let times = times.filter(|_| format.keep_times);
                let source =
                    Source { layout: Layout::Prepared, files: 1, low_rated: 0, warnings, time: began.elapsed() };
                return Ok(Reading { interactions, times, source });
            }
            Opened::Prepared => {
                let path = path.display();
                return Err(Error::Data(format!(
                    "{path}: is prepared by prismrec, and cannot be one of several files"
                )));
            }
        };
        if let (Layout::Pairs, Some(line)) = (&layout, merged.suspect()) {
            let (path, mut names) = (path.display(), line.split_ascii_whitespace());
            let (user, item) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            warnings.push(format!(
                "{path}:1: `{line}` is read as an interaction; if it is a header: --user-column {user} --item-column {item}"
            ));
        }
        first.get_or_insert(layout);
        match (timed, merged.timed()) {
            (Some((other, before)), Some(now)) if before != now => {
                let (with, without) = if now { (&**path, other) } else { (other, &**path) };
                let (with, without) = (with.display(), without.display());
                return Err(Error::Data(format!(
                    "{with} has times and {without} has none: they cannot be put in one order"
                )));
            }
            (None, Some(now)) => timed = Some((path, now)),
            _ => {}
        }
    }
    let Some(layout) = first else { return Err(Error::Data("no file to read".into())) };
    let low_rated = merged.low_rated;
    let (interactions, times) = merged.gather();
    if interactions.clicks.is_empty() {
        return Err(Error::Data(format!(
            "{}: no interaction is rated as high as --min-rating ({low_rated} are lower)",
            files[0].display()
        )));
    }
    let times = times.filter(|_| format.keep_times);
    let source = Source { layout, files: files.len(), low_rated, warnings, time: began.elapsed() };
    Ok(Reading { interactions, times, source })
}

#[cfg(feature = "parquet")]
fn read_parquet(path: &Path, format: &Format, merged: &mut Merged) -> Result<Layout> {
    parquet::read(path, format, merged)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(path: &Path, _: &Format, _: &mut Merged) -> Result<Layout> {
    let path = path.display();
    Err(Error::Data(format!("{path}: is Parquet, which this program was built without (feature parquet)")))
}
