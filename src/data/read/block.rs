//! Parses a block of whole lines on its own. Users and items are numbered within the block; lines are counted from 0.

use memchr::{memchr, memrchr};

use super::ids::Ids;
use super::layout::{Layout, Table, short};

/// What a block holds.
#[derive(Default)]
pub(super) struct Parsed {
    pub users: Ids,
    pub items: Ids,
    /// The user of every click.
    pub owners: Vec<u32>,
    /// Items.
    pub clicks: Vec<u32>,
    /// When each click was, in a table with times; in any unit, as [`Times`] orders them.
    pub times: Times,
    pub lines: u64,
    /// The first line with several items, and how many fields it has.
    pub wide: Option<(u64, usize)>,
    /// The first line of a user that had one in this block, and the user.
    pub repeated: Option<(u64, u32)>,
    /// The line where each user appears first; of lines that are no table's.
    pub first_lines: Vec<u64>,
    /// A line that cannot be read, and why. Nothing after it was looked at.
    pub bad: Option<(u64, String)>,
}

/// Numbers in order, whole ones or not.
#[derive(Default)]
pub(super) struct Times {
    /// Whole numbers, or [`order`] of decimal ones.
    pub values: Vec<i64>,
    pub decimal: bool,
}

/// Orders floats as integers.
fn order(time: f64) -> i64 {
    // Zero has two signs.
    let bits = (time + 0.0).to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

impl Times {
    fn push(&mut self, text: &str) -> Result<(), String> {
        let text = text.trim_ascii();
        let whole = text.parse::<i64>();
        if let (Ok(time), false) = (&whole, self.decimal) {
            self.values.push(*time);
            return Ok(());
        }
        match text.parse::<f64>() {
            Ok(time) if time.is_finite() => {
                self.make_decimal();
                self.values.push(order(time));
                Ok(())
            }
            _ => Err(format!("expected a number that grows with time, such as seconds, found `{}`", short(text))),
        }
    }

    /// Makes decimal numbers of whole ones.
    pub fn make_decimal(&mut self) {
        if !self.decimal {
            self.decimal = true;
            self.values.iter_mut().for_each(|time| *time = order(*time as f64));
        }
    }
}

/// Parses whole lines of a file of this layout (a table's without the header; pairs and sequences are read alike).
pub(super) fn parse(layout: &Layout, bytes: &[u8]) -> Parsed {
    let (text, broken) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = memrchr(b'\n', valid).map_or(0, |end| end + 1);
            (std::str::from_utf8(&bytes[..line]).unwrap_or_default(), true)
        }
    };
    let mut parsed = Parsed::default();
    let read = match layout {
        Layout::Table(table) => parsed.table(text, table),
        Layout::Pairs | Layout::Sequences => parsed.lists(text),
    };
    parsed.bad = match read {
        Err(reason) => Some((parsed.lines, reason)),
        Ok(()) if broken => Some((parsed.lines, "not UTF-8 text".into())),
        Ok(()) => None,
    };
    parsed
}

/// The next line of `text` from `at` on, without its end, and where the one after it begins.
fn next_line(text: &str, at: usize) -> Option<(&str, usize)> {
    let rest = &text[at..];
    match memchr(b'\n', rest.as_bytes()) {
        Some(end) => Some((&rest[..end], at + end + 1)),
        None => (!rest.is_empty()).then_some((rest, text.len())),
    }
}

impl Parsed {
    /// Lines of a user and items.
    fn lists(&mut self, text: &str) -> Result<(), String> {
        let mut at = 0;
        while let Some((line, next)) = next_line(text, at) {
            let mut fields = line.split_ascii_whitespace();
            if let Some(id) = fields.next() {
                let (known, before) = (self.users.len(), self.clicks.len());
                let user = self.users.number(id);
                for item in fields {
                    self.clicks.push(self.items.number(item));
                    self.owners.push(user);
                }
                let items = self.clicks.len() - before;
                if items == 0 {
                    return Err(one_field(id));
                }
                if items > 1 && self.wide.is_none() {
                    self.wide = Some((self.lines, items + 1));
                }
                if self.users.len() > known {
                    self.first_lines.push(self.lines);
                } else if self.repeated.is_none() {
                    self.repeated = Some((self.lines, user));
                }
            }
            self.lines += 1;
            at = next;
        }
        Ok(())
    }

    /// Lines of a table.
    fn table(&mut self, text: &str, table: &Table) -> Result<(), String> {
        let Table { separator, names, user, item, time } = table;
        let mut at = 0;
        while let Some((line, next)) = next_line(text, at) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            // A line of tabs is one of empty fields.
            if !line.trim_matches(' ').is_empty() {
                let (mut user_id, mut item_id, mut when) = Default::default();
                let fields = separator.split(line, |place, field| {
                    if place == *user {
                        user_id = field;
                    } else if place == *item {
                        item_id = field;
                    } else if Some(place) == *time {
                        when = field;
                    }
                })?;
                if fields != names.len() {
                    let s = if fields == 1 { "" } else { "s" };
                    let names_shown = Table::shown(names);
                    return Err(format!(
                        "found {fields} field{s}, expected {}, as in the header ({names_shown})",
                        names.len()
                    ));
                }
                for (id, column) in [(&user_id, user), (&item_id, item)] {
                    if id.is_empty() {
                        return Err(format!("column `{}` is empty", names[*column].trim()));
                    }
                }
                if let Some(column) = time {
                    self.times.push(&when).map_err(|reason| format!("column `{}`: {reason}", names[*column].trim()))?;
                }
                self.owners.push(self.users.number(&user_id));
                self.clicks.push(self.items.number(&item_id));
            }
            self.lines += 1;
            at = next;
        }
        Ok(())
    }
}

/// What is wrong with a line that has one field.
fn one_field(field: &str) -> String {
    let mend = match ["::", ",", ";"].into_iter().find(|separator| field.contains(separator)) {
        Some(separator) => format!("; replace `{separator}`, and keep only the user and the item"),
        None => String::new(),
    };
    format!(
        "found one field, `{}`, expected `user item` or `user item item ...` with spaces or tabs between{mend}",
        short(field)
    )
}
