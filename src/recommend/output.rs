//! Recommendations for many users in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::Answer;
use crate::error::{Error, Result};
use crate::run::Writing;

/// A file of recommendations: CSV, Parquet or JSON lines, by the ending of its name. A row for each recommendation, or
/// a JSON object for each user. The file is in its place when it is finished.
pub struct Output {
    writing: Writing,
    kind: Kind,
    /// Whether there are columns of titles and categories.
    titled: bool,
}

enum Kind {
    Csv(Box<csv::Writer<File>>),
    Lines(BufWriter<File>),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::table::Table>),
}

/// A line for a user.
#[derive(Serialize)]
pub struct Line<'a> {
    pub user: &'a str,
    #[serde(flatten)]
    pub answer: &'a Answer,
}

/// One line of JSON.
///
/// # Errors
/// Where a value has no place in JSON.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Data(format!("cannot be written as JSON: {e}")))
}

impl Output {
    /// Begins a file. `explained`: whether answers say what fed their intentions.
    ///
    /// # Errors
    /// [`Error::Setting`] where the name's ending is none of the known, or the format has no place for explanations;
    /// [`Error::File`] where nothing can be written there.
    pub fn begin(path: &Path, titled: bool, explained: bool) -> Result<Output> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = path.display();
        if explained && matches!(&ending[..], "csv" | "parquet") {
            return Err(Error::Setting(format!(
                "{name}: a table has no place for explanations: name a file that ends in .jsonl"
            )));
        }
        let open = || {
            let writing = Writing::begin(path)?;
            let file = writing.file()?;
            Ok::<_, Error>((writing, file))
        };
        let (writing, kind) = match &ending[..] {
            "csv" => {
                let (writing, file) = open()?;
                let mut writer = csv::Writer::from_writer(file);
                let names = ["user", "rank", "item", "score", "intention", "title", "categories"];
                let names = &names[..if titled { 7 } else { 5 }];
                writer.write_record(names).map_err(|e| Error::file("write", path)(e.into()))?;
                (writing, Kind::Csv(Box::new(writer)))
            }
            "jsonl" | "ndjson" | "json" => {
                let (writing, file) = open()?;
                (writing, Kind::Lines(BufWriter::new(file)))
            }
            #[cfg(feature = "parquet")]
            "parquet" => {
                let (writing, file) = open()?;
                let table = super::table::Table::begin(file, super::table::recommendations(titled));
                (writing, Kind::Parquet(Box::new(table.map_err(Error::file("write", path))?)))
            }
            #[cfg(not(feature = "parquet"))]
            "parquet" => {
                return Err(Error::Setting(format!(
                    "{name}: this program was built without Parquet (feature parquet)"
                )));
            }
            _ => {
                return Err(Error::Setting(format!(
                    "{name}: expected a name that ends in .csv, .parquet or .jsonl (JSON lines)"
                )));
            }
        };
        Ok(Output { writing, kind, titled })
    }

    /// Adds a user's recommendations.
    ///
    /// # Errors
    /// [`Error::File`] where that cannot be written.
    pub fn add(&mut self, user: &str, answer: &Answer) -> Result<()> {
        let Output { writing, kind, titled } = self;
        kind.add(user, answer, *titled).map_err(Error::file("write", writing.path()))
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::File`] where that fails.
    pub fn finish(self) -> Result<()> {
        let Output { writing, kind, .. } = self;
        kind.finish().map_err(Error::file("write", writing.path()))?;
        writing.finish()
    }
}

impl Kind {
    fn add(&mut self, user: &str, answer: &Answer, titled: bool) -> io::Result<()> {
        match self {
            Kind::Csv(writer) => {
                for (rank, r) in (1_usize..).zip(&answer.recommendations) {
                    let (rank, score, intention) = (rank.to_string(), r.score.to_string(), r.intention.to_string());
                    let categories = r.item.categories.join("|");
                    let title = r.item.title.as_deref().unwrap_or_default();
                    let fields = [user, &rank, &r.item.id, &score, &intention, title, &categories];
                    writer.write_record(&fields[..if titled { 7 } else { 5 }])?;
                }
                Ok(())
            }
            Kind::Lines(writer) => {
                serde_json::to_writer(&mut *writer, &Line { user, answer })?;
                writer.write_all(b"\n")
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet(table) => {
                for (rank, r) in (1..).zip(&answer.recommendations) {
                    let mut row = table.row();
                    row.text(user);
                    row.number(rank);
                    row.text(&r.item.id);
                    row.real(r.score);
                    row.number(r.intention as i32);
                    if titled {
                        row.text(r.item.title.as_deref().unwrap_or_default());
                        row.text(&r.item.categories.join("|"));
                    }
                }
                table.flush_large()
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Kind::Csv(mut writer) => writer.flush(),
            Kind::Lines(mut writer) => writer.flush(),
            #[cfg(feature = "parquet")]
            Kind::Parquet(table) => table.finish(),
        }
    }
}
