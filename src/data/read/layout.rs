//! What a file's lines are made of, as its first line tells.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

/// Which columns of a table to take, by name. What is left out is guessed from the names in the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    pub user: Option<String>,
    pub item: Option<String>,
    pub time: Option<String>,
}

/// What the lines of a file are.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// `user item` lines.
    Pairs,
    /// `user item item ...` lines.
    Sequences,
    /// A header, then a line for each interaction.
    Table(Table),
}

/// A table's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub separator: Separator,
    /// As the header names them.
    pub names: Vec<String>,
    /// Places of columns.
    pub user: usize,
    pub item: usize,
    /// Without it, lines are in order of time.
    pub time: Option<usize>,
}

/// What is between the fields of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Separator {
    /// A field may be in double quotes, where two of them stand for one.
    Comma,
    Tab,
    /// Spaces or tabs, any number of them.
    White,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Pairs => write!(f, "`user item` lines, oldest first"),
            Layout::Sequences => write!(f, "`user item item ...` lines, oldest first"),
            Layout::Table(Table { names, user, item, time, .. }) => {
                write!(f, "users from column `{}`, items from `{}`, ", names[*user].trim(), names[*item].trim())?;
                match time {
                    Some(time) => write!(f, "in order of `{}`", names[*time].trim()),
                    None => write!(f, "oldest first"),
                }
            }
        }
    }
}

/// Names of columns that hold users, in lower case, without anything between words.
const USERS: &[&str] =
    &["user", "userid", "uid", "username", "reviewer", "reviewerid", "customer", "customerid", "visitorid", "member"];
/// Names of columns that hold items.
const ITEMS: &[&str] = &[
    "item",
    "itemid",
    "iid",
    "movie",
    "movieid",
    "product",
    "productid",
    "asin",
    "parentasin",
    "book",
    "bookid",
    "isbn",
    "track",
    "trackid",
    "song",
    "songid",
    "artist",
    "artistid",
    "business",
    "businessid",
    "article",
    "articleid",
    "video",
    "videoid",
    "game",
    "gameid",
    "sku",
];
/// Names of columns that hold times as numbers.
const TIMES: &[&str] = &["time", "timestamp", "ts", "unixtime", "unixtimestamp", "unixreviewtime"];

impl Table {
    /// The table whose header `line` is; `None` where it is no header but the first line of something else.
    ///
    /// # Errors
    /// Why it is no such table although it looks like a header, or names were given.
    pub(super) fn detect(line: &str, format: &Format) -> Result<Option<Table>, String> {
        let named = [&format.user, &format.item, &format.time].into_iter().any(Option::is_some);
        let mut reason = None;
        for separator in [Separator::Comma, Separator::Tab, Separator::White] {
            let mut names = Vec::new();
            if separator.split(line, |_, field| names.push(field.into_owned())).is_err() || names.len() < 2 {
                continue;
            }
            // More columns between spaces may as well be a sequence.
            if separator == Separator::White && names.len() > 2 && !named {
                continue;
            }
            match columns(&names, format) {
                Ok((user, item, time)) => return Ok(Some(Table { separator, names, user, item, time })),
                Err(problem) => {
                    // Text of other kinds rarely has commas, and then no names of columns between them.
                    let header = named || separator == Separator::Comma && (problem.partial || words(line) < 2);
                    if header && reason.is_none() {
                        reason = Some(problem.text(&names, separator));
                    }
                }
            }
        }
        match reason {
            Some(reason) => Err(reason),
            None if named => Err("expected a header, names of columns with commas or tabs between".into()),
            None => Ok(None),
        }
    }

    /// Names of all columns, for messages.
    pub(super) fn shown(names: &[String]) -> String {
        const MOST: usize = 12;
        let shown: Vec<_> = names.iter().take(MOST).map(|name| format!("`{}`", short(name.trim()))).collect();
        let more = if names.len() > MOST { " ..." } else { "" };
        format!("{}{more}", shown.join(", "))
    }
}

fn words(line: &str) -> usize {
    line.split_ascii_whitespace().count()
}

/// The beginning of a text that may be long.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// Why columns cannot be told.
struct Problem {
    reason: String,
    /// Whether some names are those of columns.
    partial: bool,
}

