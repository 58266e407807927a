//! What lists are like, intervals and comparisons, on cases computed by hand; and `prismrec evaluate` with all of them.

mod program;
mod small;

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use prismrec::checkpoint::Checkpoint;
use prismrec::data::batch::PositionFrom;
use prismrec::data::split::Part;
use prismrec::data::titles::Titles;
use prismrec::engine;
use prismrec::error::Error;
use prismrec::evaluate::{Evaluator, Items, Options, Protocol, Rank, Resampling, differences, intervals};
use prismrec::model::{Model, Prior};
use serde_json::Value;

use program::prismrec;

/// Evaluated in turns, which can be stopped between.
fn fixed_scores(scores: &[f32]) -> Model {
    small::fixed_scores(scores, 1)
}

fn small(exclude_known: bool) -> Evaluator {
    let options =
        Options { position_from: PositionFrom::End, exclude_known, users: None, seed: 1, prior: Prior::default() };
    Evaluator::new(small::small(), Part::Test, Protocol::Full, options).unwrap()
}

fn lists(evaluator: &Evaluator, scores: &[f32], k: usize) -> Vec<Vec<u32>> {
    evaluator.lists(&mut fixed_scores(scores), k, &mut |_| true).unwrap()
}

const SCORES: [f32; 6] = [1.0, 2.0, 3.0, 3.0, 4.0, 5.0];

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
}

#[test]
fn lists_by_hand() {
    // Known are 5 4 1; 0 5; 3 4 0. Items 2 and 3 are tied.
    let without = small(true);
    assert_eq!(lists(&without, &SCORES, 2), [[2, 3], [4, 2], [5, 2]]);
    assert_eq!(lists(&without, &SCORES, 9), [&[2, 3, 0][..], &[4, 2, 3, 1], &[5, 2, 1]]);
    assert_eq!(lists(&small(false), &SCORES, 2), [[5, 4], [5, 4], [5, 4]]);
    // What is no number is in no list; of d's, whose history has it, no score is one.
    let broken = [1.0, 2.0, 3.0, f32::NAN, 4.0, 5.0];
    assert_eq!(lists(&without, &broken, 2), [&[2, 0][..], &[4, 2], &[]]);
    let mut model = fixed_scores(&SCORES);
    assert!(matches!(without.lists(&mut model, 2, &mut |_| false), Err(Error::Interrupted)));
    let error = without.lists(&mut fixed_scores(&[1.0]), 2, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("the model has 1 items and the data 6"), "{error}");
}

#[test]
fn figures_of_lists_by_hand() {
    let evaluator = small(true);
    // What trains: 5 4; 0; 1 2; 3 4 3.
    let vectors = [0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 1.0, 1.0];
    let items = Items { vectors: &vectors, dim: 2, titles: None };
    let ranks = evaluator.ranks(&mut fixed_scores(&SCORES), &mut |_| true).unwrap();
    // Lists 2 3; 4 2; 5 2.
    let found = evaluator.beyond(&lists(&evaluator, &SCORES, 2), 2, &ranks, items);
    assert_eq!((found.users, found.k, found.history_excluded), (3, 2, true));
    near(found.coverage, 4.0 / 6.0);
    // In lists 0 0 1 1 1 3 times.
    near(found.gini, 2.0 * (3.0 + 4.0 + 5.0 + 6.0 * 3.0) / (6.0 * 6.0) - 7.0 / 6.0);
    near(found.novelty, (3.0 + 2.0 + 2.0 + 3.0 + 3.0 + 3.0) / 6.0);
    near(found.popularity, (1.0 + 2.0 + 2.0 + 1.0 + 1.0 + 1.0) / 6.0);
    near(found.popularity_of_truth, (1.0 + 1.0 + 2.0) / 3.0);
    near(found.diversity.unwrap(), (1.0 + 0.0 + (1.0 - 0.5_f64.sqrt())) / 3.0);
    assert_eq!(found.category_diversity, None);
    // Lists 2 3 0; 4 2 3; 5 2 1.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "item\tgenres\n2\tA|B\n3\tB\n4\tA|B\n5\t\n").unwrap();
    let catalogue = ["0", "1", "2", "3", "4", "5"].map(String::from);
    let titles = Titles::read(file.path(), &catalogue).unwrap();
    let found = evaluator.beyond(&lists(&evaluator, &SCORES, 3), 3, &ranks, Items { titles: Some(&titles), ..items });
    near(found.diversity.unwrap(), (1.0 + 2.0 / 3.0 + 1.0) / 3.0);
    near(found.category_diversity.unwrap(), (1.0 / 2.0 + 1.0 / 3.0) / 2.0);
    // Ahead of the truths 2, 5 and 4 are 3, none and 5; 3 and 4 have half of all interactions, the others the other half.
    let found = evaluator.beyond(&lists(&evaluator, &SCORES, 1), 1, &ranks, items);
    let recall: Vec<_> = found.recall.iter().map(|b| (b.name, b.items, b.users, b.recall)).collect();
    assert_eq!(recall, [("head", 2, 1, Some(0.0)), ("middle", 4, 2, Some(0.5))]);
    assert_eq!(found.diversity, None);
}

