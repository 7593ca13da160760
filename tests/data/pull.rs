//! Downloads from a server on this machine that can be told to misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rallrec::Silent;
use rallrec::data::{self, Kind, pull};
use rallrec::download::{self, Expected};

use crate::common::*;

/// What the server does.
#[derive(Clone, Default)]
struct Manners {
    files: Vec<(String, Vec<u8>)>,
    /// Hang up after so many bytes of each answer.
    hang_up_after: Option<usize>,
    no_ranges: bool,
    status: Option<u16>,
    /// The file's version.
    tag: String,
}

struct Server {
    base: String,
    manners: Arc<Mutex<Manners>>,
    /// The ranges asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let (manners, asked) = (Arc::new(Mutex::new(manners)), Arc::new(Mutex::new(Vec::new())));
        let (m, a) = (manners.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manners = m.lock().expect("lock").clone();
                // A client that goes away is its own matter.
                let _ = answer(stream, &manners, &a);
            }
        });
        Self { base, manners, asked }
    }

    fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().expect("lock"));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("lock"))
    }
}

fn answer(mut stream: TcpStream, manners: &Manners, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    let (mut range, mut condition) = (None, None);
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: bytes=").map(|r| r.trim_end_matches('-').parse().unwrap_or(0)).or(range);
        condition = line.strip_prefix("if-range: ").map(str::to_owned).or(condition);
    }
    asked.lock().expect("lock").push(range.map_or("all".into(), |r: usize| r.to_string()));
    let path = first.split(' ').nth(1).unwrap_or("/");
    let found = manners.files.iter().find(|(name, _)| path == format!("/{name}"));
    let (status, body) = match (manners.status, found) {
        (Some(status), _) => (status, &[][..]),
        (None, Some((_, body))) => (200, body.as_slice()),
        (None, None) => (404, &[][..]),
    };
    let fits = condition.is_none_or(|c| c == manners.tag.to_lowercase());
    let from = range.filter(|&r| !manners.no_ranges && fits && r < body.len() && status == 200);
    let head = match from {
        Some(from) => {
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len())
        }
        None => format!("HTTP/1.1 {status} Status\r\n"),
    };
    let rest = &body[from.unwrap_or(0)..];
    let tag = if manners.tag.is_empty() { String::new() } else { format!("ETag: {}\r\n", manners.tag) };
    write!(stream, "{head}{tag}Content-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
    stream.write_all(&rest[..manners.hang_up_after.unwrap_or(rest.len()).min(rest.len())])
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let file = bytes(1_000_000);
    let server = Server::new(Manners {
        files: vec![("f.bin".into(), file.clone())],
        hang_up_after: Some(400_000),
        tag: "\"v1\"".into(),
        ..Manners::default()
    });
    let dir = tempfile::tempdir().expect("folder");
    let to = dir.path().join("deep/f.bin");
    let fetched =
        download::fetch(&format!("{}/f.bin", server.base), &to, &Expected::default(), &Silent).expect("fetches");
    assert_eq!((fetched.bytes, fetched.resumed_at), (1_000_000, 0));
    assert_eq!(fs::read(&to).expect("reads"), file);
    assert_eq!(server.asked(), ["all", "400000", "800000"]);
    assert_eq!(fs::read_dir(dir.path().join("deep")).expect("lists").count(), 1, "nothing else is left");
    // There and right: the server is not asked.
    let again =
        download::fetch(&format!("{}/f.bin", server.base), &to, &Expected::default(), &Silent).expect("fetches");
    assert_eq!((again.resumed_at, again.md5), (1_000_000, fetched.md5));
    assert!(server.asked().is_empty());
    // There and wrong: said, and not overwritten.
    fs::write(&to, "other").expect("writes");
    let expected = Expected { bytes: Some(1_000_000), md5: None };
    refuse(download::fetch(&server.base, &to, &expected, &Silent), "f.bin", "has 5 bytes, expected are 1000000");
    assert_eq!(fs::read(&to).expect("reads"), b"other");
}

