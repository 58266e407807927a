//! The report of runs: what it shows is what was recorded and what the model computes, it loads nothing, and it says
//! clearly what it cannot show.

mod program;

use std::fs;
use std::path::Path;

use predicates::str::contains;
use prismrec::checkpoint::Checkpoint;
use prismrec::data::pack::pack_sequences;
use prismrec::data::split::Part;
use prismrec::engine;
use prismrec::model::Model;
use prismrec::settings::Files;
use prismrec::train::Dataset;
use serde_json::Value;

use program::prismrec;

/// A title that would run, were it not escaped.
const EVIL: &str = "<script>alert('1')</script> & \"more\"";
const EVIL_ESCAPED: &str = "&lt;script&gt;alert('1')&lt;/script&gt; &amp; &quot;more&quot;";

/// A folder with `data.txt`, `items.csv` (titles), and a run in `run`.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines = (0..40).flat_map(|user| {
        (0..10).map(move |click| format!("user{user} item-{}\n", (user * 7 + click * (1 + user % 3)) % 25))
    });
    fs::write(path.join("data.txt"), lines.collect::<String>()).unwrap();
    let titles = (0..25).map(|item| format!("item-{item},\"{} {item}\"\n", EVIL.replace('"', "\"\"")));
    fs::write(path.join("items.csv"), format!("item,title\n{}", titles.collect::<String>())).unwrap();
    train(path, &["--run", "run"]);
    folder
}

fn train(folder: &Path, more: &[&str]) {
    let small = ["train", "data.txt", "--dim", "8", "--length", "8", "--blocks", "1", "--batch", "32", "--epochs", "2"];
    let engine = ["--engine", "cpu", "--threads", "1", "--intentions", "3"];
    prismrec(folder, &[&small[..], &engine, more].concat()).assert().success();
}

/// The page of `report` with these arguments.
fn page(folder: &Path, arguments: &[&str]) -> String {
    prismrec(folder, &[&["report"], arguments].concat()).assert().success().stdout(contains("report.html"));
    fs::read_to_string(folder.join("report.html")).unwrap()
}

fn refused(folder: &Path, arguments: &[&str], what: &[&str]) {
    program::refused(folder, &[&["report"], arguments].concat(), what);
    assert!(!folder.join("report.html").exists(), "a page was written");
}

/// The page is whole without a network, and runs nothing.
fn loads_nothing(page: &str) {
    for what in ["<script", "<link", "<img", "<iframe", "http", " src=", " href=", "@import", "url(", " onload"] {
        assert!(!page.contains(what), "the page has {what}");
    }
    for tag in page.split('<').map(|tag| tag.split('>').next().unwrap_or_default()) {
        assert!(tag.matches(" class=").count() <= 1, "two classes, of which a browser takes one: <{tag}>");
    }
}

#[test]
fn a_page_shows_what_was_recorded_and_loads_nothing() {
    let folder = trained();
    let page = page(folder.path(), &["run", "--items", "items.csv"]);
    loads_nothing(&page);
    assert!(page.contains(EVIL_ESCAPED) && !page.contains(EVIL), "titles are text");
    let metrics = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let test = lines.iter().find(|line| line["event"] == "test").unwrap();
    for (protocol, heading) in [("sampled", "Test, 40 users, sampled"), ("full", "Test, 40 users, full")] {
        let from = page.find(heading).unwrap_or_else(|| panic!("no {heading}"));
        let table = &page[from..][..page[from..].find("</table>").unwrap()];
        for (name, value) in test[protocol].as_object().unwrap() {
            let cell = format!("<td>{:.4}</td>", value.as_f64().unwrap());
            assert!(table.contains(&cell), "{protocol} {name}: no {cell} in {table}");
        }
    }
    for curve in ["NDCG@10, sampled", "NDCG@10, full", "Loss seq2item", "Loss seq2seq", "Training examples a second"] {
        assert!(page.contains(curve), "no {curve}");
    }
    // Every item is on the map.
    assert_eq!(page.matches("<circle class=\"item i").count(), 25);
}

