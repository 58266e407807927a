//! Checkpoints: what is written is read, by others too, and what is damaged is refused.

use std::fs;
use std::path::Path;

use prismrec::checkpoint::{Checkpoint, DataRecord, Resume};
use prismrec::data::read::Counts;
use prismrec::data::sample::SamplerState;
use prismrec::engine::{self, EngineChoice};
use prismrec::error::Error;
use prismrec::kernels::storage::ItemStorage;
use prismrec::model::{AdamState, ITEM_TABLE, Tensors, initial_parameters};
use prismrec::settings::{Every, ItemDeviation, Settings};
use prismrec::train::{Best, Progress, Sums};

const ITEMS: [&str; 5] = ["1", "B0013OY8JY", "naïve", "say \"ciao\"", "back\\slash"];

fn checkpoint() -> Checkpoint {
    let settings = Settings {
        dim: 6,
        length: 4,
        intentions: 2,
        blocks: 1,
        eval_every: Every::Steps(7),
        item_deviation: ItemDeviation::Normal(0.1),
        lr: 0.1 + 0.2,
        ..Settings::default()
    };
    let data =
        DataRecord { counts: Counts { users: 3, items: 5, interactions: 11 }, fingerprint: "0123456789abcdef".into() };
    Checkpoint {
        parameters: initial_parameters(settings.shape(ITEMS.len()), Some(0.1), 7),
        settings,
        data,
        items: ITEMS.map(String::from).to_vec(),
        occurrences: None,
        epoch: 3,
        step: 41,
        refit: false,
        resume: None,
    }
}

fn resumable() -> Checkpoint {
    let checkpoint = checkpoint();
    let moments = |seed| -> Tensors { initial_parameters(checkpoint.settings.shape(ITEMS.len()), None, seed) };
    let updated = vec![0, 41, 7, 40, 1];
    let adam = AdamState { step: 41, updated, first_moment: moments(8), second_moment: moments(9) };
    let progress = Progress {
        sampler: SamplerState { epoch: 2, batch: 5 },
        step: 41,
        sums: Sums { examples: 99, seq2item: 1.0 / 3.0, seq2seq: 1e-17 + 0.1, ..Sums::default() },
        seconds: 1.0 / 7.0,
        best: Some(Best { score: 2.0f64.sqrt() / 10.0, epoch: 2, step: 28 }),
        stale: 1,
        lines: 3,
        ..Progress::default()
    };
    Checkpoint { occurrences: Some(vec![3, 0, 1, 4, 2]), resume: Some(Resume { adam, progress }), ..checkpoint }
}

fn reason(path: &Path) -> String {
    match Checkpoint::load(path) {
        Err(error @ Error::Checkpoint { .. }) => error.to_string(),
        other => panic!("{:?} instead of a refusal", other.map(|checkpoint| checkpoint.epoch)),
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for written in [checkpoint(), resumable()] {
        written.save(&path).unwrap();
        assert!(Checkpoint::load(&path).unwrap() == written);
        let bytes = fs::read(&path).unwrap();
        written.save(&path).unwrap();
        assert!(bytes == fs::read(&path).unwrap(), "the same checkpoint gave another file");
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.safetensors"], "something was left beside it");
}

#[test]
fn a_checkpoint_without_occurrences_gives_a_model_whose_scores_do_not_go_by_them() {
    let model = |popularity, occurrences: Option<Vec<u32>>| {
        let settings = Settings { popularity, engine: EngineChoice::Cpu, ..checkpoint().settings };
        let written = Checkpoint { settings, occurrences, ..checkpoint() };
        let engine = engine::open(&written.settings.engine_request().unwrap()).unwrap();
        written.model(engine, written.settings.hyper()).map(|_| ())
    };
    model(0.0, None).unwrap();
    model(0.5, Some(vec![3, 0, 1, 4, 2])).unwrap();
    let reason = model(0.5, None).unwrap_err().to_string();
    assert!(reason.ends_with("the checkpoint is from before that was kept"), "{reason}");
}

/// As PyTorch sees it: tensors of the published names, nothing else.
#[test]
fn others_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    checkpoint().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("item_embedding.weight"), [5, 6]);
    assert_eq!(shape("position_embedding.weight"), [4, 6]);
    assert_eq!(shape("blocks.0.attention.query.weight"), [6, 6]);
    assert_eq!(shape("blocks.0.feed_forward.outer.bias"), [6]);
    assert_eq!(shape("intention.prototypes"), [2, 6]);
    assert_eq!(shape("intention.label_bias"), [2, 6]);
    let table = file.tensor("item_embedding.weight").unwrap();
    let first = f32::from_le_bytes(table.data()[..4].try_into().unwrap());
    assert_eq!(first, checkpoint().parameters["item_embedding.weight"].data[0]);
}

