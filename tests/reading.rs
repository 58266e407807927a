//! Reading in blocks and by columns, against a reader that takes a line at a time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use prismrec::data::read::{Format, Interactions, Layout, Reading, read_as, read_blocks};
use prismrec::error::{Error, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn read_text(content: impl AsRef<[u8]>) -> Result<Reading> {
    let (_folder, path) = file(content);
    read_as(&path, &Format::default())
}

/// Users' items, by ids.
fn sequences(of: &Interactions) -> Vec<(&str, Vec<&str>)> {
    let items = |user| of.sequence(user).iter().map(|&item| of.items[item as usize].as_str()).collect();
    (0..).zip(&of.users).map(|(user, id)| (id.as_str(), items(user))).collect()
}

/// What a file of so many bytes a block and threads gives: the interactions, or the bad line and why.
fn outcome(path: &Path, block: usize, threads: usize) -> std::result::Result<Interactions, (u64, String)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    match pool.install(|| read_blocks(path, &Format::default(), block)) {
        Ok(reading) => Ok(reading.interactions),
        Err(Error::Line { line, reason, .. }) => Err((line, reason)),
        Err(error) => panic!("{error}"),
    }
}

/// Numbers by first appearance.
#[derive(Default)]
struct Plain {
    numbers: HashMap<String, u32>,
    ids: Vec<String>,
}

impl Plain {
    fn number(&mut self, id: &str) -> u32 {
        *self.numbers.entry(id.to_owned()).or_insert_with(|| {
            self.ids.push(id.to_owned());
            self.ids.len() as u32 - 1
        })
    }
}

/// What a file of (user, items, time) lines holds. An error is the number of the line that shows it.
fn plain(lines: &[(&str, Vec<&str>, i64)]) -> std::result::Result<Interactions, u64> {
    let (mut users, mut items) = (Plain::default(), Plain::default());
    let mut clicks: Vec<Vec<(i64, u32)>> = Vec::new();
    let (mut wide, mut repeated) = (false, false);
    for (number, (user, these, time)) in (1..).zip(lines) {
        let known = users.ids.len();
        let user = users.number(user) as usize;
        repeated |= user < known;
        wide |= these.len() > 1;
        if these.is_empty() || wide && repeated {
            return Err(number);
        }
        clicks.resize(users.ids.len(), Vec::new());
        clicks[user].extend(these.iter().map(|item| (*time, items.number(item))));
    }
    let mut read = Interactions { users: users.ids, items: items.ids, offsets: vec![0], clicks: Vec::new() };
    for mut clicks in clicks {
        clicks.sort_by_key(|&(time, _)| time);
        read.clicks.extend(clicks.iter().map(|&(_, item)| item));
        read.offsets.push(read.clicks.len());
    }
    Ok(read)
}

/// Ids of all lengths that collide and repeat.
fn ids(count: usize, prefix: &str) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{}{n}", "ü".repeat(n % 7))).collect()
}

#[test]
fn blocks_and_threads_make_no_difference_to_lists() {
    let mut rng = SmallRng::seed_from_u64(1);
    let (users, items) = (ids(300, ""), ids(90, "i"));
    for case in 0..12 {
        // Pairs; sequences; one with a line of one field; one with a wide line among pairs; a user's second sequence.
        let mut lines: Vec<(&str, Vec<&str>, i64)> = (0..400)
            .map(|n| {
                let sequence = case % 4 == 1;
                let user = if sequence { n % 300 } else { rng.random_range(0..users.len()) };
                let count = if sequence { rng.random_range(1..9) } else { 1 };
                let item = |_| items[rng.random_range(0..items.len())].as_str();
                (users[user].as_str(), (0..count).map(item).collect(), 0)
            })
            .take(if case % 4 == 1 && case > 4 { 300 } else { 400 })
            .collect();
        let at = rng.random_range(0..lines.len());
        match case % 4 {
            2 => lines[at].1.clear(),
            3 => lines[at].1 = vec!["a", "b"],
            _ => {}
        }
        let mut text = String::new();
        for (user, items, _) in &lines {
            writeln!(text, "{user} {}", items.join("\t")).unwrap();
        }
        let (_folder, path) = file(&text);
        let expected = plain(&lines);
        for block in [1, 13, 200, 1 << 20] {
            for threads in [1, 3] {
                let found = outcome(&path, block, threads);
                assert_eq!(found.clone().map_err(|(line, _)| line), expected, "case {case}, {block}, {threads}");
                assert_eq!(found, outcome(&path, 1 << 20, 1), "case {case}, {block}, {threads}");
            }
        }
    }
}

