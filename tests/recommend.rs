//! Recommendations: lists for one history or many, their explanation and balance, and files of them.

mod program;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use predicates::prelude::*;
use predicates::str::contains;
use prismrec::checkpoint::Checkpoint;
use prismrec::engine::{self, EngineChoice, EngineRequest};
use prismrec::model::Model;
use prismrec::recommend::{Answer, Options, Recommender};
use serde_json::Value;

use program::{prismrec, refused};

/// What the command prints.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = prismrec(folder, arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&told(folder, &[arguments, &["--json"]].concat())).unwrap()
}

/// A folder with data of 40 users and 25 items, titles of most of them, and a run, trained once for all tests.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let click = |user: usize, n: usize| (user * 7 + n * (1 + user % 3)) % 25;
        let lines = (0..40).flat_map(|user| (0..10).map(move |n| format!("user{user},item-{},{n}\n", click(user, n))));
        fs::write(path.join("data.csv"), format!("user,item,time\n{}", lines.collect::<String>())).unwrap();
        let titles = (0..20).map(|item| format!("item-{item},\"Title, no. {item}\",Kind {}|All\n", item % 3));
        fs::write(path.join("items.csv"), format!("item,title,genres\n{}", titles.collect::<String>())).unwrap();
        let settings = ["--dim", "8", "--length", "8", "--blocks", "1", "--batch", "32", "--epochs", "2"];
        let arguments = [&["train", "data.csv", "--run", "run", "--engine", "cpu", "--threads", "1"], &settings[..]];
        prismrec(path, &arguments.concat()).assert().success();
        folder
    });
    folder.path()
}

/// A folder of its own for what a test writes.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(trained()).unwrap()
}

const PLAIN: Options = Options { top: 10, keep_history: false, diversify: false, explain: 0 };

fn checkpoint() -> Checkpoint {
    Checkpoint::load(&trained().join("run/best.safetensors")).unwrap()
}

fn opened(choice: EngineChoice) -> Box<dyn engine::Engine> {
    engine::open(&EngineRequest { choice, ..EngineRequest::default() }).unwrap()
}

fn recommender(choice: EngineChoice, many: bool) -> Recommender {
    Recommender::new(checkpoint(), opened(choice), None, many).unwrap()
}

/// One whose scores take something from items' occurrences, and what they take.
fn with_prior(choice: EngineChoice) -> (Recommender, Vec<f32>) {
    let mut checkpoint = checkpoint();
    let settings = &mut checkpoint.settings;
    settings.popularity = -2.0;
    let unit = (settings.dim as f64).sqrt() * settings.temperature;
    let occurrences = checkpoint.occurrences.as_ref().unwrap();
    let added = occurrences.iter().map(|&n| (-2.0 * unit * f64::from(n + 1).ln()) as f32).collect();
    (Recommender::new(checkpoint, opened(choice), None, false).unwrap(), added)
}

/// phi_k . h of every intention and item after a history, from the model's vectors.
fn expected_scores(history: &[u32]) -> Vec<Vec<f32>> {
    let mut recommender = recommender(EngineChoice::Cpu, false);
    let vectors = recommender.user_vectors(&[history]).unwrap().remove(0).vectors;
    let table = checkpoint().parameters["item_embedding.weight"].data.clone();
    let dim = recommender.dim();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum();
    vectors.chunks_exact(dim).map(|phi| table.chunks_exact(dim).map(|h| dot(phi, h)).collect()).collect()
}

fn items(answer: &Answer) -> Vec<&str> {
    answer.recommendations.iter().map(|r| &r.item.id[..]).collect()
}