#[test]
fn example_users_have_the_intentions_that_the_model_computes() {
    let folder = trained();
    let page = page(folder.path(), &["run"]);
    let checkpoint = Checkpoint::load(&folder.path().join("run/best.safetensors")).unwrap();
    let mut settings = checkpoint.settings.clone();
    settings.data = Files(vec![folder.path().join("data.txt").to_str().unwrap().to_owned()]);
    let data = Dataset::open_for(&settings, &checkpoint.items).unwrap();
    let engine = engine::open(&settings.engine_request().unwrap()).unwrap();
    let mut model = Model::new(engine, settings.shape(25), settings.hyper()).unwrap();
    checkpoint.give_to(&mut model).unwrap();
    let packed = pack_sequences(&[data.split.history(0, Part::Test)], settings.length, settings.position_from);
    let shares = model.clusters(&packed).unwrap();
    let mut expected = String::new();
    for (&item, shares) in packed.items.iter().zip(shares.chunks_exact(3)) {
        let k = (0..3).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
        let (name, share) = (&checkpoint.items[item as usize], 100.0 * f64::from(shares[k]));
        expected += &format!("<li><span class=\"swatch i{k}\"></span>{name}");
        expected += &format!("<span class=\"soft\"> {}, {share:.0} %</span></li>", k + 1);
    }
    assert_eq!(packed.items.len(), 8, "the model sees the last L items");
    assert!(page.contains("user user0, after 1 earlier items"), "nine items before the test item, eight seen");
    assert!(page.contains(&expected), "no {expected}");
    assert_eq!(page.matches("<svg class=\"strip\"").count(), 6);
}

#[test]
fn runs_are_compared() {
    let folder = trained();
    train(folder.path(), &["--run", "other", "--lr", "0.01", "--variant", "s2i"]);
    let page = page(folder.path(), &["run", "other"]);
    loads_nothing(&page);
    let differ: Vec<&str> = page.split("<tr class=\"differs\">").skip(1).collect();
    let names: Vec<&str> = differ.iter().map(|row| &row[4..row.find("</th>").unwrap()]).collect();
    assert_eq!(names, ["variant", "lr"]);
    assert!(differ[1].contains("<td class=\"text\">0.001</td><td class=\"text\">0.01</td>"), "{}", &differ[1][..200]);
    let lines = |title: &str| {
        let from = page.find(&format!("<figcaption>{title}")).unwrap_or_else(|| panic!("no {title}"));
        page[from..][..page[from..].find("</figure>").unwrap()].matches("<polyline").count()
    };
    assert_eq!(lines("NDCG@10, sampled"), 2);
    assert_eq!(lines("Loss seq2seq"), 1, "the other run has no such loss");
    // The higher of two figures stands out.
    let metrics = |run: &str| fs::read_to_string(folder.path().join(run).join("metrics.jsonl")).unwrap();
    let test = |run: &str| -> f64 {
        let metrics = metrics(run);
        let test = metrics.lines().find(|line| line.contains("\"event\":\"test\"")).unwrap();
        serde_json::from_str::<Value>(test).unwrap()["sampled"]["mrr"].as_f64().unwrap()
    };
    let (a, b) = (test("run"), test("other"));
    assert!((a - b).abs() > 1e-4, "runs that differ in their figures");
    let (top, other) = ("<td class=\"top\">", "<td>");
    let (first, second) = if a > b { (top, other) } else { (other, top) };
    assert!(page.contains(&format!("{first}{a:.4}</td>{second}{b:.4}</td>")), "{a} {b}");
    assert!(!page.contains("different data"));
    prismrec(folder.path(), &["train", "--run", "third", "--steps", "1", "--dim", "8", "--engine", "cpu"])
        .assert()
        .success();
    let page = self::page(folder.path(), &["run", "third"]);
    assert!(page.contains("These runs are of different data"));
}