#[test]
fn another_call_goes_on_and_another_version_starts_again() {
    let file = bytes(300_000);
    let url = |server: &Server| format!("{}/f.bin", server.base);
    let fresh = || {
        Server::new(Manners {
            files: vec![("f.bin".into(), file.clone())],
            hang_up_after: Some(0),
            tag: "\"v1\"".into(),
            ..Manners::default()
        })
    };
    for (no_ranges, version, resumes) in [(false, "\"v1\"", true), (true, "\"v1\"", false), (false, "\"v2\"", false)] {
        let server = fresh();
        let dir = tempfile::tempdir().expect("folder");
        let to = dir.path().join("f.bin");
        fs::write(dir.path().join("f.bin.part"), &file[..100_000]).expect("writes");
        fs::write(dir.path().join("f.bin.part.tag"), "\"v1\"").expect("writes");
        let error = download::fetch(&url(&server), &to, &Expected::default(), &Silent).expect_err("it hangs up");
        assert!(error.what().contains("100000") && error.next_step().contains("again"), "{error}");
        assert!(!to.exists() && dir.path().join("f.bin.part").exists());
        server.asked();
        server.change(|m| (m.hang_up_after, m.no_ranges, m.tag) = (None, no_ranges, version.into()));
        let fetched = download::fetch(&url(&server), &to, &Expected::default(), &Silent).expect("fetches");
        assert_eq!(server.asked(), ["100000"], "{version}");
        assert_eq!(fetched.resumed_at, 100_000);
        assert_eq!(fs::read(&to).expect("reads"), file, "resumes {resumes}");
    }
}

#[test]
fn what_is_not_the_file_is_refused() {
    let server = Server::new(Manners { files: vec![("f".into(), bytes(1000))], ..Manners::default() });
    let dir = tempfile::tempdir().expect("folder");
    let to = dir.path().join("f");
    let get = |expected: Expected| download::fetch(&format!("{}/f", server.base), &to, &expected, &Silent);
    refuse(get(Expected { bytes: Some(999), md5: None }), "/f", "the server has 1000 bytes, expected are 999");
    refuse(get(Expected { bytes: None, md5: Some("0".repeat(32)) }), "f", "expected is 000");
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0, "a wrong file is not kept");
    for status in [403, 404, 503] {
        server.change(|m| m.status = Some(status));
        refuse(get(Expected::default()), "/f", &format!("the server answers {status}"));
    }
    // Port 9 of this machine: nobody listens.
    let error =
        refuse(download::fetch("http://127.0.0.1:9/f", &to, &Expected::default(), &Silent), "/f", "cannot be reached");
    assert!(
        error.next_step().contains("check the network") && error.next_step().contains("put it into the folder"),
        "{error}"
    );
}

#[test]
fn a_data_set_is_pulled_checked_and_readable() {
    let reviews = pack(crate::amazon::NEW);
    let meta = pack(crate::amazon::NEW_META);
    let server = Server::new(Manners {
        files: vec![
            ("review_categories/Movies_and_TV.jsonl.gz".into(), reviews.clone()),
            ("meta_categories/meta_Movies_and_TV.jsonl.gz".into(), meta),
        ],
        ..Manners::default()
    });
    let dir = tempfile::tempdir().expect("folder");
    let wanted = pull::find("amazon-2023:Movies_and_TV").expect("known").from(&server.base);
    let pulled = pull::pull(&wanted, dir.path(), &Silent).expect("pulls");
    assert_eq!((pulled.kind, pulled.path.as_path(), pulled.files.len()), (Kind::AMAZON_2023, dir.path(), 2));
    assert_eq!(data::load(pulled.kind, &pulled.path, &Silent).expect("reads").items[0].title, "One");
    // A damaged archive is found by its own checksum.
    let dir = tempfile::tempdir().expect("folder");
    server.change(|m| m.files[0].1[reviews.len() - 6] ^= 1);
    let error = pull::pull(&wanted, dir.path(), &Silent).expect_err("damaged");
    assert!(error.place().contains("Movies_and_TV.jsonl.gz") && error.next_step().contains("pull again"), "{error}");
    // A zip with another content than the published one.
    let zip = dir.path().join("x.zip");
    zipped(&zip, &[("ml-1m/ratings.dat", b"1::1::5::1\n")]);
    server.change(|m| m.files = vec![("ml-1m.zip".into(), fs::read(&zip).expect("reads"))]);
    let wanted = pull::find("ml-1m").expect("known").from(&server.base);
    refuse(pull::pull(&wanted, dir.path(), &Silent), "ml-1m.zip", "expected is c4d9eecfca2ab87c1945afe126590906");
}

#[test]
fn names_terms_and_addresses() {
    for name in ["ml-1m", "ml-100k", "ml-32m", "book-crossing", "amazon-2023:Books"] {
        let wanted = pull::find(name).expect("known");
        let terms = wanted.terms();
        for word in ["terms", "cite", "publisher", "http"] {
            assert!(terms.contains(word), "{terms}");
        }
        assert!(!wanted.folder().contains([':', '/']));
    }
    let error = pull::find("ml-2m").expect_err("unknown");
    assert!(error.next_step().contains("did you mean `ml-"), "{error}");
    for bad in ["amazon-2023:", "amazon-2023:../x", "amazon-2023:a b"] {
        refuse(pull::find(bad), "data pull", "not the name of a category");
    }
}
