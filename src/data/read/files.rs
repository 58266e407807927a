//! Which files to read, and what packed them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Bytes read from a file at a time.
const BUFFER: usize = 1 << 17;

/// What a file's first bytes tell.
pub(super) enum Opened {
    /// Text, unpacked as it is read.
    Text(Box<dyn Read + Send>),
    Parquet,
    Prepared,
}

/// The files at these paths: a folder stands for all files in it, in the order of their names, but for those whose names
/// begin with a dot or an underscore.
pub(super) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(Error::file("read", path))? {
            let file = entry.map_err(Error::file("read", path))?.path();
            let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
                || file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
            if file.is_file() && !hidden {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Error::Data(format!("{}: the folder holds no file", path.display())));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::file("open", path))?);
    let start = file.fill_buf().map_err(Error::file("read", path))?;
    let refused = |what: &str, mend: &str| Err(Error::Data(format!("{}: is {what}; {mend}", path.display())));
    match start {
        [0x1f, 0x8b, ..] => Ok(Opened::Text(Box::new(MultiGzDecoder::new(file)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstandard(path, file),
        [b'P', b'A', b'R', b'1', ..] => Ok(Opened::Parquet),
        [b'P', b'K', 3, 4, ..] => refused("a zip archive", "unpack it first, or pack its file with gzip or zstd"),
        [b'B', b'Z', b'h', ..] => refused("packed with bzip2", "unpack it first, or pack it with gzip or zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            refused("packed with xz", "unpack it first, or pack it with gzip or zstd")
        }
        // A safetensors file begins with the length of its header, which is a JSON object.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(Opened::Prepared),
        _ => Ok(Opened::Text(Box::new(file))),
    }
}

#[cfg(feature = "zstd")]
fn zstandard(path: &Path, file: BufReader<File>) -> Result<Opened> {
    let decoder = zstd::Decoder::with_buffer(file).map_err(Error::file("read", path))?;
    Ok(Opened::Text(Box::new(decoder)))
}

#[cfg(not(feature = "zstd"))]
fn zstandard(path: &Path, _: BufReader<File>) -> Result<Opened> {
    let path = path.display();
    Err(Error::Data(format!("{path}: is packed with zstd, which this program was built without (feature zstd)")))
}