#[test]
fn a_refit_has_curves_of_its_own() {
    let folder = trained();
    train(folder.path(), &["--run", "again", "--refit"]);
    let page = page(folder.path(), &["run", "again"]);
    loads_nothing(&page);
    let metrics = fs::read_to_string(folder.path().join("again/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let epochs: Vec<&Value> = lines.iter().filter(|line| line["event"] == "refit_epoch").collect();
    let figure = |title: &str| {
        let from = page.find(&format!("<figcaption>{title}")).unwrap_or_else(|| panic!("no {title}"));
        &page[from..][..page[from..].find("</figure>").unwrap()]
    };
    for title in ["Loss seq2item", "Loss seq2seq", "Loss in all", "Training examples a second"] {
        let figure = figure(title);
        assert_eq!(figure.matches("<polyline").count(), 3, "{title}: both runs' and the refit's");
        assert_eq!(figure.matches("<polyline class=\"line dashed\"").count(), 1, "{title}");
        assert_eq!(figure.matches("<title>again, refit, epoch ").count(), epochs.len(), "{title}");
    }
    assert!(!epochs.is_empty() && page.contains("A dashed line is the refit"));
    assert_eq!(figure("NDCG@10, sampled").matches("<polyline").count(), 2, "a refit is not validated");
    assert!(!self::page(folder.path(), &["run"]).contains("A dashed line"));
}

#[test]
fn a_page_is_made_of_what_there_is() {
    let folder = trained();
    let path = folder.path();
    // Without data: a map of items alone, no users.
    fs::rename(path.join("data.txt"), path.join("elsewhere.txt")).unwrap();
    let alone = page(path, &["run"]);
    assert!(alone.contains("of the item alone") && !alone.contains("<svg class=\"strip\""));
    assert_eq!(alone.matches("<circle class=\"item i").count(), 25);
    assert!(page(path, &["run", "--data", "elsewhere.txt"]).contains("<svg class=\"strip\""));
    // A run that diverged has losses that are no numbers.
    let metrics = path.join("run/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        if line["event"] == "epoch" {
            line["loss_s2i"] = Value::Null;
            line["valid"]["full"]["mrr"] = Value::Null;
        }
    }
    lines.retain(|line| line["event"] != "test");
    let text: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&metrics, text.concat()).unwrap();
    let diverged = page(path, &["run"]);
    assert!(diverged.contains("not tested yet") && !diverged.contains("Loss seq2item") && !diverged.contains("NaN"));
    // A best model that is not there yet.
    fs::remove_file(path.join("run/best.safetensors")).unwrap();
    assert!(page(path, &["run"]).contains("no best model"));
}

#[test]
fn refuses_what_is_no_run_or_other_data() {
    let folder = trained();
    let path = folder.path();
    refused(path, &["nowhere"], &["nowhere is no run's folder", "metrics.jsonl"]);
    refused(path, &["data.txt"], &["data.txt is a file", "a run's folder"]);
    fs::write(path.join("other.txt"), "a b\na c\na d\nb b\nb c\nb d\n").unwrap();
    refused(path, &["run", "--data", "other.txt"], &["other.txt: not the data that run was trained on"]);
    let fewer: Vec<_> =
        fs::read_to_string(path.join("data.txt")).unwrap().lines().skip(10).map(str::to_owned).collect();
    fs::write(path.join("fewer.txt"), fewer.join("\n")).unwrap();
    refused(path, &["run", "--data", "fewer.txt"], &["not the data", "39 users", "where the run had 40 users"]);
    refused(path, &["run", "--data", "missing.txt"], &["missing.txt", "cannot"]);
    refused(path, &["run", "--items", "data.txt"], &["data.txt"]);
    let metrics = path.join("run/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.lines().next().unwrap()).unwrap();
    refused(path, &["run"], &["run: no epoch is recorded yet"]);
    fs::write(&metrics, format!("{}\n{{\"event\":\"epoch\"}}\n", text.lines().next().unwrap())).unwrap();
    refused(path, &["run"], &["metrics.jsonl:2", "missing field"]);
}
