//! Faults that every reader of text must bear.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rallrec::data::{self, Core, DataSettings, Kind, Repeats};

use crate::common::*;
use crate::{amazon, book_crossing, movielens_csv, table};

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Each reader with its sound files; the first is the one with the ratings.
fn readers() -> Vec<(DataSettings, Files)> {
    let of = |kind| DataSettings::new(kind, "");
    let mut plays = table::settings("".as_ref());
    (plays.table.items, plays.table.users) = (String::new(), String::new());
    vec![
        (
            of(Kind::ML_25M),
            vec![("ratings.csv", movielens_csv::RATINGS.to_vec()), ("movies.csv", movielens_csv::MOVIES.to_vec())],
        ),
        (
            of(Kind::BOOK_CROSSING),
            vec![
                ("BX-Book-Ratings.csv", book_crossing::RATINGS.to_vec()),
                ("BX-Users.csv", book_crossing::USERS.to_vec()),
                ("BX-Books.csv", book_crossing::BOOKS.to_vec()),
            ],
        ),
        (of(Kind::AMAZON), vec![("M.json", amazon::OLD.to_vec()), ("meta_M.json", amazon::OLD_META.to_vec())]),
        (of(Kind::AMAZON_2023), vec![("M.jsonl", amazon::NEW.to_vec()), ("meta_M.jsonl", amazon::NEW_META.to_vec())]),
        (
            of(Kind::AMAZON_CSV),
            vec![
                ("reviews.csv", b"asin,reviewerID,overall,unixReviewTime\nB1,A1,5,1\nB2,A1,4,2\n".to_vec()),
                ("items.csv", b"asin,title\nB1,One\n".to_vec()),
            ],
        ),
        (of(Kind::LIGHTGCN), vec![("train.txt", b"0 1 2\n1 2\n".to_vec()), ("test.txt", b"0 3\n".to_vec())]),
        (plays, vec![("plays.csv", table::PLAYS.to_vec())]),
    ]
}

/// What opening gives when `change` was at work on file `at`.
fn changed(
    settings: &DataSettings,
    files: &[(&str, Vec<u8>)],
    at: usize,
    change: impl Fn(&[u8]) -> Vec<u8>,
) -> rallrec::Result<data::Dataset> {
    let dir = tempfile::tempdir().expect("folder");
    for (n, (name, bytes)) in files.iter().enumerate() {
        let bytes = if n == at { change(bytes) } else { bytes.clone() };
        std::fs::write(dir.path().join(name), bytes).expect("writes");
    }
    open(&DataSettings { path: dir.path().to_owned(), ..settings.clone() })
}

#[test]
fn sound_files_read_plain_and_packed() {
    for (settings, files) in readers() {
        let plain = changed(&settings, &files, 99, <[u8]>::to_vec).expect("reads");
        for at in 0..files.len() {
            assert!(changed(&settings, &files, at, pack).expect("reads") == plain, "{} packed", files[at].0);
        }
    }
}

#[test]
fn truncated_gzip_is_told_with_the_files_name() {
    for (settings, files) in readers() {
        for at in 0..files.len() {
            let error = changed(&settings, &files, at, |bytes| {
                let packed = pack(bytes);
                packed[..packed.len() - 9].to_vec()
            })
            .expect_err(files[at].0);
            assert!(error.place().contains(files[at].0) && error.what().contains("ends too early"), "{error}");
            assert!(!error.next_step().is_empty() && error.exit_code() == 2, "{error}");
        }
    }
}

#[test]
fn utf_16_is_refused() {
    for (settings, files) in readers() {
        for at in 0..files.len() {
            let wide = |bytes: &[u8]| -> Vec<u8> {
                [0xff, 0xfe].into_iter().chain(bytes.iter().flat_map(|&b| [b, 0])).collect()
            };
            let error = changed(&settings, &files, at, wide).expect_err(files[at].0);
            assert!(error.place().contains(files[at].0) && error.what().contains("UTF-16"), "{error}");
            let naked = |bytes: &[u8]| -> Vec<u8> { bytes.iter().flat_map(|&b| [b, 0]).collect() };
            let error = changed(&settings, &files, at, naked).expect_err(files[at].0);
            assert!(error.place().contains(files[at].0) && error.what().contains("NUL"), "{error}");
        }
    }
}

