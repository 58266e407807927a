//! `prismrec tune` and `prismrec reproduce`: what they leave, that processes share the work, that nothing is done twice, and
//! that what was killed is gone on with.

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use program::{prismrec, refused};

/// The program, started in `folder`.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    std::process::Command::new(cargo_bin("prismrec"))
        .current_dir(folder)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A folder with `data.txt` (60 users who walk through 40 items in steps of one, two or three), settings that train in no
/// time, and a space.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..60).flat_map(|user| {
        (0..10).map(move |click| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 40))
    });
    fs::write(folder.path().join("data.txt"), lines.collect::<String>()).unwrap();
    let small = "dim = 8\nlength = 8\nblocks = 1\nbatch = 32\nepochs = 4\nengine = \"cpu\"\nthreads = 1\n";
    fs::write(folder.path().join("small.toml"), small).unwrap();
    let space = "dim = [4, 8]\nlr = [1e-3, 1e-2]\nlambda = [0.1, 0.5, 1.0]\nitem-deviation = [\"glorot\", 0.1]\n";
    fs::write(folder.path().join("space.toml"), space).unwrap();
    folder
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a run's validations gave.
fn validations(folder: &Path) -> Vec<Value> {
    let lines = lines(&folder.join("metrics.jsonl"));
    lines.iter().filter(|line| line["valid"].is_object()).map(|line| line["valid"].clone()).collect()
}