#[test]
fn lists_are_the_best_of_the_whole_catalogue_on_every_engine() {
    let history = [3, 4, 5, 3];
    let scores = expected_scores(&history);
    let ids = checkpoint().items;
    let best: Vec<f32> =
        (0..ids.len()).map(|item| scores.iter().map(|of| of[item]).fold(f32::NEG_INFINITY, f32::max)).collect();
    let mut lists = Vec::new();
    for (choice, prior) in
        [EngineChoice::Cpu, EngineChoice::Gpu].map(|choice| [(choice, false), (choice, true)]).concat()
    {
        let (mut recommender, added) =
            if prior { with_prior(choice) } else { (recommender(choice, false), vec![0.0; ids.len()]) };
        let mut expected: Vec<(f32, usize)> = best.iter().zip(&added).map(|(a, b)| a + b).zip(0..).collect();
        expected.retain(|(_, item)| !history.contains(&(*item as u32)));
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        let answer = recommender.recommend(&[&history], PLAIN).unwrap().remove(0);
        assert_eq!(answer.recommendations.len(), 10);
        for (r, (score, item)) in answer.recommendations.iter().zip(&expected) {
            assert!((r.score - score).abs() < 1e-4, "{choice:?}: {r:?}, expected {score} of {}", ids[*item]);
            let own = ids.iter().position(|id| *id == r.item.id).unwrap();
            assert!((r.score - scores[r.intention as usize][own] - added[own]).abs() < 1e-4, "{choice:?}: {r:?}");
        }
        assert!(answer.intentions.is_empty());
        lists.push(items(&answer).join(" "));
    }
    assert_ne!(lists[0], lists[1], "what occurrences add changes nothing");
}

#[test]
fn many_at_once_are_answered_as_one_by_one() {
    let histories: Vec<Vec<u32>> = (1..40_u32).map(|n| (0..n % 13 + 1).map(|i| (n * 3 + i) % 25).collect()).collect();
    for diversify in [false, true] {
        let options = Options { diversify, explain: 3, ..PLAIN };
        let (mut one, mut many) = (recommender(EngineChoice::Cpu, false), recommender(EngineChoice::Cpu, true));
        assert!(one.batch() == 1 && many.batch() >= histories.len());
        let all: Vec<&[u32]> = histories.iter().map(|history| &history[..]).collect();
        let answers = many.recommend(&all, options).unwrap();
        assert_eq!(answers.len(), histories.len());
        for (history, answer) in all.iter().zip(answers) {
            let alone = one.recommend(&[history], options).unwrap().remove(0);
            assert_eq!(items(&alone), items(&answer), "{history:?}");
            let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
            assert!(alone.recommendations.iter().zip(&answer.recommendations).all(|(a, b)| near(a.score, b.score)));
            assert!(alone.intentions.iter().zip(&answer.intentions).all(|(a, b)| near(a.share, b.share)));
        }
    }
    let mut one = recommender(EngineChoice::Cpu, false);
    assert!(one.recommend(&[&[1], &[2]], PLAIN).is_err(), "more histories than a batch");
}

