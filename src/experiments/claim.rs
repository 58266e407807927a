//! Claims: who works on what, among processes that share a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// A locked file. The operating system unlocks it when its process ends, however it ends: no claim is ever stale.
#[derive(Debug)]
pub struct Claim {
    /// Locked as long as it is open.
    _file: File,
}

impl Claim {
    /// Locks the file; `None` where another process, or another claim of this one, has it.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be made or the file system knows no locks.
    pub fn take(path: &Path) -> Result<Option<Claim>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Claim { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::file("lock", path)(e)),
        }
    }

    /// Locks the file as soon as nobody else has it.
    ///
    /// # Errors
    /// As [`take`](Claim::take).
    pub fn wait(path: &Path) -> Result<Claim> {
        let file = open(path)?;
        file.lock().map_err(Error::file("lock", path))?;
        Ok(Claim { _file: file })
    }
}

fn open(path: &Path) -> Result<File> {
    // Not truncated, never removed: a lock is on the file, and another file of that name would be another lock.
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(Error::file("make", path))
}
