//! `prismrec download` and `--recipe`, against a server of this test's own: whole files, downloads that break off, servers that
//! lie. Every content is made here.

mod program;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use predicates::prelude::*;
use predicates::str::contains;
use prismrec::data::titles::Titles;
use prismrec::experiments::recipes::{names, recipe};
use prismrec::settings::{Given, Settings};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use program::prismrec;

/// The head of every request, in lower case.
type Requests = Arc<Mutex<Vec<String>>>;

/// A server on this machine that gives `answer(number of the request, its head)`, byte for byte, and hangs up.
fn serve(mut answer: impl FnMut(usize, &str) -> Vec<u8> + Send + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/toy.txt", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut head = String::new();
            for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
                head += &line.to_lowercase();
                head += "\n";
            }
            let number = seen.lock().unwrap().len();
            seen.lock().unwrap().push(head.clone());
            // A client that has heard enough may have left.
            let _ = stream.write_all(&answer(number, &head));
        }
    });
    (url, requests)
}

/// Where the request's range begins.
fn wanted(head: &str) -> Option<usize> {
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
    range.strip_suffix('-').unwrap().parse().ok()
}

/// An answer with this status, further header lines and body; `length`: what it says of its own.
fn answer(status: &str, headers: &str, length: Option<usize>, body: &[u8]) -> Vec<u8> {
    let length = length.map_or_else(String::new, |n| format!("content-length: {n}\r\n"));
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn whole(content: &[u8]) -> Vec<u8> {
    answer("200 OK", "etag: \"v1\"\r\n", Some(content.len()), content)
}

/// What a server gives that knows ranges.
fn ranged(content: &[u8], head: &str) -> Vec<u8> {
    let Some(from) = wanted(head) else { return whole(content) };
    let headers = format!("etag: \"v1\"\r\ncontent-range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
    answer("206 Partial Content", &headers, Some(content.len() - from), &content[from..])
}

/// Says its whole length, and hangs up in the middle.
fn half(content: &[u8]) -> Vec<u8> {
    answer("200 OK", "etag: \"v1\"\r\n", Some(content.len()), &content[..content.len() / 2])
}

/// `user item` lines: 400 users who walk through 97 items.
fn content() -> Vec<u8> {
    let mut text = String::new();
    for user in 0..400 {
        for click in 0..10 {
            writeln!(text, "user{user} item-{}", (user * 7 + click * (1 + user % 3)) % 97).unwrap();
        }
    }
    text.into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_blob(content: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// A folder with `datasets/toy.toml`: settings that train in no time, and a source of these lines.
fn folder(source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("datasets")).unwrap();
    let text = format!(
        "dim = 8\nlength = 8\nblocks = 1\nbatch = 128\nepochs = 1\nengine = \"cpu\"\nthreads = 1\nvalid-users = 20\n\n[source]\n\
         title = \"Toys\"\nusers = 400\nitems = 97\ninteractions = 4000\nlicence = \"ask first\"\nlicence-url = \"u\"\n{source}"
    );
    fs::write(folder.path().join("datasets/toy.toml"), text).unwrap();
    folder
}

/// The lines of a source that is one file.
fn plain(url: &str, content: &[u8]) -> String {
    format!("url = \"{url}\"\nfile = \"toy.txt\"\nsize = {}\ngit-blob = \"{}\"\n", content.len(), git_blob(content))
}

/// What is in the folder of downloads.
fn inside(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused(folder: &Path, arguments: &[&str], what: &str) {
    program::refused(folder, arguments, &[what]);
}

#[test]
fn a_whole_file_is_fetched_once() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |_, _| whole(&sent));
    let folder = folder(&plain(&url, &content));
    let download = || prismrec(folder.path(), &["download", "toy"]).assert().success();
    download().stdout(contains("terms: ask first (u)").and(contains(&url)));
    assert_eq!(fs::read(folder.path().join("data/toy.txt")).unwrap(), content);
    assert_eq!(inside(&folder.path().join("data")), ["toy.txt"]);
    download().stdout(contains("toy.txt: checked"));
    assert_eq!(requests.lock().unwrap().len(), 1);
    // Elsewhere, by flag and by the environment.
    prismrec(folder.path(), &["download", "toy", "--to", "there/sets"]).assert().success();
    assert_eq!(fs::read(folder.path().join("there/sets/toy.txt")).unwrap(), content);
    prismrec(folder.path(), &["download", "toy"]).env("PRISMREC_DATA", "there/sets").assert().success();
    assert_eq!(requests.lock().unwrap().len(), 2);
    // What was changed since is not taken for it.
    fs::write(folder.path().join("data/toy.txt"), &content[1..]).unwrap();
    refused(folder.path(), &["download", "toy"], "bytes where the recipe says");
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |number, head| if number == 0 { half(&sent) } else { ranged(&sent, head) });
    let folder = folder(&plain(&url, &content));
    prismrec(folder.path(), &["download", "toy"]).assert().success().stdout(contains("broke off after"));
    assert_eq!(fs::read(folder.path().join("data/toy.txt")).unwrap(), content);
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!((wanted(&requests[0]), wanted(&requests[1])), (None, Some(content.len() / 2)));
    assert!(requests[1].contains("if-range: \"v1\""), "{}", requests[1]);
}

#[test]
fn another_command_goes_on_too() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |number, head| match number {
        0 => half(&sent),
        // Hangs up at once.
        1 => Vec::new(),
        _ => ranged(&sent, head),
    });
    let folder = folder(&plain(&url, &content));
    refused(folder.path(), &["download", "toy"], "the same command goes on");
    let data = folder.path().join("data");
    assert_eq!(inside(&data), [".toy.txt.part", ".toy.txt.validator"]);
    assert_eq!(fs::read(data.join(".toy.txt.part")).unwrap(), content[..content.len() / 2]);
    prismrec(folder.path(), &["download", "toy"]).assert().success();
    assert_eq!(wanted(&requests.lock().unwrap()[2]), Some(content.len() / 2));
    assert_eq!(fs::read(data.join("toy.txt")).unwrap(), content);
    assert_eq!(inside(&data), ["toy.txt"]);
}