#[test]
fn explanations_are_the_shares_of_the_intention_layer() {
    let history = [1, 2, 3, 1, 9];
    let mut recommender = recommender(EngineChoice::Cpu, false);
    let options = Options { explain: 3, ..PLAIN };
    let answer = recommender.recommend(&[&history], options).unwrap().remove(0);
    let checkpoint = checkpoint();
    let mut model =
        Model::new(opened(EngineChoice::Cpu), checkpoint.settings.shape(25), checkpoint.settings.hyper()).unwrap();
    checkpoint.give_to(&mut model).unwrap();
    let packed = prismrec::data::pack::pack_sequences(&[&history], 8, checkpoint.settings.position_from);
    let of = model.represented(&packed).unwrap();
    assert!((of.weight.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(of.cluster, model.clusters(&packed).unwrap());
    assert_eq!(answer.intentions.len(), 4);
    for (k, intention) in answer.intentions.iter().enumerate() {
        let product = |i: usize| of.cluster[i * 4 + k] * of.weight[i];
        let total: f32 = (0..5).map(product).sum();
        assert!((intention.share - total).abs() < 1e-6, "intention {k}");
        // Item 1 was met twice.
        let mut fed = vec![(1, product(0) + product(3)), (2, product(1)), (3, product(2)), (9, product(4))];
        fed.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(intention.from.len(), 3);
        for (from, (item, part)) in intention.from.iter().zip(fed) {
            assert_eq!(from.item.id, checkpoint.items[item]);
            assert!((from.share - part / total).abs() < 1e-5, "intention {k}: {from:?}");
        }
    }
    let shares: f32 = answer.intentions.iter().map(|intention| intention.share).sum();
    assert!((shares - 1.0).abs() < 1e-5);
}

#[test]
fn a_balanced_list_has_every_intention_in_its_share() {
    let history = [1, 2, 3, 9];
    let scores = expected_scores(&history);
    let mut recommender = recommender(EngineChoice::Cpu, false);
    let options = Options { diversify: true, explain: 1, top: 12, ..PLAIN };
    let answer = recommender.recommend(&[&history], options).unwrap().remove(0);
    let ids = recommender.catalogue().ids().to_vec();
    let mut distinct = items(&answer);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 12);
    let mut places = [0.0_f32; 4];
    for (place, r) in answer.recommendations.iter().enumerate() {
        let (k, listed) = (r.intention as usize, &items(&answer)[..place]);
        // No better item of the intention was free.
        let number = |id: &str| ids.iter().position(|other| other == id).unwrap();
        let better = (0..25).filter(|&item| scores[k][item] > scores[k][number(&r.item.id)] + 1e-4);
        let free = |item: &usize| !history.contains(&(*item as u32)) && !listed.contains(&&ids[*item][..]);
        assert_eq!(better.filter(free).count(), 0, "place {place}: {r:?}");
        assert!((r.score - scores[k][number(&r.item.id)]).abs() < 1e-4);
        places[k] += 1.0;
    }
    for (intention, places) in answer.intentions.iter().zip(places) {
        assert!(places >= 1.0 && (places - 12.0 * intention.share).abs() <= 1.5, "{intention:?}: {places} places");
    }
}

#[test]
fn a_user_s_history_is_that_of_the_data() {
    let folder = trained();
    let own = json(folder, &["recommend", "run", "--user", "user3", "--items", "items.csv"]);
    assert_eq!(own["user"], "user3");
    // user3: 21, 22 .. 30, modulo 25.
    let history: Vec<String> = (21..31).map(|n| format!("item-{}", n % 25)).collect();
    assert_eq!(own["history"], serde_json::json!(history));
    let given = json(folder, &["recommend", "run", "--history", &history.join(","), "--items", "items.csv"]);
    assert_eq!(given["recommendations"], own["recommendations"]);
    let first = &own["recommendations"][0];
    let number: u32 = first["item"].as_str().unwrap()[5..].parse().unwrap();
    if number < 20 {
        assert_eq!(first["title"], format!("Title, no. {number}"));
        assert_eq!(first["categories"], serde_json::json!([format!("Kind {}", number % 3), "All"]));
    }
    // Other data, with other columns; a history that is longer than what counts.
    let place = place();
    fs::write(place.path().join("other.csv"), "who,what,user\nx,item-1,1\nx,item-2,2\ny,strange,3\n").unwrap();
    let other = place.path().join("other.csv");
    let data = ["--data", other.to_str().unwrap(), "--user-column", "who", "--item-column", "what"];
    let asked = [&["recommend", "run", "--user", "x"], &data[..]].concat();
    assert_eq!(
        json(folder, &[&asked[..], &["--time-column", "user"]].concat())["history"].as_array().unwrap().len(),
        2
    );
    refused(
        folder,
        &[&["recommend", "run", "--user", "z"], &data[..]].concat(),
        &["there is no user \"z\"", "2 users"],
    );
    refused(
        folder,
        &[&["recommend", "run", "--user", "y"], &data[..]].concat(),
        &["does not know any item", "strange"],
    );
    prismrec(folder, &["recommend", "run", "--user", "user3", "--explain"])
        .assert()
        .success()
        .stdout(contains("after 10 items, the last 8 of which count:"))
        .stdout(contains("intention 0: ").and(contains("% of the history")));
    refused(folder, &["recommend", "run", "--history", "item-1", "--data", "data.csv"], &["--data is for users"]);
}

#[test]
fn unknown_items_are_left_out_only_where_that_is_asked_for() {
    let folder = trained();
    let asked = ["recommend", "run", "--history", "item-3,what,item-4,ever"];
    refused(folder, &asked, &["\"what\", \"ever\"", "25 items", "--skip-unknown"]);
    let skipped = json(folder, &[&asked[..], &["--skip-unknown"]].concat());
    let known = json(folder, &["recommend", "run", "--history", "item-3,item-4"]);
    assert_eq!(skipped["recommendations"], known["recommendations"]);
    assert_eq!(skipped["skipped"], serde_json::json!(["what", "ever"]));
    assert_eq!(skipped["history"], serde_json::json!(["item-3", "item-4"]));
    assert!(
        told(folder, &[&asked[..], &["--skip-unknown"]].concat()).contains("2 left out that the model does not know")
    );
    refused(folder, &["recommend", "run", "--history", "a,b", "--skip-unknown"], &["does not know any item", "\"a\""]);
    let many: Vec<String> = (0..9).map(|n| format!("x{n}")).collect();
    let asked = format!("item-1,{}", many.join(","));
    refused(folder, &["recommend", "run", "--history", &asked], &["\"x4\" and 4 more"]);
}

#[test]
fn many_users_are_written_in_three_formats() {
    let folder = trained();
    let place = place();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("users.txt"), "user3\n\nuser7\nuser0\n").unwrap();
    let asked = ["recommend", "run", "--users", &path("users.txt"), "--top", "4", "--items", "items.csv"];
    for name in ["lists.csv", "lists.parquet", "lists.jsonl"] {
        let said = told(folder, &[&asked[..], &["--out", &path(name)]].concat());
        assert!(said.starts_with("lists for 3 users in ") && said.contains(name), "{said}");
    }
    let lines: Vec<Value> =
        fs::read_to_string(path("lists.jsonl")).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["user"].as_str().unwrap()).collect::<Vec<_>>(),
        ["user3", "user7", "user0"]
    );
    for line in &lines {
        let alone = json(folder, &["recommend", "run", "--user", line["user"].as_str().unwrap(), "--top", "4"]);
        let ids = |list: &Value| -> Vec<Value> {
            list["recommendations"].as_array().unwrap().iter().map(|r| r["item"].clone()).collect()
        };
        assert_eq!(ids(line), ids(&alone));
    }
    let flat: Vec<(&Value, usize, &Value)> = lines
        .iter()
        .flat_map(|l| l["recommendations"].as_array().unwrap().iter().zip(1..).map(|(r, rank)| (&l["user"], rank, r)))
        .collect();
    let mut reader = csv::Reader::from_path(path("lists.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, ["user", "rank", "item", "score", "intention", "title", "categories"]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 12);
    let categories = |r: &Value| {
        let none = Vec::new();
        let list = r["categories"].as_array().unwrap_or(&none);
        list.iter().map(|c| c.as_str().unwrap()).collect::<Vec<_>>().join("|")
    };
    for (row, (user, rank, r)) in rows.iter().zip(&flat) {
        assert_eq!(
            (&row[0], &row[1], &row[2]),
            (user.as_str().unwrap(), &rank.to_string()[..], r["item"].as_str().unwrap())
        );
        assert_eq!(row[3].parse::<f32>().unwrap(), r["score"].as_f64().unwrap() as f32);
        assert_eq!((&row[4], &row[5]), (&r["intention"].to_string()[..], r["title"].as_str().unwrap_or("")));
        assert_eq!(row[6], categories(r));
    }
    parquet_has_the_same(&path("lists.parquet"), &flat);
    // As JSON lines on standard output.
    let printed = told(folder, &[&asked[..], &["--json"]].concat());
    assert_eq!(printed, fs::read_to_string(path("lists.jsonl")).unwrap());
}

#[cfg(feature = "parquet")]
fn parquet_has_the_same(path: &str, flat: &[(&Value, usize, &Value)]) {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), flat.len());
    for (row, (user, rank, r)) in rows.iter().zip(flat) {
        assert_eq!(row.get_string(0).unwrap(), user.as_str().unwrap());
        assert_eq!(row.get_int(1).unwrap() as usize, *rank);
        assert_eq!(row.get_string(2).unwrap(), r["item"].as_str().unwrap());
        assert_eq!(row.get_float(3).unwrap(), r["score"].as_f64().unwrap() as f32);
        assert_eq!(row.get_int(4).unwrap(), r["intention"].as_i64().unwrap() as i32);
        assert_eq!(row.get_string(5).unwrap(), r["title"].as_str().unwrap_or(""));
    }
}

