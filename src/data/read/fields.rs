//! Cuts a line of a table into its fields.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// What is between the fields of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Separator {
    /// A field may be in double quotes, where two of them stand for one.
    Comma,
    /// Quotes as between commas.
    Semicolon,
    Tab,
    /// `::`, as MovieLens has it.
    Colons,
    /// Spaces or tabs, any number of them.
    White,
}

/// The beginning of a text that may be long.
pub(super) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
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
            Separator::Colons => {
                let mut rest = line;
                let mut count = 0;
                while let Some(end) = memmem::find(rest.as_bytes(), b"::") {
                    each(count, rest[..end].into());
                    count += 1;
                    rest = &rest[end + 2..];
                }
                each(count, rest.into());
                return Ok(count + 1);
            }
            Separator::Comma => b',',
            Separator::Semicolon => b';',
            Separator::Tab => b'\t',
        };
        let mut rest = line;
        let mut count = 0;
        loop {
            let end = if self != Separator::Tab && rest.starts_with('"') {
                let (field, end) = quoted(rest, byte)?;
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

/// The quoted field at the beginning of `text`, and where it ends: at a separator or the text's end.
fn quoted(text: &str, separator: u8) -> Result<(Cow<'_, str>, usize), String> {
    let mut doubled = false;
    let mut from = 1;
    loop {
        let Some(quote) = memchr(b'"', &text.as_bytes()[from..]).map(|at| at + from) else {
            return Err(format!("the quote in `{}` is not closed on its line", short(text)));
        };
        match text.as_bytes().get(quote + 1) {
            Some(b'"') => {
                doubled = true;
                from = quote + 2;
            }
            Some(&next) if next != separator => {
                let expected = if separator == b',' { "a comma" } else { "a semicolon" };
                return Err(format!("expected {expected} after the closing quote in `{}`", short(text)));
            }
            _ => {
                let field = &text[1..quote];
                let field = if doubled { field.replace("\"\"", "\"").into() } else { field.into() };
                return Ok((field, quote + 1));
            }
        }
    }
}
