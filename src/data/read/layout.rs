//! What a file is made of, as its first line tells.

use std::fmt;

use super::columns::{Columns, Format, Problem, is_header};
use super::fields::Separator;
use super::json;

/// What a file is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// `user item` lines.
    Pairs,
    /// `user item item ...` lines.
    Sequences,
    /// A line for each interaction, mostly under a header.
    Table(Table),
    /// A JSON object for each interaction.
    Json(Columns),
    /// A row for each interaction.
    Parquet(Columns),
    /// What `prismrec data --write` wrote.
    Prepared,
}

/// A table of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub separator: Separator,
    pub columns: Columns,
    /// Whether it has one; else columns go by number.
    pub header: bool,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = match self {
            Layout::Pairs => return write!(f, "`user item` lines, oldest first"),
            Layout::Sequences => return write!(f, "`user item item ...` lines, oldest first"),
            Layout::Prepared => return write!(f, "prepared by prismrec"),
            Layout::Table(Table { columns, .. }) => columns,
            Layout::Json(columns) => {
                write!(f, "JSON lines, ")?;
                columns
            }
            Layout::Parquet(columns) => {
                write!(f, "Parquet, ")?;
                columns
            }
        };
        let name = |place| columns.name(place);
        write!(f, "users from column `{}`, items from `{}`, ", name(columns.user), name(columns.item))?;
        if let Some((place, least)) = columns.rating {
            write!(f, "`{}` of {least} or more, ", name(place))?;
        }
        match columns.time {
            Some(time) => write!(f, "in order of `{}`", name(time)),
            None => write!(f, "oldest first"),
        }
    }
}

impl Layout {
    /// What a file with this first line is made of: `Pairs` where it may as well be `Sequences`.
    ///
    /// # Errors
    /// Why it cannot be read although it looks like a header, or columns were named.
    pub(super) fn detect(line: &str, format: &Format) -> Result<Layout, String> {
        if line.trim_start().starts_with('{') {
            let names = json::keys(line)?;
            let columns = Columns::find(&names, format).map_err(|problem| told(&problem, &names, None))?;
            return Ok(Layout::Json(columns));
        }
        if let Some(highest) = format.by_number() {
            return numbered(line, format, highest).map(Layout::Table);
        }
        match header(line, format)? {
            Some(table) => Ok(Layout::Table(table)),
            None if format.names_any() => Err("expected a header, names of columns with commas or tabs between".into()),
            None if line.contains("::") && words(line) == 1 => movielens(line, format).map(Layout::Table),
            None if format.min_rating.is_some() => {
                Err("expected a table, with ratings in a column: --min-rating takes them".into())
            }
            None => Ok(Layout::Pairs),
        }
    }

    /// Whether the first line is a header, and no interaction.
    pub(super) fn has_header(&self) -> bool {
        matches!(self, Layout::Table(Table { header: true, .. }))
    }
}

/// The table whose header `line` is; `None` where it is no header but the first line of something else.
fn header(line: &str, format: &Format) -> Result<Option<Table>, String> {
    let named = format.names_any();
    let mut reason = None;
    for separator in [Separator::Comma, Separator::Tab, Separator::Semicolon, Separator::Colons, Separator::White] {
        let mut names = Vec::new();
        if separator.split(line, |_, field| names.push(field.into_owned())).is_err() || names.len() < 2 {
            continue;
        }
        // More columns between spaces may as well be a sequence.
        if separator == Separator::White && names.len() > 2 && !named {
            continue;
        }
        match Columns::find(&names, format) {
            Ok(columns) => return Ok(Some(Table { separator, columns, header: true })),
            Err(problem) => {
                // Text of other kinds rarely has commas, and then no names of columns between them.
                let comma = separator == Separator::Comma && (problem.partial || words(line) < 2);
                if (named || comma) && reason.is_none() {
                    reason = Some(told(&problem, &names, Some(separator)));
                }
            }
        }
    }
    reason.map_or(Ok(None), Err)
}

/// The table whose columns are given by number, up to the `highest`.
fn numbered(line: &str, format: &Format, highest: usize) -> Result<Table, String> {
    use Separator::{Colons, Comma, Semicolon, Tab, White};
    for separator in [Colons, Tab, Comma, Semicolon, White] {
        let mut fields = Vec::new();
        if separator.split(line, |_, field| fields.push(field.into_owned())).is_err() || fields.len() < highest {
            continue;
        }
        let header = is_header(&fields, format);
        let names = if header { fields } else { (1..=fields.len()).map(|number| number.to_string()).collect() };
        if format.min_rating.is_some() && format.rating.is_none() && !header {
            return Err("--min-rating takes the number of the rating's column, too: --rating-column NUMBER".into());
        }
        let columns = Columns::find(&names, format).map_err(|problem| problem.reason)?;
        return Ok(Table { separator, columns, header });
    }
    Err(format!("expected {highest} columns or more, with commas, semicolons, tabs, spaces or `::` between"))
}

/// The columns of MovieLens' files without a header, `user::item::rating::time`, or of `user::item`.
fn movielens(line: &str, format: &Format) -> Result<Table, String> {
    let fields: Vec<&str> = line.split("::").collect();
    let number = |field: &str| field.trim().parse::<f64>().is_ok();
    let names: &[&str] = match &fields[..] {
        [_, _] => &["user", "item"],
        [_, _, rating, time] if number(rating) && number(time) => &["user", "item", "rating", "time"],
        _ => {
            return Err(format!(
                "found {} fields with `::` between, expected `user::item` or `user::item::rating::time`; or say which \
                 is which: --user-column 1 --item-column 2 --time-column 3",
                fields.len()
            ));
        }
    };
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let columns = Columns::find(&names, format).map_err(|problem| problem.reason)?;
    Ok(Table { separator: Separator::Colons, columns, header: false })
}

fn words(line: &str) -> usize {
    line.split_ascii_whitespace().count()
}

/// A problem with a header of these names, or with the keys of an object where there is no separator.
pub(super) fn told(problem: &Problem, names: &[String], separator: Option<Separator>) -> String {
    let Problem { reason, partial } = problem;
    let found = format!("{reason}: found the columns {}", Columns::shown(names));
    let mend = match separator {
        Some(Separator::Comma) if !partial => {
            "; where the file has no header, replace `,` by a space, and keep only the user and the item, or give \
             columns by number: --user-column 1 --item-column 2"
        }
        _ => "; or name them: --user-column NAME --item-column NAME",
    };
    format!("{found}; expected a header with names such as userId, movieId, timestamp{mend}")
}
