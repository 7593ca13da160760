//! Tables as spreadsheets, pandas, Spark, databases and people leave them: read right, named for
//! what they are, or with a warning of what looks wrong. Each was read wrongly without a word, or
//! refused with advice that did not help.

use std::fmt::Write as _;

use rallrec::data::{self, DataSettings, Dataset, Kind};

use crate::common::*;

const ROWS: usize = 120;
const HEADER: &str = "user,item,rating,time\n";

/// Lines of user, item, rating and time.
fn lines(write: impl Fn(usize, String, String, usize, i64) -> String) -> String {
    (0..ROWS).fold(String::new(), |mut text, n| {
        let (user, item) = (format!("u{}", n % 8), format!("i{}", n / 8));
        writeln!(text, "{}", write(n, user, item, 1 + n % 5, 1_500_000_000 + 60 * n as i64)).expect("writes");
        text
    })
}

fn plain() -> String {
    lines(|_, u, i, r, t| format!("{u},{i},{r},{t}"))
}

fn object(user: &str, item: &str, rating: usize, time: i64) -> String {
    format!(r#"{{"user": "{user}", "item": "{item}", "rating": {rating}, "time": {time}}}"#)
}

/// What a folder gives, and what was warned of.
fn read(
    files: &[(&str, &[u8])],
    change: impl Fn(&mut data::table::TableSettings),
) -> (rallrec::Result<Dataset>, String) {
    let dir = folder(files);
    let mut settings = DataSettings::new(Kind::TABLE, dir.path());
    change(&mut settings.table);
    let listener = Listener::default();
    let found = data::open(&settings, &listener);
    (found, listener.heard().join("\n"))
}

fn wanted() -> Dataset {
    read(&[("ratings.csv", (HEADER.to_owned() + &plain()).as_bytes())], |_| {}).0.expect("the plain file")
}

#[test]
fn what_nobody_sees_around_an_id_and_behind_a_text_is_no_part_of_it() {
    for (name, text) in [
        ("a hard blank", lines(|n, u, i, r, t| format!("{u}{},{i},{r},{t}", if n % 2 == 0 { "\u{a0}" } else { "" }))),
        ("zero width", lines(|n, u, i, r, t| format!("{u},{}{i},{r},{t}", if n % 3 == 0 { "\u{200b}" } else { "" }))),
        ("blank lines", plain().replace('\n', "\n   \n")),
        ("the end of DOS", plain() + "\u{1a}"),
    ] {
        let (found, heard) = read(&[("ratings.csv", (HEADER.to_owned() + &text).as_bytes())], |_| {});
        assert_eq!((rows(&found.expect(name)), heard.as_str()), (rows(&wanted()), ""), "{name}");
    }
}

#[test]
fn ids_and_times_that_look_wrong_are_warned_of() {
    for (words, text) in [
        (
            "differ from another in case alone",
            lines(|n, u, i, r, t| format!("{},{i},{r},{t}", if n % 3 == 0 { u.to_uppercase() } else { u })),
        ),
        ("lose their last digits", lines(|n, _, i, r, t| format!("{}.23457E+12,{i},{r},{t}", n % 8))),
        ("lie in 1970", lines(|n, u, i, r, t| format!("{u},{i},{r},{}", if n == 7 { 1500 } else { t }))),
        ("lie in 1970", lines(|n, u, i, r, t| format!("{u},{i},{r},{}", if n % 3 == 0 { 1000 * t } else { t }))),
        (
            "which may stand for no user",
            lines(|n, u, i, r, t| format!("{},{i},{r},{t}", if n % 4 == 0 { "Unknown" } else { &u })),
        ),
    ] {
        let (found, heard) = read(&[("ratings.csv", (HEADER.to_owned() + &text).as_bytes())], |_| {});
        assert_eq!(found.expect(words).interactions.len(), ROWS);
        assert!(heard.contains(words), "{words}: {heard}");
    }
    // 2^70 and more: what JSON's reader keeps of them is a float.
    let huge =
        lines(|n, _, i, r, t| object("x", &i, r, t).replace("\"x\"", &format!("11805916207174113034{}", 20 + n % 8)));
    assert!(read(&[("ratings.csv", huge.as_bytes())], |_| {}).1.contains("lose their last digits"));
}

#[test]
fn parts_without_rows_and_parts_without_names_belong_to_the_first() {
    let other = "time,rating,item,user\n";
    let turned = lines(|_, u, i, r, t| format!("{t},{r},{i},{u}"));
    let (first, second) = turned.split_at(turned.match_indices('\n').nth(59).expect("rows").0 + 1);
    let dir = |parts: &[(&str, &[u8])]| {
        let dir = tempfile::tempdir().expect("folder");
        let at = dir.path().join("p");
        std::fs::create_dir(&at).expect("makes");
        for (name, bytes) in parts {
            std::fs::write(at.join(name), bytes).expect("writes");
        }
        dir
    };
    let first = other.to_owned() + first;
    let parts = dir(&[
        ("a.csv", first.as_bytes()),
        ("b.csv", second.as_bytes()),
        ("c.csv", b""),
        ("d.csv.gz", &pack(b"")),
        ("e.csv", other.as_bytes()),
    ]);
    let mut settings = DataSettings::new(Kind::TABLE, parts.path());
    settings.table.ratings = "p".into();
    let listener = Listener::default();
    let found = data::open(&settings, &listener).expect("parts");
    assert_eq!(rows(&found), rows(&wanted()));
    let heard = listener.heard();
    assert!(heard.len() == 1 && heard[0].contains("b.csv: the first line has no names"), "{heard:?}");
    let empty = dir(&[("a.csv", b""), ("b.csv", b"")]);
    settings.path = empty.path().into();
    refuse(open(&settings), "p", "holds no ratings");
}

#[test]
fn files_that_are_no_tables_are_named() {
    let csv = HEADER.to_owned() + &plain();
    let packed = pack(csv.as_bytes());
    let behind = [packed.as_slice(), b"and more"].concat();
    let r = pack(b"X\n\0\0\0\x03\0\x04\x01\0");
    let columns = r#"{"user": {"0": "a", "1": "b"}, "item": {"0": "x", "1": "y"}}"#;
    for (bytes, what) in [
        (&b"<!DOCTYPE html>\n<html>"[..], "a web page"),
        (b"\n<HTML><body>", "a web page"),
        (b"<?xml version='1.0'?>", "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (&pack(&packed), "compressed twice"),
        (&behind, "what follows its end is no gzip data"),
        (&r, "a data file of R"),
        (b"<stata_dta><header>", "a data file of Stata"),
        (b"$FL2@(#) SPSS DATA FILE", "a data file of SPSS"),
        (columns.as_bytes(), "a list or an object a column"),
        (br#"{"user": ["a", "b"], "item": ["x", "y"]}"#, "a list or an object a column"),
        (br#"[["a", "x", 5, 1500000000]]"#, "JSON lists"),
        (b"[\"a\", \"x\", 5]\n[\"b\", \"y\", 4]\n", "JSON lists"),
        (b"[]", "an empty list"),
    ] {
        let error = read(&[("ratings.csv", bytes)], |_| {}).0.expect_err(what);
        assert!(error.what().contains(what) && !error.next_step().is_empty(), "{what}: {error}");
    }
    // An absolute name in an archive is one below it.
    let dir = tempfile::tempdir().expect("folder");
    let zip = dir.path().join("all.zip");
    zipped(&zip, &[("/data/ratings.csv", csv.as_bytes())]);
    assert_eq!(rows(&open(&DataSettings::new(Kind::TABLE, &zip)).expect("opens")), rows(&wanted()));
}

#[test]
fn the_advice_on_separators_and_quotes_is_what_helps() {
    type Change = fn(&mut data::table::TableSettings);
    let blank = "\"user\", \"item\", \"rating\", \"time\"\n".to_owned()
        + &lines(|_, u, i, r, t| format!("\"{u}\", \"{i}\", \"{r}\", \"{t}\""));
    let single =
        "'user','item','rating','time'\n".to_owned() + &lines(|_, u, i, r, t| format!("'{u}','{i}','{r}','{t}'"));
    let cases: [(&str, &str, Change); 2] = [
        (&blank, "set data.table.separator to \", \"", |table| table.separator = ", ".into()),
        (&single, "set data.table.quote to \"'\"", |table| table.quote = "'".into()),
    ];
    for (text, advice, change) in cases {
        let error = read(&[("ratings.csv", text.as_bytes())], |_| {}).0.expect_err(advice);
        assert!(error.next_step().contains(advice), "{error}");
        assert_eq!(rows(&read(&[("ratings.csv", text.as_bytes())], change).0.expect(advice)), rows(&wanted()));
    }
    let csv = HEADER.to_owned() + &plain();
    let whole: String = csv.lines().map(|line| format!("\"{line}\"\n")).collect();
    let error = read(&[("ratings.csv", whole.as_bytes())], |_| {}).0.expect_err("quoted lines");
    assert!(error.next_step().contains("each line stands in quotes as a whole"), "{error}");
    let items = (0..15).fold("item;title\n".to_owned(), |text, n| text + &format!("i{n};Title {n}\n"));
    let files = [("ratings.csv", csv.as_bytes()), ("items.csv", items.as_bytes())];
    let error = read(&files, |table| table.items = "items.csv".into()).0.expect_err("another separator");
    assert!(error.next_step().contains("data.table.separator to \";\""), "{error}");
    let error = read(&[("ratings.csv", b"user,item\na,b\n")], |_| {}).0.expect_err("no rating");
    assert!(error.next_step().contains("or to \"\" if the data has none"), "{error}");
}

#[test]
fn numbers_that_json_has_as_text_are_numbers() {
    let written = |key: &str, n: usize| match key {
        "2023" => format!(
            r#"{{"rating": "{}.0", "user_id": "U{}", "parent_asin": "P{}", "timestamp": "{}"}}"#,
            1 + n % 5,
            n % 8,
            n % 13,
            1_500_000_000_000 + 1000 * n as i64
        ),
        _ => format!(
            r#"{{"overall": "{}", "reviewerID": "U{}", "asin": "P{}", "unixReviewTime": " {} "}}"#,
            1 + n % 5,
            n % 8,
            n % 13,
            1_500_000_000 + n as i64
        ),
    };
    for (kind, key) in [(Kind::AMAZON_2023, "2023"), (Kind::AMAZON, "2018")] {
        let text: String = (0..ROWS).map(|n| written(key, n) + "\n").collect();
        let dir = folder(&[("B.json", text.as_bytes()), ("B.jsonl", text.as_bytes())]);
        std::fs::remove_file(dir.path().join(if key == "2023" { "B.json" } else { "B.jsonl" })).expect("removes");
        let found = load(kind, dir.path()).expect(key);
        let first = found.interactions[0];
        assert_eq!((found.interactions.len(), first.rating, first.time), (ROWS, 1.0, 1_500_000_000), "{key}");
    }
}
