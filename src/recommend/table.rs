//! Tables written as Parquet.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

/// Values of a group of rows.
const GROUP: usize = 1 << 22;

/// What a column holds. Nothing is null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Column {
    Text,
    Number,
    Real,
    /// A list of reals, as long in every row.
    Vector,
}

enum Values {
    Text(Vec<ByteArray>),
    Number(Vec<i32>),
    Real(Vec<f32>),
    Vector { values: Vec<f32>, starts: Vec<i16> },
}

/// A file that is written a group of rows at a time.
pub struct Table {
    writer: SerializedFileWriter<File>,
    columns: Vec<Values>,
    values: usize,
}

/// Takes a row's values, in the order of the columns.
pub struct Row<'a> {
    table: &'a mut Table,
    next: usize,
}

/// Columns of recommendations.
pub fn recommendations(titled: bool) -> Vec<(&'static str, Column)> {
    let mut columns = vec![
        ("user", Column::Text),
        ("rank", Column::Number),
        ("item", Column::Text),
        ("score", Column::Real),
        ("intention", Column::Number),
    ];
    if titled {
        columns.extend([("title", Column::Text), ("categories", Column::Text)]);
    }
    columns
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn schema(columns: &[(&str, Column)]) -> Result<Type, ParquetError> {
    let single = |name: &str, physical, logical, repetition| -> Result<TypePtr, ParquetError> {
        let kind = Type::primitive_type_builder(name, physical);
        Ok(Arc::new(kind.with_logical_type(logical).with_repetition(repetition).build()?))
    };
    let fields = columns.iter().map(|&(name, column)| match column {
        Column::Text => single(name, Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
        Column::Number => single(name, Physical::INT32, None, Repetition::REQUIRED),
        Column::Real => single(name, Physical::FLOAT, None, Repetition::REQUIRED),
        Column::Vector => {
            let group = |name: &str, repetition, logical, of| -> Result<TypePtr, ParquetError> {
                let kind = Type::group_type_builder(name).with_repetition(repetition).with_logical_type(logical);
                Ok(Arc::new(kind.with_fields(vec![of]).build()?))
            };
            let element = single("element", Physical::FLOAT, None, Repetition::REQUIRED)?;
            let list = group("list", Repetition::REPEATED, None, element)?;
            group(name, Repetition::REQUIRED, Some(LogicalType::List), list)
        }
    });
    Type::group_type_builder("schema").with_fields(fields.collect::<Result<_, _>>()?).build()
}

impl Table {
    /// # Errors
    /// Where the file cannot be written.
    pub fn begin(file: File, columns: Vec<(&str, Column)>) -> io::Result<Table> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = schema(&columns).map_err(failed)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        let columns = columns.iter().map(|(_, column)| match column {
            Column::Text => Values::Text(Vec::new()),
            Column::Number => Values::Number(Vec::new()),
            Column::Real => Values::Real(Vec::new()),
            Column::Vector => Values::Vector { values: Vec::new(), starts: Vec::new() },
        });
        Ok(Table { writer, columns: columns.collect(), values: 0 })
    }

    /// A new row, to be given a value for each column.
    pub fn row(&mut self) -> Row<'_> {
        Row { table: self, next: 0 }
    }

    /// Writes the rows so far where they are many.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn flush_large(&mut self) -> io::Result<()> {
        if self.values >= GROUP { self.flush() } else { Ok(()) }
    }

    /// Writes all that is left.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.writer.close().map_err(failed)?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.values == 0 {
            return Ok(());
        }
        self.values = 0;
        let Table { writer, columns, .. } = self;
        let mut write = || {
            let mut group = writer.next_row_group()?;
            for values in columns.iter_mut() {
                let Some(mut column) = group.next_column()? else { break };
                match values {
                    Values::Text(values) => {
                        column.typed::<ByteArrayType>().write_batch(values, None, None)?;
                        values.clear();
                    }
                    Values::Number(values) => {
                        column.typed::<Int32Type>().write_batch(values, None, None)?;
                        values.clear();
                    }
                    Values::Real(values) => {
                        column.typed::<FloatType>().write_batch(values, None, None)?;
                        values.clear();
                    }
                    Values::Vector { values, starts } => {
                        let present = vec![1; values.len()];
                        column.typed::<FloatType>().write_batch(values, Some(&present), Some(starts))?;
                        values.clear();
                        starts.clear();
                    }
                }
                column.close()?;
            }
            group.close()?;
            Ok(())
        };
        write().map_err(failed)
    }
}

impl Row<'_> {
    fn column(&mut self) -> &mut Values {
        let column = &mut self.table.columns[self.next];
        self.next += 1;
        self.table.values += 1;
        column
    }

    /// # Panics
    /// As all of these, where the column at hand holds something else: the program writes its columns in their order.
    pub fn text(&mut self, text: &str) {
        let Values::Text(values) = self.column() else { panic!("a column of text") };
        values.push(text.into());
    }

    pub fn number(&mut self, number: i32) {
        let Values::Number(values) = self.column() else { panic!("a column of numbers") };
        values.push(number);
    }

    pub fn real(&mut self, real: f32) {
        let Values::Real(values) = self.column() else { panic!("a column of reals") };
        values.push(real);
    }

    pub fn vector(&mut self, vector: &[f32]) {
        let Values::Vector { values, starts } = self.column() else { panic!("a column of vectors") };
        values.extend_from_slice(vector);
        // A list begins with 0, each further element of it is 1.
        starts.extend((0..vector.len()).map(|at| i16::from(at > 0)));
        self.table.values += vector.len();
    }
}