#[test]
fn a_server_that_knows_no_ranges_begins_anew() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |number, _| if number == 0 { half(&sent) } else { whole(&sent) });
    let folder = folder(&plain(&url, &content));
    prismrec(folder.path(), &["download", "toy"]).assert().success();
    assert_eq!(fs::read(folder.path().join("data/toy.txt")).unwrap(), content);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[test]
fn the_beginning_of_another_file_is_thrown_away() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |_, head| ranged(&sent, head));
    let folder = folder(&plain(&url, &content));
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/.toy.txt.part"), "other bytes").unwrap();
    prismrec(folder.path(), &["download", "toy"]).assert().success();
    assert_eq!(fs::read(folder.path().join("data/toy.txt")).unwrap(), content);
    let wanted: Vec<_> = requests.lock().unwrap().iter().map(|head| wanted(head)).collect();
    assert_eq!(wanted, [Some(11), None]);
}

#[test]
fn a_server_that_lies_about_the_length_is_refused() {
    let content = content();
    let n = content.len();
    for (told, sent, what) in [
        (Some(n + 5), n, format!("the server has {} bytes where the recipe says {n}", n + 5)),
        (Some(n - 5), n, format!("the server has {} bytes where the recipe says {n}", n - 5)),
        // Says nothing, and sends more or less.
        (None, n + 5, format!("more than the {n} bytes")),
        (None, n - 5, "broke off after".to_owned()),
    ] {
        let mut body = content.clone();
        body.resize(sent, b'x');
        let (url, _) = serve(move |_, _| answer("200 OK", "", told, &body));
        let folder = folder(&plain(&url, &content));
        refused(folder.path(), &["download", "toy"], &what);
        assert!(!folder.path().join("data/toy.txt").exists(), "{what}");
        let left = if sent < n { vec![".toy.txt.part"] } else { Vec::new() };
        assert_eq!(inside(&folder.path().join("data")), left, "{what}");
    }
    // Where the recipe does not know the size, either.
    let body = content.clone();
    let (url, _) = serve(move |_, _| answer("200 OK", "", Some(2 * body.len()), &body));
    let unsized_source = plain(&url, &content).replace(&format!("size = {n}\n"), "");
    refused(folder(&unsized_source).path(), &["download", "toy"], "broke off after");
}

