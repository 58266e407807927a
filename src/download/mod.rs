//! Fetches the data of a recipe, or takes a local copy: checked either way, unpacked where they are in an archive. What
//! stands under a file's final name is always whole.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

mod checksum;
#[cfg(feature = "download")]
mod http;
mod unpack;

use crate::error::{Error, Result};
use crate::experiments::claim::Claim;
use crate::experiments::recipes::Source;
use crate::run::write_by;
use checksum::{Checksum, of_download, of_member};

/// Names the folder of downloads where `--to` does not.
pub const FOLDER_VARIABLE: &str = "PRISMREC_DATA";

/// What a download tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// A request is made; `from`: bytes that are there already.
    Fetching {
        url: &'a str,
        from: u64,
        size: Option<u64>,
    },
    /// So many bytes are there.
    Fetched(u64),
    /// The server's answer ended early; it is asked for the rest.
    BrokenOff {
        at: u64,
    },
    Checking,
    Unpacking,
}

/// A recipe's data, ready to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub data: PathBuf,
    pub titles: Option<PathBuf>,
}

/// The folder of downloads: the one given, else the one that the environment names, else `data`.
pub fn folder(to: Option<&Path>) -> PathBuf {
    let named = || std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    to.map(Path::to_owned).or_else(named).unwrap_or_else(|| "data".into())
}

/// The data, where they lie in the folder of downloads, and are what the recipe says.
///
/// # Errors
/// [`Error::Data`] where other data lie there.
pub fn find(source: &Source, folder: &Path) -> Result<Option<Placed>> {
    let Placed { data, titles } = places(source, folder);
    if !data.is_file() {
        return Ok(None);
    }
    let checked = match source.member {
        Some(_) => of_member(source).map_or(Ok(()), |checksum| check(&data, &checksum, None)),
        None => check(&data, &of_download(source)?, source.size),
    };
    checked.map_err(|e| Error::Data(format!("{e}; remove it, and it is fetched again")))?;
    // A local copy of the data alone came without titles.
    Ok(Some(Placed { data, titles: titles.filter(|titles| titles.is_file()) }))
}

/// Fetches the data into the folder of downloads; goes on where an earlier download broke off.
///
/// # Errors
/// [`Error::Download`] where the server does not give what the recipe says; what came of a download that broke off is kept
/// for the next one, and nothing is left where nothing came.
pub fn fetch(source: &Source, folder: &Path, tell: &mut dyn FnMut(News<'_>)) -> Result<Placed> {
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    let Some(claim) = Claim::take(&hidden(source, folder, "lock"))? else {
        return Err(Error::Download(format!("{} is being fetched by another process", source.file)));
    };
    let placed = fetch_alone(source, folder, tell);
    claim.withdraw();
    placed
}

fn fetch_alone(source: &Source, folder: &Path, tell: &mut dyn FnMut(News<'_>)) -> Result<Placed> {
    // Another process may have fetched them just now.
    if let Some(placed) = find(source, folder)? {
        return Ok(placed);
    }
    let part = hidden(source, folder, "part");
    let checksum = of_download(source)?;
    loop {
        let gone_on = get(source, &part, tell)?;
        tell(News::Checking);
        let Err(error) = check(&part, &checksum, source.size) else { break };
        fs::remove_file(&part).map_err(Error::file("remove", &part))?;
        // What was there from before may have been the wrong part: once more, from the beginning.
        if !gone_on {
            return Err(Error::Download(format!("{}: gave other bytes than the recipe says ({error})", source.url)));
        }
    }
    let placed = place(source, &part, folder, tell)?;
    if part.exists() {
        fs::remove_file(&part).map_err(Error::file("remove", &part))?;
    }
    Ok(placed)
}

/// Takes a local copy of what the URL gives, or of the data in its archive. `copied`: into the folder of downloads; else it
/// is used where it lies, but for archives.
///
/// # Errors
/// [`Error::Data`] where the copy is not what the recipe says.
pub fn take(
    source: &Source,
    file: &Path,
    folder: &Path,
    copied: bool,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Placed> {
    tell(News::Checking);
    let unpacked = source.member.is_some() && !is_archive(file)?;
    if unpacked {
        let checksum = of_member(source)
            .ok_or_else(|| Error::Data(format!("{}: is no zip archive, which {} is", file.display(), source.url)))?;
        check(file, &checksum, None)?;
    } else {
        check(file, &of_download(source)?, source.size)?;
        if source.member.is_some() {
            fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
            return place(source, file, folder, tell);
        }
    }
    if !copied {
        return Ok(Placed { data: file.to_owned(), titles: None });
    }
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    let to = folder.join(&source.file);
    let mut from = File::open(file).map_err(Error::file("open", file))?;
    write_by(&to, |to| std::io::copy(&mut from, to).map(drop))?;
    Ok(Placed { data: to, titles: None })
}

/// Puts what was checked under its final name: as it is, or what the recipe wants of it.
fn place(source: &Source, whole: &Path, folder: &Path, tell: &mut dyn FnMut(News<'_>)) -> Result<Placed> {
    let placed = places(source, folder);
    let Some(member) = &source.member else {
        fs::rename(whole, &placed.data).map_err(Error::file("rename", whole))?;
        return Ok(placed);
    };
    tell(News::Unpacking);
    // The data last: where they are, everything is.
    if let (Some(member), Some(to)) = (&source.titles_member, &placed.titles) {
        unpack::unpack(whole, member, to, None)?;
    }
    unpack::unpack(whole, member, &placed.data, of_member(source).as_ref())?;
    Ok(placed)
}

fn places(source: &Source, folder: &Path) -> Placed {
    Placed { data: folder.join(&source.file), titles: source.titles_file.as_ref().map(|name| folder.join(name)) }
}

/// A file beside the data while they are fetched.
fn hidden(source: &Source, folder: &Path, kind: &str) -> PathBuf {
    folder.join(format!(".{}.{kind}", source.file))
}

fn is_archive(file: &Path) -> Result<bool> {
    let mut start = [0; 4];
    let mut reader = File::open(file).map_err(Error::file("open", file))?;
    Ok(reader.read_exact(&mut start).is_ok() && start == *b"PK\x03\x04")
}

/// Refuses a file of another size or checksum.
fn check(file: &Path, checksum: &Checksum, size: Option<u64>) -> Result<()> {
    let name = file.display();
    let length = fs::metadata(file).map_err(Error::file("open", file))?.len();
    if let Some(size) = size.filter(|&size| size != length) {
        return Err(Error::Data(format!("{name}: has {length} bytes where the recipe says {size}")));
    }
    let found = checksum.of_file(file).map_err(Error::file("read", file))?;
    if found != *checksum {
        return Err(Error::Data(format!("{name}: has {found} where the recipe says {checksum}")));
    }
    Ok(())
}

#[cfg(feature = "download")]
use http::get;

#[cfg(not(feature = "download"))]
fn get(source: &Source, _: &Path, _: &mut dyn FnMut(News<'_>)) -> Result<bool> {
    let url = &source.url;
    Err(Error::Download(format!(
        "this program was built without the feature download: fetch {url} and give it as --file"
    )))
}
