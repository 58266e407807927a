//! Titles and categories of items, from a file beside the data.

use std::collections::HashMap;
use std::path::Path;

use crate::data::read::{is_item, plain};
use crate::error::{Error, Result};

/// Names of columns with titles and with categories, as [`plain`] has them.
const TITLES: &[&str] = &["title", "name", "movietitle", "productname", "producttitle", "itemname", "appname"];
const CATEGORIES: &[&str] =
    &["genres", "genre", "categories", "category", "maincategory", "class", "classes", "tags", "kind"];
/// What a file without a header has, as MovieLens' movies.dat.
const UNNAMED: &[&str] = &["item", "title", "genres"];

/// The columns of MovieLens 100K's u.item behind the fifth, each 0 or 1.
const GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

/// What is known of a catalogue's items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Titles {
    /// `[items]`, empty where there is none.
    titles: Vec<String>,
    categories: Vec<Vec<String>>,
    /// Items with a title.
    pub known: usize,
}

/// A file's rows under its columns' names.
struct Rows {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Titles {
    /// Reads a table with a header (commas, tabs, semicolons, `::`), MovieLens' `item::title::genres` without one (or 100K's
    /// u.item), or JSON lines. Where several columns may be the items', the one with the most items of the catalogue is. The text may
    /// be Latin-1, too.
    ///
    /// # Errors
    /// Where the file cannot be read, columns cannot be told, or no item is in the catalogue.
    pub fn read(path: &Path, catalogue: &[String]) -> Result<Titles> {
        let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => error.as_bytes().iter().map(|&byte| char::from(byte)).collect(),
        };
        let wrong = |reason: String| Error::Data(format!("{}: {reason}", path.display()));
        let Rows { names, rows } = rows(text.trim_start_matches('\u{feff}')).map_err(|e| match e {
            (Some(line), reason) => Error::Line { path: path.into(), line, reason },
            (None, reason) => wrong(reason),
        })?;
        let numbers: HashMap<&str, usize> = catalogue.iter().map(String::as_str).zip(0..).collect();
        let matches = |place: usize| {
            rows.iter().filter(|row| row.get(place).is_some_and(|id| numbers.contains_key(id.as_str()))).count()
        };
        let places = |fits: &dyn Fn(&str) -> bool| (0..names.len()).filter(|&i| fits(&names[i])).collect::<Vec<_>>();
        let shown = || names.iter().map(|name| format!("`{}`", name.trim())).collect::<Vec<_>>().join(", ");
        let items = places(&|name| is_item(name) || plain(name) == "id");
        // Of several that are as good, the first.
        let item = items.into_iter().rev().max_by_key(|&place| matches(place)).ok_or_else(|| {
            wrong(format!("no column is the item's by its name (such as item, movieId, asin): found {}", shown()))
        })?;
        let ranked = |known: &[&str]| {
            known.iter().find_map(|known| names.iter().position(|name| plain(name) == *known)).filter(|&at| at != item)
        };
        let (title, category) = (ranked(TITLES), ranked(CATEGORIES));
        if title.is_none() && category.is_none() {
            return Err(wrong(format!("no column is `title` or `genres`: found {}", shown())));
        }
        let mut titles = Titles {
            titles: vec![String::new(); catalogue.len()],
            categories: vec![Vec::new(); catalogue.len()],
            known: 0,
        };
        for row in &rows {
            let Some(&number) = row.get(item).and_then(|id| numbers.get(id.as_str())) else { continue };
            if let Some(text) = title.and_then(|place| row.get(place)) {
                titles.titles[number] = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            if let Some((place, text)) = category.and_then(|place| Some((place, row.get(place)?))) {
                titles.categories[number] = split_categories(&names[place], text);
            }
        }
        titles.known = titles.titles.iter().filter(|title| !title.is_empty()).count();
        if titles.known == 0 && titles.categories.iter().all(Vec::is_empty) {
            return Err(wrong(format!(
                "has nothing of the {} items of the data, such as `{}`, in its column `{}`",
                catalogue.len(),
                catalogue.first().map_or("", String::as_str),
                names[item].trim()
            )));
        }
        Ok(titles)
    }