#[test]
fn other_bytes_and_other_answers_are_refused() {
    let content = content();
    let mut other = content.clone();
    other[7] ^= 1;
    let sent = other.clone();
    let (url, requests) = serve(move |_, _| whole(&sent));
    let source = plain(&url, &content);
    let folder = folder(&source);
    refused(folder.path(), &["download", "toy"], &format!("has git blob {}", git_blob(&other)));
    assert_eq!(inside(&folder.path().join("data")), Vec::<String>::new());
    assert_eq!(requests.lock().unwrap().len(), 1);
    let (url, _) = serve(|_, _| answer("404 Not Found", "", Some(4), b"gone"));
    let folder = self::folder(&plain(&url, &content));
    refused(folder.path(), &["download", "toy"], "the server answers 404");
    assert_eq!(inside(&folder.path().join("data")), Vec::<String>::new());
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = self::folder(&plain(&format!("http://127.0.0.1:{port}/"), &content));
    refused(folder.path(), &["download", "toy"], "cannot be fetched");
    assert_eq!(inside(&folder.path().join("data")), Vec::<String>::new());
    // What came earlier is kept.
    fs::write(folder.path().join("data/.toy.txt.part"), &content[..7]).unwrap();
    refused(folder.path(), &["download", "toy"], "the same command goes on");
    assert_eq!(inside(&folder.path().join("data")), [".toy.txt.part"]);
}

#[test]
fn a_local_copy_is_checked_in_the_same_way() {
    // Both as `git hash-object` and `sha256sum` give them.
    for sum in [
        "git-blob = \"ce013625030ba8dba906f756967f9e9ca394464a\"",
        "sha256 = \"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\"",
    ] {
        let folder = folder(&format!("url = \"http://127.0.0.1:1/\"\nfile = \"toy.txt\"\n{sum}\n"));
        let path = folder.path();
        fs::write(path.join("copy"), "hello\n").unwrap();
        fs::write(path.join("wrong"), "hullo\n").unwrap();
        refused(path, &["download", "toy", "--file", "wrong"], "wrong: has ");
        assert!(!path.join("data/toy.txt").exists());
        prismrec(path, &["download", "toy", "--file", "copy"]).assert().success();
        assert_eq!(fs::read(path.join("data/toy.txt")).unwrap(), b"hello\n");
    }
    let unchecked = folder("url = \"u\"\nfile = \"toy.txt\"\n");
    refused(unchecked.path(), &["download", "toy"], "what cannot be checked is not fetched");
    let outside = folder("url = \"u\"\nfile = \"../toy.txt\"\nsha256 = \"0\"\n");
    refused(outside.path(), &["download", "toy"], "without a folder");
    refused(outside.path(), &["download", "toys"], "there are: beauty, steam, ml-1m");
}

/// A zip archive of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut bytes);
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    bytes.into_inner()
}

#[test]
fn archives_are_unpacked() {
    let content = content();
    let titles = "item-1|Toy Story (1995)|01-Jan-1995||http://x|0|1|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1\n";
    let zip = archive(&[("set/READ.ME", b"read"), ("set/clicks", &content), ("set/u.item", titles.as_bytes())]);
    let sent = zip.clone();
    let (url, requests) = serve(move |_, head| ranged(&sent, head));
    let source = |member: &str| {
        format!(
            "url = \"{url}\"\nfile = \"toy.txt\"\nsize = {}\nsha256 = \"{}\"\nmember = \"clicks\"\nmember-sha256 = \"{member}\"\n\
             titles-member = \"set/u.item\"\ntitles-file = \"toy.items\"\n",
            zip.len(),
            sha256(&zip)
        )
    };
    let folder = folder(&source(&sha256(&content)));
    let data = folder.path().join("data");
    prismrec(folder.path(), &["download", "toy"]).assert().success();
    assert_eq!(fs::read(data.join("toy.txt")).unwrap(), content);
    assert_eq!(inside(&data), ["toy.items", "toy.txt"]);
    let titles = Titles::read(&data.join("toy.items"), &["item-0".into(), "item-1".into()]).unwrap();
    assert_eq!((titles.title(0), titles.title(1)), (None, Some("Toy Story (1995)")));
    assert_eq!(titles.categories(1), ["Action", "Children's", "Western"]);
    // A copy of the archive, and one of what is in it.
    fs::write(folder.path().join("copy.zip"), &zip).unwrap();
    fs::write(folder.path().join("copy.txt"), &content).unwrap();
    for (copy, files) in [("copy.zip", &["toy.items", "toy.txt"][..]), ("copy.txt", &["toy.txt"])] {
        let to = folder.path().join(format!("of-{copy}"));
        prismrec(folder.path(), &["download", "toy", "--file", copy, "--to", to.to_str().unwrap()]).assert().success();
        assert_eq!(inside(&to), files);
    }
    // The data alone are enough to train on.
    let train = ["train", "--recipe", "toy", "--run", "alone"];
    prismrec(folder.path(), &train).env("PRISMREC_DATA", "of-copy.txt").assert().success();
    assert_eq!(requests.lock().unwrap().len(), 1);
    // Training has the titles.
    prismrec(folder.path(), &["train", "--recipe", "toy", "--run", "run"]).assert().success();
    let settings = Settings::read(&folder.path().join("run/settings.toml")).unwrap();
    assert_eq!((settings.items.as_str(), settings.data.to_string().as_str()), ("data/toy.items", "data/toy.txt"));
    // An archive that holds something else.
    let wrong = self::folder(&source(&sha256(b"other")));
    refused(wrong.path(), &["download", "toy"], "toy.txt: cannot write");
    assert!(!wrong.path().join("data/toy.txt").exists());
    let wrong = self::folder(&source(&sha256(&content)).replace("\"clicks\"", "\"licks\""));
    refused(wrong.path(), &["download", "toy"], "holds no licks, but set/READ.ME, set/clicks");
}

