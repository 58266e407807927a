//! `prismrec data`: figures, titles, pictures and prepared files.

mod program;

use std::fs;

use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use program::prismrec;

/// Three users, four movies, one of them met twice by one user.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ratings = "userId,movieId,rating,timestamp\n1,a,5,1\n1,b,4,2\n1,a,3,3\n2,a,5,4\n2,c,1,5\n2,d,4,6\n3,a,5,9.5\n";
    fs::write(folder.path().join("ratings.csv"), ratings).unwrap();
    let movies = "movieId,title,genres\na,\"Alien, the first\",Horror|Space\nc,Cube,Horror\nz,Zorro,\n";
    fs::write(folder.path().join("movies.csv"), movies).unwrap();
    folder
}

#[test]
fn figures_are_those_of_the_data() {
    let folder = folder();
    let output = prismrec(folder.path(), &["data", "ratings.csv", "--json"]).assert().success().get_output().clone();
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&figures["users"], &figures["items"], &figures["interactions"]), (&3.into(), &4.into(), &7.into()));
    let near = |name: &str, expected: f64| assert!((figures[name].as_f64().unwrap() - expected).abs() < 1e-9, "{name}");
    near("density", 6.0 / 12.0);
    near("repeated", 1.0 / 7.0);
    // Of 1, 1, 1, 4.
    near("gini", 2.0 * (1.0 + 2.0 + 3.0 + 16.0) / 28.0 - 5.0 / 4.0);
    assert_eq!(figures["short_users"], 1);
    // Of 1, 3, 3, to the nearest rank: the first quartile, between 1 and 3, is the latter.
    assert_eq!(figures["lengths"]["quartiles"], serde_json::json!([1, 3, 3, 3, 3]));
    assert_eq!(figures["popularity"]["histogram"], serde_json::json!([[1, 3], [2, 0], [3, 1]]));
    assert_eq!(figures["times"], serde_json::json!([1.0, 9.5]));
}

#[test]
fn titles_and_pictures_are_shown() {
    let folder = folder();
    prismrec(folder.path(), &["data", "ratings.csv", "--items", "movies.csv", "--svg", "data.svg"])
        .assert()
        .success()
        .stdout(contains("ratings.csv: 3 users, 4 items, 7 interactions"))
        .stdout(contains("a  Alien, the first  (Horror, Space)").and(contains("c  Cube  (Horror)")))
        .stdout(contains("titles of 2 of 4 items").and(contains("drawn in data.svg")));
    let picture = fs::read_to_string(folder.path().join("data.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>") && picture.contains("3 users"));
    fs::write(folder.path().join("movies.dat"), b"a::Am\xe9lie (2001)::Comedy|Romance\n").unwrap();
    prismrec(folder.path(), &["data", "ratings.csv", "--items", "movies.dat"])
        .assert()
        .success()
        .stdout(contains("a  Amélie (2001)  (Comedy, Romance)"));
    for (text, expected) in [
        ("movieId,title\nx,y\n", "has nothing of the 4 items of the data, such as `a`"),
        ("who,title\na,y\n", "no column is the item's by its name"),
        ("movieId,year\na,1999\n", "no column is `title` or `genres`"),
    ] {
        fs::write(folder.path().join("movies.csv"), text).unwrap();
        prismrec(folder.path(), &["data", "ratings.csv", "--items", "movies.csv"])
            .assert()
            .code(1)
            .stderr(contains("movies.csv").and(contains(expected)));
    }
}

#[test]
fn what_is_written_trains_as_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rows = (0..400).map(|n| format!("u{},i{},{},{n}\n", n % 40, n * 7 % 25, n % 5));
    fs::write(path.join("r.csv"), format!("user,item,rating,time\n{}", rows.collect::<String>())).unwrap();
    let kept = ["--min-rating", "1", "--user-core", "3"];
    prismrec(path, &[&["data", "r.csv", "--write", "kept.safetensors"], &kept[..]].concat())
        .assert()
        .success()
        .stdout(contains("written to kept.safetensors; try: prismrec train kept.safetensors"));
    let small = ["--engine", "cpu", "--dim", "4", "--length", "4", "--blocks", "1", "--epochs", "1", "--batch", "32"];
    prismrec(path, &[&["train", "r.csv", "--run", "a"], &kept[..], &small[..]].concat()).assert().success();
    prismrec(path, &[&["train", "kept.safetensors", "--run", "b"], &small[..]].concat())
        .assert()
        .success()
        .stdout(contains("prepared by prismrec"));
    let parameters = |run: &str| {
        let file = path.join(run).join("best.safetensors");
        let checkpoint = prismrec::checkpoint::Checkpoint::load(&file).unwrap();
        (checkpoint.parameters, checkpoint.data)
    };
    assert!(parameters("a") == parameters("b"), "prepared data trained otherwise");
}

#[test]
fn what_is_no_data_is_refused() {
    let folder = folder();
    for (arguments, expected) in [
        (&["data"][..], "name a file of data"),
        (&["data", "ratings.csv", "--dim", "8"], "--dim has nothing to do with data"),
        (&["data", "none.csv"], "none.csv: cannot open"),
        (&["data", "ratings.csv", "--write", "no/such/folder/x"], "cannot write"),
    ] {
        prismrec(folder.path(), arguments).assert().code(1).stderr(contains(expected));
    }
}