    /// Reads the file that is given, else that of training where it is still there.
    ///
    /// # Errors
    /// As [`read`](Titles::read).
    pub fn given_or(given: Option<&Path>, trained: &str, catalogue: &[String]) -> Result<Option<Titles>> {
        let trained = Some(Path::new(trained)).filter(|file| file.is_file());
        given.or(trained).map(|file| Titles::read(file, catalogue)).transpose()
    }

    /// An item's title.
    pub fn title(&self, item: u32) -> Option<&str> {
        self.titles.get(item as usize).map(String::as_str).filter(|title| !title.is_empty())
    }

    /// An item's categories.
    pub fn categories(&self, item: u32) -> &[String] {
        self.categories.get(item as usize).map_or(&[], Vec::as_slice)
    }
}

/// Categories with `|` between, or words where RecBole says so (`class:token_seq`).
fn split_categories(name: &str, text: &str) -> Vec<String> {
    let parts: Vec<&str> = if text.contains('|') {
        text.split('|').collect()
    } else if name.trim_end().ends_with(":token_seq") {
        text.split_whitespace().collect()
    } else {
        vec![text]
    };
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A line's number, where it is known, and what is wrong.
type Wrong = (Option<u64>, String);

fn rows(text: &str) -> std::result::Result<Rows, Wrong> {
    let first = text.lines().next().unwrap_or_default();
    if first.trim_start().starts_with('{') {
        return objects(text);
    }
    if first.split('|').count() == 5 + GENRES.len() {
        return Ok(flags(text));
    }
    if first.contains("::") {
        let split = |line: &str| line.split("::").map(str::to_owned).collect::<Vec<_>>();
        let mut rows: Vec<Vec<String>> = text.lines().filter(|line| !line.trim().is_empty()).map(split).collect();
        let header = rows.first().is_some_and(|names| names.iter().any(|name| is_item(name)));
        let names = if header { rows.remove(0) } else { UNNAMED.iter().map(|&name| name.to_owned()).collect() };
        return Ok(Rows { names, rows });
    }
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|&between| {
        let count = first.bytes().filter(|&byte| byte == between).count();
        // Of one line, commas may be text.
        (if between == b',' { count } else { 2 * count }, between == b',')
    });
    let delimiter = delimiter.unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(delimiter != b'\t')
        .flexible(true)
        .from_reader(text.as_bytes());
    let wrong = |e: csv::Error| (e.position().map(csv::Position::line), e.to_string());
    let names = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    let rows = reader.records().map(|record| Ok(record?.iter().map(str::to_owned).collect()));
    Ok(Rows { names, rows: rows.collect::<std::result::Result<_, csv::Error>>().map_err(wrong)? })
}

/// MovieLens 100K's `item|title|date|date|address|0|1|0 ...`.
fn flags(text: &str) -> Rows {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let genres = GENRES.iter().zip(fields.iter().skip(5)).filter(|(_, flag)| **flag == "1");
        let text = |place: usize| fields.get(place).map_or_else(String::new, |&field| field.to_owned());
        vec![text(0), text(1), genres.map(|(genre, _)| *genre).collect::<Vec<_>>().join("|")]
    };
    let rows = text.lines().filter(|line| !line.trim().is_empty()).map(row).collect();
    Rows { names: UNNAMED.iter().map(|&name| name.to_owned()).collect(), rows }
}

/// JSON lines: the keys of the first are the names.
fn objects(text: &str) -> std::result::Result<Rows, Wrong> {
    let mut names: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|e| (Some(number), format!("expected a JSON object: {e}")))?;
        if names.is_empty() {
            names = object.keys().cloned().collect();
        }
        rows.push(names.iter().map(|name| object.get(name).map_or_else(String::new, words)).collect());
    }
    Ok(Rows { names, rows })
}

/// A value as text, a list with `|` between.
fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join("|"),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}
