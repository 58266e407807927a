//! What vectors say by themselves: similar items, intentions, and files of vectors that score as `recommend` does.

mod program;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use predicates::prelude::*;
use predicates::str::contains;
use prismrec::checkpoint::Checkpoint;
use prismrec::recommend::Vectors;
use safetensors::SafeTensors;
use serde_json::Value;

use program::{prismrec, refused};

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = prismrec(folder, &[arguments, &["--json"]].concat()).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

/// A folder with data of 40 users and 25 items, titles, and a run of 3 intentions, trained once for all tests.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let click = |user: usize, n: usize| (user * 7 + n * (1 + user % 3)) % 25;
        let lines = (0..40).flat_map(|user| (0..10).map(move |n| format!("user{user} item-{}\n", click(user, n))));
        fs::write(path.join("data.txt"), lines.collect::<String>()).unwrap();
        let titles: String = (0..25).map(|item| format!("item-{item}\tTitle {item}\n")).collect();
        fs::write(path.join("items.tsv"), format!("item\ttitle\n{titles}")).unwrap();
        let settings = ["--dim", "8", "--intentions", "3", "--length", "8", "--blocks", "1", "--batch", "32"];
        let engine = ["--epochs", "2", "--engine", "cpu", "--threads", "1"];
        prismrec(path, &[&["train", "data.txt", "--run", "run"], &settings[..], &engine].concat()).assert().success();
        folder
    });
    folder.path()
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(trained()).unwrap()
}

fn checkpoint(file: &str) -> Checkpoint {
    Checkpoint::load(&trained().join("run").join(file)).unwrap()
}

/// Mean 0, variance 1, times a weight, plus a bias.
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let scaled = x.iter().map(|&x| (f64::from(x) - mean) / (variance + 1e-5).sqrt());
    scaled.zip(weight.iter().zip(bias)).map(|(x, (&w, &b))| x * f64::from(w) + f64::from(b)).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The list of `item` and `cosine` is the best of these cosines.
fn are_the_best(list: &Value, cosines: &[f64], ids: &[String], top: usize) {
    let list = list.as_array().unwrap();
    let mut sorted: Vec<f64> = cosines.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(list.len(), top);
    for (near, expected) in list.iter().zip(sorted) {
        let own = cosines[ids.iter().position(|id| near["item"] == id[..]).unwrap()];
        let told = near["cosine"].as_f64().unwrap();
        assert!((told - own).abs() < 1e-5 && (told - expected).abs() < 1e-5, "{near}: {own}, {expected}");
    }
}

#[test]
fn similar_items_are_those_of_the_highest_cosine() {
    let folder = trained();
    let checkpoint = checkpoint("best.safetensors");
    let table = &checkpoint.parameters["item_embedding.weight"].data;
    let rows: Vec<Vec<f64>> = table.chunks_exact(8).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let own = checkpoint.items.iter().position(|id| id == "item-7").unwrap();
    let mut cosines: Vec<f64> = rows.iter().map(|row| cosine(row, &rows[own])).collect();
    cosines[own] = f64::NEG_INFINITY;
    let told = json(folder, &["similar", "run", "--item", "item-7", "--top", "5", "--items", "items.tsv"]);
    assert_eq!((&told["item"], &told["title"]), (&"item-7".into(), &"Title 7".into()));
    are_the_best(&told["similar"], &cosines, &checkpoint.items, 5);
    let all = json(folder, &["similar", "run", "--item", "item-7", "--top", "99"]);
    assert_eq!(all["similar"].as_array().unwrap().len(), 24);
    prismrec(folder, &["similar", "run", "--item", "item-7", "--items", "items.tsv"])
        .assert()
        .success()
        .stdout(contains("like item-7  Title 7:"));
    refused(folder, &["similar", "run", "--item", "x"], &["does not know the item \"x\"", "25 items"]);
    refused(folder, &["similar", "none", "--item", "x"], &["none: cannot read"]);
    prismrec(folder, &["similar", "run"]).assert().code(2).stderr(contains("--item"));
}