fn ranks(ranks: impl IntoIterator<Item = u32>) -> Vec<Rank> {
    ranks.into_iter().map(|rank| Rank { rank, competitors: 1000 }).collect()
}

const HOW: Resampling = Resampling { resamples: 2000, seed: 3 };

#[test]
fn intervals_by_hand() {
    let same = intervals(&ranks([1; 50]), Protocol::Sampled, HOW);
    assert_eq!((same["recall@1"], same["recall@5"], same["mrr"]), ([0.0; 2], [1.0; 2], [0.5; 2]));
    // Of two users, a resample has twice the one in a quarter of all cases.
    assert_eq!(intervals(&ranks([0, 99]), Protocol::Full, HOW)["recall@10"], [0.0, 1.0]);
    // 400 users, half of them hits: a standard error of 0.025.
    let half = intervals(&ranks((0..400).map(|user| user % 2 * 50)), Protocol::Full, HOW);
    let [low, high] = half["recall@10"];
    assert!((low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006, "{low} {high}");
    assert!(half["recall@100"] == [1.0, 1.0] && half["ndcg@20"][0] > 0.44);
    // The number of threads changes nothing, the seed does.
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| intervals(&ranks(0..300), Protocol::Full, HOW))
    };
    assert_eq!(on(1), on(3));
    assert_ne!(on(1), intervals(&ranks(0..300), Protocol::Full, Resampling { seed: 4, ..HOW }));
}