#[test]
fn blocks_and_threads_make_no_difference_to_tables() {
    let mut rng = SmallRng::seed_from_u64(2);
    let (users, items) = (ids(70, "u"), ids(1500, ""));
    for case in 0..6 {
        let mut text = String::from("rating,user_id,item_id,timestamp\n");
        // Few times, so that many are equal; and users with enough rows that a sort that is not stable shows.
        let lines: Vec<(&str, Vec<&str>, i64)> = (0..4000)
            .map(|_| {
                let time = rng.random_range(-5..5);
                let (user, item) = (&users[rng.random_range(0..70)], &items[rng.random_range(0..1500)]);
                // Some decimals anywhere make all of them decimal.
                let decimals = if case % 2 == 1 && rng.random_bool(0.001) { ".0" } else { "" };
                writeln!(text, "3.5,{user},{item},{time}{decimals}").unwrap();
                (user.as_str(), vec![item.as_str()], time)
            })
            .collect();
        let bad = case >= 4;
        if bad {
            text += "1,u1,7\n1,,,\n";
        }
        let (_folder, path) = file(&text);
        let expected = plain(&lines).unwrap();
        for (block, threads) in [(1, 1), (100, 3), (5000, 2), (1 << 20, 2)] {
            match outcome(&path, block, threads) {
                Ok(found) => assert_eq!((found, false), (expected.clone(), bad), "case {case}, {block}"),
                Err((line, reason)) => assert_eq!((line, bad), (4002, true), "{reason}"),
            }
        }
    }
}

#[test]
fn columns_are_found_by_their_names() {
    // As MovieLens, RecBole, Amazon and others have them: each is b: z y, a: x.
    let tables = [
        "userId,movieId,rating,timestamp\nb,y,3.5,20\na,x,4,5\nb,z,1,10\n",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nb\ty\t3\t20\na\tx\t4\t5\nb\tz\t1\t10\n",
        "timestamp,parent_asin,User ID\n20,y,b\n5,x,a\n10,z,b\n",
        "\"user\",\"item\",\"ts\"\r\n\"b\",\"y\",\"20\"\r\n\r\n\"a\",\"x\",5\r\nb,z,10.5",
        "\u{feff}\n \nuid,ASIN,time,text\nb,y,20,\"so \"\"good\"\", this\"\na,x,5,\nb,z,10,5\" wide\n",
    ];
    for table in tables {
        let Reading { interactions, source, .. } = read_text(table).unwrap();
        assert_eq!(sequences(&interactions), [("b", vec!["z", "y"]), ("a", vec!["x"])], "{table}");
        // By first appearance in the file, not in time.
        assert_eq!(interactions.items, ["y", "x", "z"]);
        assert!(source.layout.to_string().contains("in order of `t"), "{}", source.layout);
    }
    // No times: the file's order.
    let Reading { interactions, source, .. } = read_text("user,item,rating\nb,z,3\na,x,4\nb,y,1\n").unwrap();
    assert_eq!(sequences(&interactions), [("b", vec!["z", "y"]), ("a", vec!["x"])]);
    assert_eq!(source.layout.to_string(), "users from column `user`, items from `item`, oldest first");
}

#[test]
fn ids_of_tables_are_taken_as_they_are() {
    let read = read_text("user,item\n 1,\"a, \"\"b\"\"\"\n1,a b\n\"\"\"\",007\n1,7\n").unwrap().interactions;
    assert_eq!(sequences(&read), [(" 1", vec!["a, \"b\""]), ("1", vec!["a b", "7"]), ("\"", vec!["007"])]);
    // Between tabs, quotes are text.
    let read = read_text("user\titem\n1\t\"a\"\n").unwrap().interactions;
    assert_eq!(sequences(&read), [("1", vec!["\"a\""])]);
}

#[test]
fn a_header_over_pairs_is_no_interaction() {
    for text in ["user item\n1 7\n1 8\n2 7\n", "itemId  user_id\n7\t1\n8 1\n\n 7 2 \n"] {
        let read = read_text(text).unwrap();
        assert!(matches!(read.source.layout, Layout::Table(_)), "{}", read.source.layout);
        assert_eq!(sequences(&read.interactions), [("1", vec!["7", "8"]), ("2", vec!["7"])]);
    }
    // Other words are ids.
    let read = read_text("user thing\n1 7\n").unwrap();
    assert_eq!((read.source.layout, read.interactions.users.len()), (Layout::Pairs, 2));
    // But where all others are numbers, that is told.
    let warning = read.source.warnings.concat();
    assert!(
        warning.contains("clicks:1: `user thing` is read as an interaction; if it is a header: --user-column user")
    );
    assert_eq!(read_text("user thing\na 7\n").unwrap().source.warnings.len(), 0);
    assert_eq!(read_text("1 7\n2 7\n").unwrap().source.warnings.len(), 0);
    assert_eq!(read_text("a b c\nd b\n").unwrap().source.layout, Layout::Sequences);
}

#[test]
fn times_are_exact_and_ties_stay_in_order() {
    let order = |times: &[&str]| -> String {
        let rows: String = times.iter().zip('a'..).map(|(time, item)| format!("u,{item},{time}\n")).collect();
        let read = read_text(format!("user,item,time\n{rows}")).unwrap().interactions;
        sequences(&read)[0].1.concat()
    };
    assert_eq!(order(&["3", "1", "2", "1", "-1", " 3 "]), "ebdcaf");
    // Nanoseconds, which differ by less than floats do.
    assert_eq!(order(&["1700000000000000002", "1700000000000000001", "1700000000000000003"]), "bac");
    assert_eq!(order(&["0.5", "-0.0", "0", "-2", "-2.5", "1e3", "999"]), "edbcagf");
}

