//! Gets what a URL gives into a file, in as many requests as it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};

use super::News;
use crate::error::{Error, Result};
use crate::experiments::recipes::Source;

/// Requests of one download; each but the last brought some bytes.
const REQUESTS: usize = 20;
/// A server that says nothing for so long has broken off.
const SILENCE: Duration = Duration::from_secs(60);

/// How a request ended.
enum Ended {
    Whole,
    /// Why; what came is in the file.
    BrokenOff(String),
    /// What is in the file is no beginning of what the server has.
    Anew,
}

/// Gets the source's file into `part`, which may hold its beginning. Says whether it did.
///
/// # Errors
/// [`Error::Download`] where the server refuses, has a file of another size, or breaks off without giving any more. Where
/// nothing came, no file is left.
pub(super) fn get(source: &Source, part: &Path, tell: &mut dyn FnMut(News<'_>)) -> Result<bool> {
    let validator = part.with_extension("validator");
    let got = get_into(source, part, &validator, tell);
    if got.is_err() && fs::metadata(part).is_ok_and(|part| part.len() == 0) {
        for file in [part, &validator] {
            // What matters is why nothing came.
            let _ = fs::remove_file(file);
        }
    }
    got
}

fn get_into(source: &Source, part: &Path, validator: &Path, tell: &mut dyn FnMut(News<'_>)) -> Result<bool> {
    let io = || Error::file("write", part);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(part).map_err(io())?;
    let mut length = file.metadata().map_err(io())?.len();
    let gone_on = length > 0;
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("prismrec/", env!("CARGO_PKG_VERSION")))
        .build();
    let download = Download { agent: config.into(), source, validator };
    for _ in 0..REQUESTS {
        match download.request(&mut file, length, tell).map_err(|e| match e {
            Wrong::File(e) => io()(e),
            Wrong::Server(reason) => Error::Download(format!("{}: {reason}", source.url)),
        })? {
            Ended::Whole => {
                file.sync_all().map_err(io())?;
                if validator.exists() {
                    fs::remove_file(validator).map_err(Error::file("remove", validator))?;
                }
                return Ok(gone_on);
            }
            Ended::Anew => {
                file.set_len(0).map_err(io())?;
                length = 0;
            }
            Ended::BrokenOff(reason) => {
                let now = file.metadata().map_err(io())?.len();
                if now <= length {
                    return Err(broken_off(source, now, &reason));
                }
                length = now;
                tell(News::BrokenOff { at: now });
            }
        }
    }
    Err(broken_off(source, length, "again and again"))
}

fn broken_off(source: &Source, at: u64, reason: &str) -> Error {
    let url = &source.url;
    Error::Download(match (at, source.size) {
        (0, _) => format!("{url}: cannot be fetched: {reason}"),
        (at, Some(size)) => format!("{url}: broke off after {at} of {size} bytes: {reason}; the same command goes on"),
        (at, None) => format!("{url}: broke off after {at} bytes: {reason}; the same command goes on"),
    })
}

enum Wrong {
    File(std::io::Error),
    Server(String),
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Wrong {
        Wrong::File(error)
    }
}

struct Download<'a> {
    agent: ureq::Agent,
    source: &'a Source,
    /// Holds what tells the server's file from another under the same name: its ETag or its date.
    validator: &'a Path,
}

impl Download<'_> {
    /// Asks for what comes after the first `from` bytes.
    fn request(&self, file: &mut File, from: u64, tell: &mut dyn FnMut(News<'_>)) -> std::result::Result<Ended, Wrong> {
        let Source { url, size, .. } = self.source;
        match size {
            Some(size) if from == *size => return Ok(Ended::Whole),
            Some(size) if from > *size => return Ok(Ended::Anew),
            _ => tell(News::Fetching { url, from, size: *size }),
        }
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
            if let Ok(validator) = fs::read_to_string(self.validator) {
                request = request.header("if-range", validator);
            }
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Ended::BrokenOff(error.to_string())),
        };
        let (parts, body) = response.into_parts();
        // The whole file's size, as the server has it.
        let total = match parts.status {
            StatusCode::OK => {
                file.set_len(0)?;
                body.content_length()
            }
            StatusCode::PARTIAL_CONTENT => match range(&parts.headers) {
                Some((first, total)) if first == from => total,
                _ if from > 0 => return Ok(Ended::Anew),
                _ => return Err(Wrong::Server("sends a part that was not asked for".into())),
            },
            // Nothing lies behind what is there: that is all of it, or of another file. The checksum tells.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 && size.is_none() => return Ok(Ended::Whole),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(Ended::Anew),
            status => return Err(Wrong::Server(format!("the server answers {status}"))),
        };
        if let (Some(total), Some(size)) = (total, size)
            && total != *size
        {
            return Err(Wrong::Server(format!("the server has {total} bytes where the recipe says {size}")));
        }
        match validator(&parts.headers) {
            Some(validator) => fs::write(self.validator, validator)?,
            None if self.validator.exists() => fs::remove_file(self.validator)?,
            None => {}
        }
        let mut at = file.seek(SeekFrom::End(0))?;
        let (mut body, mut buffer) = (body.into_reader(), vec![0; 1 << 16]);
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => return Ok(Ended::BrokenOff(error.to_string())),
            };
            at += n as u64;
            if let Some(size) = size.filter(|&size| at > size) {
                file.set_len(0)?;
                return Err(Wrong::Server(format!("the server sends more than the {size} bytes that the recipe says")));
            }
            file.write_all(&buffer[..n])?;
            tell(News::Fetched(at));
        }
        match size.or(total) {
            Some(size) if at < size => Ok(Ended::BrokenOff("the answer ended".into())),
            _ => Ok(Ended::Whole),
        }
    }
}

/// The first byte of `bytes 100-199/200`, and the number behind the stroke, where it is one.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get("content-range")?.to_str().ok()?;
    let (first, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
    Some((first.trim().parse().ok()?, rest.split_once('/').and_then(|(_, total)| total.trim().parse().ok())))
}

/// A strong ETag, else the date: what `If-Range` may hold.
fn validator(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text("etag").filter(|tag| !tag.starts_with("W/")).or_else(|| text("last-modified"))
}
