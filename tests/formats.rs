//! Files of other kinds than text in columns, several files, and which of the interactions are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use prismrec::data::clean::{Cleaning, Dropped, Repeats, clean};
use prismrec::data::read::{Format, Interactions, Layout, Reading, Times, read_as, read_files, write_prepared};
use prismrec::data::split::{Part, Split, Training};
use prismrec::error::{Error, Result};
use prismrec::settings::Settings;
use prismrec::train::Dataset;
use tempfile::TempDir;

/// A folder with files of these names and contents, and their paths.
fn files(contents: &[(&str, &[u8])]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(name, content): &(&str, &[u8])| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let paths = contents.iter().map(write).collect();
    (folder, paths)
}

fn read_text(content: &str, format: &Format) -> Result<Reading> {
    let (_folder, paths) = files(&[("clicks", content.as_bytes())]);
    read_as(&paths[0], format)
}

/// Users' items, as `user:item,item user:...`.
fn shown(of: &Interactions) -> String {
    let items = |user| of.sequence(user).iter().map(|&item| of.items[item as usize].as_str()).collect::<Vec<_>>();
    let users: Vec<_> = (0..).zip(&of.users).map(|(user, id)| format!("{id}:{}", items(user).join(","))).collect();
    users.join(" ")
}

/// The line and the reason of an error.
fn bad_line(read: Result<Reading>) -> (u64, String) {
    match read {
        Err(Error::Line { line, reason, .. }) => (line, reason),
        other => panic!("{other:?} instead of a bad line"),
    }
}

fn columns(user: &str, item: &str) -> Format {
    Format { user: Some(user.into()), item: Some(item.into()), ..Format::default() }
}

fn at_least(rating: f64) -> Format {
    Format { min_rating: Some(rating), ..Format::default() }
}

#[test]
fn movielens_lines_without_a_header_are_read() {
    let read = read_text("1::10::5::30\n1::11::3.5::20\n2::10::1::9\n", &Format::default()).unwrap();
    assert_eq!(shown(&read.interactions), "1:11,10 2:10");
    assert_eq!(read.source.layout.to_string(), "users from column `user`, items from `item`, in order of `time`");
    let read = read_text("1::10::5::30\n1::11::3.5::20\n2::10::1::9\n", &at_least(3.5)).unwrap();
    assert_eq!((shown(&read.interactions).as_str(), read.source.low_rated), ("1:11,10", 1));
    assert_eq!(shown(&read_text("a::x y\nb::z\n", &columns("1", "2")).unwrap().interactions), "a:x y b:z");
    assert_eq!(shown(&read_text("a::x\nb::z\n", &Format::default()).unwrap().interactions), "a:x b:z");
    // With a header, in any order.
    let read = read_text("movieId::userId\n7::1\n", &Format::default()).unwrap();
    assert_eq!(shown(&read.interactions), "1:7");
    assert_eq!(bad_line(read_text("1::10::5::30\n1::11::4\n", &Format::default())).0, 2);
}

#[test]
fn columns_go_by_number_without_a_header() {
    let format =
        Format { time: Some("4".into()), rating: Some("3".into()), min_rating: Some(2.0), ..columns("2", "1") };
    for between in ["\t", ",", ";", " ", "::"] {
        let text = ["10 u 3 9", "11 u 1 8", "12 u 2 7", "10 v 2 1"].join("\n").replace(' ', between);
        let read = read_text(&text, &format).unwrap();
        assert_eq!(shown(&read.interactions), "u:12,10 v:10", "{between}");
        assert_eq!(read.source.low_rated, 1);
    }
    // A header is one by its names.
    let read = read_text("item,user,rating,time\n10,u,3,9\n11,u,4,8\n", &format).unwrap();
    assert_eq!(shown(&read.interactions), "u:11,10");
    let (line, reason) = bad_line(read_text("1,2\n", &columns("1", "3")));
    assert!(line == 1 && reason.contains("expected 3 columns or more"), "{reason}");
    let (_, reason) = bad_line(read_text("1,2,3\n", &Format { min_rating: Some(1.0), ..columns("1", "2") }));
    assert!(reason.contains("--rating-column NUMBER"), "{reason}");
    // Only such names are a header.
    let read = read_text("x,1,2\na,b,c\n", &columns("2", "1")).unwrap();
    assert_eq!(shown(&read.interactions), "1:x b:a");
}