#[test]
fn typical_items_are_those_that_equation_8_would_give_to_the_intention() {
    let folder = trained();
    let checkpoint = checkpoint("best.safetensors");
    let of = |name: &str| &checkpoint.parameters[name].data[..];
    let normed = |rows: &str, norm: &str| -> Vec<Vec<f64>> {
        let (weight, bias) = (of(&format!("intention.{norm}.weight")), of(&format!("intention.{norm}.bias")));
        of(rows).chunks_exact(8).map(|row| layer_norm(row, weight, bias)).collect()
    };
    let (items, prototypes) =
        (normed("item_embedding.weight", "token_norm"), normed("intention.prototypes", "prototype_norm"));
    let told = json(folder, &["intentions", "run", "--top", "6", "--items", "items.tsv"]);
    let list = told["intentions"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    for (k, intention) in list.iter().enumerate() {
        assert_eq!(intention["intention"], k);
        assert!(intention.get("share").is_none());
        let cosines: Vec<f64> = items.iter().map(|item| cosine(item, &prototypes[k])).collect();
        are_the_best(&intention["typical"], &cosines, &checkpoint.items, 6);
        assert!(intention["typical"][0]["title"].as_str().unwrap().starts_with("Title "));
    }
}

#[test]
fn the_use_of_intentions_is_the_mean_over_histories() {
    let folder = trained();
    let told = json(folder, &["intentions", "run", "--data", "data.txt", "--top", "1"]);
    let list = told["intentions"].as_array().unwrap();
    let (mut shares, mut users) = ([0.0; 3], [0; 3]);
    for user in 0..40 {
        let answer = json(folder, &["recommend", "run", "--user", &format!("user{user}"), "--explain=1"]);
        let each: Vec<f64> =
            answer["intentions"].as_array().unwrap().iter().map(|i| i["share"].as_f64().unwrap()).collect();
        let most = (0..3).max_by(|&a, &b| each[a].total_cmp(&each[b])).unwrap();
        users[most] += 1;
        shares.iter_mut().zip(each).for_each(|(sum, share)| *sum += share / 40.0);
    }
    for k in 0..3 {
        assert!((list[k]["share"].as_f64().unwrap() - shares[k]).abs() < 1e-5, "{told}");
        assert_eq!(list[k]["users"], users[k], "{told}");
    }
    // Of 25 items, 400 interactions are not evenly many.
    let text = fs::read_to_string(folder.join("data.txt")).unwrap();
    let met =
        |item: &Value| text.lines().filter(|line| line.split_once(' ').unwrap().1 == item.as_str().unwrap()).count();
    let often = json(folder, &["intentions", "run", "--data", "data.txt", "--least", "17", "--top", "99"]);
    let shown: Vec<usize> =
        often["intentions"][0]["typical"].as_array().unwrap().iter().map(|near| met(&near["item"])).collect();
    assert!(!shown.is_empty() && shown.len() < 25 && shown.iter().all(|&met| met >= 17), "{shown:?}");
    prismrec(folder, &["intentions", "run", "--least", "2"]).assert().code(2).stderr(contains("--data"));
    prismrec(folder, &["intentions", "run", "--data", "data.txt"])
        .assert()
        .success()
        .stdout(contains("data.txt: 40 users, 25 items").and(contains("% of histories, the largest of ")));
    let place = place();
    let odd = place.path().join("odd.txt");
    fs::write(&odd, "a item-1\na strange\n").unwrap();
    let asked = ["intentions", "run", "--data", odd.to_str().unwrap()];
    refused(folder, &asked, &["user \"a\"", "\"strange\"", "--skip-unknown"]);
    prismrec(folder, &[&asked[..], &["--skip-unknown"]].concat()).assert().success();
    refused(folder, &["intentions", "run", "--user-column", "x"], &["--user-column"]);
}

type Read = fn(&Path) -> Exported;

/// Vectors of items, and of users with their shares, as three formats hold them.
struct Exported {
    items: Vec<String>,
    item_vectors: Vec<f32>,
    users: Vec<String>,
    user_vectors: Vec<f32>,
    shares: Vec<f32>,
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn from_safetensors(folder: &Path) -> Exported {
    let bytes = |name: &str| fs::read(folder.join(name)).unwrap();
    let tensor = |bytes: &[u8], name: &str, shape: &[usize]| -> Vec<f32> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.shape(), shape);
        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let (items, users) = (bytes("items.safetensors"), bytes("users.safetensors"));
    Exported {
        items: lines(&folder.join("items.txt")),
        item_vectors: tensor(&items, "vectors", &[25, 8]),
        users: lines(&folder.join("users.txt")),
        user_vectors: tensor(&users, "vectors", &[40, 3, 8]),
        shares: tensor(&users, "shares", &[40, 3]),
    }
}

fn from_npy(folder: &Path) -> Exported {
    let array = |name: &str, shape: &[u64]| -> Vec<f32> {
        let bytes = fs::read(folder.join(name)).unwrap();
        let file = npyz::NpyFile::new(&bytes[..]).unwrap();
        assert_eq!((file.shape(), file.order()), (shape, npyz::Order::C));
        file.into_vec().unwrap()
    };
    Exported {
        items: lines(&folder.join("items.txt")),
        item_vectors: array("items.npy", &[25, 8]),
        users: lines(&folder.join("users.txt")),
        user_vectors: array("users.npy", &[40, 3, 8]),
        shares: array("shares.npy", &[40, 3]),
    }
}

#[cfg(feature = "parquet")]
fn from_parquet(folder: &Path) -> Exported {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{ListAccessor, Row, RowAccessor};
    let rows = |name: &str| -> Vec<Row> {
        let reader = SerializedFileReader::new(fs::File::open(folder.join(name)).unwrap()).unwrap();
        reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
    };
    let vector = |row: &Row, column: usize| -> Vec<f32> {
        let list = row.get_list(column).unwrap();
        (0..list.len()).map(|i| list.get_float(i).unwrap()).collect()
    };
    let (items, users) = (rows("items.parquet"), rows("users.parquet"));
    for (n, row) in users.iter().enumerate() {
        assert_eq!(row.get_int(1).unwrap() as usize, n % 3);
    }
    Exported {
        items: items.iter().map(|row| row.get_string(0).unwrap().clone()).collect(),
        item_vectors: items.iter().flat_map(|row| vector(row, 1)).collect(),
        users: users.iter().step_by(3).map(|row| row.get_string(0).unwrap().clone()).collect(),
        user_vectors: users.iter().flat_map(|row| vector(row, 3)).collect(),
        shares: users.iter().map(|row| row.get_float(2).unwrap()).collect(),
    }
}

#[test]
fn exported_vectors_score_as_recommend_does() {
    let folder = trained();
    let place = place();
    let lists = place.path().join("lists.jsonl");
    fs::write(place.path().join("users.txt"), (0..40).map(|n| format!("user{n}\n")).collect::<String>()).unwrap();
    let users = place.path().join("users.txt");
    let asked =
        ["recommend", "run", "--users", users.to_str().unwrap(), "--top", "25", "--keep-history", "--explain=1"];
    prismrec(folder, &[&asked[..], &["--out", lists.to_str().unwrap()]].concat()).assert().success();
    let lists: Vec<Value> = lines(&lists).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let formats: &[(&str, Read)] = &[
        ("safetensors", from_safetensors),
        ("npy", from_npy),
        #[cfg(feature = "parquet")]
        ("parquet", from_parquet),
    ];
    for (format, read) in formats {
        let out = place.path().join(format);
        let arguments = ["export", "run", "--format", format, "--data", "data.txt", "--out", out.to_str().unwrap()];
        prismrec(folder, &arguments)
            .assert()
            .success()
            .stdout(contains("25 items, 8 dimensions: ").and(contains("40 users, 3 vectors each: ")));
        let Exported { items, item_vectors, users, user_vectors, shares } = read(&out);
        let checkpoint = checkpoint("best.safetensors");
        assert_eq!(items, checkpoint.items, "{format}");
        assert_eq!(item_vectors, checkpoint.parameters["item_embedding.weight"].data, "{format}");
        assert_eq!((users.len(), shares.len()), (40, 120), "{format}");
        for (n, user) in users.iter().enumerate() {
            let list = lists.iter().find(|list| list["user"] == user[..]).unwrap();
            for r in list["recommendations"].as_array().unwrap() {
                let item = items.iter().position(|id| r["item"] == id[..]).unwrap();
                let k = r["intention"].as_u64().unwrap() as usize;
                let phi = &user_vectors[(n * 3 + k) * 8..][..8];
                let score: f32 = phi.iter().zip(&item_vectors[item * 8..]).map(|(x, y)| x * y).sum();
                assert!((score - r["score"].as_f64().unwrap() as f32).abs() < 1e-4, "{format}: {user}, {r}");
            }
            for (k, intention) in list["intentions"].as_array().unwrap().iter().enumerate() {
                let share = intention["share"].as_f64().unwrap() as f32;
                assert!((share - shares[n * 3 + k]).abs() < 1e-6, "{format}: {user}, {k}");
            }
        }
    }
}

#[test]
fn items_alone_take_no_data_and_wrong_ways_are_refused() {
    let folder = trained();
    let place = place();
    let out = place.path().join("vectors");
    let arguments = ["export", "run", "--out", out.to_str().unwrap()];
    prismrec(folder, &[&arguments[..], &["--format", "npy"]].concat()).assert().success();
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["items.npy", "items.txt"]);
    prismrec(folder, &[&arguments[..], &["--format", "xml"]].concat()).assert().code(2).stderr(contains("safetensors"));
    refused(folder, &[&arguments[..], &["--data", "none.txt"]].concat(), &["none.txt"]);
    refused(folder, &[&arguments[..], &["--time-column", "x"]].concat(), &["--time-column"]);
    refused(folder, &["export", "run", "--out", "data.txt"], &["data.txt: cannot make the folder"]);
    // An id of two lines is a row, but no line.
    let mut checkpoint = checkpoint("best.safetensors");
    checkpoint.items[3] = "two\nlines".into();
    let path = place.path().join("lines.safetensors");
    checkpoint.save(&path).unwrap();
    let arguments = ["export", path.to_str().unwrap(), "--out", out.to_str().unwrap()];
    refused(folder, &arguments, &["two\\nlines", "--format parquet"]);
}

