//! Takes one file out of a zip archive.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use zip::ZipArchive;

use super::checksum::Checksum;
use crate::error::{Error, Result};
use crate::run::write_by;

/// Writes the member to `to`: the one of this name, or the only one that has it behind its folders.
///
/// # Errors
/// [`Error::Data`] where the file is no archive, has no such member, or one with another checksum.
pub(super) fn unpack(archive: &Path, member: &str, to: &Path, checksum: Option<&Checksum>) -> Result<()> {
    let wrong = |reason: String| Error::Data(format!("{}: {reason}", archive.display()));
    let file = BufReader::new(File::open(archive).map_err(Error::file("open", archive))?);
    let mut zip = ZipArchive::new(file).map_err(|e| wrong(format!("is no zip archive, or a damaged one: {e}")))?;
    let names: Vec<String> = zip.file_names().flatten().map(std::borrow::Cow::into_owned).collect();
    let inside = format!("/{member}");
    let mut fitting = names.iter().filter(|name| *name == member || name.ends_with(&inside));
    let name = match (fitting.next(), fitting.next()) {
        (Some(name), None) => name.clone(),
        (Some(_), Some(_)) if names.iter().any(|name| name == member) => member.to_owned(),
        (Some(_), Some(_)) => return Err(wrong(format!("holds several {member}"))),
        (None, _) => return Err(wrong(format!("holds no {member}, but {}", names.join(", ")))),
    };
    let mut content = zip.by_name(&name).map_err(|e| wrong(format!("{name}: {e}")))?;
    write_by(to, |file| {
        io::copy(&mut content, file)?;
        match checksum.map(|checksum| Ok::<_, io::Error>((checksum, checksum.of(file)?))).transpose()? {
            Some((checksum, found)) if found != *checksum => {
                Err(io::Error::other(format!("{name} in the archive has {found} where the recipe says {checksum}")))
            }
            _ => Ok(()),
        }
    })
}
