//! A run's folder: `settings.toml`, `metrics.jsonl`, `best.safetensors`, `last.safetensors` (and `refit.safetensors`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::settings::Settings;

/// Writes a file beside its place and renames it there, so that the place never holds half a file.
///
/// # Errors
/// [`Error::File`] where it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by(path, |file| file.write_all(bytes))
}

/// As [`write_whole`], with what `content` writes; nothing where that fails.
///
/// # Errors
/// [`Error::File`] where it cannot be written.
pub fn write_by(path: &Path, content: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let mut writing = Writing::begin(path)?;
    content(writing.file.as_file_mut()).map_err(Error::file("write", path))?;
    writing.finish()
}

/// A file that is being written beside its place: there is nothing in the place, or what was there, until it is finished.
#[derive(Debug)]
pub struct Writing {
    file: tempfile::NamedTempFile,
    folder: PathBuf,
    path: PathBuf,
}

impl Writing {
    /// # Errors
    /// [`Error::File`] where nothing can be written there.
    pub fn begin(path: &Path) -> Result<Writing> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder);
        let file = file.map_err(Error::file("write", path))?;
        Ok(Writing { file, folder: folder.to_owned(), path: path.to_owned() })
    }

    /// The file to write to.
    ///
    /// # Errors
    /// [`Error::File`] where there is no further handle.
    pub fn file(&self) -> Result<File> {
        self.file.as_file().try_clone().map_err(Error::file("write", &self.path))
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// [`Error::File`] where that fails.
    pub fn finish(self) -> Result<()> {
        let Writing { file, folder, path } = self;
        let finish = || {
            file.as_file().sync_all()?;
            // A temporary file is for its owner alone; a run is not more secret than the folder it lies in.
            #[cfg(unix)]
            file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            file.persist(&path)?;
            // The new name is on disk only when the folder is.
            #[cfg(unix)]
            File::open(&folder)?.sync_all()?;
            Ok(())
        };
        finish().map_err(Error::file("write", &path))
    }
}

/// The folder of one training run.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
}

impl Run {
    /// Makes a new run's folder and writes its settings; without a name, `runs/DATA-1`, `runs/DATA-2` ...
    ///
    /// # Errors
    /// Where the folder holds something already or cannot be written.
    pub fn create(folder: Option<&Path>, settings: &Settings) -> Result<Run> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => free_folder(settings)?,
        };
        fs::create_dir_all(&folder).map_err(Error::file("make the folder", &folder))?;
        let mut content = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
        if content.next().is_some() {
            let name = folder.display();
            return Err(Error::Setting(format!(
                "{name} is not empty and a run is never overwritten: name another folder with --run, or go on with the \
                 run in it by --resume {name}"
            )));
        }
        let run = Run { folder };
        run.write_settings(settings)?;
        write_whole(&run.metrics(), b"")?;
        Ok(run)
    }

    /// The run in a folder.
    ///
    /// # Errors
    /// Where the folder holds no run that was saved.
    pub fn open(folder: &Path) -> Result<Run> {
        let run = Run { folder: folder.to_owned() };
        for path in [run.last(), run.metrics()] {
            if !path.is_file() {
                return Err(Error::Setting(format!(
                    "{} is no run to go on with: it has no {}",
                    folder.display(),
                    path.file_name().unwrap_or_default().display()
                )));
            }
        }
        Ok(run)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The best epoch's parameters.
    pub fn best(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// Everything that going on takes.
    pub fn last(&self) -> PathBuf {
        self.folder.join("last.safetensors")
    }

    /// The parameters trained on training and validation items.
    pub fn refit(&self) -> PathBuf {
        self.folder.join("refit.safetensors")
    }

    /// One JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.folder.join("metrics.jsonl")
    }

    /// Writes `settings.toml`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        write_whole(&self.folder.join("settings.toml"), settings.to_toml().as_bytes())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn record(&self, line: &Value) -> Result<()> {
        let path = self.metrics();
        let append = || {
            let mut file = fs::OpenOptions::new().append(true).open(&path)?;
            // In one piece: a reader never sees half a line.
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(Error::file("write", &path))
    }

    /// Drops all but the first `lines` lines of `metrics.jsonl`: what was recorded after the state that is gone on from.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or written, [`Error::Data`] where it has fewer lines.
    pub fn keep_lines(&self, lines: usize) -> Result<()> {
        let path = self.metrics();
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let kept: Vec<&str> = text.split_inclusive('\n').take(lines).collect();
        if kept.len() < lines || kept.last().is_some_and(|line| !line.ends_with('\n')) {
            let path = path.display();
            return Err(Error::Data(format!("{path} has fewer lines than the {lines} that the checkpoint knows of")));
        }
        let kept = kept.concat();
        if kept.len() < text.len() {
            write_whole(&path, kept.as_bytes())?;
        }
        Ok(())
    }
}

/// The first of `runs/DATA-1`, `runs/DATA-2` ... that is not there.
fn free_folder(settings: &Settings) -> Result<PathBuf> {
    let stem = settings.data.0.first().and_then(|file| Path::new(file).file_name()?.to_str()).unwrap_or("generated");
    let stem = stem.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("run");
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(Error::file("make the folder", runs))?;
    for number in 1u32.. {
        let folder = runs.join(format!("{stem}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::file("make the folder", folder)(e)),
        }
    }
    unreachable!("there are more numbers than folders")
}
