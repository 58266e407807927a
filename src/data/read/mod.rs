//! Reads interactions from text files.
//!
//! A thread reads (and unzips) blocks of whole lines. Blocks are parsed in parallel, each with numbers of its own for
//! users and items ([`block`]), and put together in the file's order ([`merge`]), so that numbers go by first appearance
//! and nothing depends on the number of threads or the size of the blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;

mod block;
mod ids;
mod layout;
mod lines;
mod merge;

pub use layout::{Format, Layout, Separator, Table};

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes read from the file at a time.
const BUFFER: usize = 1 << 17;
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

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub interactions: Interactions,
    pub source: Source,
}

/// How a file was read.
#[derive(Clone, Debug)]
pub struct Source {
    pub layout: Layout,
    /// From opening it until everything was in order.
    pub time: Duration,
}

/// Reads a file of interactions, gzipped or not, of a layout that its first line tells:
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
    read_blocks(path, format, BLOCK)
}

/// As [`read_as`], in blocks of this many bytes: for tests, as the outcome is the same.
#[doc(hidden)]
pub fn read_blocks(path: &Path, format: &Format, block: usize) -> Result<Reading> {
    let began = Instant::now();
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::file("open", path))?);
    let start = file.fill_buf().map_err(Error::file("read", path))?;
    let (interactions, layout) = if start.starts_with(&GZIP_MAGIC) {
        merge::read(path, MultiGzDecoder::new(file), format, block)?
    } else {
        merge::read(path, file, format, block)?
    };
    Ok(Reading { interactions, source: Source { layout, time: began.elapsed() } })
}
