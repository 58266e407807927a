//! Parses a block of whole lines on its own. Users and items are numbered within the block; lines are counted from 0.

use memchr::{memchr, memrchr};

use super::columns::Columns;
use super::fields::short;
use super::ids::Ids;
use super::json;
use super::layout::{Layout, Table};
use super::times::Times;

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
    /// Interactions that were left out for their rating.
    pub low_rated: usize,
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
        Layout::Json(columns) => parsed.objects(text, columns),
        // The others are no text.
        Layout::Pairs | Layout::Sequences | Layout::Parquet(_) | Layout::Prepared => parsed.lists(text),
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
        let Table { separator, columns, header } = table;
        let Columns { names, user, item, time, rating } = columns;
        let rating = rating.map(|(place, _)| place);
        let mut at = 0;
        while let Some((line, next)) = next_line(text, at) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            // A line of tabs is one of empty fields.
            if !line.trim_matches(' ').is_empty() {
                let mut row = json::Row::default();
                let fields = separator.split(line, |place, field| {
                    if place == *user {
                        row.user = field;
                    } else if place == *item {
                        row.item = field;
                    } else if Some(place) == *time {
                        row.time = field;
                    } else if Some(place) == rating {
                        row.rating = field;
                    }
                })?;
                if fields != names.len() {
                    let s = if fields == 1 { "" } else { "s" };
                    let names_shown = Columns::shown(names);
                    let like = if *header { "header" } else { "first line" };
                    let expected = names.len();
                    return Err(format!(
                        "found {fields} field{s}, expected {expected}, as in the {like} ({names_shown})"
                    ));
                }
                self.row(&row, columns)?;
            }
            self.lines += 1;
            at = next;
        }
        Ok(())
    }

    /// Lines of a JSON object each.
    fn objects(&mut self, text: &str, columns: &Columns) -> Result<(), String> {
        let mut at = 0;
        while let Some((line, next)) = next_line(text, at) {
            if !line.trim_ascii().is_empty() {
                let row = json::row(line, columns)?;
                for (id, column) in [(&row.user, columns.user), (&row.item, columns.item)] {
                    if id.contains('\n') {
                        return Err(format!("column `{}`: an id has a line end within", columns.name(column)));
                    }
                }
                self.row(&row, columns)?;
            }
            self.lines += 1;
            at = next;
        }
        Ok(())
    }

    fn row(&mut self, row: &json::Row<'_>, columns: &Columns) -> Result<(), String> {
        for (id, column) in [(&row.user, columns.user), (&row.item, columns.item)] {
            if id.is_empty() {
                return Err(format!("column `{}` is empty", columns.name(column)));
            }
        }
        if let Some((column, least)) = columns.rating {
            let rating = row.rating.trim_ascii().parse::<f64>().ok().filter(|rating| rating.is_finite());
            let name = || columns.name(column);
            let rating = rating
                .ok_or_else(|| format!("column `{}`: expected a number, found `{}`", name(), short(&row.rating)))?;
            if rating < least {
                self.low_rated += 1;
                return Ok(());
            }
        }
        if let Some(column) = columns.time {
            self.times.push(&row.time).map_err(|reason| format!("column `{}`: {reason}", columns.name(column)))?;
        }
        self.owners.push(self.users.number(&row.user));
        self.clicks.push(self.items.number(&row.item));
        Ok(())
    }
}

/// What is wrong with a line that has one field.
fn one_field(field: &str) -> String {
    let mend = match ["::", ",", ";"].into_iter().find(|separator| field.contains(separator)) {
        Some(separator) => format!(
            "; replace `{separator}`, and keep only the user and the item, or give columns by number: --user-column 1 \
             --item-column 2"
        ),
        None => String::new(),
    };
    format!(
        "found one field, `{}`, expected `user item` or `user item item ...` with spaces or tabs between{mend}",
        short(field)
    )
}