#[test]
fn bad_lines_of_tables_are_named() {
    let ratings = "userId,movieId,rating,timestamp";
    let cases: &[(&str, u64, &str)] = &[
        ("1,2,3.5\n", 2, "found 3 fields, expected 4, as in the header (`userId`, `movieId`, `rating`, `timestamp`)"),
        ("1,2,3.5,9,8\n", 2, "found 5 fields, expected 4"),
        ("1,2,3.5,9\n\n1\n", 4, "found 1 field, expected 4"),
        ("1,,3.5,9\n", 2, "column `movieId` is empty"),
        (",1,3.5,9\n", 2, "column `userId` is empty"),
        ("1,2,3.5,9\n1,3,3.5,\n", 3, "column `timestamp`: expected a number"),
        ("1,2,3.5,2015-03-05\n", 2, "found `2015-03-05`"),
        ("1,2,3.5,nan\n", 2, "found `nan`"),
        ("1,2,3.5,inf\n", 2, "found `inf`"),
        ("1,\"2,3.5,9\n1,\"4,5,6\n", 2, "the quote in `\"2,3.5,9` is not closed on its line"),
        ("1,\"2\"x,3.5,9\n", 2, "expected a comma after the closing quote"),
    ];
    for (rows, at, expected) in cases {
        let error = read_text(format!("{ratings}\n{rows}")).unwrap_err();
        let Error::Line { line, reason, .. } = &error else { panic!("{error}") };
        assert!(line == at && reason.contains(expected), "{error} instead of {at}: {expected}");
    }
    let tabs = read_text("user\titem\ttime\n1\t2\t3\n\t\t\n").unwrap_err().to_string();
    assert!(tabs.contains("clicks:3: column `user` is empty") || tabs.contains("clicks:3: column `time`"), "{tabs}");
    let (_folder, path) = file(b"user,item\n1,2\n1,\xff\n");
    let error = read_as(&path, &Format::default()).unwrap_err().to_string();
    assert!(error.ends_with("clicks:3: not UTF-8 text"), "{error}");
    let none = read_text("user,item\n").unwrap_err().to_string();
    assert!(none.contains("no interactions, expected a line for each under the header"), "{none}");
}

#[test]
fn a_header_that_cannot_be_told_names_its_columns() {
    for (text, expected) in [
        ("who,what,when\n1,2,3\n", "found the columns `who`, `what`, `when`"),
        ("userId,what,timestamp\n1,2,3\n", "no column is the item's by its name: found the columns `userId`, `what`"),
        ("movieId,who it was\n1,2\n", "no column is the user's by its name"),
        ("user,movieId,asin\n1,2,3\n", "cannot tell which of the columns `movieId` and `asin` to take"),
        ("1,1193,5\n", "replace `,` by a space"),
    ] {
        let error = read_text(text).unwrap_err().to_string();
        assert!(error.contains("clicks:1: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn columns_can_be_named() {
    let named = |user: Option<&str>, item: Option<&str>, time: Option<&str>| {
        let [user, item, time] = [user, item, time].map(|name| name.map(str::to_owned));
        Format { user, item, time, ..Format::default() }
    };
    let (_folder, path) = file("who,movieId,asin,date\nb,y,1,20\na,x,1,5\nb,z,2,10\n");
    let read = read_as(&path, &named(Some("who"), Some("movieId"), Some("date"))).unwrap().interactions;
    assert_eq!(sequences(&read), [("b", vec!["z", "y"]), ("a", vec!["x"])]);
    let read = read_as(&path, &named(Some("who"), Some("asin"), None)).unwrap().interactions;
    assert_eq!(sequences(&read), [("b", vec!["1", "2"]), ("a", vec!["1"])]);
    for (format, expected) in [
        (named(Some("whom"), None, None), "there is no column `whom`: found the columns `who`, `movieId`"),
        (named(Some("who"), None, None), "which of the columns `movieId` and `asin`"),
        (named(Some("who"), Some("who"), None), "one column is to be two things"),
    ] {
        let error = read_as(&path, &format).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let (_folder, path) = file("user item time\n1 2 8\n1 3 7\n");
    let read = read_as(&path, &named(Some("user"), None, None)).unwrap().interactions;
    assert_eq!(sequences(&read), [("1", vec!["3", "2"])]);
    let error = read_as(&path, &named(Some("who"), None, None)).unwrap_err().to_string();
    assert!(error.contains("clicks:1: there is no column `who`"), "{error}");
}

#[test]
fn zipped_tables_are_read() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"userId,movieId,timestamp\n1,2,9\n1,3,8\n").unwrap();
    let read = read_text(encoder.finish().unwrap()).unwrap().interactions;
    assert_eq!(sequences(&read), [("1", vec!["3", "2"])]);
}
