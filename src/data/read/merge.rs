//! Puts parsed blocks together.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use memchr::memchr_iter;
use rayon::prelude::*;

use super::Interactions;
use super::block::{Parsed, parse};
use super::columns::Format;
use super::ids::Ids;
use super::layout::Layout;
use super::lines::Blocks;
use super::times::Times;
use crate::error::{Error, Result};

/// Blocks that are parsed at a time for each thread, and at most; as many more wait for it.
const BLOCKS: (usize, usize) = (2, 16);
/// Users whose clicks are sorted at a time.
const USERS: usize = 1024;

/// Reads a file of text and adds all there is to `merged`.
pub(super) fn read_text(
    path: &Path,
    reader: impl Read + Send,
    format: &Format,
    block: usize,
    merged: &mut Merged,
) -> Result<Layout> {
    let at_once = blocks_at_once();
    std::thread::scope(|scope| {
        let (sender, blocks) = sync_channel(at_once);
        std::thread::Builder::new()
            .name("reader".into())
            .spawn_scoped(scope, move || {
                let mut source = Blocks::new(reader, block);
                loop {
                    let next = source.next();
                    let last = !matches!(next, Ok(Some(_)));
                    if sender.send(next).is_err() || last {
                        return;
                    }
                }
            })
            .map_err(Error::file("start a thread to read", path))?;
        // Dropping the receiver, as an error here does, ends the thread.
        File { path, blocks, format }.merge(at_once, merged)
    })
}

/// Blocks that are parsed before they are merged.
pub(super) fn blocks_at_once() -> usize {
    let (each, most) = BLOCKS;
    (each * rayon::current_num_threads()).min(most)
}

/// A file that is being read.
struct File<'a> {
    path: &'a Path,
    blocks: Receiver<std::io::Result<Option<Vec<u8>>>>,
    format: &'a Format,
}

impl File<'_> {
    fn bad(&self, line: u64, reason: String) -> Error {
        Error::Line { path: self.path.into(), line: line + 1, reason }
    }

    fn next(&self) -> Result<Option<Vec<u8>>> {
        // A thread that is gone has panicked, and says so itself.
        self.blocks.recv().unwrap_or(Ok(None)).map_err(Error::file("read", self.path))
    }

    fn merge(&self, at_once: usize, merged: &mut Merged) -> Result<Layout> {
        let before = merged.begin_file();
        let (mut layout, first) = self.begin(merged)?;
        let mut blocks: Vec<Vec<u8>> = first.into_iter().collect();
        let mut parsed: Vec<Parsed> = Vec::new();
        loop {
            while blocks.len() < at_once
                && let Some(block) = self.next()?
            {
                blocks.push(block);
            }
            if blocks.is_empty() && parsed.is_empty() {
                break;
            }
            // Some blocks are parsed while those before them are merged.
            let (next, added) = rayon::join(
                || blocks.par_iter().map(|block| parse(&layout, block)).collect(),
                || merged.add(std::mem::take(&mut parsed)),
            );
            added.map_err(|(line, reason)| self.bad(line, reason))?;
            blocks.clear();
            parsed = next;
            merged.check_size(self.path)?;
        }
        if merged.met() == before {
            let expected = match &layout {
                Layout::Table(_) => "expected a line for each under the header",
                _ => "expected lines of `user item` or `user item item ...`",
            };
            return Err(Error::Data(format!("{}: no interactions, {expected}", self.path.display())));
        }
        if layout == Layout::Pairs && merged.wide.is_some() {
            layout = Layout::Sequences;
        }
        Ok(layout)
    }

    /// The layout by the first line that is not blank, and the block from there on, or from behind a header.
    fn begin(&self, merged: &mut Merged) -> Result<(Layout, Option<Vec<u8>>)> {
        while let Some(mut block) = self.next()? {
            let mut at = 0;
            while at < block.len() {
                let end = memchr_iter(b'\n', &block[at..]).next().map_or(block.len(), |end| at + end);
                let line = block[at..end].trim_ascii_end();
                if line.trim_ascii_start().is_empty() {
                    merged.lines += 1;
                    at = (end + 1).min(block.len());
                    continue;
                }
                // A line that is no text is told of as any other.
                let layout = match std::str::from_utf8(line) {
                    Ok(line) => {
                        merged.first_line = line.to_owned();
                        Layout::detect(line, self.format).map_err(|reason| self.bad(merged.lines, reason))?
                    }
                    Err(_) => Layout::Pairs,
                };
                let header = layout.has_header();
                let from = if header { (end + 1).min(block.len()) } else { at };
                merged.lines += u64::from(header);
                block.drain(..from);
                return Ok((layout, Some(block)));
            }
        }
        Ok((Layout::Pairs, None))
    }
}

