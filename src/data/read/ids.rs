//! Numbers ids by first appearance.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Between ids: none holds the end of a line.
const END: u8 = b'\n';

/// Ids, numbered by first appearance. They lie one after the other in one text, so that a million of them are two
/// allocations, and finding one touches the table and the text alone.
#[derive(Default)]
pub(super) struct Ids {
    table: HashTable<Entry>,
    /// Every id in the order of numbers, each with a line end behind it.
    text: String,
    /// The id asked for last: lines of a user often lie together.
    last: Option<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    number: u32,
    /// Where the id begins in the text.
    start: usize,
}

impl Entry {
    /// Whether this is the entry of `id`.
    fn is(&self, text: &str, id: &str) -> bool {
        let (text, end) = (text.as_bytes(), self.start + id.len());
        text.get(end) == Some(&END) && text[self.start..end] == *id.as_bytes()
    }

    /// The hash as the table wants it: bits at both ends.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Any fixed state will do: numbers do not depend on hashes.
fn hash(id: &str) -> u32 {
    let hash = FixedState::default().hash_one(id.as_bytes());
    (hash ^ (hash >> 32)) as u32
}

impl Ids {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of `id`, a new one where it has none. An id holds no line end.
    pub fn number(&mut self, id: &str) -> u32 {
        if let Some(last) = self.last.filter(|last| last.is(&self.text, id)) {
            return last.number;
        }
        self.find_or_add(hash(id), id)
    }

    /// The numbers of `ids`, as one after the other gives them.
    ///
    /// Where there are a million ids, each look-up waits for memory three times. Those of a group do not depend on each
    /// other, so that they wait together.
    pub fn number_all<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> Vec<u32> {
        const GROUP: usize = 16;
        let mut numbers = Vec::new();
        let mut ids = ids.fuse();
        let mut group: [(&str, u32); GROUP] = [("", 0); GROUP];
        loop {
            let mut len = 0;
            for (place, id) in group.iter_mut().zip(&mut ids) {
                *place = (id, hash(id));
                len += 1;
            }
            if len == 0 {
                return numbers;
            }
            let mut likely = [None; GROUP];
            for (likely, &(_, hash)) in likely.iter_mut().zip(&group[..len]) {
                *likely = self.table.find(Entry::spread(hash), |entry| entry.hash == hash).copied();
            }
            let mut found = [None; GROUP];
            for ((found, likely), (id, _)) in found.iter_mut().zip(likely).zip(&group[..len]) {
                *found = likely.filter(|entry| entry.is(&self.text, id)).map(|entry| entry.number);
            }
            for (found, &(id, hash)) in found.iter().zip(&group[..len]) {
                numbers.push(found.unwrap_or_else(|| self.find_or_add(hash, id)));
            }
        }
    }

    fn find_or_add(&mut self, hash: u32, id: &str) -> u32 {
        let Ids { table, text, last } = self;
        let found = table.find(Entry::spread(hash), |entry| entry.hash == hash && entry.is(text, id));
        let entry = found.copied().unwrap_or_else(|| {
            let entry = Entry { hash, number: table.len() as u32, start: text.len() };
            text.push_str(id);
            text.push(char::from(END));
            table.insert_unique(Entry::spread(hash), entry, |entry| Entry::spread(entry.hash));
            entry
        });
        *last = Some(entry);
        entry.number
    }

    /// The ids in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split_terminator(char::from(END))
    }

    pub fn get(&self, number: u32) -> &str {
        self.iter().nth(number as usize).unwrap_or_default()
    }

    pub fn into_vec(self) -> Vec<String> {
        drop(self.table);
        self.text.split_terminator(char::from(END)).map(str::to_owned).collect()
    }
}
