//! Vectors in files that other programs read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use super::UserVectors;
use crate::error::{Error, Result};
use crate::run::{write_by, write_whole};

/// How vectors are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// items.safetensors with "vectors" `[items, D]`; users.safetensors with "vectors" `[users, K, D]` and "shares"
    /// `[users, K]`; ids in items.txt and users.txt, one a line.
    Safetensors,
    /// items.npy `[items, D]`, users.npy `[users, K, D]`, shares.npy `[users, K]`; ids in items.txt and users.txt, one a
    /// line.
    Npy,
    /// items.parquet with columns item, vector; users.parquet with columns user, intention, share, vector.
    Parquet,
}

/// An array of reals under a name.
struct Array<'a> {
    name: &'static str,
    shape: Vec<usize>,
    data: &'a [f32],
}

/// Writes items' vectors (`[items, dim]`) to a folder, and gives the files' paths.
///
/// # Errors
/// Where a file cannot be written, or an id cannot be a line.
pub fn write_items(folder: &Path, format: Format, ids: &[String], vectors: &[f32]) -> Result<Vec<PathBuf>> {
    let dim = vectors.len() / ids.len().max(1);
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    if format == Format::Parquet {
        return parquet::items(folder, ids, vectors, dim);
    }
    let arrays = [Array { name: "vectors", shape: vec![ids.len(), dim], data: vectors }];
    write(folder, format, "items", ids, &arrays)
}

/// Writes users' vectors and shares to a folder, and gives the files' paths.
///
/// # Errors
/// Where a file cannot be written, or an id cannot be a line.
pub fn write_users(folder: &Path, format: Format, ids: &[&str], users: &[UserVectors]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    if format == Format::Parquet {
        return parquet::users(folder, ids, users);
    }
    let intentions = users.first().map_or(1, |user| user.shares.len());
    let dim = users.first().map_or(1, |user| user.vectors.len() / intentions);
    let [vectors, shares] = [|user: &UserVectors| user.vectors.clone(), |user: &UserVectors| user.shares.clone()]
        .map(|of| users.iter().flat_map(of).collect::<Vec<f32>>());
    let arrays = [
        Array { name: "vectors", shape: vec![users.len(), intentions, dim], data: &vectors },
        Array { name: "shares", shape: vec![users.len(), intentions], data: &shares },
    ];
    write(folder, format, "users", ids, &arrays)
}

fn write(folder: &Path, format: Format, what: &str, ids: &[impl AsRef<str>], arrays: &[Array]) -> Result<Vec<PathBuf>> {
    let names = folder.join(format!("{what}.txt"));
    if let Some(id) = ids.iter().map(AsRef::as_ref).find(|id| id.contains(['\n', '\r'])) {
        return Err(Error::Data(format!("{}: the id {id:?} is not one line: take --format parquet", names.display())));
    }
    let mut paths = vec![names];
    if format == Format::Npy {
        for (place, Array { shape, data, name }) in arrays.iter().enumerate() {
            let path = folder.join(format!("{}.npy", if place == 0 { what } else { name }));
            let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
            written(&path, |file| npy(file, &shape, data))?;
            paths.push(path);
        }
    } else {
        let path = folder.join(format!("{what}.safetensors"));
        let views: std::result::Result<Vec<_>, _> = arrays
            .iter()
            .map(|Array { name, shape, data }| {
                Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data))?))
            })
            .collect();
        let bytes = views.and_then(|views| safetensors::serialize(views, None));
        let bytes = bytes.map_err(|e: safetensors::SafeTensorError| {
            Error::Data(format!("{}: cannot be written: {e}", path.display()))
        })?;
        write_whole(&path, &bytes)?;
        paths.push(path);
    }
    written(&paths[0], |file| ids.iter().try_for_each(|id| writeln!(file, "{}", id.as_ref())))?;
    Ok(paths)
}

/// Writes a file beside its place and renames it there.
fn written(path: &Path, write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> Result<()> {
    write_by(path, |file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    })
}

fn npy(file: &mut impl Write, shape: &[u64], data: &[f32]) -> io::Result<()> {
    use npyz::WriterBuilder;
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd()?;
    writer.extend(data.iter().copied())?;
    writer.finish()
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;
    use crate::recommend::table::{Column, Table};
    use crate::run::Writing;

    pub fn items(folder: &Path, ids: &[String], vectors: &[f32], dim: usize) -> Result<Vec<PathBuf>> {
        table(folder.join("items.parquet"), vec![("item", Column::Text), ("vector", Column::Vector)], |table| {
            for (id, vector) in ids.iter().zip(vectors.chunks_exact(dim)) {
                let mut row = table.row();
                row.text(id);
                row.vector(vector);
                table.flush_large()?;
            }
            Ok(())
        })
    }

    pub fn users(folder: &Path, ids: &[&str], users: &[UserVectors]) -> Result<Vec<PathBuf>> {
        let columns = vec![
            ("user", Column::Text),
            ("intention", Column::Number),
            ("share", Column::Real),
            ("vector", Column::Vector),
        ];
        table(folder.join("users.parquet"), columns, |table| {
            for (id, UserVectors { vectors, shares }) in ids.iter().zip(users) {
                let each = vectors.chunks_exact(vectors.len() / shares.len());
                for ((intention, share), vector) in (0..).zip(shares).zip(each) {
                    let mut row = table.row();
                    row.text(id);
                    row.number(intention);
                    row.real(*share);
                    row.vector(vector);
                }
                table.flush_large()?;
            }
            Ok(())
        })
    }

    fn table(
        path: PathBuf,
        columns: Vec<(&str, Column)>,
        fill: impl FnOnce(&mut Table) -> io::Result<()>,
    ) -> Result<Vec<PathBuf>> {
        let writing = Writing::begin(&path)?;
        let file = writing.file()?;
        let write = || {
            let mut table = Table::begin(file, columns)?;
            fill(&mut table)?;
            table.finish()
        };
        write().map_err(Error::file("write", &path))?;
        writing.finish()?;
        Ok(vec![path])
    }
}

#[cfg(not(feature = "parquet"))]
mod parquet {
    use super::*;

    fn without<T>() -> Result<T> {
        Err(Error::Setting("this program was built without Parquet (feature parquet)".into()))
    }

    pub fn items(_: &Path, _: &[String], _: &[f32], _: usize) -> Result<Vec<PathBuf>> {
        without()
    }

    pub fn users(_: &Path, _: &[&str], _: &[UserVectors]) -> Result<Vec<PathBuf>> {
        without()
    }
}