impl Problem {
    fn text(&self, names: &[String], separator: Separator) -> String {
        let mend = match separator {
            Separator::Comma if !self.partial => {
                "; where the file has no header, replace `,` by a space, and keep only the user and the item"
            }
            _ => "",
        };
        format!(
            "{}: found the columns {}; expected a header with names such as userId, movieId, timestamp{mend}",
            self.reason,
            Table::shown(names)
        )
    }
}

/// The places of the user's, the item's and the time's column.
fn columns(names: &[String], format: &Format) -> Result<(usize, usize, Option<usize>), Problem> {
    let find = |given: &Option<String>, known: &[&str]| {
        let fits = |name: &String| match given {
            Some(given) => name.trim() == given,
            None => known.contains(&plain(name).as_str()),
        };
        let places: Vec<usize> = (0..names.len()).filter(|&i| fits(&names[i])).collect();
        match (&places[..], given) {
            (&[place], _) => Ok(Some(place)),
            ([], None) => Ok(None),
            ([], Some(given)) => Err(format!("there is no column `{given}`")),
            ([first, second, ..], _) => {
                let [first, second] = [first, second].map(|&place| names[place].trim());
                Err(format!("cannot tell which of the columns `{first}` and `{second}` to take"))
            }
        }
    };
    let found = [find(&format.user, USERS), find(&format.item, ITEMS), find(&format.time, TIMES)];
    let found: Result<Vec<Option<usize>>, String> = found.into_iter().collect();
    let found = found.map_err(|reason| Problem { reason, partial: true })?;
    let missing = |what| Problem { reason: format!("no column is {what} by its name"), partial: true };
    match found[..] {
        [Some(user), Some(item), time] => {
            let same = user == item || time == Some(user) || time == Some(item);
            let reason = || "one column is to be two things".to_owned();
            if same { Err(Problem { reason: reason(), partial: true }) } else { Ok((user, item, time)) }
        }
        [None, Some(_), _] => Err(missing("the user's")),
        [Some(_), None, _] => Err(missing("the item's")),
        _ => Err(Problem { partial: false, ..missing("the user's and none the item's") }),
    }
}

/// A column's name without case, what is between words, and the type that some tools put behind it (`user_id:token`).
fn plain(name: &str) -> String {
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Separator {
    /// Hands `each` the fields of a line (without its end) with their places; gives their number.
    ///
    /// # Errors
    /// What is wrong with a quoted field.
    #[inline]
    pub(super) fn split<'a>(self, line: &'a str, mut each: impl FnMut(usize, Cow<'a, str>)) -> Result<usize, String> {
        let byte = match self {
            Separator::White => {
                let mut count = 0;
                for field in line.split_ascii_whitespace() {
                    each(count, field.into());
                    count += 1;
                }
                return Ok(count);
            }
            Separator::Comma => b',',
            Separator::Tab => b'\t',
        };
        let mut rest = line;
        let mut count = 0;
        loop {
            let end = if self == Separator::Comma && rest.starts_with('"') {
                let (field, end) = quoted(rest)?;
                each(count, field);
                (end < rest.len()).then_some(end)
            } else {
                let end = memchr(byte, rest.as_bytes());
                each(count, rest[..end.unwrap_or(rest.len())].into());
                end
            };
            count += 1;
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(count),
            }
        }
    }
}

/// The quoted field at the beginning of `text`, and where it ends: at a comma or the text's end.
fn quoted(text: &str) -> Result<(Cow<'_, str>, usize), String> {
    let mut doubled = false;
    let mut from = 1;
    loop {
        let Some(quote) = memchr(b'"', &text.as_bytes()[from..]).map(|at| at + from) else {
            return Err(format!("the quote in `{}` is not closed on its line", short(text)));
        };
        match text.as_bytes().get(quote + 1) {
            None | Some(b',') => {
                let field = &text[1..quote];
                let field = if doubled { field.replace("\"\"", "\"").into() } else { field.into() };
                return Ok((field, quote + 1));
            }
            Some(b'"') => {
                doubled = true;
                from = quote + 2;
            }
            Some(_) => return Err(format!("expected a comma after the closing quote in `{}`", short(text))),
        }
    }
}
