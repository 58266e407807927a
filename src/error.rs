//! One error type: every variant's message says what was wrong with what, and where it can, how to mend it.

use std::path::PathBuf;

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of a data file that cannot be read.
    #[error("{}:{line}: {reason}", path.display())]
    Line { path: PathBuf, line: u64, reason: String },
    /// A file that cannot be opened, read or written.
    #[error("{}: cannot {action}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// Data that was read but cannot be used.
    #[error("{0}")]
    Data(String),
    /// A setting with a value that is not allowed, or settings that do not fit each other.
    #[error("{0}")]
    Setting(String),
    /// A checkpoint that cannot be used.
    #[error("{}: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    /// No adapter as asked for, or one that cannot hold what is asked.
    #[error("{0}")]
    Adapter(String),
    /// The device stopped: lost, out of memory, or a call it refused.
    #[error("the GPU stopped: {0}")]
    Device(String),
    /// A server that does not give what is wanted.
    #[error("{0}")]
    Download(String),
    /// Stopped by the user.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A closure for `map_err` on an I/O result.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }
}