#[test]
fn comparisons_by_hand() {
    let (first, second) = (ranks((0..100).map(|user| user % 2 * 500)), ranks((0..100).map(|user| 1 + user % 2 * 500)));
    let found = differences(&first, &second, Protocol::Sampled, HOW);
    // Half the users have no hit at 1 any more; at 5, none has lost anything, however different users are.
    let at = |name: &str| found[name];
    assert_eq!((at("recall@1").first, at("recall@1").second, at("recall@1").difference), (0.5, 0.0, 0.5));
    assert!(at("recall@1").interval[0] > 0.35 && at("recall@1").interval[1] < 0.65);
    near(at("recall@1").p, 2.0 / 2001.0);
    assert_eq!((at("recall@5").difference, at("recall@5").interval, at("recall@5").p), (0.0, [0.0; 2], 1.0));
    // The other way round is the same with another sign.
    let back = differences(&second, &first, Protocol::Sampled, HOW)["recall@1"];
    assert_eq!((back.difference, back.interval[1]), (-0.5, -at("recall@1").interval[0]));
    near(back.p, 2.0 / 2001.0);
    // Better for 8 users, worse for 2: with 5 or fewer of the 8 in ten draws, a resample is not better. That is 0.0328.
    let first = ranks([0, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
    let second = ranks([9, 9, 9, 9, 9, 9, 9, 9, 0, 0]);
    let found = differences(&first, &second, Protocol::Sampled, Resampling { resamples: 20_000, seed: 3 })["recall@1"];
    near(found.difference, 0.6);
    assert!((found.p - 2.0 * 0.0328).abs() < 0.008, "{}", found.p);
}

#[test]
fn the_command_shows_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = |user: usize, click: usize| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 25);
    let text: String = (0..40).flat_map(|user| (0..10).map(move |click| line(user, click))).collect();
    fs::write(path.join("data.txt"), &text).unwrap();
    fs::write(path.join("other.txt"), text.replace("item-1", "thing-1")).unwrap();
    let titles: String = (0..25).map(|item| format!("item-{item}\tkind{}\n", item % 3)).collect();
    fs::write(path.join("items.tsv"), format!("item\tcategory\n{titles}")).unwrap();
    let settings = "dim = 8\nlength = 8\nblocks = 1\nbatch = 32\nepochs = 1\nengine = \"cpu\"\nthreads = 1\n";
    fs::write(path.join("small.toml"), settings).unwrap();
    for (data, run, seed) in [("data.txt", "a", "1"), ("data.txt", "b", "2"), ("other.txt", "c", "1")] {
        prismrec(path, &["train", data, "--config", "small.toml", "--run", run, "--seed", seed]).assert().success();
    }
    let output = |arguments: &[&str]| {
        let output = prismrec(path, arguments).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let evaluate = ["evaluate", "a", "--beyond", "--top", "5", "--items", "items.tsv", "--against", "b"];
    let json = output(&[&evaluate[..], &["--json"]].concat());
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{json}");
    let [alone_a, alone_b] = ["a", "b"].map(|run| output(&["evaluate", run, "--json"]));
    for (number, protocol) in ["sampled", "full"].into_iter().enumerate() {
        let (own, compared) = (&lines[number], &lines[3 + number]);
        let plain = |text: &str| serde_json::from_str::<Value>(text.lines().nth(number).unwrap()).unwrap();
        assert_eq!((&own["protocol"], &compared["protocol"]), (&protocol.into(), &protocol.into()));
        assert_eq!((&compared["first"], &compared["second"]), (&"a".into(), &"b".into()));
        assert_eq!(own["metrics"], plain(&alone_a)["metrics"]);
        for (name, value) in own["metrics"].as_object().unwrap() {
            let [low, high] = [0, 1].map(|end| own["intervals"][name][end].as_f64().unwrap());
            let value = value.as_f64().unwrap();
            assert!(low <= value && value <= high, "{name}: {low} {value} {high}");
            let difference = &compared["differences"][name];
            assert_eq!(difference["first"].as_f64(), Some(value));
            assert_eq!(difference["second"], plain(&alone_b)["metrics"][name]);
        }
        assert!(own["intervals"]["mrr"][0].as_f64() < own["intervals"]["mrr"][1].as_f64());
    }
    let beyond = &lines[2]["beyond"];
    assert_eq!((&beyond["k"], &beyond["users"], &lines[2]["protocol"]), (&5.into(), &40.into(), &"full".into()));
    for figure in ["coverage", "gini", "novelty", "popularity", "diversity", "category_diversity"] {
        assert!(beyond[figure].as_f64().is_some_and(f64::is_finite), "{figure}: {beyond}");
    }
    // Lists of everything that is left cover everything.
    let all = output(&["evaluate", "a", "--beyond", "--top", "25", "--json", "--protocol", "sampled"]);
    let all: Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
    assert_eq!(all["beyond"]["coverage"], 1.0);
    let text = output(&evaluate);
    for words in ["Coverage@5", "Diversity@5 (categories)", "95% interval", "Recall@5 by popularity", "difference"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let markdown = output(&[&evaluate[..], &["--markdown"]].concat());
    for words in ["| figure | value | 95% interval |", "| --- | ---: | ---: |", "| Coverage@5 | ", "full protocol"] {
        assert!(markdown.contains(words), "{words}: {markdown}");
    }
    let refused = prismrec(path, &["evaluate", "a", "--against", "c"]).assert().code(1);
    refused.stderr(contains("has other items than the first run").and(contains("panicked").not()));
    prismrec(path, &["evaluate", "a", "--top", "5"]).assert().code(2).stderr(contains("--beyond"));
}

/// Checkpoints to go on with may have item rows that lack their last updates by momentum: all figures are of rows with them.
#[test]
fn a_last_checkpoint_is_evaluated_with_its_item_rows_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = |user: usize, click: usize| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 25);
    let text: String = (0..40).flat_map(|user| (0..10).map(move |click| line(user, click))).collect();
    fs::write(path.join("data.txt"), text).unwrap();
    let small = ["train", "data.txt", "--dim", "8", "--length", "8", "--blocks", "1", "--batch", "32", "--epochs", "1"];
    prismrec(path, &[&small[..], &["--engine", "cpu", "--threads", "1", "--run", "run"]].concat()).assert().success();
    let figures = |of: &str| {
        let output = prismrec(path, &["evaluate", of, "--beyond", "--json"]).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    assert_eq!(figures("run"), figures("run/last.safetensors"), "after one epoch, that is the best one");
    let mut behind = Checkpoint::load(&path.join("run/last.safetensors")).unwrap();
    let adam = &mut behind.resume.as_mut().unwrap().adam;
    adam.updated.fill(adam.step as u32 - 5);
    let engine = engine::open(&behind.settings.engine_request().unwrap()).unwrap();
    let parameters = behind.model(engine, behind.settings.hyper()).unwrap().parameters().unwrap();
    let as_they_lie = Checkpoint { resume: None, ..behind.clone() };
    let up_to_date = Checkpoint { parameters, ..as_they_lie.clone() };
    for (name, checkpoint) in [("behind", &behind), ("as_they_lie", &as_they_lie), ("up_to_date", &up_to_date)] {
        checkpoint.save(&path.join(format!("{name}.safetensors"))).unwrap();
    }
    let [behind, as_they_lie, up_to_date] =
        ["behind", "as_they_lie", "up_to_date"].map(|name| figures(&format!("{name}.safetensors")));
    assert_eq!(behind, up_to_date);
    assert_ne!(as_they_lie, up_to_date, "the updates change nothing");
}
