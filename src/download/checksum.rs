//! Checksums of files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::experiments::recipes::Source;

/// A file's checksum, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-1 of `blob LENGTH\0` and the content.
    GitBlob(String),
    Sha256(String),
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Checksum::GitBlob(sum) => write!(f, "git blob {sum}"),
            Checksum::Sha256(sum) => write!(f, "sha256 {sum}"),
        }
    }
}

impl Checksum {
    /// The same checksum of a file.
    pub(super) fn of_file(&self, path: &Path) -> io::Result<Checksum> {
        self.of(&mut File::open(path)?)
    }

    /// The same checksum of all of an open file.
    pub(super) fn of(&self, file: &mut File) -> io::Result<Checksum> {
        file.rewind()?;
        match self {
            Checksum::GitBlob(_) => {
                let length = file.metadata()?.len();
                let hash = Sha1::new_with_prefix(format!("blob {length}\0"));
                Ok(Checksum::GitBlob(hashed(hash, file)?))
            }
            Checksum::Sha256(_) => Ok(Checksum::Sha256(hashed(Sha256::new(), file)?)),
        }
    }
}

/// What the recipe says of what its URL gives.
pub(super) fn of_download(source: &Source) -> Result<Checksum> {
    let sha256 = source.sha256.as_ref().map(|sum| Checksum::Sha256(sum.to_lowercase()));
    let git = source.git_blob.as_ref().map(|sum| Checksum::GitBlob(sum.to_lowercase()));
    sha256.or(git).ok_or_else(|| Error::Data(format!("the recipe has no checksum of {}", source.url)))
}

/// What it says of the data in the archive.
pub(super) fn of_member(source: &Source) -> Option<Checksum> {
    source.member_sha256.as_ref().map(|sum| Checksum::Sha256(sum.to_lowercase()))
}

fn hashed(mut hash: impl Digest, file: &mut File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}