/// What the blocks so far hold together.
#[derive(Default)]
pub(super) struct Merged {
    users: Ids,
    items: Ids,
    pieces: Vec<Piece>,
    /// Clicks of each user.
    counts: Vec<usize>,
    clicks: usize,
    /// Interactions that were left out for their rating.
    pub low_rated: usize,
    /// Of this file.
    lines: u64,
    first_line: String,
    /// The first piece of this file.
    first_piece: usize,
    /// The first line with several items, and how many fields it has.
    wide: Option<(u64, usize)>,
    /// The first line of a user that had a line before.
    repeated: Option<(u64, String)>,
}

/// A block's clicks in the whole file's numbers.
struct Piece {
    owners: Vec<u32>,
    clicks: Vec<u32>,
    times: Times,
}

/// A user's clicks and their times.
type Clicks<'a> = (&'a [usize], &'a mut [u32], &'a mut [i64]);

impl Merged {
    /// Begins to count another file's lines; gives how many interactions were met before.
    pub fn begin_file(&mut self) -> usize {
        (self.lines, self.wide, self.repeated) = (0, None, None);
        self.first_piece = self.pieces.len();
        self.met()
    }

    /// Whether interactions of the file that was begun last have times; `None` where it has none.
    pub fn timed(&self) -> Option<bool> {
        let piece = self.pieces[self.first_piece..].iter().find(|piece| !piece.clicks.is_empty())?;
        Some(!piece.times.is_empty())
    }

    /// Interactions so far, also those that were left out.
    pub fn met(&self) -> usize {
        self.clicks + self.low_rated
    }

    pub fn check_size(&self, path: &Path) -> Result<()> {
        if self.clicks > u32::MAX as usize {
            return Err(Error::Data(format!("{}: more than {} interactions", path.display(), u32::MAX)));
        }
        Ok(())
    }

    /// Whether the file's first line looks like the header of a table, since all other ids are numbers.
    pub fn suspect(&self) -> Option<&str> {
        let number = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let word = |id: &str| !id.bytes().any(|byte| byte.is_ascii_digit());
        let fields: Vec<&str> = self.first_line.split_ascii_whitespace().collect();
        let &[user, item] = &fields[..] else { return None };
        let [users, items] = [&self.users, &self.items];
        let header = users.len() > 1
            && (word(user) && word(item))
            && users.iter().all(|id| number(id) || id == user)
            && items.iter().all(|id| number(id) || id == item);
        header.then_some(&self.first_line)
    }

    /// Adds blocks in order; where one is bad, the line, from 0, and the reason.
    pub fn add(&mut self, mut parsed: Vec<Parsed>) -> std::result::Result<(), (u64, String)> {
        let Merged { users, items, .. } = self;
        let mut known = Vec::new();
        let (user_numbers, item_numbers): (Vec<Vec<u32>>, Vec<Vec<u32>>) = rayon::join(
            || {
                let numbers = |block: &Parsed| {
                    known.push(users.len());
                    users.number_all(block.users.iter())
                };
                parsed.iter().map(numbers).collect()
            },
            || parsed.iter().map(|block| items.number_all(block.items.iter())).collect(),
        );
        for ((block, numbers), known) in parsed.iter().zip(&user_numbers).zip(known) {
            self.note(block, numbers, known)?;
        }
        self.counts.resize(self.users.len(), 0);
        for (block, numbers) in parsed.iter().zip(&user_numbers) {
            for &owner in &block.owners {
                self.counts[numbers[owner as usize] as usize] += 1;
            }
        }
        self.low_rated += parsed.iter().map(|block| block.low_rated).sum::<usize>();
        let numbered = parsed.par_iter_mut().zip(&user_numbers).zip(&item_numbers).map(|((block, users), items)| {
            let Parsed { mut owners, mut clicks, times, .. } = std::mem::take(block);
            owners.iter_mut().for_each(|owner| *owner = users[*owner as usize]);
            clicks.iter_mut().for_each(|item| *item = items[*item as usize]);
            Piece { owners, clicks, times }
        });
        let before = self.pieces.len();
        self.pieces.par_extend(numbered);
        self.clicks += self.pieces[before..].iter().map(|piece| piece.clicks.len()).sum::<usize>();
        Ok(())
    }

