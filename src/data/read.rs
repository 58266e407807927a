//! Reads interactions from text files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

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

    /// Brings each user's clicks together; `owners` has the user of every click, all in order of time.
    fn gather(users: Vec<String>, items: Vec<String>, owners: &[u32], clicks: Vec<u32>) -> Interactions {
        let mut offsets = vec![0; users.len() + 1];
        for &user in owners {
            offsets[user as usize + 1] += 1;
        }
        for user in 0..users.len() {
            offsets[user + 1] += offsets[user];
        }
        if owners.is_sorted() {
            return Interactions { users, items, offsets, clicks };
        }
        let mut next = offsets.clone();
        let mut gathered = vec![0; clicks.len()];
        for (&user, item) in owners.iter().zip(clicks) {
            gathered[next[user as usize]] = item;
            next[user as usize] += 1;
        }
        Interactions { users, items, offsets, clicks: gathered }
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
/// [`Error::Line`] for a line with fewer than two fields, one that is not UTF-8, or one that shows that the file is of
/// neither format; [`Error::File`] where the file cannot be read, and [`Error::Data`] where it holds no interaction.
pub fn read(path: &Path) -> Result<Interactions> {
    let mut file = BufReader::with_capacity(BLOCK, File::open(path).map_err(Error::file("open", path))?);
    let start = file.fill_buf().map_err(Error::file("read", path))?;
    if start.starts_with(&GZIP_MAGIC) {
        read_lines(path, BufReader::with_capacity(BLOCK, MultiGzDecoder::new(file)))
    } else {
        read_lines(path, file)
    }
}

fn read_lines(path: &Path, mut reader: impl BufRead) -> Result<Interactions> {
    let (mut users, mut items) = (Numbering::default(), Numbering::default());
    let (mut owners, mut clicks) = (Vec::new(), Vec::new());
    let mut format = Format::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Error::file("read", path))? == 0 {
            break;
        }
        let bad = |reason| Error::Line { path: path.into(), line: number, reason };
        let text = std::str::from_utf8(&line).map_err(|_| bad("not UTF-8 text".into()))?;
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let mut fields = text.split_ascii_whitespace();
        let Some(user_id) = fields.next() else { continue };
        let known_users = users.len();
        let user = users.number(user_id);
        let before = clicks.len();
        clicks.extend(fields.map(|item| items.number(item)));
        if clicks.len() == before {
            return Err(bad(one_field(user_id)));
        }
        if clicks.len() > u32::MAX as usize {
            return Err(Error::Data(format!("{}: more than {} interactions", path.display(), u32::MAX)));
        }
        owners.resize(clicks.len(), user);
        let repeated = users.len() == known_users;
        format.line(number, clicks.len() - before, repeated.then_some(user_id)).map_err(bad)?;
    }
    if clicks.is_empty() {
        let expected = "expected lines of `user item` or `user item item ...`";
        return Err(Error::Data(format!("{}: no interactions, {expected}", path.display())));
    }
    Ok(Interactions::gather(users.into_ids(), items.into_ids(), &owners, clicks))
}

/// What is wrong with a line that has one field.
fn one_field(field: &str) -> String {
    let shown: String = field.chars().take(40).collect();
    let more = if shown.len() < field.len() { "..." } else { "" };
    let mend = match ["::", ",", ";"].into_iter().find(|separator| field.contains(separator)) {
        Some(separator) => format!("; replace `{separator}`, and keep only the user and the item"),
        None => String::new(),
    };
    format!(
        "found one field, `{shown}{more}`, expected `user item` or `user item item ...` with spaces or tabs between{mend}"
    )
}

/// What the lines so far say about the format.
#[derive(Default)]
struct Format {
    /// The first line with several items, and how many fields it has.
    sequence: Option<(u64, usize)>,
    /// The first line of a user that had a line before.
    repeated: Option<(u64, String)>,
}

impl Format {
    /// Notes a line of `items` items; `repeated` names a user that had a line before.
    fn line(&mut self, number: u64, items: usize, repeated: Option<&str>) -> std::result::Result<(), String> {
        if items > 1 && self.sequence.is_none() {
            self.sequence = Some((number, items + 1));
        }
        if let (Some(user), None) = (repeated, &self.repeated) {
            self.repeated = Some((number, user.to_owned()));
        }
        match (&self.sequence, &self.repeated) {
            (Some((wide, fields)), Some((second, user))) => Err(format!(
                "line {wide} has {fields} fields, as in a file of sequences (`user item item ...`), but line {second} is \
                 not the first of user `{user}`, as in a file of `user item` lines; keep the first two columns of a table, \
                 in order of time, and one line a user of sequences"
            )),
            _ => Ok(()),
        }
    }
}

/// Numbers ids by first appearance.
#[derive(Default)]
struct Numbering {
    numbers: HashMap<String, u32>,
    /// The id asked for last: lines of a user often lie together.
    last: Option<(String, u32)>,
}

impl Numbering {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn number(&mut self, id: &str) -> u32 {
        if let Some((last, number)) = &self.last
            && last == id
        {
            return *number;
        }
        let number = match self.numbers.get(id) {
            Some(&number) => number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(id.to_owned(), number);
                number
            }
        };
        let (last, last_number) = self.last.get_or_insert_default();
        last.clear();
        last.push_str(id);
        *last_number = number;
        number
    }

    /// The ids in the order of their numbers.
    fn into_ids(self) -> Vec<String> {
        let mut ids = vec![String::new(); self.numbers.len()];
        for (id, number) in self.numbers {
            ids[number as usize] = id;
        }
        ids
    }
}