#[cfg(not(feature = "parquet"))]
fn parquet_has_the_same(_: &str, _: &[(&Value, usize, &Value)]) {}

#[test]
fn histories_in_a_file_need_no_data() {
    let folder = trained();
    let place = place();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("good.txt"), "a item-3 item-4\nb\titem-9\r\n").unwrap();
    let out = path("out.jsonl");
    told(folder, &["recommend", "run", "--histories", &path("good.txt"), "--explain=2", "--out", &out]);
    let text = fs::read_to_string(&out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["intentions"][0]["from"], serde_json::json!([{"item": "item-9", "share": 1.0}]));
    assert_eq!(lines[0]["intentions"].as_array().unwrap().len(), 4);
    fs::write(path("bad.txt"), "a item-3\nb strange item-4 odd\nc strange\n").unwrap();
    let asked = ["recommend", "run", "--histories", &path("bad.txt"), "--out", &out];
    refused(folder, &asked, &["bad.txt:2: ", "\"strange\", \"odd\""]);
    assert_eq!(fs::read_to_string(&out).unwrap(), text, "a refused list replaced the one before");
    let said = told(folder, &[&asked[..], &["--skip-unknown"]].concat());
    assert!(said.contains("lists for 2 users") && said.contains("3 items of histories, 1 users"), "{said}");
    fs::write(path("bad.txt"), "a item-3\nb\n").unwrap();
    refused(folder, &[&asked[..], &["--skip-unknown"]].concat(), &["bad.txt:2: ", "history is empty"]);
    fs::write(path("bad.txt"), "\n \n").unwrap();
    refused(folder, &asked, &["bad.txt: has no line"]);
    fs::write(path("bad.txt"), b"a \xff\n").unwrap();
    refused(folder, &asked, &["bad.txt: cannot read", "caused by"]);
    // Nothing is left beside.
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn wrong_ways_to_ask_are_refused() {
    let folder = trained();
    let place = place();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("users.txt"), "user3\nnobody\n").unwrap();
    let users = ["recommend", "run", "--users", &path("users.txt")];
    refused(folder, &users, &["--out FILE", "--json"]);
    for (out, what) in [
        ("lists.txt", "expected a name that ends in .csv, .parquet or .jsonl"),
        ("no/such/lists.csv", "cannot write"),
        ("lists", "expected a name"),
    ] {
        refused(folder, &[&users[..], &["--out", &path(out)]].concat(), &[what]);
    }
    refused(folder, &[&users[..], &["--out", &path("a.csv")]].concat(), &["there is no user \"nobody\""]);
    assert!(!place.path().join("a.csv").exists());
    let out = path("a.csv");
    refused(folder, &[&users[..], &["--explain", "--out", &out]].concat(), &["no place for explanations", ".jsonl"]);
    let said = told(folder, &[&users[..], &["--skip-unknown", "--out", &path("a.csv")]].concat());
    assert!(said.contains("lists for 1 users") && said.contains("0 items of histories, 1 users"), "{said}");
    for (more, what) in [
        (&["--history", "item-1", "--user", "x"][..], "cannot be used with"),
        (&[][..], "--history"),
        (&["--history", "item-1", "--top", "0"][..], "from 1 on"),
        (&["--history", "item-1", "--explain=0"][..], "from 1 on"),
        (&["--history", "item-1", "--out", "x.csv"][..], "cannot be used with"),
    ] {
        prismrec(folder, &[&["recommend", "run"], more].concat()).assert().code(2).stderr(contains(what));
    }
    refused(folder, &["recommend", "run", "--history", "item-1", "--items", "data.csv"], &["data.csv", "title"]);
    refused(folder, &["recommend", "run", "--history", "item-1", "--items", "none.csv"], &["none.csv: cannot read"]);
    refused(folder, &["recommend", "run", "--user", "user1", "--data", "none.csv"], &["none.csv"]);
    refused(folder, &["recommend", "run", "--history", ","], &["does not know"]);
}

#[test]
fn a_model_that_has_diverged_says_so() {
    let place = place();
    let mut checkpoint = checkpoint();
    checkpoint.parameters.get_mut("item_embedding.weight").unwrap().data[11] = f32::NAN;
    let path = place.path().join("broken.safetensors");
    checkpoint.save(&path).unwrap();
    refused(trained(), &["recommend", path.to_str().unwrap(), "--history", "item-3"], &["not numbers"]);
}

#[test]
fn a_run_on_generated_data_recommends_to_its_users() {
    let place = place();
    let settings = ["--dim", "8", "--blocks", "1", "--steps", "5", "--engine", "cpu", "--threads", "1"];
    prismrec(place.path(), &[&["train", "--run", "run"], &settings[..]].concat()).assert().success();
    let user = prismrec::data::generate::Generator::default().generate(1).interactions;
    let answer = json(place.path(), &["recommend", "run", "--user", &user.users[5]]);
    assert_eq!(answer["history"].as_array().unwrap().len(), user.sequence(5).len());
}