#[test]
fn ratings_leave_out_the_lower_ones() {
    let table = "userId,movieId,rating,timestamp\n1,a,3.5,2\n1,b,4,1\n2,c,1,1\n1,d,4.5,3\n";
    let read = read_text(table, &at_least(4.0)).unwrap();
    // Who has nothing left is not there.
    assert_eq!((shown(&read.interactions).as_str(), read.source.low_rated), ("1:b,d", 2));
    assert!(read.source.layout.to_string().contains("`rating` of 4 or more"));
    let named = Format { rating: Some("stars:float".into()), ..at_least(2.0) };
    let read = read_text("user\titem\tstars:float\n1\t2\t2\n1\t3\t1\n", &named).unwrap();
    assert_eq!(shown(&read.interactions), "1:2");
    let error = read_text(table, &at_least(9.0)).unwrap_err().to_string();
    assert!(error.contains("no interaction is rated as high as --min-rating (4 are lower)"), "{error}");
    for (text, at, expected) in [
        ("userId,movieId,timestamp\n1,2,3\n", 1, "no column is the rating's"),
        ("userId,movieId,rating\n1,2,3\n1,2,good\n", 3, "column `rating`: expected a number, found `good`"),
        ("1 2\n", 1, "--min-rating takes them"),
    ] {
        let (line, reason) = bad_line(read_text(text, &at_least(1.0)));
        assert!(line == at && reason.contains(expected), "{line}: {reason}");
    }
}

