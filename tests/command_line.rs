//! The command line: what it prints, what it refuses, and how it says so.

mod program;

use std::fs;
use std::path::Path;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use program::{prismrec, refused};

/// A folder with `data.txt`: 40 users who walk through 25 items in steps of one, two or three.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..40).flat_map(|user| {
        (0..10).map(move |click| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 25))
    });
    fs::write(folder.path().join("data.txt"), lines.collect::<String>()).unwrap();
    folder
}

/// Settings that train in no time.
const SMALL: &str = "\
dim = 8
length = 8
blocks = 1
batch = 32
epochs = 2
engine = \"cpu\"
threads = 1
";

/// A folder with a run in `run`.
fn trained() -> tempfile::TempDir {
    let folder = folder();
    fs::write(folder.path().join("small.toml"), SMALL).unwrap();
    prismrec(folder.path(), &["train", "data.txt", "--config", "small.toml", "--run", "run"]).assert().success();
    folder
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn help_shows_every_command_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    prismrec(folder.path(), &["--help"])
        .assert()
        .success()
        .stdout(contains("train").and(contains("evaluate")).and(contains("recommend")).and(contains("similar")));
    for command in [
        "train",
        "data",
        "evaluate",
        "recommend",
        "similar",
        "intentions",
        "export",
        "report",
        "shaders",
        "tune",
        "reproduce",
    ] {
        prismrec(folder.path(), &[command, "--help"])
            .assert()
            .success()
            .stdout(contains("Examples:").and(contains(format!("prismrec {command}"))));
    }
    let train = prismrec(folder.path(), &["train", "--help"]).output().unwrap();
    let help = String::from_utf8(train.stdout).unwrap();
    for flag in [
        "dim",
        "intentions",
        "blocks",
        "length",
        "dropout",
        "lambda",
        "l2",
        "position-from",
        "variant",
        "batch",
        "lr",
        "epochs",
        "steps",
        "eval-every",
        "patience",
        "seed",
        "threads",
        "engine",
        "adapter",
        "run",
        "resume",
        "config",
        "refit",
        "item-deviation",
        "valid-users",
        "item-storage",
        "activations",
    ] {
        assert!(help.contains(&format!("--{flag}")), "help says nothing of --{flag}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    prismrec(folder.path(), &["train", "--dimm", "3"]).assert().code(2).stderr(contains("--dim"));
    prismrec(folder.path(), &["train", "--dim", "many"]).assert().code(2).stderr(contains("many"));
    prismrec(folder.path(), &["train", "--variant", "next4"]).assert().code(2).stderr(contains("next3"));
    prismrec(folder.path(), &["recommend", "x"]).assert().code(2).stderr(contains("--history"));
    prismrec(folder.path(), &[]).assert().code(2);
}

#[test]
fn settings_out_of_range_are_refused_with_the_range() {
    let folder = folder();
    let refused = |flag: &str, value: &str, range: &str| {
        refused(folder.path(), &["train", "data.txt", flag, value], &[&flag[2..], range]);
    };
    refused("--dim", "257", "1 to 256");
    refused("--dropout", "1", "0.0 to below 1.0");
    refused("--lambda", "1.5", "0.0 to 1.0");
    refused("--lr", "nan", "1e-9 to 1.0");
    // Settings that do not fit each other.
    refused("--batch", "16384", "at most 4096");
    assert!(!folder.path().join("runs").exists(), "a refused run left a folder");
}

#[test]
fn a_settings_file_is_checked_by_line() {
    let folder = folder();
    for (text, what) in [
        ("dim = 8\nposition_form = \"end\"\n", ["small.toml:2: ", "did you mean \"position-from\"?"]),
        ("dim = 8\n\nxyz = 1\n", ["small.toml:3: ", "there is no setting \"xyz\"; there are: data"]),
        ("dim = \"8\"\n", ["small.toml:1: ", "expected usize"]),
        ("eval-every = 2\npatience = -1\n", ["small.toml:2: ", "expected u64"]),
        ("eval-every = \"often\"\n", ["small.toml:1: ", "500steps"]),
        ("dim = \n", ["small.toml:1: ", ""]),
    ] {
        fs::write(folder.path().join("small.toml"), text).unwrap();
        refused(folder.path(), &["train", "data.txt", "--config", "small.toml"], &what);
    }
    refused(folder.path(), &["train", "--config", "none.toml"], &["none.toml: cannot read", "caused by: No such file"]);
}

#[test]
fn bad_data_are_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.txt");
    fs::write(&path, "a 1\na 2\nb\n").unwrap();
    refused(folder.path(), &["train", "bad.txt", "--engine", "cpu"], &["bad.txt:3: "]);
    fs::write(&path, "").unwrap();
    refused(folder.path(), &["train", "bad.txt", "--engine", "cpu"], &["bad.txt"]);
    fs::write(&path, "a 1\nb 2\n").unwrap();
    refused(folder.path(), &["train", "bad.txt", "--engine", "cpu"], &["no training examples"]);
    refused(folder.path(), &["train", "none.txt", "--engine", "cpu"], &["none.txt", "caused by: No such file"]);
}

#[test]
fn data_may_be_named_by_a_flag_too() {
    let folder = folder();
    let path = folder.path();
    let lines = fs::read_to_string(path.join("data.txt")).unwrap();
    let (first, second) = lines.split_at(lines.find("user20 ").unwrap());
    fs::write(path.join("small.toml"), SMALL).unwrap();
    fs::write(path.join("first.txt"), first).unwrap();
    fs::write(path.join("second.txt"), second).unwrap();
    let forms = [&["first.txt", "second.txt"][..], &["--data", "first.txt", "--data", "second.txt"]];
    for (number, form) in forms.into_iter().enumerate() {
        let run = format!("run{number}");
        let train = ["train", "--config", "small.toml", "--epochs", "1", "--run", &run];
        prismrec(path, &[&train[..], form].concat()).assert().success().stdout(contains("40 users, 25 items"));
    }
    for command in [&["train"][..], &["tune", "--study", "study"], &["reproduce", "figure5"]] {
        for form in [&["data.txt", "nowhere.txt"][..], &["--data", "nowhere.txt"]] {
            refused(path, &[command, form].concat(), &["nowhere.txt: cannot"]);
        }
        let both = prismrec(path, &[command, &["data.txt", "--data", "data.txt"]].concat()).assert().code(2);
        both.stderr(contains("'[DATA]' cannot be used with '--data <FILE>'"));
        let help = prismrec(path, &[&command[..1], &["--help"]].concat()).assert().success();
        help.stdout(contains("[DATA]").and(contains("--data ").not()));
    }
}

#[test]
fn flags_win_over_the_file_and_the_run_records_both() {
    let folder = trained();
    let path = folder.path();
    let arguments = ["train", "data.txt", "--config", "small.toml", "--dim", "6", "--epochs", "1"];
    prismrec(path, &arguments)
        .assert()
        .success()
        .stdout(predicates::str::starts_with("engine cpu: "))
        .stdout(contains("data.txt: 40 users, 25 items, 400 interactions"))
        .stdout(contains("sampled, against").and(contains("full, against")));
    // No name was given.
    let run = path.join("runs").join("data-1");
    let settings = &lines(&run)[0]["settings"];
    assert_eq!((&settings["dim"], &settings["length"], &settings["epochs"]), (&6.into(), &8.into(), &1.into()));
    // The record is a file of settings that gives the same run.
    let config = "runs/data-1/settings.toml";
    prismrec(path, &["train", "--config", config]).assert().success();
    let again = path.join("runs").join("data-2");
    let tables = [&run, &again].map(|run| fs::read(run.join("best.safetensors")).unwrap());
    assert!(tables[0] == tables[1], "the recorded settings gave another run");
}

#[test]
fn a_profile_has_every_kernel_of_the_step_on_each_engine() {
    for engine in ["cpu", "gpu"] {
        let folder = folder();
        fs::write(folder.path().join("small.toml"), SMALL).unwrap();
        let arguments = ["train", "data.txt", "--config", "small.toml", "--epochs", "8", "--engine", engine];
        prismrec(folder.path(), &[&arguments[..], &["--run", "run", "--profile", "trace.json"]].concat())
            .assert()
            .success()
            .stdout(contains("profile of ").and(contains("ceilings, as measured")).and(contains("attention_backward")));
        let trace: Value = serde_json::from_slice(&fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let rows: Vec<_> =
            events.iter().filter(|event| event["ph"] == "M").map(|event| &event["args"]["name"]).collect();
        for kernel in ["embed", "linear", "contrastive", "adam_rows"] {
            assert_eq!(rows.iter().filter(|name| **name == kernel).count(), 1, "{engine}: {kernel} in {rows:?}");
        }
        let calls: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        let (times, ends): (Vec<_>, Vec<_>) = calls
            .iter()
            .map(|call| (call["ts"].as_f64().unwrap(), call["dur"].as_f64().unwrap()))
            .map(|(start, time)| (time, start + time))
            .unzip();
        assert!(times.iter().all(|&time| time >= 0.0) && times.iter().any(|&time| time > 0.0), "{engine}");
        assert!(calls.iter().all(|call| call["args"]["bytes"].as_f64().unwrap() > 0.0), "{engine}: work");
        // One call after the other.
        assert!(
            calls.iter().skip(1).zip(&ends).all(|(next, &end)| next["ts"].as_f64().unwrap() >= end - 0.01),
            "{engine}"
        );
    }
}

#[test]
fn a_short_run_is_profiled_as_far_as_it_goes() {
    for (steps, told) in [
        ("1", "no profile, and no trace in trace.json: only steps after a run's first one are measured"),
        ("2", "profile of 1 training step (too few to warm up first: the run has no more), trace in trace.json"),
        ("10", "profile of 9 training steps (too few to warm up first"),
        ("11", "profile of 1 training step, trace in trace.json"),
    ] {
        let folder = folder();
        fs::write(folder.path().join("small.toml"), SMALL).unwrap();
        let arguments = ["train", "data.txt", "--config", "small.toml", "--epochs", "8", "--steps", steps];
        prismrec(folder.path(), &[&arguments[..], &["--engine", "cpu", "--profile", "trace.json"]].concat())
            .assert()
            .success()
            .stdout(contains(told));
        assert_eq!(folder.path().join("trace.json").exists(), steps != "1", "{steps} steps");
        if steps != "1" {
            let trace: Value = serde_json::from_slice(&fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
            let calls = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
            let lists: std::collections::BTreeSet<_> = calls.map(|call| call["args"]["list"].to_string()).collect();
            let steps: u64 = steps.parse().unwrap();
            let step = |number: &u64| lists.contains(&format!("\"step {number}\""));
            assert!((if steps > 10 { 11 } else { 2 }..=steps).all(|number| step(&number)), "{lists:?}");
            assert!(!step(&1), "{lists:?}");
        }
    }
}

#[test]
fn a_profile_that_cannot_be_written_is_refused_before_training() {
    let folder = folder();
    fs::create_dir(folder.path().join("trace")).unwrap();
    for place in ["no/such/folder/trace.json", "trace", "data.txt/trace.json"] {
        let arguments = ["train", "data.txt", "--engine", "cpu", "--run", "run", "--profile", place];
        refused(folder.path(), &arguments, &[&format!("{place}: cannot write"), "caused by"]);
        assert!(!folder.path().join("run").exists(), "{place}: a refused run left a folder");
    }
}

#[test]
fn a_run_is_not_overwritten() {
    let folder = trained();
    refused(
        folder.path(),
        &["train", "data.txt", "--engine", "cpu", "--run", "run"],
        &["run is not empty", "--resume"],
    );
}

#[test]
fn evaluate_repeats_the_figures_exactly() {
    let folder = trained();
    let path = folder.path();
    let recorded = lines(&path.join("run"));
    let find = |event: &str| recorded.iter().rev().find(|line| line["event"] == event).unwrap();
    let test = find("test");
    let chosen = recorded.iter().find(|line| line["event"] == "epoch" && line["epoch"] == test["epoch"]).unwrap();
    let evaluated = |arguments: &[&str]| -> Vec<Value> {
        let output = prismrec(path, arguments).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let both = evaluated(&["evaluate", "run", "data.txt", "--json"]);
    assert_eq!(both.len(), 2);
    assert_eq!((&both[0]["metrics"], &both[1]["metrics"]), (&test["sampled"], &test["full"]));
    assert_eq!((&both[0]["users"], &both[0]["counts"]["items"]), (&40.into(), &25.into()));
    for protocol in ["sampled", "full"] {
        let part = ["--part", "validation", "--protocol", protocol, "--json"];
        let one = evaluated(&[&["evaluate", "run/best.safetensors", "data.txt"], &part[..]].concat());
        assert_eq!(one.len(), 1);
        assert_eq!(one[0]["metrics"], chosen["valid"][protocol], "validation, {protocol}");
    }
    prismrec(path, &["evaluate", "run"])
        .assert()
        .success()
        .stdout(contains("test, 40 users, sampled").and(contains("test, 40 users, full")));
}

#[test]
fn a_popularity_of_training_or_of_an_evaluation_is_named_with_its_figures() {
    let folder = trained();
    let train = ["train", "data.txt", "--config", "small.toml", "--run", "popular", "--popularity", "1.5"];
    let said = ", popularity 1.5";
    prismrec(folder.path(), &train).assert().success().stdout(contains(format!("40 users{said}: sampled")));
    let evaluate = |arguments: &[&str]| {
        let command =
            prismrec(folder.path(), &[&["evaluate", "--json", "--engine", "cpu"], arguments].concat()).unwrap();
        let lines = String::from_utf8(command.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let popular = evaluate(&["popular"]);
    let [plain, added] = [&["run"][..], &["run", "--popularity", "1.5"]].map(evaluate);
    assert_eq!(popular[0]["prior"]["popularity"], 1.5);
    assert!(plain[0].get("prior").is_none() && plain[1]["metrics"] != added[1]["metrics"]);
    // Training knows nothing of it, but by the epoch that it chooses.
    let last = |run: &str| evaluate(&[&format!("{run}/last.safetensors"), "--popularity", "0"]);
    assert_eq!(last("run"), last("popular"));
    let mut text = prismrec(folder.path(), &["evaluate", "popular", "--engine", "cpu"]);
    text.assert().success().stdout(contains(format!("popular items they never met{said}:")));
}

#[test]
fn evaluate_repeats_the_figures_of_a_run_with_noise() {
    let folder = trained();
    let path = folder.path();
    for engine in ["cpu", "gpu"] {
        let arguments =
            ["train", "data.txt", "--config", "small.toml", "--noise", "0.4", "--refit", "--engine", engine];
        prismrec(path, &[&arguments[..], &["--run", engine]].concat()).assert().success();
        let recorded = lines(&path.join(engine));
        assert_eq!(recorded[0]["settings"]["noise"], 0.4);
        for (file, event) in [("best", "test"), ("refit", "refit_test")] {
            let file = format!("{engine}/{file}.safetensors");
            let output = prismrec(path, &["evaluate", &file, "data.txt", "--json"]).assert().success();
            let output = String::from_utf8(output.get_output().stdout.clone()).unwrap();
            let test = recorded.iter().find(|line| line["event"] == event).unwrap();
            for (line, protocol) in output.lines().zip(["sampled", "full"]) {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["metrics"], test[protocol], "{file}, {protocol}");
            }
        }
    }
    let cleaned = fs::read(path.join("run/best.safetensors")).unwrap();
    assert_ne!(cleaned, fs::read(path.join("cpu/best.safetensors")).unwrap());
}

#[test]
fn evaluate_refuses_items_that_the_checkpoint_does_not_know() {
    let folder = trained();
    fs::write(folder.path().join("other.txt"), "u item-1\nu item-2\nu strange\n").unwrap();
    refused(folder.path(), &["evaluate", "run", "other.txt"], &["strange"]);
    // Known items in other sequences are fine, but they are not the data of the training.
    fs::write(folder.path().join("other.txt"), "u item-1\nu item-2\nu item-24\n").unwrap();
    prismrec(folder.path(), &["evaluate", "run", "other.txt"])
        .assert()
        .success()
        .stdout(contains("not the data that it was trained on"));
}

#[test]
fn recommend_gives_items_scores_and_intentions() {
    let folder = trained();
    let path = folder.path();
    let asked = |more: &[&str]| -> Value {
        let arguments =
            [&["recommend", "run", "--history", "item-3,item-4", "--history", "item-5", "--json"], more].concat();
        let output = prismrec(path, &arguments).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    };
    let items = |answer: &Value| -> Vec<String> {
        let list = answer["recommendations"].as_array().unwrap();
        list.iter().map(|r| r["item"].as_str().unwrap().to_owned()).collect()
    };
    let answer = asked(&["--top", "7"]);
    let list = answer["recommendations"].as_array().unwrap();
    assert_eq!(list.len(), 7);
    assert!(list.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()), "{answer}");
    assert!(list.iter().all(|r| r["intention"].as_u64().is_some_and(|k| k < 4)), "{answer}");
    let history = ["item-3", "item-4", "item-5"].map(String::from);
    let others = items(&asked(&["--top", "100"]));
    assert_eq!(others.len(), 22);
    assert!(history.iter().all(|item| !others.contains(item)), "{others:?}");
    let all = items(&asked(&["--top", "100", "--keep-history"]));
    assert_eq!(all.len(), 25);
    assert!(history.iter().all(|item| all.contains(item)), "{all:?}");
    prismrec(path, &["recommend", "run", "--history", "item-3"])
        .assert()
        .success()
        .stdout(contains("intention").and(contains("item-")));
    refused(path, &["recommend", "run", "--history", "item-3,what,ever"], &["\"what\", \"ever\""]);
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let folder = folder();
    let path = folder.path();
    refused(path, &["evaluate", "data.txt", "data.txt"], &["data.txt: is no safetensors file"]);
    refused(
        path,
        &["recommend", "none.safetensors", "--history", "1"],
        &["none.safetensors: cannot read", "caused by"],
    );
}

#[test]
fn resume_takes_only_what_may_change() {
    let folder = trained();
    let path = folder.path();
    refused(path, &["train", "--resume", "run", "--dim", "16"], &["--dim cannot be given with --resume"]);
    refused(path, &["train", "--resume", "data.txt"], &["no run to go on with"]);
    fs::write(path.join("other.txt"), "u item-1\nu item-2\nu item-3\n").unwrap();
    refused(path, &["train", "other.txt", "--resume", "run"], &["not the data that the run began with"]);
    fs::rename(path.join("data.txt"), path.join("moved.txt")).unwrap();
    refused(path, &["train", "--resume", "run"], &["data.txt: cannot", "caused by"]);
    // More epochs, from the data's new place.
    prismrec(path, &["train", "moved.txt", "--resume", "run", "--epochs", "3"]).assert().success();
    let lines = lines(&path.join("run"));
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["start", "epoch", "epoch", "epoch", "test"]);
    assert!(fs::read_to_string(path.join("run/settings.toml")).unwrap().contains("epochs = 3"));
}

/// Ctrl-C saves; going on ends as if nothing had happened.
#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_can_be_gone_on_from() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let folder = trained();
    let path = folder.path();
    let arguments = ["train", "data.txt", "--config", "small.toml", "--patience", "0", "--run", "long"];
    let child = std::process::Command::new(assert_cmd::cargo::cargo_bin("prismrec"))
        .current_dir(path)
        .args(arguments)
        .args(["--epochs", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while fs::read_to_string(path.join("long/metrics.jsonl")).unwrap_or_default().lines().count() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "no epoch in a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    let signalled = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(130), "{stdout}{stderr}");
    assert!(stdout.contains("go on with: prismrec train --resume long"), "{stdout}");
    let done = lines(&path.join("long")).iter().filter(|line| line["event"] == "epoch").count();
    let epochs = (done + 1).to_string();
    prismrec(path, &["train", "--resume", "long", "--epochs", &epochs]).assert().success();
    prismrec(path, &[&arguments[..6], &["--run", "whole", "--epochs", &epochs]].concat()).assert().success();
    let losses = |run: &str| -> Vec<Value> { lines(&path.join(run)).iter().map(|l| l["loss_total"].clone()).collect() };
    assert_eq!(losses("long"), losses("whole"));
    let [long, whole] = ["long", "whole"].map(|run| {
        prismrec::checkpoint::Checkpoint::load(&path.join(run).join("last.safetensors")).unwrap().parameters
    });
    assert!(long == whole, "an interrupted run ended with other parameters");
}

#[test]
fn shells_and_manual_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = prismrec(folder.path(), &["completions", shell]).assert().success();
        script.stdout(contains("evaluate").and(contains("download")).and(contains("item-deviation")));
    }
    prismrec(folder.path(), &["completions", "cmd"]).assert().code(2).stderr(contains("fish"));
    prismrec(folder.path(), &["man"]).assert().success().stdout(contains(".TH prismrec").and(contains("recommend")));
    prismrec(folder.path(), &["man", "train"]).assert().success().stdout(contains("\\-\\-item\\-deviation"));
    refused(folder.path(), &["man", "trian"], &["there is no command \"trian\"; there are: train, data"]);
    prismrec(folder.path(), &["man", "--out", "pages"]).assert().success();
    for page in ["prismrec.1", "prismrec-train.1", "prismrec-man.1"] {
        assert!(folder.path().join("pages").join(page).is_file(), "{page}");
    }
}
