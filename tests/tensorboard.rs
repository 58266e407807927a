//! Event files for TensorBoard: they hold what `metrics.jsonl` holds, at the steps where it was measured, and a run that is
//! gone on with adds one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn train(folder: &Path, arguments: &[&str]) {
    let mut command = Command::cargo_bin("prismrec").unwrap();
    command.current_dir(folder).env_remove("RUST_LOG").arg("train").args(arguments).assert().success();
}

/// A folder with a small file of data.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..60).flat_map(|user| {
        (0..12).map(move |click| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 25))
    });
    fs::write(folder.path().join("data.txt"), lines.collect::<String>()).unwrap();
    folder
}

const SMALL: [&str; 13] =
    ["data.txt", "--dim", "8", "--length", "8", "--batch", "8", "--epochs", "2", "--engine", "cpu", "--threads", "1"];

/// A run's event files in the order in which TensorBoard reads them.
fn event_files(run: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.to_str().unwrap().contains("events.out.tfevents.")).collect();
    files.sort();
    files
}

/// A protocol buffer's fields: number, and the bytes of its value.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let value = bytes[..end].iter().rev().fold(0, |value, byte| (value << 7) | u64::from(byte & 0x7f));
        *bytes = &bytes[end..];
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

fn field(fields: &[(u64, Vec<u8>)], number: u64) -> Option<&[u8]> {
    fields.iter().find(|field| field.0 == number).map(|field| &field.1[..])
}

/// Scalars by name, with their steps.
type Scalars = BTreeMap<String, Vec<(u64, f32)>>;

/// The scalars of a file; and the steps of events that void later ones.
fn scalars(file: &Path) -> (Scalars, Vec<u64>) {
    let bytes = fs::read(file).unwrap();
    let mut rest = &bytes[..];
    let (mut scalars, mut starts) = (Scalars::new(), Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = fields(&rest[12..12 + length]);
        let step = field(&event, 2).map_or(0, |step| u64::from_le_bytes(step.try_into().unwrap()));
        if field(&event, 7).is_some() {
            starts.push(step);
        }
        for (_, value) in field(&event, 5).map_or(Vec::new(), fields) {
            let value = fields(&value);
            let name = String::from_utf8(field(&value, 1).unwrap().to_vec()).unwrap();
            let number = f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap());
            scalars.entry(name).or_default().push((step, number));
        }
        rest = &rest[16 + length..];
    }
    (scalars, starts)
}

#[test]
fn an_event_file_holds_what_is_recorded() {
    let folder = folder();
    train(folder.path(), &[&SMALL[..], &["--run", "plain"]].concat());
    assert!(event_files(&folder.path().join("plain")).is_empty(), "only where it is asked for");
    train(folder.path(), &[&SMALL[..], &["--run", "run", "--refit", "--tensorboard"]].concat());
    let run = folder.path().join("run");
    let [file] = &event_files(&run)[..] else { panic!("{:?}", event_files(&run)) };
    let (scalars, starts) = scalars(file);
    assert!(starts.is_empty());
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut compared = 0;
    let mut step = 0;
    let mut has = |name: String, step: u64, value: &Value| {
        let value = value.as_f64().unwrap() as f32;
        let found = scalars.get(&name).unwrap_or_else(|| panic!("no {name}, but {:?}", scalars.keys()));
        assert!(found.contains(&(step, value)), "{name}: no {value} at step {step}, but {found:?}");
        compared += 1;
    };
    for line in metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let event = line["event"].as_str().unwrap();
        step = line["step"].as_u64().unwrap_or(step);
        for name in ["loss_s2i", "loss_s2s", "loss_total", "examples_per_second"] {
            if event.ends_with("epoch") {
                has(format!("{event}/{name}"), step, &line[name]);
            }
        }
        let (part, figures) = if event.ends_with("test") { (event, &line) } else { ("valid", &line["valid"]) };
        for protocol in ["sampled", "full"] {
            for (name, value) in figures[protocol].as_object().into_iter().flatten() {
                has(format!("{part}_{protocol}/{name}"), step, value);
            }
        }
    }
    // Two epochs of training and of the refit, two validations, two tests.
    assert!(compared > 4 * 4 + 4 * 18 - 8, "{compared}");
    // Losses within epochs: their last step is the last of the training, their mean over the epochs about the epochs'.
    let within = &scalars["step/loss_s2i"];
    let epochs = &scalars["epoch/loss_s2i"];
    assert!(within.len() > epochs.len(), "{within:?}");
    assert_eq!(within.last().unwrap().0, epochs.last().unwrap().0);
    assert!(within.windows(2).all(|pair| pair[0].0 < pair[1].0), "{within:?}");
    let [(least, most), (low, high)] = [within, epochs].map(|points| {
        points.iter().fold((f32::MAX, f32::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)))
    });
    assert!(least <= low && high <= most, "{within:?} {epochs:?}");
    assert!(scalars.contains_key("refit_step/loss_s2i"));
}

#[test]
fn going_on_adds_a_file_and_voids_what_it_repeats() {
    let folder = folder();
    train(folder.path(), &[&SMALL[..], &["--run", "run", "--tensorboard"]].concat());
    let run = folder.path().join("run");
    let before = fs::read(&event_files(&run)[0]).unwrap();
    // Without the flag: the run has such files already.
    train(folder.path(), &["--resume", "run", "--epochs", "3"]);
    let files = event_files(&run);
    assert_eq!(files.len(), 2);
    assert_eq!(fs::read(&files[0]).unwrap(), before, "the first file stays as it was");
    let (first, _) = scalars(&files[0]);
    let (second, starts) = scalars(&files[1]);
    let last = first["epoch/loss_s2i"].last().unwrap().0;
    assert_eq!(starts, [last + 1]);
    let epochs = &second["epoch/loss_s2i"];
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0].0, last / 2 * 3);
}