#[test]
fn json_lines_are_read_as_a_table() {
    let amazon = concat!(
        r#"{"reviewerID": "A1", "asin": "B2", "helpful": [2, 3], "overall": 5.0, "unixReviewTime": 20, "x": {"asin": 1}}"#,
        "\n\n",
        r#"{"overall": 1.0, "unixReviewTime": 10, "asin": "B\u0033", "reviewerID": "A1"}"#,
        "\n",
        r#"{"asin": 7, "reviewerID": "A\"2", "unixReviewTime": "5", "overall": "4"}"#,
    );
    let read = read_text(amazon, &Format::default()).unwrap();
    assert_eq!(shown(&read.interactions), "A1:B3,B2 A\"2:7");
    assert!(matches!(read.source.layout, Layout::Json(_)));
    assert_eq!(shown(&read_text(amazon, &at_least(4.0)).unwrap().interactions), "A1:B2 A\"2:7");
    let both = "{\"user_id\":1,\"asin\":2,\"parent_asin\":3,\"timestamp\":4}\n";
    assert!(bad_line(read_text(both, &Format::default())).1.contains("--item-column"));
    let named = Format { item: Some("parent_asin".into()), ..Format::default() };
    assert_eq!(shown(&read_text(both, &named).unwrap().interactions), "1:3");
    let good = "{\"user\":1,\"item\":2,\"time\":3}\n";
    for (line, expected) in [
        ("{\"user\":1,\"item\":2", "expected a JSON object: EOF"),
        ("{'user':1}", "expected a JSON object: key must be a string"),
        ("[1]", "expected a JSON object: invalid type"),
        ("{\"user\":1,\"time\":3}", "column `item` is empty"),
        ("{\"user\":null,\"item\":2,\"time\":3}", "column `user` is empty"),
        ("{\"user\":[1],\"item\":2,\"time\":3}", "found an object or a list"),
        ("{\"user\":1,\"item\":2,\"time\":\"yesterday\"}", "column `time`: expected a number"),
        ("{\"user\":\"a\\nb\",\"item\":2,\"time\":1}", "an id has a line end within"),
        ("{\"user\":1,\"item\":2,\"time\":3} {}", "trailing characters"),
    ] {
        let (at, reason) = bad_line(read_text(&format!("{good}\n{line}\n{good}"), &Format::default()));
        assert!(at == 3 && reason.contains(expected), "{at}: {reason} instead of {expected}");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn files_packed_with_zstd_are_read() {
    // Two frames, as `cat a.zst b.zst` gives.
    let packed = [&b"userId,movieId,timestamp\n1,2,9\n"[..], b"1,3,8\n"].map(|text| zstd::encode_all(text, 3).unwrap());
    let (_folder, paths) = files(&[("a.csv.zst", &packed.concat()), ("cut.zst", &packed[0][..packed[0].len() - 4])]);
    assert_eq!(shown(&read_as(&paths[0], &Format::default()).unwrap().interactions), "1:3,2");
    assert!(matches!(read_as(&paths[1], &Format::default()), Err(Error::File { action: "read", .. })));
}

#[test]
fn other_packings_are_told() {
    for (start, what) in [(&b"PK\x03\x04abc"[..], "zip"), (b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0", "xz")] {
        let (_folder, paths) = files(&[("data", start)]);
        let error = read_as(&paths[0], &Format::default()).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("unpack it first"), "{error}");
    }
}

#[test]
fn several_files_are_one() {
    let (folder, paths) = files(&[
        ("part-1.csv", b"userId,movieId,timestamp\n1,2,9\n2,5,1\n"),
        ("part-2.tsv", b"item_id:token\tuser_id:token\ttimestamp:float\n3\t1\t8.5\n2\t3\t1\n"),
        (".hidden", b"x"),
        ("_SUCCESS", b""),
    ]);
    let both = read_files(&paths[..2], &Format::default()).unwrap();
    assert_eq!(shown(&both.interactions), "1:3,2 2:5 3:2");
    assert_eq!((&both.interactions.items[..], both.source.files), (&["2", "5", "3"].map(String::from)[..], 2));
    let of_folder = read_as(folder.path(), &Format::default()).unwrap();
    assert_eq!(of_folder.interactions, both.interactions);
    // Lines are counted in each.
    fs::write(&paths[1], "user item time\n1 2\n").unwrap();
    let (line, _) = bad_line(read_files(&paths[..2], &columns("user", "item")).map_err(|error| match error {
        Error::Line { line, reason, path } => {
            assert!(path.ends_with("part-1.csv"));
            Error::Line { line, reason, path }
        }
        other => other,
    }));
    assert_eq!(line, 1);
    fs::write(&paths[1], "userId,movieId\n1,2\n").unwrap();
    let error = read_files(&paths[..2], &Format::default()).unwrap_err().to_string();
    assert!(error.contains("part-1.csv has times and ") && error.contains("part-2.tsv has none"), "{error}");
    fs::write(&paths[1], "\n").unwrap();
    let error = read_files(&paths[..2], &Format::default()).unwrap_err().to_string();
    assert!(error.contains("part-2.tsv: no interactions"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = read_as(empty.path(), &Format::default()).unwrap_err().to_string();
    assert!(error.contains("the folder holds no file"), "{error}");
}

/// The interactions after cleaning, and what was dropped.
fn cleaned(text: &str, cleaning: Cleaning) -> (String, Dropped) {
    let read = read_text(text, &Format { keep_times: true, ..Format::default() }).unwrap();
    let before = read.interactions.clicks.len();
    let (kept, times, dropped) = clean(read.interactions, read.times, &cleaning).unwrap();
    assert_eq!(before - kept.clicks.len(), dropped.repeats + dropped.old + dropped.rare);
    if let Some(times) = times {
        assert_eq!(times.len(), kept.clicks.len());
    }
    (shown(&kept), dropped)
}

#[test]
fn repeats_and_long_sequences_are_cut() {
    let text = "1 a b b a c b\n2 d d\n";
    let kept = |repeats, last| cleaned(text, Cleaning { repeats, last, ..Cleaning::default() }).0;
    assert_eq!(kept(Repeats::Keep, 0), "1:a,b,b,a,c,b 2:d,d");
    assert_eq!(kept(Repeats::First, 0), "1:a,b,c 2:d");
    assert_eq!(kept(Repeats::Last, 0), "1:a,c,b 2:d");
    assert_eq!(kept(Repeats::Adjacent, 0), "1:a,b,a,c,b 2:d");
    assert_eq!(kept(Repeats::Keep, 3), "1:a,c,b 2:d,d");
    assert_eq!(kept(Repeats::First, 2), "1:b,c 2:d");
    let dropped = cleaned(text, Cleaning { repeats: Repeats::First, last: 2, ..Cleaning::default() }).1;
    assert_eq!(dropped, Dropped { repeats: 4, old: 1, rare: 0, users: 0, items: 1 });
}

#[test]
fn a_core_is_what_is_left_when_no_one_is_rare() {
    // Dropping x makes user 3 rare, whose going makes z rare, whose going makes user 4 rare.
    let text = "1 a b c\n2 a b c\n3 z x\n4 z a\n";
    let core = |user_core, item_core| cleaned(text, Cleaning { user_core, item_core, ..Cleaning::default() });
    assert_eq!(core(0, 0).0, "1:a,b,c 2:a,b,c 3:z,x 4:z,a");
    assert_eq!(core(0, 2).0, "1:a,b,c 2:a,b,c 3:z 4:z,a");
    let (kept, dropped) = core(2, 2);
    assert_eq!(kept, "1:a,b,c 2:a,b,c");
    assert_eq!(dropped, Dropped { repeats: 0, old: 0, rare: 4, users: 2, items: 2 });
    assert_eq!(core(3, 0).0, "1:a,b,c 2:a,b,c");
    let read = read_text(text, &Format::default()).unwrap();
    let cleaning = Cleaning { user_core: 4, ..Cleaning::default() };
    let error = clean(read.interactions, None, &cleaning).unwrap_err().to_string();
    assert!(error.contains("no interaction is left") && error.contains("--user-core"), "{error}");
}

/// Random interactions against counting again and again.
#[test]
fn a_core_of_random_data_is_the_largest() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(5);
    for _ in 0..20 {
        let mut pairs: Vec<(u32, u32)> = (0..300).map(|_| (rng.random_range(0..40), rng.random_range(0..60))).collect();
        let text: String = pairs.iter().map(|(user, item)| format!("{user} i{item}\n")).collect();
        loop {
            let before = pairs.len();
            let all = pairs.clone();
            pairs.retain(|pair| {
                all.iter().filter(|other| other.0 == pair.0).count() >= 5
                    && all.iter().filter(|other| other.1 == pair.1).count() >= 4
            });
            if pairs.len() == before {
                break;
            }
        }
        let expected: String = pairs.iter().map(|(user, item)| format!("{user} i{item}\n")).collect();
        let expected = shown(&read_text(&expected, &Format::default()).unwrap().interactions);
        let found = cleaned(&text, Cleaning { user_core: 5, item_core: 4, ..Cleaning::default() }).0;
        // Users keep the order of the whole file.
        let sorted = |text: &str| -> BTreeSet<String> { text.split(' ').map(str::to_owned).collect() };
        assert_eq!(sorted(&found), sorted(&expected));
    }
}

#[test]
fn prepared_files_are_read_as_they_were_written() {
    let keep = Format { keep_times: true, ..Format::default() };
    let read = read_text("user,item,time\n b,x y,3\nb,\"ü\",2.5\nc,x y,-1\n", &keep).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.safetensors");
    write_prepared(&path, &read.interactions, read.times.as_ref(), "a test").unwrap();
    let again = read_as(&path, &keep).unwrap();
    assert_eq!((&again.interactions, &again.times), (&read.interactions, &read.times));
    assert_eq!(again.source.layout, Layout::Prepared);
    let times: Vec<f64> = (0..3).map(|place| again.times.as_ref().unwrap().get(place)).collect();
    assert_eq!(times, [3.0, 2.5, -1.0]);
    assert_eq!(read_as(&path, &Format::default()).unwrap().times, None);
    write_prepared(&path, &read.interactions, None, "a test").unwrap();
    assert_eq!(read_as(&path, &keep).unwrap().times, None);
    for (format, expected) in [(at_least(1.0), "no ratings"), (columns("user", "item"), "no columns to name")] {
        let error = read_as(&path, &format).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // What is cut short, changed or of another program.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    assert!(read_as(&path, &keep).unwrap_err().to_string().contains("is a damaged safetensors file"));
    let mut changed = read.interactions.clone();
    changed.clicks[0] = 9;
    write_prepared(&path, &changed, None, "a test").unwrap();
    assert!(read_as(&path, &keep).unwrap_err().to_string().contains("its parts do not fit"));
    let header = br#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header].concat()).unwrap();
    let error = read_as(&path, &keep).unwrap_err().to_string();
    assert!(error.contains("is a safetensors file without interactions"), "{error}");
}

#[test]
fn items_are_held_out_by_time() {
    let text = "user,item,time\n1,a,1\n1,b,5\n1,c,10\n1,d,11\n2,a,1\n2,b,2\n3,c,6\n3,d,7\n4,a,5\n4,b,20\n";
    let read = read_text(text, &Format { keep_times: true, ..Format::default() }).unwrap();
    let split = Split::by_time(read.interactions, &read.times.unwrap(), [5.0, 10.0]);
    let training: Vec<_> = (0..4).map(|user| split.training(user).to_vec()).collect();
    assert_eq!(training, [vec![0], vec![0, 1], vec![], vec![]]);
    assert_eq!(split.evaluated_users(Part::Validation, None, 1), [0]);
    assert_eq!(split.evaluated_users(Part::Test, None, 1), [0, 3]);
    assert_eq!(split.users_kept_out(), 2);
    assert_eq!((split.history(0, Part::Validation), split.truth(0, Part::Validation)), (&[0][..], 1));
    assert_eq!((split.history(0, Part::Test), split.truth(0, Part::Test)), (&[0, 1][..], 2));
    assert_eq!((split.history(3, Part::Test), split.truth(3, Part::Test)), (&[0][..], 1));
    let refit = split.trained_on(Training::WithValidation, 0.0, 1);
    let training: Vec<_> = (0..4).map(|user| refit.training(user).to_vec()).collect();
    assert_eq!(training, [vec![0, 1], vec![0, 1], vec![2, 3], vec![0]]);
}

/// The settings of a file of ten users with ten times each, `user * 10 + click`.
fn timed(more: impl Fn(&mut Settings)) -> Result<Dataset> {
    let rows = (0..10).flat_map(|user| (0..10).map(move |click| format!("u{user},{click},{}\n", user * 10 + click)));
    let text = format!("user,item,time\n{}", rows.collect::<String>());
    let (_folder, paths) = files(&[("timed.csv", text.as_bytes())]);
    let mut settings = Settings { data: paths[0].display().to_string().into(), ..Settings::default() };
    more(&mut settings);
    Dataset::open(&settings)
}

#[test]
fn settings_decide_the_split_by_time() {
    let set = |valid: &str, test: &str| {
        let [valid, test] = [valid, test].map(|moment| moment.parse().unwrap());
        timed(|settings| (settings.valid_from, settings.test_from) = (valid, test))
    };
    for (valid, test) in [("45", "95"), ("45%", "95%")] {
        let split = set(valid, test).unwrap().split;
        assert!(split.is_by_time());
        let lengths: Vec<usize> = (0..10).map(|user| split.training(user).len()).collect();
        assert_eq!(lengths, [10, 10, 10, 10, 5, 0, 0, 0, 0, 0], "{valid}");
        assert_eq!(split.evaluated_users(Part::Validation, None, 1), [4]);
        assert_eq!(split.evaluated_users(Part::Test, None, 1), [9]);
    }
    for (valid, test, expected) in [
        ("45", "none", "takes both --valid-from and --test-from"),
        ("none", "45", "takes both"),
        ("45", "45", "is to be before --test-from"),
        ("90%", "80%", "is to be before"),
    ] {
        let error = set(valid, test).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let (_folder, paths) = files(&[("untimed", b"1 2\n1 3\n1 4\n")]);
    let [valid_from, test_from] = ["1", "2"].map(|moment| moment.parse().unwrap());
    let data = paths[0].display().to_string().into();
    let error =
        Dataset::open(&Settings { data, valid_from, test_from, ..Settings::default() }).unwrap_err().to_string();
    assert!(error.contains("has no times"), "{error}");
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Rows of a user, an item, a rating and a time in groups of so many; an item may be null.
    type Row = (&'static str, Option<i64>, f64, i64);

    fn write(path: &Path, rows: &[Row], group: usize, compression: Compression) {
        let schema = "message clicks { required binary user_id (UTF8); optional int64 item_id; required double rating; \
                      required int64 timestamp; optional binary note (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
        for rows in rows.chunks(group) {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let users: Vec<ByteArray> = rows.iter().map(|row| row.0.into()).collect();
            column.typed::<ByteArrayType>().write_batch(&users, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let items: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
            let levels: Vec<i16> = rows.iter().map(|row| row.1.is_some().into()).collect();
            column.typed::<Int64Type>().write_batch(&items, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let ratings: Vec<f64> = rows.iter().map(|row| row.2).collect();
            column.typed::<DoubleType>().write_batch(&ratings, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
            column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![0; rows.len()]), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn parquet_is_read_as_a_table() {
        let (_folder, paths) = files(&[("clicks.parquet", b"")]);
        let path = &paths[0];
        let rows: [Row; 5] = [
            ("b", Some(7), 3.0, 20),
            ("a", Some(8), 4.0, 5),
            ("b", Some(9), 5.0, 10),
            ("b", Some(7), 5.0, 1),
            ("c", Some(8), 1.0, 1),
        ];
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::LZ4_RAW,
            #[cfg(feature = "zstd")]
            Compression::ZSTD(Default::default()),
        ] {
            for group in [1, 2, 5] {
                write(path, &rows, group, compression);
                let read = read_as(path, &Format::default()).unwrap();
                assert_eq!(shown(&read.interactions), "b:7,9,7 a:8 c:8", "{compression}, {group}");
                assert_eq!(read.interactions.items, ["7", "8", "9"]);
                let read = read_as(path, &at_least(4.0)).unwrap();
                assert_eq!(shown(&read.interactions), "a:8 b:7,9", "{compression}, {group}");
            }
        }
        let layout = read_as(path, &Format::default()).unwrap().source.layout.to_string();
        assert_eq!(layout, "Parquet, users from column `user_id`, items from `item_id`, in order of `timestamp`");
        // Beside text, as one of several files.
        let (_folder, more) = files(&[("more.csv", b"userId,movieId,timestamp\nb,5,4\n")]);
        let read = read_files(&[path.clone(), more[0].clone()], &Format::default()).unwrap();
        assert_eq!(shown(&read.interactions), "b:7,5,9,7 a:8 c:8");
    }

    #[test]
    fn what_is_wrong_with_parquet_is_told() {
        let (_folder, paths) = files(&[("clicks.parquet", b"")]);
        let path = &paths[0];
        let rows: [Row; 4] =
            [("b", Some(7), 3.0, 20), ("a", Some(8), 4.0, 5), ("b", None, 5.0, 10), ("", Some(7), 5.0, 1)];
        for group in [1, 2, 4] {
            write(path, &rows, group, Compression::SNAPPY);
            let (line, reason) = bad_line(read_as(path, &Format::default()));
            assert_eq!((line, reason.as_str()), (3, "column `item_id` is empty"), "{group}");
        }
        write(path, &rows[3..], 4, Compression::SNAPPY);
        assert_eq!(bad_line(read_as(path, &Format::default())), (1, "column `user_id`: is empty".into()));
        let error = read_as(path, &columns("who", "item_id")).unwrap_err().to_string();
        assert!(error.contains("there is no column `who`: found the columns `user_id`, `item_id`"), "{error}");
        write(path, &[], 4, Compression::SNAPPY);
        assert!(read_as(path, &Format::default()).unwrap_err().to_string().contains("no interactions"));
        write(path, &rows[..2], 4, Compression::SNAPPY);
        let bytes = fs::read(path).unwrap();
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&bytes[..bytes.len() - 9]).unwrap();
        let error = read_as(path, &Format::default()).unwrap_err().to_string();
        assert!(error.contains("cannot be read as Parquet"), "{error}");
    }
}

#[test]
fn times_are_kept_with_their_interactions() {
    let read = read_text("user,item,time\n1,a,9\n2,b,4\n1,c,3\n", &Format { keep_times: true, ..Format::default() });
    let Reading { interactions, times, .. } = read.unwrap();
    let times: &Times = &times.unwrap();
    assert_eq!(shown(&interactions), "1:c,a 2:b");
    assert_eq!((0..3).map(|place| times.get(place)).collect::<Vec<_>>(), [3.0, 9.0, 4.0]);
}
