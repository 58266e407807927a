//! Claims: who works on what, among processes that share a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::error::{Error, Result};

/// A locked file. The operating system unlocks it when its process ends, however it ends: no claim is ever stale.
#[derive(Debug)]
pub struct Claim {
    /// Locked as long as it is open.
    file: File,
    path: PathBuf,
}

impl Claim {
    /// Locks the file; `None` where another process, or another claim of this one, has it.
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be made or the file system knows no locks.
    pub fn take(path: &Path) -> Result<Option<Claim>> {
        loop {
            let claim = Claim::of(path)?;
            match claim.file.try_lock() {
                Ok(()) if claim.holds()? => return Ok(Some(claim)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", path)(e)),
            }
        }
    }

    /// Locks the file as soon as nobody else has it.
    ///
    /// # Errors
    /// As [`take`](Claim::take).
    pub fn wait(path: &Path) -> Result<Claim> {
        loop {
            let claim = Claim::of(path)?;
            claim.file.lock().map_err(Error::file("lock", path))?;
            if claim.holds()? {
                return Ok(claim);
            }
        }
    }

    /// Gives the claim up and removes its file, as far as that goes: one that is left does no harm.
    pub fn withdraw(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn of(path: &Path) -> Result<Claim> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        Ok(Claim { file: file.map_err(Error::file("make", path))?, path: path.to_owned() })
    }

    /// Whether the locked file is still the one of that name: another process may have withdrawn its claim between opening
    /// and locking, and a lock on a removed file keeps nobody out.
    fn holds(&self) -> Result<bool> {
        let failed = || Error::file("lock", &self.path);
        let own = self.file.try_clone().and_then(Handle::from_file).map_err(failed())?;
        match Handle::from_path(&self.path) {
            Ok(named) => Ok(named == own),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed()(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_keeps_others_out_until_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let claim = Claim::take(&path).unwrap().unwrap();
        assert!(Claim::take(&path).unwrap().is_none());
        drop(claim);
        assert!(path.exists(), "a claim that is dropped leaves its file");
        Claim::take(&path).unwrap().unwrap().withdraw();
        assert!(!path.exists());
        // One that was opened before another claim was withdrawn locks a file that is no more.
        let late = Claim::of(&path).unwrap();
        Claim::take(&path).unwrap().unwrap().withdraw();
        late.file.try_lock().unwrap();
        assert!(!late.holds().unwrap());
        let other = Claim::wait(&path).unwrap();
        assert!(!late.holds().unwrap() && other.holds().unwrap());
    }
}
