//! Reads interactions from text files.

use std::path::Path;

use crate::error::Result;

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
    pub fn renumbered(self, _catalogue: &[String]) -> Result<Interactions> {
        todo!()
    }
}

/// Reads a file of `user item` or of `user item item ...` lines, gzipped or not.
///
/// Fields are separated by spaces or tabs; an id is any text without them; blank lines are skipped. A user's items are
/// in order of time. Where every line has two fields, a user may have many lines, anywhere in the file. Where a line has
/// more, it is a whole sequence, and a user that has a second line is an error: such a file is a table with further
/// columns, not sequences.
///
/// # Errors
/// [`Error::Line`](crate::error::Error::Line) for a line with fewer than two fields, one that is not UTF-8, or a second
/// line of a user; [`Error::File`](crate::error::Error::File) where the file cannot be read, and
/// [`Error::Data`](crate::error::Error::Data) where it holds no interaction.
pub fn read(_path: &Path) -> Result<Interactions> {
    todo!()
}