#[test]
fn item_rows_of_16_bits_are_stored_as_such_and_nothing_else_is_taken_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut written = resumable();
    written.settings.item_storage = ItemStorage::Bf16;
    let round = |tensors: &mut Tensors| {
        let data = &mut tensors.get_mut(ITEM_TABLE).unwrap().data;
        data.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
    };
    round(&mut written.parameters);
    let adam = &mut written.resume.as_mut().unwrap().adam;
    round(&mut adam.first_moment);
    round(&mut adam.second_moment);
    written.save(&path).unwrap();
    assert!(Checkpoint::load(&path).unwrap() == written);
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in ["", "adam.first.", "adam.second."].map(|prefix| format!("{prefix}{ITEM_TABLE}")) {
        let tensor = file.tensor(&name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::BF16, &[5, 6][..]), "{name}");
    }
    // The same settings but for the storage, with these tensors.
    let (old, new) = (br#"\"item-storage\":\"bf16\""#, br#"\"item-storage\":\"f32\" "#);
    let at = bytes.windows(old.len()).position(|part| part == old).expect("the setting in the header");
    let mut other = bytes.clone();
    other[at..][..new.len()].copy_from_slice(new);
    fs::write(&path, other).unwrap();
    let text = reason(&path);
    assert!(text.contains(ITEM_TABLE) && text.contains("BF16") && text.contains("F32"), "{text}");
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    resumable().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for kept in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..kept]).unwrap();
        assert!(reason(&path).contains("damaged"), "{kept} bytes: {}", reason(&path));
    }
    fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
    assert!(reason(&path).contains("damaged"), "{}", reason(&path));
    // Bytes all over the header: read or refused, never a panic.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(13) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x15;
        fs::write(&path, changed).unwrap();
        drop(Checkpoint::load(&path));
    }
}

#[test]
fn tensors_that_do_not_fit_the_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = checkpoint();
        change(&mut checkpoint);
        checkpoint.save(&path).unwrap();
        reason(&path)
    };
    let text = refused(&|c| c.settings.intentions = 3);
    assert!(text.contains("intention.prototypes") && text.contains("[2, 6]") && text.contains("[3, 6]"), "{text}");
    let text = refused(&|c| drop(c.items.pop()));
    assert!(text.contains("item_embedding.weight"), "{text}");
    let text = refused(&|c| drop(c.parameters.remove("encoder_norm.bias")));
    assert!(text.contains("lacks the tensor encoder_norm.bias"), "{text}");
    let text = refused(&|c| {
        let more = c.parameters["encoder_norm.bias"].clone();
        c.parameters.insert("more".into(), more);
    });
    assert!(text.contains("tensors, where its settings call for"), "{text}");
    let text = refused(&|c| c.settings.dim = 0);
    assert!(text.contains("dim 0 is out of range"), "{text}");
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    fs::write(&path, "user item\n").unwrap();
    assert!(reason(&path).contains("no safetensors file"), "{}", reason(&path));
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    fs::write(&path, safetensors::serialize([("weight", tensor)], None).unwrap()).unwrap();
    assert!(reason(&path).contains("prismrec did not write it"), "{}", reason(&path));
    checkpoint().save(&path).unwrap();
    let error = Checkpoint::load_resumable(&path).unwrap_err();
    assert!(error.to_string().contains("parameters alone"), "{error}");
    let error = Checkpoint::load(&folder.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}

#[test]
fn a_record_from_before_a_setting_existed_has_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    let settings = checkpoint().settings;
    let newer = ["noise", "item-storage", "seq2seq-from", "temperature", "choose-by", "activations"];
    let old: String = settings
        .to_toml()
        .lines()
        .filter(|line| !newer.iter().any(|name| line.starts_with(&format!("{name} = "))))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(old.lines().count() + newer.len(), settings.to_toml().lines().count());
    fs::write(&path, old).unwrap();
    assert_eq!(Settings::read(&path).unwrap(), settings);
}
