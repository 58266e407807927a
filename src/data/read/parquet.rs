//! Tables in Parquet files: a row for each interaction. Groups of rows are parsed in parallel.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader, SerializedFileReader};
use rayon::prelude::*;

use super::block::Parsed;
use super::columns::{Columns, Format};
use super::fields::short;
use super::layout::{Layout, told};
use super::merge::{Merged, blocks_at_once};
use crate::error::{Error, Result};

/// Reads a file and adds all there is to `merged`.
pub(super) fn read(path: &Path, format: &Format, merged: &mut Merged) -> Result<Layout> {
    let damaged = |reason: String| Error::Data(format!("{}: {reason}", path.display()));
    let wrong = |e: ParquetError| damaged(format!("cannot be read as Parquet: {e}"));
    let len = path.metadata().map_err(Error::file("open", path))?.len();
    let reader = SerializedFileReader::new(Opener { path: path.into(), len }).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let columns = Columns::find(&names, format).map_err(|problem| damaged(told(&problem, &names, None)))?;
    let before = merged.begin_file();
    let groups: Vec<usize> = (0..reader.num_row_groups()).collect();
    for some in groups.chunks(blocks_at_once()) {
        let parsed: std::result::Result<Vec<Parsed>, ParquetError> =
            some.par_iter().map(|&group| parse(&*reader.get_row_group(group)?, &columns)).collect();
        // Rows are counted as lines are.
        let bad = |(row, reason)| Error::Line { path: path.into(), line: row + 1, reason };
        merged.add(parsed.map_err(wrong)?).map_err(bad)?;
        merged.check_size(path)?;
    }
    if merged.met() == before {
        return Err(damaged("no interactions, expected a row for each".into()));
    }
    Ok(Layout::Parquet(columns))
}

/// Opens the file anew for each piece: duplicates of a descriptor share one place in the file, which threads would move
/// under each other.
struct Opener {
    path: PathBuf,
    len: u64,
}

impl Length for Opener {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Opener {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> std::result::Result<BufReader<File>, ParquetError> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("no {length} bytes at {start}")));
        }
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A column's values up to the first that is null.
enum Values {
    Whole(Vec<i64>),
    Decimal(Vec<f64>),
    Text(Vec<ByteArray>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Whole(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// The id in a row, in `text`.
    fn id(&self, row: usize, text: &mut String) -> std::result::Result<(), String> {
        use std::fmt::Write;
        text.clear();
        // Writing to a string does not fail.
        let _ = match self {
            Values::Whole(values) => write!(text, "{}", values[row]),
            Values::Decimal(values) => write!(text, "{}", values[row]),
            Values::Text(values) => {
                text.push_str(values[row].as_utf8().map_err(|_| "not UTF-8 text".to_owned())?);
                Ok(())
            }
        };
        match &text[..] {
            "" => Err("is empty".into()),
            text if text.contains('\n') => Err("an id has a line end within".into()),
            _ => Ok(()),
        }
    }

    fn number(&self, row: usize) -> std::result::Result<f64, String> {
        let number = match self {
            Values::Whole(values) => values[row] as f64,
            Values::Decimal(values) => values[row],
            Values::Text(values) => {
                let text = values[row].as_utf8().unwrap_or_default();
                text.trim().parse().map_err(|_| format!("expected a number, found `{}`", short(text)))?
            }
        };
        if number.is_finite() { Ok(number) } else { Err(format!("expected a number, found `{number}`")) }
    }
}

fn parse(group: &dyn RowGroupReader, columns: &Columns) -> std::result::Result<Parsed, ParquetError> {
    let rows = group.metadata().num_rows() as usize;
    let read = |place: usize| values(group, place, rows, columns.name(place));
    let (users, items) = (read(columns.user)?, read(columns.item)?);
    let times = columns.time.map(read).transpose()?;
    let ratings =
        columns.rating.map(|(place, least)| Ok::<_, ParquetError>((place, read(place)?, least))).transpose()?;
    let mut parsed = Parsed::default();
    let whole = [(columns.user, &users), (columns.item, &items)]
        .into_iter()
        .chain(columns.time.zip(times.as_ref()))
        .chain(ratings.as_ref().map(|(place, ratings, _)| (*place, ratings)))
        .map(|(place, values)| (values.len(), place))
        .min();
    let (until, place) = whole.unwrap_or((rows, columns.user));
    if until < rows {
        parsed.bad = Some((until as u64, format!("column `{}` is empty", columns.name(place))));
    }
    let [mut user, mut item] = [String::new(), String::new()];
    for row in 0..until {
        let at = |place: usize| move |reason: String| format!("column `{}`: {reason}", columns.name(place));
        let mut add = || {
            users.id(row, &mut user).map_err(at(columns.user))?;
            items.id(row, &mut item).map_err(at(columns.item))?;
            if let Some((place, ratings, least)) = &ratings
                && ratings.number(row).map_err(at(*place))? < *least
            {
                parsed.low_rated += 1;
                return Ok(());
            }
            match (&times, columns.time) {
                (Some(Values::Whole(times)), _) if !parsed.times.decimal => parsed.times.values.push(times[row]),
                (Some(times), Some(place)) => parsed.times.push_decimal(times.number(row).map_err(at(place))?),
                _ => {}
            }
            parsed.owners.push(parsed.users.number(&user));
            parsed.clicks.push(parsed.items.number(&item));
            Ok(())
        };
        if let Err(reason) = add() {
            parsed.bad = Some((row as u64, reason));
            return Ok(parsed);
        }
    }
    parsed.lines = rows as u64;
    Ok(parsed)
}

/// A column's values up to the first that is null.
fn values(
    group: &dyn RowGroupReader,
    place: usize,
    rows: usize,
    name: &str,
) -> std::result::Result<Values, ParquetError> {
    let kind = |what: &str| ParquetError::General(format!("column `{name}` holds {what}, not ids or numbers"));
    if group.metadata().column(place).column_descr().max_rep_level() > 0 {
        return Err(kind("lists"));
    }
    Ok(match group.get_column_reader(place)? {
        ColumnReader::Int32ColumnReader(reader) => Values::Whole(whole(reader, rows, i64::from)?),
        ColumnReader::Int64ColumnReader(reader) => Values::Whole(whole(reader, rows, |value| value)?),
        ColumnReader::FloatColumnReader(reader) => Values::Decimal(whole(reader, rows, f64::from)?),
        ColumnReader::DoubleColumnReader(reader) => Values::Decimal(whole(reader, rows, |value| value)?),
        ColumnReader::ByteArrayColumnReader(reader) => Values::Text(whole(reader, rows, |value| value)?),
        ColumnReader::BoolColumnReader(_) => return Err(kind("booleans")),
        ColumnReader::Int96ColumnReader(_) => return Err(kind("times of an old kind (INT96)")),
        ColumnReader::FixedLenByteArrayColumnReader(_) => return Err(kind("bytes of a fixed length")),
    })
}

/// All values up to the first that is null.
fn whole<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    convert: impl Fn(T::T) -> V,
) -> std::result::Result<Vec<V>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (read, _, _) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if read < rows {
        return Err(ParquetError::General(format!("a column has {read} rows of {rows}")));
    }
    // Where nothing can be null, there are no levels.
    let most = levels.iter().copied().max().unwrap_or(0);
    let until = levels.iter().position(|&level| level < most).unwrap_or(rows);
    let until = if values.is_empty() { 0 } else { until };
    Ok(values.into_iter().take(until).map(convert).collect())
}