/// A checkpoint to go on from holds item rows that are behind.
#[test]
fn vectors_of_a_checkpoint_to_go_on_from_are_up_to_date() {
    let last = checkpoint("last.safetensors");
    assert!(last.resume.is_some());
    let stale = last.parameters["item_embedding.weight"].data.clone();
    let mut recommender = prismrec::recommend::Recommender::new(
        last.clone(),
        prismrec::engine::open(&prismrec::engine::EngineRequest {
            choice: prismrec::engine::EngineChoice::Cpu,
            ..Default::default()
        })
        .unwrap(),
        None,
        false,
    )
    .unwrap();
    let options = prismrec::recommend::Options { top: 25, keep_history: true, diversify: false, explain: 0 };
    let answer = recommender.recommend(&[&[1, 2]], options).unwrap().remove(0);
    let phi = recommender.user_vectors(&[&[1, 2]]).unwrap().remove(0).vectors;
    let vectors = Vectors::of(last, None).unwrap();
    for r in answer.recommendations {
        let item = vectors.catalogue().number(&r.item.id).unwrap() as usize;
        let phi = &phi[r.intention as usize * 8..][..8];
        let score: f32 = phi.iter().zip(&vectors.items()[item * 8..]).map(|(x, y)| x * y).sum();
        assert!((score - r.score).abs() < 1e-5, "{r:?}: {score}");
    }
    assert_eq!(vectors.items().len(), stale.len());
}
