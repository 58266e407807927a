//! Event files that TensorBoard reads: the scalars of a run, beside `metrics.jsonl`.
//!
//! A record is its length, a checksum of the length, the event as a protocol buffer, and a checksum of that. The messages
//! are those of TensorFlow's `event.proto` and `summary.proto`, as far as scalars take them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::Value;

use crate::error::{Error, Result};

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Written where it is 0, too: TensorBoard has it as one of several kinds of values.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The status of a [`SessionLog`] by which TensorBoard forgets what was recorded from its step on.
const START: i32 = 1;

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new event file in a run's folder. With `after`, events of other files there that are later than this step are
    /// void: a run that goes on from a checkpoint repeats them.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn create(folder: &Path, after: Option<u64>) -> Result<EventFile> {
        let seconds = now() as u64;
        // TensorBoard reads a folder's files in the order of their names.
        for number in 0..1000 {
            let path = folder.join(format!("{PREFIX}{seconds:010}.{number:03}.prismrec"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut events = EventFile { path, file };
                    events.add(Event { file_version: Some("brain.Event:2".into()), ..Event::default() })?;
                    if let Some(step) = after {
                        let session_log = Some(SessionLog { status: START });
                        events.add(Event { step: step as i64 + 1, session_log, ..Event::default() })?;
                    }
                    return Ok(events);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::file("write", path)(e)),
            }
        }
        Err(Error::Data(format!("{}: has a thousand event files of this second", folder.display())))
    }

    /// Whether a run's folder has event files.
    pub fn any_in(folder: &Path) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    }

    /// Adds the scalars of a line of `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::File`] where they cannot be written.
    pub fn record(&mut self, line: &Value, step: u64) -> Result<()> {
        self.scalars(scalars(line), step)
    }

    /// Adds scalars by their names.
    ///
    /// # Errors
    /// [`Error::File`] where they cannot be written.
    pub fn scalars(&mut self, scalars: Vec<(String, f64)>, step: u64) -> Result<()> {
        if scalars.is_empty() {
            return Ok(());
        }
        let scalar = |(tag, value)| Scalar { tag, simple_value: Some(value as f32) };
        let value = scalars.into_iter().map(scalar).collect();
        self.add(Event { step: step as i64, summary: Some(Summary { value }), ..Event::default() })
    }

    fn add(&mut self, event: Event) -> Result<()> {
        let event = Event { wall_time: now(), ..event };
        // In one piece: a reader that comes meanwhile waits for the rest of a record.
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(Error::file("write", &self.path))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A record: length, its checksum, content, its checksum.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), content, &masked(content).to_le_bytes()].concat()
}

/// A checksum of what may itself hold checksums.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The figures of a line, under names that TensorBoard groups by what is before the stroke.
fn scalars(line: &Value) -> Vec<(String, f64)> {
    let figures = |group: &str, value: &Value| -> Vec<(String, f64)> {
        let named = |(name, value): (&String, &Value)| Some((format!("{group}/{name}"), value.as_f64()?));
        value.as_object().into_iter().flatten().filter_map(named).collect()
    };
    let both = |part: &str, value: &Value| -> Vec<(String, f64)> {
        ["sampled", "full"]
            .into_iter()
            .flat_map(|protocol| figures(&format!("{part}_{protocol}"), &value[protocol]))
            .collect()
    };
    match line["event"].as_str() {
        Some(event @ ("epoch" | "refit_epoch")) => {
            let mut scalars = figures(event, line);
            // They are the axis.
            scalars.retain(|(name, _)| !name.ends_with("/epoch") && !name.ends_with("/step"));
            scalars.extend(both("valid", &line["valid"]));
            scalars
        }
        Some("validation") => both("valid", &line["valid"]),
        Some(event @ ("test" | "refit_test")) => both(event, line),
        Some("intentions") => figures("intentions", line),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// CRC-32C bit by bit.
    fn plain_crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }

    /// Reads a file of records, checking the checksums.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let check = |content: &[u8], sum: u32| {
            let crc = plain_crc(content);
            assert_eq!(crc.rotate_left(17).wrapping_add(0xa282_ead8), sum, "checksum of {content:?}");
        };
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            check(&bytes[..8], word(&bytes[8..]));
            check(&bytes[12..12 + length], word(&bytes[12 + length..]));
            events.push(Event::decode(&bytes[12..12 + length]).unwrap());
            bytes = &bytes[16 + length..];
        }
        events
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn begins_as_tensorflow_begins_its_files() {
        let folder = tempfile::tempdir().unwrap();
        EventFile::create(folder.path(), None).unwrap();
        let bytes = std::fs::read(&files(folder.path())[0]).unwrap();
        // The first record of every event file: 24 bytes, their checksum, a time as a double, the version.
        assert_eq!(bytes[..13], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 9]);
        assert_eq!(&bytes[21..36], b"\x1a\x0dbrain.Event:2");
        let events = read(&bytes);
        assert_eq!(events.len(), 1);
        assert!(events[0].wall_time > 1.7e9);
    }

    #[test]
    fn records_the_scalars_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), None).unwrap();
        let epoch = json!({ "event": "epoch", "epoch": 2, "step": 60, "loss_s2i": 0.0, "peak_memory_bytes": null,
            "valid": { "sampled": { "ndcg@10": 0.5 }, "full": { "mrr": 0.125 } } });
        events.record(&epoch, 60).unwrap();
        events.record(&json!({ "event": "start", "users": 3 }), 60).unwrap();
        events.record(&json!({ "event": "test", "epoch": 2, "users": 9, "full": { "mrr": 0.25 } }), 60).unwrap();
        let read = read(&std::fs::read(&files(folder.path())[0]).unwrap());
        let scalars: Vec<Vec<(&str, f32)>> = read
            .iter()
            .filter_map(|event| event.summary.as_ref())
            .map(|s| s.value.iter().map(|scalar| (scalar.tag.as_str(), scalar.simple_value.unwrap())).collect())
            .collect();
        assert_eq!(
            scalars,
            [
                vec![("epoch/loss_s2i", 0.0), ("valid_sampled/ndcg@10", 0.5), ("valid_full/mrr", 0.125)],
                vec![("test_full/mrr", 0.25)]
            ]
        );
        assert!(read[1..].iter().all(|event| event.step == 60));
    }

    #[test]
    fn a_later_file_voids_what_was_recorded_after_its_step() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!EventFile::any_in(folder.path()));
        for step in [None, Some(40)] {
            EventFile::create(folder.path(), step).unwrap();
        }
        let files = files(folder.path());
        assert_eq!(files.len(), 2, "{files:?}");
        let later = read(&std::fs::read(&files[1]).unwrap());
        assert_eq!((later[1].step, later[1].session_log.as_ref().unwrap().status), (41, START));
        assert!(EventFile::any_in(folder.path()));
    }
}
