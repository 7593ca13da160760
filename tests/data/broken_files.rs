//! Broken files: always an error with file, line and next step, never a panic.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;
use rallrec::data::{self, DataSettings, Dataset, Kind, Samples, descriptions};
use rallrec::events::Event;
use rallrec::{Error, Monitor, Silent};
use tempfile::TempDir;

const RATINGS: &[u8] = b"1::10::5::100\n1::20::3::90\n2::10::1::95\n";
const MOVIES: &[u8] = b"10::Fen\xeatre, La (1990)::Comedy|Drama\n20::Up:: Down (1991)::Drama\n";
const USERS: &[u8] = b"1::F::1::10::48067\n2::M::56::16::70072\n";

const DATA: &[u8] = b"1\t10\t5\t100\n1\t20\t3\t90\n2\t10\t1\t95\n";
const ITEM: &[u8] = b"10|Fen\xeatre (1990)|01-Jan-1990||http://x|0|1|1\n20|Up (1991)||||0|0|1\n";
const USER: &[u8] = b"1|24|M|technician|85711\n2|53|F|other|94043\n";
const GENRE: &[u8] = b"unknown|0\nComedy|1\nDrama|2\n";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("folder");
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).expect("writes");
    }
    dir
}

fn big(changed: &str, bytes: &[u8]) -> TempDir {
    let files = [("ratings.dat", RATINGS), ("movies.dat", MOVIES), ("users.dat", USERS)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

fn small(changed: &str, bytes: &[u8]) -> TempDir {
    let files = [("u.data", DATA), ("u.item", ITEM), ("u.user", USER), ("u.genre", GENRE)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

fn load(kind: Kind, dir: &Path) -> rallrec::Result<Dataset> {
    data::load(kind, dir, &Silent)
}

#[track_caller]
fn refuse(result: rallrec::Result<impl Sized>, place: &str, what: &str) -> Error {
    let Err(error) = result else { panic!("accepted; expected an error with `{what}`") };
    assert!(error.place().ends_with(place), "place of: {error}");
    assert!(error.what().contains(what), "what of: {error}");
    assert!(!error.next_step().is_empty(), "no next step: {error}");
    error
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(bytes).expect("packs");
    writer.finish().expect("packs")
}

#[test]
fn the_sound_files_read() {
    let dir = big("", b"");
    let a = load(Kind::ML_1M, dir.path()).expect("reads");
    assert_eq!(a.items[0].title, "Fenêtre, La (1990)");
    assert_eq!(a.items[1].title, "Up:: Down (1991)");
    assert_eq!(a.interactions.iter().map(|r| r.time).collect::<Vec<_>>(), [90, 95, 100]);
    let b = load(Kind::ML_100K, small("", b"").path()).expect("reads");
    assert_eq!(b.items[0].genres, ["Comedy", "Drama"]);
    assert_eq!(b.interactions, a.interactions);
    // Packed under either name, with CRLF, a byte order mark, no last line break: the same data.
    let crlf = String::from_utf8(RATINGS.to_vec()).expect("ascii").replace('\n', "\r\n");
    let marked = [b"\xef\xbb\xbf", RATINGS.trim_ascii_end()].concat();
    for bytes in [crlf.as_bytes(), &marked, &pack(RATINGS), &[pack(&RATINGS[..14]), pack(&RATINGS[14..])].concat()] {
        assert_eq!(load(Kind::ML_1M, big("ratings.dat", bytes).path()).expect("reads"), a);
    }
    fs::write(dir.path().join("ratings.dat.gz"), pack(RATINGS)).expect("writes");
    fs::remove_file(dir.path().join("ratings.dat")).expect("removes");
    assert_eq!(load(Kind::ML_1M, dir.path()).expect("reads"), a);
    // A copy converted to UTF-8.
    let utf8 = String::from_utf8_lossy(b"10::").into_owned()
        + "Fenêtre, La (1990)::Comedy|Drama\n20::Up:: Down (1991)::Drama\n";
    assert_eq!(load(Kind::ML_1M, big("movies.dat", utf8.as_bytes()).path()).expect("reads"), a);
}

#[test]
fn broken_ratings() {
    for (bytes, place, what) in [
        (&b""[..], "ratings.dat", "no ratings"),
        (b"1::10::5::100\n1::20\n", ":2", "user::movie::rating::time"),
        (b"1::10::5::100\n1::20::3::\n", ":2", "the time ``"),
        (b"1::10::6::100\n", ":1", "the rating `6`"),
        (b"1::10::0::100\n", ":1", "the rating `0`"),
        (b"1::10::NaN::100\n", ":1", "the rating `NaN`"),
        (b"1::10::-inf::100\n", ":1", "the rating `-inf`"),
        (b"1::10::5::-100\n", ":1", "the time `-100`"),
        (b"1::10::5::978300760000\n", ":1", "milliseconds"),
        (b"1::10::5::999999999999999999999\n", ":1", "the time"),
        (b"10::1::5::100\n", ":1", "user `10` is not in"),
        (b"1::11::5::100\n", ":1", "item `11` is not in"),
        (b"1::10::5::100\n\n\n1::11::5::100\n", ":4", "item `11`"),
        (b"\xff\xfe1\0:\0:\0", ":1", "UTF-16"),
        (b"1\0:\0:\0", ":1", "NUL"),
        (b"1\t10\t5\t100\n", ":1", "user::movie::rating::time"),
        (b"01::10::5::100\n", ":1", "user `01`"),
    ] {
        refuse(load(Kind::ML_1M, big("ratings.dat", bytes).path()), place, what);
    }
    for (bytes, place, what) in [
        (&b""[..], "u.data", "no ratings"),
        (b"1\t10\t5\t100\n1\t20\t3\n", ":2", "four columns"),
        (b"1\t10\t5\t100\t7\n", ":1", "four columns"),
        (b"1\t10\tnan\t100\n", ":1", "the rating"),
        (b"1\t5\t10\t100\n", ":1", "the rating `10`"),
        (b"10\t1\t5\t100\n", ":1", "user `10`"),
        (b"1\t10\t5\t-1\n", ":1", "the time"),
    ] {
        refuse(load(Kind::ML_100K, small("u.data", bytes).path()), place, what);
    }
}

#[test]
fn broken_tables() {
    for (name, bytes, place, what) in [
        ("movies.dat", &b"10::A::X\n10::B::X\n"[..], ":2", "on line 1 already"),
        ("movies.dat", b"Title::10::X\n", ":1", "number::title::genres"),
        ("movies.dat", b"10::A\n", ":1", "number::title::genres"),
        ("movies.dat", b"", ":1", "is not in the catalogue"),
        ("users.dat", b"1::F::1::10::1\n1::F::1::10::1\n", ":2", "on line 1 already"),
        ("users.dat", b"1::X::1::10::1\n", ":1", "M or F"),
        ("users.dat", b"1::F::1::21::1\n", ":1", "0 to 20"),
        ("users.dat", b"1::F::900::1::1\n", ":1", "age"),
        ("users.dat", b"1::F::1\n", ":1", "M or F"),
    ] {
        refuse(load(Kind::ML_1M, big(name, bytes).path()), place, what);
    }
    for (name, bytes, place, what) in [
        ("u.genre", &b""[..], "u.genre", "no genres"),
        ("u.genre", b"unknown|0\nDrama|2\n", ":2", "name|1"),
        ("u.genre", b"unknown|0\nDrama|1\n", ":1", "2 flags"),
        ("u.item", b"10|A|||x|0|1\n", ":1", "3 flags"),
        ("u.item", b"10|A|||x|0|1|2\n", ":1", "0 or 1"),
        ("u.item", b"A|10|||x|0|1|0\n", ":1", "number"),
        ("u.user", b"1|F|24|x|1\n", ":1", "M or F"),
        ("u.user", b"1|24|F|x|1\n1|24|F|x|1\n", ":2", "already"),
    ] {
        refuse(load(Kind::ML_100K, small(name, bytes).path()), place, what);
    }
}

#[test]
fn missing_files_and_folders() {
    let dir = folder(&[("ratings.dat", RATINGS)]);
    let error = refuse(load(Kind::ML_1M, dir.path()), "", "movies.dat, users.dat is missing");
    assert_eq!(error.exit_code(), 2);
    refuse(load(Kind::ML_1M, &dir.path().join("ratings.dat")), "ratings.dat", "is neither a folder nor a zip file");
    refuse(load(Kind::ML_100K, &dir.path().join("nowhere")), "nowhere", "is neither a folder nor a zip file");
    fs::create_dir(dir.path().join("movies.dat")).expect("makes");
    fs::write(dir.path().join("users.dat"), USERS).expect("writes");
    refuse(load(Kind::ML_1M, dir.path()), "movies.dat", "folder");
}

#[test]
fn damaged_compression() {
    let rows: Vec<u8> = (0..5000).flat_map(|t| format!("1::10::5::{}\n", t * 7919 % 100_000).into_bytes()).collect();
    let packed = pack(&rows);
    for cut in [3, 12, packed.len() / 2, packed.len() - 4] {
        let dir = big("ratings.dat", &packed[..cut]);
        let error = load(Kind::ML_1M, dir.path()).expect_err("truncated");
        assert!(error.place().contains("ratings.dat") && !error.next_step().is_empty(), "{cut}: {error}");
        assert!(error.what().contains("ends too early"), "{cut}: {error}");
    }
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let error = load(Kind::ML_1M, big("ratings.dat", &flipped).path()).expect_err("damaged");
    assert!(error.place().contains("ratings.dat"), "{error}");
}

#[test]
fn a_hostile_line_is_refused_without_being_held() {
    // 64 MiB of one letter pack into little; reading stops at the limit of one line.
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    let block = vec![b'1'; 1 << 20];
    for _ in 0..64 {
        writer.write_all(&block).expect("packs");
    }
    let packed = writer.finish().expect("packs");
    for name in ["ratings.dat", "movies.dat", "users.dat"] {
        refuse(load(Kind::ML_1M, big(name, &packed).path()), ":1", "longer than");
    }
    for name in ["u.data", "u.item", "u.user", "u.genre"] {
        refuse(load(Kind::ML_100K, small(name, &packed).path()), ":1", "longer than");
    }
}

/// Keeps warnings.
#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Monitor for Listener {
    fn emit(&self, event: Event) {
        if let Event::Warning { what, next, .. } = event {
            assert!(!next.is_empty());
            self.0.lock().expect("lock").push(what);
        }
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        false
    }
    fn stage(&self) -> &str {
        "test"
    }
}

#[test]
fn duplicate_rows_are_reported() {
    let listener = Listener::default();
    let dir = big("ratings.dat", b"1::10::5::100\n1::10::5::100\n1::10::4::101\n2::10::5::100\n");
    let dataset = data::load(Kind::ML_1M, dir.path(), &listener).expect("reads");
    assert_eq!(dataset.interactions.len(), 4);
    let warnings = listener.0.into_inner().expect("lock");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("2 rows repeat") && warnings[0].contains("1 of them word for word"), "{warnings:?}");
}

#[test]
fn too_little_data_says_so() {
    let dataset = load(Kind::ML_1M, big("", b"").path()).expect("reads");
    refuse(data::build_samples(&dataset, &DataSettings::default()), "ml-1m", "empty");
}

#[test]
fn broken_descriptions() {
    let dataset = load(Kind::ML_1M, big("", b"").path()).expect("reads");
    let read = |name: &str, bytes: &[u8]| {
        let dir = folder(&[(name, bytes)]);
        descriptions::read(&dir.path().join(name), &dataset, None, &Silent)
    };
    let sound = read("d.json", b"{\"20\": \"One\\n\\\"two\\\"\", \"99\": \"x\"}").expect("reads");
    assert_eq!(sound.texts, [None, Some("One two".into())]);
    assert_eq!((sound.missing, sound.foreign), (1, 1));
    let rows = b"{\"item\": \"20\", \"text\": \"One two\", \"model\": \"m\"}\n{\"item\": 99, \"text\": \"x\"}\n";
    assert_eq!(read("d.jsonl", rows).expect("reads"), sound);
    assert_eq!(read("d.jsonl.gz", &pack(rows)).expect("reads"), sound);
    assert_eq!(read("d.jsonl", &[&rows[..], b"{\"item\": \"1"].concat()).expect("a torn end is left out"), sound);
    refuse(read("d.json", b""), "d.json", "EOF");
    refuse(read("d.json", b"{}"), "d.json", "no descriptions");
    refuse(read("d.json", b"[1]"), "d.json", "line 1");
    refuse(read("d.json", b"{\"20\": 5}"), "d.json", "line 1");
    refuse(read("d.json", b"{\"20\": \"a\", \"20\": \"b\"}"), "d.json", "stands twice");
    refuse(read("d.json", b"{\"20\": \"\xff\"}"), "d.json", "line 1");
    refuse(read("d.json", b"{\"7\": \"a\"}"), "d.json", "none of the ids");
    refuse(read("d.json", &pack(b"{\"20\": \"a\", \"10\": \"bbbbbbbbbbbbbb\"}")[..24]), "d.json", "ends too early");
    refuse(read("d.jsonl", b"{\"item\": \"1\nxx\n"), ":1", "row of item and text");
    refuse(read("d.jsonl", b"xx\n{\"item\": \"20\", \"text\": \"a\"}\n"), ":1", "row of item and text");
    refuse(read("d.jsonl", &[&rows[..], rows].concat()), ":3", "already");
}

#[test]
fn stored_files_survive_no_damage_unnoticed() {
    let settings = DataSettings::default();
    let dataset = data::open(&settings, &Silent).expect("opens");
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    let dir = tempfile::tempdir().expect("folder");
    let (d, s) = (dir.path().join("d"), dir.path().join("s"));
    dataset.write(&d).expect("writes");
    samples.write(&s).expect("writes");
    assert!(Dataset::read(&d).expect("reads") == dataset && Samples::read(&s).expect("reads") == samples);
    refuse(Dataset::read(&s), "s", "holds samples and not a dataset");
    refuse(Samples::read(&d), "d", "holds a dataset and not samples");
    let sound = fs::read(&d).expect("reads");
    for cut in [0, 7, 8, 19, 20, 51, 52, sound.len() / 2, sound.len() - 1] {
        fs::write(&d, &sound[..cut]).expect("writes");
        refuse(Dataset::read(&d), "d", "");
    }
    for at in (0..sound.len()).step_by(sound.len() / 97) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x10;
        fs::write(&d, &flipped).expect("writes");
        refuse(Dataset::read(&d), "d", "");
    }
    // A file with a sound checksum and an absurd header.
    let forge = |header: &[u8], columns: &[u8]| {
        let mut body =
            [b"RALLDATA", &1u32.to_le_bytes()[..], &(header.len() as u64).to_le_bytes(), header, columns].concat();
        body.extend_from_slice(blake3::hash(&body).as_bytes());
        fs::write(&d, body).expect("writes");
        Dataset::read(&d)
    };
    let header = |rows: u64| {
        format!(
            r#"{{"kind":"a dataset","name":"x","noun":"x","scale":[1,5],"has_times":true,"rows":{rows},"items":[],"users":[]}}"#
        )
    };
    assert!(forge(header(0).as_bytes(), b"").is_ok());
    refuse(forge(header(u64::MAX).as_bytes(), b""), "d", "damaged");
    refuse(forge(header(1 << 40).as_bytes(), b""), "d", "damaged");
    refuse(forge(header(0).as_bytes(), b"xx"), "d", "more than the header says");
    refuse(forge(header(1).as_bytes(), &[0; 20]), "d", "names user 0 of 0");
    assert!(dataset.write(&dir.path().join("no/such/folder/d")).is_err());
}