#[test]
fn a_line_without_end_is_refused_without_being_held() {
    // 64 MiB of one letter pack into little; reading must stop at the longest line that is
    // accepted.
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    let block = vec![b'1'; 1 << 20];
    (0..64).for_each(|_| writer.write_all(&block).expect("packs"));
    let packed = writer.finish().expect("packs");
    for (settings, files) in readers() {
        for at in 0..files.len() {
            let error = changed(&settings, &files, at, |_| packed.clone()).expect_err(files[at].0);
            assert!(error.place().contains(files[at].0), "{error}");
            let what = error.what();
            assert!(what.contains("longer than") || what.contains("times its size"), "{error}");
        }
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("");
        let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        println!("peak memory: {} MiB", peak >> 10);
    }
}

#[test]
fn duplicates_are_kept_and_told() {
    for (settings, files) in readers() {
        let plain = changed(&settings, &files, 99, <[u8]>::to_vec).expect("reads");
        let dir = tempfile::tempdir().expect("folder");
        for (n, (name, bytes)) in files.iter().enumerate() {
            let last = bytes.split_inclusive(|&b| b == b'\n').next_back().expect("a line");
            let bytes = if n == 0 { [bytes, last].concat() } else { bytes.clone() };
            std::fs::write(dir.path().join(name), bytes).expect("writes");
        }
        let listener = Listener::default();
        let settings = DataSettings { path: dir.path().to_owned(), ..settings };
        let twice = data::open(&settings, &listener).expect("reads");
        let added = data::sets::repeat_count(&twice.interactions);
        assert!(added.rows >= 1 && added.rows == added.exact, "{}", settings.kind);
        assert_eq!(twice.interactions.len(), plain.interactions.len() + added.rows);
        assert!(listener.heard().iter().any(|w| w.contains("repeat a (user, item) pair")), "{}", settings.kind);
    }
}

#[test]
fn an_empty_set_says_which_filter_removed_what() {
    for (settings, files) in readers() {
        let settings = DataSettings { core: Core { top_items: 1, ..Core::k(3) }, ..settings };
        let error = refuse(changed(&settings, &files, 99, <[u8]>::to_vec), "data.core", "nothing is left");
        assert!(error.what().contains("data.core: user_min = 3 item_min = 3: 0 ratings left"), "{error}");
        assert!(error.what().contains("all: "), "{error}");
    }
}

#[test]
fn a_user_with_fifty_thousand_ratings_is_one_user() {
    let mut bytes = b"user,item,rating,time\n".to_vec();
    for n in 0..50_000 {
        bytes.extend_from_slice(format!("1,{n},{},{}\n", 1 + n % 5, n * 60).as_bytes());
    }
    (0..100).for_each(|n| bytes.extend_from_slice(format!("2,{n},3,{n}\n").as_bytes()));
    let dir = folder(&[("ratings.csv", &bytes)]);
    let start = std::time::Instant::now();
    for repeats in [Repeats::Drop, Repeats::ExcludeTarget, Repeats::Keep] {
        let settings = DataSettings { repeats, ..DataSettings::new(Kind::TABLE, dir.path()) };
        let dataset = open(&settings).expect("opens");
        let samples = data::build_samples(&dataset, &settings).expect("samples");
        assert_eq!(samples.samples.len(), 50_000 - 5 + 100 - 5);
        assert_eq!(samples.samples.iter().map(|s| samples.history(s).len()).max(), Some(49_999));
    }
    println!("{:.3} s", start.elapsed().as_secs_f64());
    // The same item again and again, each with a history of its own: bounded.
    let mut bytes = b"user,item,rating,time\n".to_vec();
    (0..50_000).for_each(|n| bytes.extend_from_slice(format!("1,{},3,{n}\n", n % 25_000).as_bytes()));
    let dir = folder(&[("ratings.csv", &bytes)]);
    let settings = DataSettings { repeats: Repeats::ExcludeTarget, ..DataSettings::new(Kind::TABLE, dir.path()) };
    let dataset = open(&settings).expect("opens");
    refuse(data::build_samples(&dataset, &settings), "data.repeats", "too much memory");
}