/// Waits for a run to have so many lines.
fn wait_for(metrics: &Path, lines: usize) {
    let began = Instant::now();
    while fs::read_to_string(metrics).unwrap_or_default().lines().count() < lines {
        assert!(began.elapsed() < Duration::from_secs(60), "no {lines} lines in {} in a minute", metrics.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

const TUNE: [&str; 12] = [
    "tune",
    "data.txt",
    "--config",
    "small.toml",
    "--space",
    "space.toml",
    "--first-rung",
    "1",
    "--reduction",
    "2",
    "--study",
    "study",
];

#[test]
fn a_study_leaves_results_settings_and_a_run_for_every_trial() {
    let folder = folder();
    let path = folder.path();
    let output = prismrec(path, &[&TUNE[..], &["--trials", "8"]].concat()).assert().success();
    let output = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(output.contains("8 trials are done; the best by NDCG@10 in validation, sampled protocol"), "{output}");
    let results = lines(&path.join("study/trials.jsonl"));
    let numbers: Vec<_> = results.iter().map(|result| result["trial"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    let score = |result: &Value| result["score"].as_f64().unwrap();
    let best = results.iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
    let ended = |status: &str| results.iter().filter(|result| result["status"] == status).count();
    assert!(ended("stopped") > 0 && ended("finished") > 0 && ended("failed") == 0, "{results:?}");
    for result in &results {
        let (number, validated) = (result["trial"].to_string(), result["validations"].as_u64().unwrap());
        match result["status"].as_str().unwrap() {
            "finished" => assert_eq!(validated, 4),
            _ => assert!(result["rung"].as_u64() == Some(validated) && [1, 2, 4].contains(&validated), "{result}"),
        }
        // `train` gives the same trial again, as far as that went.
        let trial = path.join("study/trials").join(&number);
        let config = format!("study/trials/{number}/settings.toml");
        prismrec(path, &["train", "--config", &config, "--run", &number]).assert().success();
        let (tried, trained) = (validations(&trial), validations(&path.join(&number)));
        assert_eq!(tried.len() as u64, validated);
        assert_eq!(tried, trained[..tried.len()], "trial {number}");
        let most = tried.iter().map(|valid| valid["sampled"]["ndcg@10"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(most, score(result));
        // Nothing was tested, and nothing large is left.
        assert!(lines(&trial.join("metrics.jsonl")).iter().all(|line| line["event"] != "test"));
        assert!(!trial.join("last.safetensors").exists() && !trial.join("best.safetensors").exists());
        let settings = fs::read_to_string(trial.join("settings.toml")).unwrap();
        assert!(settings.contains(&format!("\ndim = {}\n", result["drawn"]["dim"])), "{settings}");
    }
    prismrec(path, &["train", "--config", "study/best.toml", "--run", "best"]).assert().success();
    let again = validations(&path.join("best"));
    let most = again.iter().map(|valid| valid["sampled"]["ndcg@10"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(most >= score(best), "the best settings gave {most}, the best trial {}", score(best));
    // More trials, which leave those before as they are; by the other protocol it would be another study.
    prismrec(path, &["tune", "--study", "study", "--trials", "9"]).assert().success();
    assert_eq!(lines(&path.join("study/trials.jsonl"))[..8], results);
    assert_eq!(lines(&path.join("study/trials.jsonl")).len(), 9);
    let join = |more: &[&str], what: &str| refused(path, &[&["tune", "--study", "study"], more].concat(), &[what]);
    join(&["--choose-by", "full"], "begun with another choose-by");
    join(&["--dim", "4"], "begun with another dim");
    join(&["--reduction", "4"], "begun with another reduction");
    fs::write(path.join("space.toml"), "dim = [4]\n").unwrap();
    join(&["--space", "space.toml"], "begun with another space");
}

#[test]
fn flags_are_not_drawn_and_spaces_are_checked() {
    let folder = folder();
    let path = folder.path();
    prismrec(path, &[&TUNE[..], &["--dim", "6", "--trials", "3", "--choose-by", "full"]].concat())
        .assert()
        .success()
        .stdout(contains("full protocol"));
    for result in lines(&path.join("study/trials.jsonl")) {
        assert!(result["drawn"].get("dim").is_none() && result["protocol"] == "full", "{result}");
        let trial = path.join("study/trials").join(result["trial"].to_string());
        assert!(fs::read_to_string(trial.join("settings.toml")).unwrap().contains("\ndim = 6\n"));
        let scores = validations(&trial).into_iter().map(|valid| valid["full"]["ndcg@10"].as_f64().unwrap());
        assert_eq!(scores.fold(0.0, f64::max), result["score"].as_f64().unwrap());
    }
    for (space, what) in [
        ("dimm = [4]\n", "did you mean \"dim\"?"),
        ("dim = [4, 1000]\n", "dim 1000 is out of range"),
        ("dim = [\"four\"]\n", "four"),
        ("dim = []\n", "no values for dim"),
        ("dim = 4\n", "dim = [32, 64]"),
        ("epochs = [1, 2]\n", "epochs cannot be drawn"),
    ] {
        fs::write(path.join("space.toml"), space).unwrap();
        refused(path, &[&TUNE[..10], &["--study", "other"]].concat(), &[what]);
        assert!(!path.join("other").exists(), "a refused study left a folder: {space}");
    }
}

#[test]
fn a_trial_that_the_program_cannot_take_is_recorded_and_the_others_go_on() {
    let folder = folder();
    let path = folder.path();
    // Of each range, but too many pairs together.
    fs::write(path.join("space.toml"), "batch = [32, 16384]\nlambda = [0.1, 0.5, 1.0]\n").unwrap();
    refused(path, &[&TUNE[..], &["--engine", "gpu", "--adapter", "none such"]].concat(), &["none such"]);
    assert_eq!(fs::read_dir(path.join("study/trials")).unwrap().count(), 0, "a trial was begun");
    prismrec(path, &["tune", "--study", "study", "--engine", "cpu", "--adapter", "", "--trials", "6"])
        .assert()
        .success()
        .stdout(contains("failed: batch 16384 with 4 intentions is too large"));
    let results = lines(&path.join("study/trials.jsonl"));
    assert_eq!(results.len(), 6);
    for result in &results {
        assert_eq!(result["status"] == "failed", result["drawn"]["batch"] == 16384, "{result}");
    }
    assert!(results.iter().any(|result| result["status"] == "failed"), "no such trial was drawn: {results:?}");
    assert!(fs::read_to_string(path.join("study/best.toml")).unwrap().contains("\nbatch = 32\n"));
}

#[test]
fn two_processes_share_a_study() {
    let folder = folder();
    let arguments = [&TUNE[..], &["--trials", "16"]].concat();
    let workers = [(), ()].map(|()| start(folder.path(), &arguments));
    let outputs = workers.map(|worker| worker.wait_with_output().unwrap());
    let mut begun = Vec::new();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let ended = text.lines().filter(|line| line.contains("NDCG@10") && line.starts_with("trial "));
        let numbers: Vec<u64> = ended
            .map(|line| line["trial ".len()..].split(':').next().unwrap().parse::<u64>())
            .map(Result::unwrap)
            .collect();
        assert!(!numbers.is_empty(), "a worker did nothing: {text}");
        begun.extend(numbers);
    }
    // Each trial was one worker's.
    begun.sort_unstable();
    assert_eq!(begun, (0..16).collect::<Vec<_>>());
    let recorded = lines(&folder.path().join("study/trials.jsonl"));
    assert_eq!(recorded.len(), 16);
}

#[test]
fn a_killed_trial_is_gone_on_with() {
    let folder = folder();
    let path = folder.path();
    let study =
        |name: &'static str| [&TUNE[..11], &[name, "--trials", "1", "--epochs", "150", "--patience", "0"]].concat();
    prismrec(path, &study("whole")).assert().success();
    let mut worker = start(path, &study("killed"));
    wait_for(&path.join("killed/trials/0/metrics.jsonl"), 4);
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(!path.join("killed/trials/0.json").exists(), "it was done before it was killed");
    // No settings are needed any more.
    prismrec(path, &["tune", "--study", "killed", "--trials", "1"]).assert().success();
    let trials = ["whole", "killed"].map(|study| path.join(study).join("trials/0"));
    assert_eq!(validations(&trials[0]).len(), 150);
    assert!(validations(&trials[0]) == validations(&trials[1]), "the killed trial went another way");
    let starts = lines(&trials[1].join("metrics.jsonl")).iter().filter(|line| line["event"] == "start").count();
    assert_eq!(starts, 1, "the killed trial was begun anew");
}

const REPRODUCE: [&str; 11] = [
    "reproduce",
    "all",
    "--data",
    "data.txt",
    "--config",
    "small.toml",
    "--noises",
    "0.5",
    "--lambdas",
    "1,0",
    "--seeds",
];

#[test]
fn reproduce_writes_reports_and_does_nothing_twice() {
    let folder = folder();
    let path = folder.path();
    let arguments = [&REPRODUCE[..], &["2", "--epochs", "2", "--out", "out"]].concat();
    prismrec(path, &arguments).assert().success().stdout(contains("run 1 of 14: full-lambda0.5-noise0-seed1"));
    let runs: BTreeSet<String> = fs::read_dir(path.join("out/runs"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    // Table 2: 4; figure 4: 2 more with noise; figure 5: 1 more, as lambda 0 is variant (1).
    assert_eq!(runs.len(), 14, "{runs:?}");
    let figure = |run: &str, protocol: &str, metric: &str| -> f64 {
        let lines = lines(&path.join("out/runs").join(run).join("metrics.jsonl"));
        let test = lines.iter().find(|line| line["event"] == "test").unwrap();
        test[protocol][metric].as_f64().unwrap()
    };
    let read = |name: &str| fs::read_to_string(path.join("out").join(name)).unwrap();
    let row = |name: &str, protocol: &str, begins: &str| -> String {
        let text = read(name);
        let part = &text[text.find(&format!("## Protocol `{protocol}`")).unwrap()..];
        part.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no {begins} in {part}")).to_owned()
    };
    for protocol in ["sampled", "full"] {
        // Mean and deviation of NDCG@10, the fifth figure, over both seeds.
        let of = |variant: &str| -> [f64; 2] {
            [1, 2].map(|seed| figure(&format!("{variant}-noise0-seed{seed}"), protocol, "ndcg@10"))
        };
        let shown = |[a, b]: [f64; 2]| format!("{:.4} ± {:.4}", (a + b) / 2.0, (a - b).abs() / 2.0_f64.sqrt());
        for (name, variant) in [("(0) default", "full-lambda0.5"), ("(3) the next three items", "next3")] {
            let row = row("table2.md", protocol, &format!("| {name} | here |"));
            assert_eq!(row.split(" | ").nth(6).unwrap(), shown(of(variant)), "{row}");
        }
        let lambda = row("figure5.md", protocol, "| 0 | ");
        assert_eq!(lambda.split(" | ").nth(5).unwrap(), shown(of("s2i")), "{lambda}");
        let ratios = [1, 2].map(|seed| {
            figure(&format!("s2i-noise0.5-seed{seed}"), protocol, "ndcg@10")
                / figure(&format!("s2i-noise0-seed{seed}"), protocol, "ndcg@10")
        });
        let text = read("figure4.md");
        assert!(text.contains(&shown(ratios)), "{} in {text}", shown(ratios));
        for name in ["table2", "figure4", "figure5"] {
            let svg = read(&format!("{name}-{protocol}.svg"));
            assert!(svg.starts_with("<svg") && svg.contains("<circle") && svg.contains(protocol), "{svg}");
        }
    }
    assert!(row("table2.md", "sampled", "| (0) default | the paper |").contains("0.1522 | 0.3225 | 0.4171 | 0.2404"));
    assert!(!read("table2.md").split("## Protocol `full`").nth(1).unwrap().contains("the paper |"), "not the paper's");
    // A line for each of 7 figures sampled and 11 full, of 8 runs.
    let csv = read("table2.csv");
    assert_eq!(csv.lines().count(), 1 + 8 * (7 + 11), "{csv}");
    let line = format!("table2,s2i,0,0,2,test,full,{{}},mrr,{}", figure("s2i-noise0-seed2", "full", "mrr"));
    let [begin, end] = [0, 1].map(|half| line.split("{}").nth(half).unwrap());
    assert!(csv.lines().any(|line| line.starts_with(begin) && line.ends_with(end)), "no {line}");

    // All is done: nothing runs, the same reports.
    let before = read("table2.md");
    prismrec(path, &arguments).assert().success().stdout(contains("run ").not());
    assert_eq!(read("table2.md"), before);
    // A process that ended before its run's first save leaves no run to go on with.
    let lost = path.join("out/runs/all-future-noise0-seed1");
    fs::remove_file(lost.join("last.safetensors")).unwrap();
    fs::write(lost.join("metrics.jsonl"), "").unwrap();
    prismrec(path, &arguments).assert().success().stdout(contains("run 3 of 14: all-future"));
    let reports = |text: &str| -> String { text.split("## Runs").next().unwrap().to_owned() };
    assert_eq!(reports(&read("table2.md")), reports(&before));
    // What is lost is done again, alone.
    fs::remove_dir_all(path.join("out/runs/next3-noise0-seed2")).unwrap();
    prismrec(path, &arguments).assert().success().stdout(contains("run 11 of 14: next3").and(contains("run 12").not()));
    assert_eq!(reports(&read("table2.md")), reports(&before));
    // Other settings are another folder's.
    let other = [&REPRODUCE[..], &["2", "--epochs", "3", "--out", "out"]].concat();
    refused(path, &other, &["was begun with another epochs"]);
    refused(path, &["reproduce", "figure4", "data.txt", "--noises", "2"], &["noises 2 is out of range"]);
    refused(path, &["reproduce", "table2", "data.txt", "--recipe", "beautty"], &["there are: beauty, steam, ml-1m"]);
}

#[test]
fn a_killed_reproduction_goes_on_and_refits_have_tables_of_their_own() {
    let folder = folder();
    let path = folder.path();
    let arguments = |out: &'static str| {
        let figure5 =
            ["reproduce", "figure5", "data.txt", "--config", "small.toml", "--lambdas", "0,1", "--seeds", "1"];
        [&figure5[..], &["--refit", "--epochs", "100", "--patience", "0", "--out", out]].concat()
    };
    prismrec(path, &arguments("whole")).assert().success();
    let mut worker = start(path, &arguments("killed"));
    wait_for(&path.join("killed/runs/s2i-noise0-seed1/metrics.jsonl"), 4);
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(!path.join("killed/figure5.md").exists(), "it was done before it was killed");
    prismrec(path, &arguments("killed")).assert().success();
    let report = |out: &str| fs::read_to_string(path.join(out).join("figure5.md")).unwrap();
    let [whole, killed] = ["whole", "killed"].map(|out| report(out).split("## Runs").next().unwrap().to_owned());
    assert_eq!(whole, killed);
    assert_eq!(whole.matches("Refit test").count(), 2, "{whole}");
}