#[test]
fn a_recipe_trains_on_its_data() {
    let content = content();
    let sent = content.clone();
    let (url, requests) = serve(move |_, _| whole(&sent));
    let folder = folder(&plain(&url, &content));
    let path = folder.path();
    let train = |run: &str, more: &[&str]| {
        let mut arguments = vec!["train", "--recipe", "toy", "--run", run];
        arguments.extend(more);
        prismrec(path, &arguments).assert()
    };
    let output = train("first", &[]).success();
    output.stdout(contains("fetching them").and(contains("data/toy.txt: 400 users, 97 items, 4,000 interactions")));
    train("second", &["--epochs", "2"]).success().stdout(contains("fetching").not());
    assert_eq!(requests.lock().unwrap().len(), 1);
    let settings = Settings::read(&path.join("second/settings.toml")).unwrap();
    assert_eq!((settings.dim, settings.epochs), (8, 2));
    // A local copy, checked, is used where it lies; one's own data win and are not checked.
    fs::rename(path.join("data"), path.join("away")).unwrap();
    train("third", &["--file", "away/toy.txt"]).success();
    fs::write(path.join("own.txt"), &content[..content.len() / 2]).unwrap();
    train("fourth", &["--file", "own.txt"]).code(1).stderr(contains("own.txt: has "));
    let mut arguments = vec!["train", "own.txt", "--recipe", "toy", "--run", "fifth"];
    prismrec(path, &arguments).assert().success().stdout(contains("own.txt: 2"));
    arguments.extend(["--config", "datasets/toy.toml"]);
    prismrec(path, &arguments).assert().code(2);
    assert_eq!(requests.lock().unwrap().len(), 1);
    assert!(!path.join("data").exists());
    // A recipe is a file of settings, too.
    prismrec(path, &["train", "own.txt", "--config", "datasets/toy.toml", "--run", "sixth"]).assert().success();
}

#[test]
fn recipes_that_are_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let list = prismrec(folder.path(), &["download", "--list"]).assert().success();
    let list = String::from_utf8(list.get_output().stdout.clone()).unwrap();
    for name in names() {
        let recipe = recipe(name).unwrap();
        let source = recipe.source.unwrap();
        assert!(list.contains(&source.title) && list.contains(&source.licence_url), "{name}: {list}");
        assert!(source.url.starts_with("https://"), "{name}");
        Settings::new(Given::default(), recipe.settings).unwrap();
        assert!(Path::new("datasets").join(format!("{name}.toml")).is_file(), "{name}");
    }
    let files = fs::read_dir("datasets")
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "toml"));
    assert_eq!(files.count(), names().count());
    let beauty = recipe("beauty").unwrap().source.unwrap();
    assert_eq!((beauty.users, beauty.items, beauty.interactions), (40_226, 54_542, 353_962));
    prismrec(folder.path(), &["download"]).assert().code(2);
}