    /// Notes what a block says of the layout; `numbers` are its users', of which those below `known` had lines before it.
    fn note(&mut self, block: &Parsed, numbers: &[u32], known: usize) -> std::result::Result<(), (u64, String)> {
        let first = self.lines;
        if let (Some((line, fields)), None) = (block.wide, self.wide) {
            self.wide = Some((first + line, fields));
        }
        if self.repeated.is_none() {
            let before = (0..block.first_lines.len()).find(|&user| (numbers[user] as usize) < known);
            let before = before.map(|user| (block.first_lines[user], user as u32));
            let repeated = before.into_iter().chain(block.repeated).min();
            self.repeated = repeated.map(|(line, user)| (first + line, block.users.get(user).to_owned()));
        }
        self.lines += block.lines;
        // All of the block's facts are of lines before its bad one.
        if let (Some((wide, fields)), Some((second, user))) = (&self.wide, &self.repeated) {
            let reason = format!(
                "line {} has {fields} fields, as in a file of sequences (`user item item ...`), but line {} is not the \
                 first of user `{user}`, as in a file of `user item` lines; keep the first two columns of a table, in \
                 order of time, and one line a user of sequences; or name the columns in a header, with commas or tabs \
                 between",
                wide + 1,
                second + 1
            );
            return Err((*wide.max(second), reason));
        }
        match &block.bad {
            Some((line, reason)) => Err((first + line, reason.clone())),
            None => Ok(()),
        }
    }

    /// Brings each user's clicks together, in order of time.
    pub fn gather(mut self) -> (Interactions, Option<Times>) {
        let timed = self.pieces.iter().any(|piece| !piece.times.is_empty());
        let decimal = self.pieces.iter().any(|piece| piece.times.decimal);
        if decimal {
            self.pieces.par_iter_mut().for_each(|piece| piece.times.make_decimal());
        }
        let mut offsets = vec![0; self.counts.len() + 1];
        for (user, count) in self.counts.iter().enumerate() {
            offsets[user + 1] = offsets[user] + count;
        }
        let mut next = offsets.clone();
        let mut clicks = vec![0; self.clicks];
        let mut times = vec![0; if timed { self.clicks } else { 0 }];
        for Piece { owners, clicks: items, times: when } in self.pieces {
            for (i, (owner, item)) in owners.into_iter().zip(items).enumerate() {
                let at = &mut next[owner as usize];
                clicks[*at] = item;
                if timed {
                    times[*at] = when.values[i];
                }
                *at += 1;
            }
        }
        if timed {
            sort(&offsets, &mut clicks, &mut times);
        }
        let interactions = Interactions { users: self.users.into_vec(), items: self.items.into_vec(), offsets, clicks };
        (interactions, timed.then_some(Times { values: times, decimal }))
    }
}

/// Sorts each user's clicks and times by time; those of one time stay as they are.
fn sort(offsets: &[usize], mut clicks: &mut [u32], mut times: &mut [i64]) {
    let users = offsets.len() - 1;
    let mut parts: Vec<Clicks<'_>> = Vec::with_capacity(users.div_ceil(USERS));
    for first in (0..users).step_by(USERS) {
        let offsets = &offsets[first..=users.min(first + USERS)];
        let len = offsets[offsets.len() - 1] - offsets[0];
        let (these, others) = clicks.split_at_mut(len);
        let (these_times, other_times) = times.split_at_mut(len);
        parts.push((offsets, these, these_times));
        (clicks, times) = (others, other_times);
    }
    parts.into_par_iter().for_each_init(Vec::new, |scratch, (offsets, clicks, times)| {
        for ends in offsets.windows(2) {
            let range = ends[0] - offsets[0]..ends[1] - offsets[0];
            let (clicks, times) = (&mut clicks[range.clone()], &mut times[range]);
            if times.is_sorted() {
                continue;
            }
            scratch.clear();
            scratch.extend(times.iter().copied().zip(clicks.iter().copied()));
            scratch.sort_by_key(|&(time, _)| time);
            for ((click, time), &sorted) in clicks.iter_mut().zip(times).zip(scratch.iter()) {
                (*time, *click) = sorted;
            }
        }
    });
}
