//! Forms of files that a table may have. Each has the same rows, and each must give the same data
//! set.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use rallrec::data::{self, Damaged, DataSettings, Dataset, Kind};

use crate::common::*;

const USERS: usize = 7;
const ITEMS: usize = 11;
const ROWS: usize = 70;

/// user, item, rating, time.
fn row(n: usize) -> (String, String, usize, i64) {
    (format!("u{}", n % USERS), format!("i{}", n * n % ITEMS), 1 + n % 5, 1_500_000_000 + 3600 * n as i64)
}

/// The rows as text: a header and what `write` makes of each.
fn text(header: &str, write: impl Fn(&str, &str, usize, i64) -> String) -> Vec<u8> {
    let mut out = String::from(header);
    for n in 0..ROWS {
        let (user, item, rating, time) = row(n);
        writeln!(out, "{}", write(&user, &item, rating, time)).expect("writes");
    }
    out.into_bytes()
}

fn csv(separator: &str) -> Vec<u8> {
    let header = ["user", "item", "rating", "time"].join(separator) + "\n";
    text(&header, |user, item, rating, time| [user, item, &rating.to_string(), &time.to_string()].join(separator))
}

fn plain() -> Vec<u8> {
    csv(",")
}

fn table(dir: &Path, change: impl Fn(&mut data::table::TableSettings)) -> DataSettings {
    let mut settings = DataSettings::new(Kind::TABLE, dir);
    change(&mut settings.table);
    settings
}

/// What a folder with one file of ratings gives.
fn read(name: &str, bytes: &[u8], change: impl Fn(&mut data::table::TableSettings)) -> rallrec::Result<Dataset> {
    let dir = folder(&[(name, bytes)]);
    let settings = table(dir.path(), |t| {
        t.ratings = name.into();
        change(t);
    });
    open(&settings)
}

fn wanted() -> Dataset {
    read("ratings.csv", &plain(), |_| {}).expect("the plain file")
}

#[track_caller]
fn same(name: &str, bytes: &[u8], change: impl Fn(&mut data::table::TableSettings)) {
    let found = read(name, bytes, change).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(rows(&found), rows(&wanted()), "{name}");
}

#[test]
fn text_is_read_however_it_is_separated() {
    for separator in [";", "\t", "|", "::", " ; ", "||"] {
        same("ratings.txt", &csv(separator), |t| t.separator = separator.into());
    }
    same("ratings.txt", &csv("   "), |t| t.separator = " ".into());
    same("ratings.csv", &[b"sep=;\n", csv(";").as_slice()].concat(), |_| {});
    same("ratings.csv", &[b"\xef\xbb\xbf", plain().as_slice()].concat(), |_| {});
    let crlf = String::from_utf8(plain()).expect("text").replace('\n', "\r\n");
    same("ratings.csv", crlf.as_bytes(), |_| {});
    // Comments before the names and between the rows; the names in a comment.
    let noted = String::from_utf8(plain()).expect("text").replace("\nu3", "\n# a remark\nu3");
    same("ratings.csv", format!("# made by hand\n{noted}").as_bytes(), |_| {});
    same("ratings.csv", &[b"#", plain().as_slice()].concat(), |_| {});
    // A separator at the end of each row.
    same("ratings.csv", &text("user,item,rating,time\n", |u, i, r, t| format!("{u},{i},{r},{t},")), |_| {});
    let wide: Vec<u8> = String::from_utf8(plain()).expect("text").encode_utf16().flat_map(u16::to_le_bytes).collect();
    same("ratings.csv", &[&[0xff, 0xfe], wide.as_slice()].concat(), |t| t.encoding = "utf-16".into());
}

#[test]
fn columns_without_names_are_named_by_the_recipe_by_number_or_by_their_order() {
    let bare = text("", |u, i, r, t| format!("{t},{u},{r},{i}"));
    same("ratings.csv", &bare, |t| t.columns = ["time", "user", "rating", "item"].map(String::from).to_vec());
    same("ratings.csv", &bare, |t| {
        t.header = false;
        [t.user, t.item, t.rating, t.time] = ["#2", "#4", "#3", "#1"].map(String::from);
    });
    same("ratings.csv", &text("", |u, i, r, t| format!("{u},{i},{r},{t}")), |_| {});
    let error = read("ratings.csv", &bare, |_| {}).expect_err("another order");
    assert!(error.next_step().contains("data.table.columns"), "{error}");
}

#[test]
fn quotes_that_do_not_close_swallow_no_rows() {
    let quoted = |user: &str, item: &str, rating: usize, time: i64, at: i64| {
        let note = if (time - 1_500_000_000) / 3600 % at == 3 { "\"so la la" } else { "x" };
        format!("{user}\t{item}\t{rating}\t{time}\t{note}")
    };
    // An odd and an even number of quotes.
    for at in [20, 35, 60] {
        let bytes = text("user\titem\trating\ttime\tnote\n", |u, i, r, t| quoted(u, i, r, t, at));
        same("ratings.tsv", &bytes, |t| t.separator = "\t".into());
        let commas = String::from_utf8(bytes).expect("text").replace('\t', ",");
        let error = read("ratings.csv", commas.as_bytes(), |_| {}).expect_err("swallows rows");
        assert!(error.what().contains("quote") && error.place().ends_with(":5"), "{error}");
        same("ratings.csv", commas.as_bytes(), |t| t.quote.clear());
    }
    // Quotes that do close are quotes.
    let bytes = text("user\titem\trating\ttime\n", |u, i, r, t| format!("\"{u}\"\t\"{i}\"\t{r}\t{t}"));
    same("ratings.tsv", &bytes, |t| t.separator = "\t".into());
}

#[test]
fn json_is_read_by_lines_as_an_array_and_nested() {
    let line =
        |u: &str, i: &str, r: usize, t: i64| format!(r#"{{"user": "{u}", "item": "{i}", "rating": {r}, "time": {t}}}"#);
    same("ratings.jsonl", &text("", line), |_| {});
    let array =
        format!("[{}]", (0..ROWS).map(row).map(|(u, i, r, t)| line(&u, &i, r, t)).collect::<Vec<_>>().join(",\n"));
    same("ratings.json", array.as_bytes(), |_| {});
    let nested = text("", |u, i, r, t| {
        format!(r#"{{"by": {{"id": "{u}"}}, "of": {{"id": "{i}"}}, "stars": {r}.0, "at": {t}, "x": NaN}}"#)
    });
    let change = |t: &mut data::table::TableSettings| {
        [t.user, t.item, t.rating, t.time] = ["by.id", "of.id", "stars", "at"].map(String::from);
    };
    same("ratings.json", &nested, change);
    let python = String::from_utf8(nested).expect("text").replace('"', "'");
    same("ratings.json", python.as_bytes(), change);
    let error = read("ratings.json", &text("", line), |t| t.user = "who".into()).expect_err("no such field");
    assert!(error.what().contains("the columns are: user, item, rating, time"), "{error}");
    let cut = [text("", line), b"{\"user\": \"u0\", \"item".to_vec()].concat();
    refuse(read("ratings.jsonl", &cut, |_| {}), &format!(":{}", ROWS + 1), "line of JSON");
}

#[test]
fn every_compression_is_read_by_its_content() {
    let bytes = plain();
    let zstd = zstd::stream::encode_all(bytes.as_slice(), 3).expect("packs");
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&bytes).expect("packs");
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(&bytes).expect("packs");
    let packed = [pack(&bytes), zstd, lz4.finish().expect("packs"), bzip2.finish().expect("packs")];
    for bytes in &packed {
        same("ratings.csv", bytes, |_| {});
        same("ratings.csv.zst", bytes, |_| {});
    }
    // Zeros behind gzip's members are padding; two members are one file.
    same("ratings.csv", &[packed[0].as_slice(), &[0; 700]].concat(), |_| {});
    let (first, second) = bytes.split_at(bytes.len() / 2);
    same("ratings.csv", &[pack(first), vec![0; 3], pack(second)].concat(), |_| {});
    let error = read("ratings.csv", &packed[1][..packed[1].len() - 9], |_| {}).expect_err("cut");
    assert!(error.place().contains("ratings.csv"), "{error}");
    // A zip file in place of the file; an entry in a folder that Windows wrote; two of one name.
    let dir = tempfile::tempdir().expect("folder");
    zipped(&dir.path().join("ratings.csv.zip"), &[("a.csv", &bytes)]);
    let settings = table(dir.path(), |t| t.ratings = "ratings.csv.zip".into());
    assert_eq!(rows(&open(&settings).expect("opens")), rows(&wanted()));
    let zip = dir.path().join("all.zip");
    zipped(&zip, &[("shop\\ratings.csv", &bytes), ("__MACOSX/shop/._ratings.csv", b"x")]);
    assert_eq!(rows(&open(&table(&zip, |_| {})).expect("opens")), rows(&wanted()));
    zipped(&zip, &[("old/ratings.csv", b"user,item,rating,time\nx,y,1,1\n"), ("new/ratings.csv", &bytes)]);
    let error = refuse(open(&table(&zip, |_| {})), "all.zip", "old/ratings.csv");
    assert!(error.what().contains("new/ratings.csv") && error.next_step().contains("data.table.ratings"), "{error}");
    assert_eq!(rows(&open(&table(&zip, |t| t.ratings = "new/ratings.csv".into())).expect("opens")), rows(&wanted()));
}

#[test]
fn part_files_patterns_and_partitions_are_one_table() {
    let dir = tempfile::tempdir().expect("folder");
    let header = "user,item,rating,time\n";
    let part = |rows: std::ops::Range<usize>| -> String {
        let line = |n: usize| {
            let (user, item, rating, time) = row(n);
            format!("{user},{item},{rating},{time}\n")
        };
        header.to_owned() + &rows.map(line).collect::<String>()
    };
    let at = dir.path().join("ratings.csv");
    std::fs::create_dir(&at).expect("makes");
    for (name, text) in
        [("part-0.csv", part(0..20)), ("part-1.csv", part(20..ROWS)), ("_SUCCESS", String::new()), (".crc", "x".into())]
    {
        std::fs::write(at.join(name), text).expect("writes");
    }
    assert_eq!(rows(&open(&table(dir.path(), |_| {})).expect("a folder")), rows(&wanted()));
    for named in ["part-*.csv", "part-0.csv; part-1.csv", "."] {
        let settings = table(&at, |t| t.ratings = named.into());
        assert_eq!(rows(&open(&settings).expect(named)), rows(&wanted()), "{named}");
    }
    // The rating is in the names of folders.
    let hive = dir.path().join("hive");
    for rating in 1..=5 {
        let below = hive.join(format!("rating={rating}"));
        std::fs::create_dir_all(&below).expect("makes");
        let line = |n: usize| {
            let (user, item, own, time) = row(n);
            if own == rating { format!("{user},{item},{time}\n") } else { String::new() }
        };
        let text: String = (0..ROWS).map(line).collect();
        std::fs::write(below.join("part-0.csv"), format!("user,item,time\n{text}")).expect("writes");
    }
    let settings = table(dir.path(), |t| t.ratings = "hive".into());
    assert_eq!(rows(&open(&settings).expect("partitions")), rows(&wanted()));
}

#[test]
fn files_of_other_programs_are_named() {
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, what) in [
        (b"SQLite format 3\0...".to_vec(), "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec(), "an Excel file"),
        (tar.clone(), "a tar archive"),
        (pack(&tar), "a tar archive"),
        (b"ORC...".to_vec(), "an ORC file"),
    ] {
        let error = read("ratings.csv", &bytes, |_| {}).expect_err(what);
        assert!(error.what().contains(what) && !error.next_step().is_empty(), "{error}");
    }
    let dir = tempfile::tempdir().expect("folder");
    zipped(&dir.path().join("ratings.xlsx"), &[("[Content_Types].xml", b"x"), ("xl/worksheets/sheet1.xml", b"x")]);
    refuse(open(&table(dir.path(), |t| t.ratings = "ratings.xlsx".into())), "ratings.xlsx", "an Excel file");
    refuse(open(&table(&dir.path().join("ratings.xlsx"), |_| {})), "ratings.xlsx", "an Excel file");
}

#[test]
fn times_are_read_as_they_are_written_and_keep_their_order() {
    let date = |time: i64, pattern: &str| {
        jiff::Timestamp::from_second(time)
            .expect("a time")
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime(pattern)
            .to_string()
    };
    for pattern in [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%dT%H:%M:%S+00:00",
        "%d.%m.%Y %H:%M:%S",
        "%m/%d/%Y %I:%M:%S %p",
        "%Y/%m/%d %H:%M:%S",
        "%Y%m%d%H%M%S",
        "%a, %d %b %Y %H:%M:%S +0000",
    ] {
        let bytes = text("user,item,rating,time\n", |u, i, r, t| format!("{u},{i},{r},\"{}\"", date(t, pattern)));
        same("ratings.csv", &bytes, |_| {});
    }
    for (zeros, more) in [("000", ""), ("000000", ""), ("000000000", ""), ("", ".0"), ("000", ".0")] {
        let bytes = text("user,item,rating,time\n", |u, i, r, t| format!("{u},{i},{r},{t}{zeros}{more}"));
        same("ratings.csv", &bytes, |_| {});
    }
    let bytes = text("user,item,rating,time\n", |u, i, r, t| format!("{u},{i},{r},{}", date(t, "%Hh%M %S %Y%j")));
    let error = read("ratings.csv", &bytes, |_| {}).expect_err("no known form");
    assert!(error.next_step().contains("data.table.time_format"), "{error}");
    // Days alone: January 2 or February 1?
    let bytes =
        text("user,item,rating,time\n", |u, i, r, t| format!("{u},{i},{r},0{}/0{}/2017", t % 9 + 1, t / 9 % 9 + 1));
    let error = read("ratings.csv", &bytes, |_| {}).expect_err("ambiguous");
    assert!(error.what().contains("%m/%d/%Y") && error.what().contains("%d/%m/%Y"), "{error}");
    assert!(read("ratings.csv", &bytes, |t| t.time_format = "%d/%m/%Y".parse().expect("a pattern")).is_ok());
    // Rows of one second, by milliseconds: the later item has the smaller id.
    let bytes = text("user,item,rating,time\n", |u, i, r, t| {
        format!("{u},{i},{r},{}", 1_600_000_000_000 + (t - 1_500_000_000) / 3600)
    });
    let (fine, coarse) = (read("ratings.csv", &bytes, |_| {}).expect("reads"), wanted());
    let order = |d: &Dataset| rows(d).into_iter().map(|(u, i, r, _)| (u, i, r.to_bits())).collect::<Vec<_>>();
    assert_eq!(order(&fine), order(&coarse));
    assert!(fine.interactions.iter().all(|r| r.time == 1_600_000_000));
    let settings = DataSettings { min_history: 2, ..DataSettings::new(Kind::TABLE, "x") };
    let samples = |d: &Dataset| {
        let made = data::build_samples(d, &settings).expect("samples");
        (made.samples.iter().map(|s| (s.user, s.item, s.position)).collect::<Vec<_>>(), made.split)
    };
    assert_eq!(samples(&fine), samples(&coarse));
    let keep = DataSettings { repeats: data::Repeats::Keep, ..settings.clone() };
    assert_ne!(data::build_samples(&fine, &keep).expect("samples").samples.len(), samples(&fine).0.len());
}

#[test]
fn missing_ids_are_no_user_and_missing_ratings_are_left_out_by_choice() {
    for word in ["nan", "NULL", "None", "\\N", ""] {
        let bytes =
            text("user,item,rating,time\n", |u, i, r, t| format!("{},{i},{r},{t}", if t % 7 == 3 { word } else { u }));
        let error = read("ratings.csv", &bytes, |_| {}).expect_err(word);
        assert!(error.what().contains("user id") && error.next_step().contains("data."), "{error}");
    }
    let bytes = text("user,item,rating,time\n", |u, i, r, t| {
        format!("{u},{i},{},{t}", if r < 3 { "nan".into() } else { r.to_string() })
    });
    refuse(read("ratings.csv", &bytes, |_| {}), ":2", "the rating `nan` is missing");
    let dir = folder(&[("ratings.csv", &bytes)]);
    let settings = DataSettings { damaged: Damaged::Skip, ..table(dir.path(), |_| {}) };
    let listener = Listener::default();
    let left = data::open(&settings, &listener).expect("opens");
    assert_eq!(left.interactions.len(), (0..ROWS).filter(|n| 1 + n % 5 >= 3).count());
    let heard = listener.heard();
    assert!(heard.iter().any(|w| w.contains("28 rows without a rating")), "{heard:?}");
    // A word that means something here.
    let named =
        text("user,item,rating,time\n", |u, i, r, t| format!("{},{i},{r},{t}", if u == "u3" { "None" } else { u }));
    assert!(read("ratings.csv", &named, |t| t.missing.clear()).is_ok());
}

#[test]
fn ids_are_joined_as_numbers_with_a_warning() {
    let number = |u: &str| u[1..].to_owned();
    let items = |write: &dyn Fn(usize) -> String| -> Vec<u8> {
        (0..ITEMS).fold("item,title\n".to_owned(), |text, n| text + &format!("{},Title {n}\n", write(n))).into_bytes()
    };
    type Write<'a> = &'a dyn Fn(usize) -> String;
    let (short, point, zeros): (Write<'_>, Write<'_>, Write<'_>) =
        (&|n| n.to_string(), &|n| format!("{n}.0"), &|n| format!("{n:05}"));
    for (ours, theirs, warns) in
        [(point, short, false), (short, point, false), (zeros, short, true), (short, zeros, true)]
    {
        let write = |i: &str| ours(number(i).parse().expect("a number"));
        let ratings = text("user,item,rating,time\n", |u, i, r, t| format!("{u},{},{r},{t}", write(i)));
        let dir = folder(&[("ratings.csv", &ratings), ("items.csv", &items(theirs))]);
        let listener = Listener::default();
        let found = data::open(&table(dir.path(), |t| t.items = "items.csv".into()), &listener).expect("opens");
        assert!(found.items.iter().all(|item| item.title.starts_with("Title ")), "{:?}", found.items);
        let heard = listener.heard();
        assert_eq!(heard.iter().any(|w| w.contains("joined as numbers")), warns, "{heard:?}");
    }
    // Both ways of writing in one column are one id.
    let mixed = text("user,item,rating,time\n", |u, i, r, t| {
        format!("{u},{}{},{r},{t} ", number(i), if r % 2 == 0 { ".0" } else { "" })
    });
    let dir = folder(&[("ratings.csv", &mixed)]);
    let listener = Listener::default();
    let found = data::open(&table(dir.path(), |_| {}), &listener).expect("opens");
    assert_eq!(found.items.len(), wanted().items.len());
    assert!(listener.heard().iter().any(|w| w.contains("taken for one")));
}

#[test]
fn two_columns_of_one_name_are_refused_where_the_name_is_used() {
    let bytes = text("user,user,item,rating,time\n", |u, i, r, t| format!("x,{u},{i},{r},{t}"));
    let error = refuse(read("ratings.csv", &bytes, |_| {}), ":1", "two columns `user`");
    assert!(error.next_step().contains("\"#1\""), "{error}");
    same("ratings.csv", &bytes, |t| t.user = "#2".into());
}

#[test]
fn blocks_and_matrices_are_read() {
    let mut blocks = String::new();
    for item in 0..ITEMS {
        writeln!(blocks, "{item}:").expect("writes");
        for (user, own, rating, time) in (0..ROWS).map(row).filter(|(_, own, ..)| own[1..] == item.to_string()) {
            let day = jiff::Timestamp::from_second(time).expect("a time").to_zoned(jiff::tz::TimeZone::UTC).date();
            assert_eq!(own[1..], item.to_string());
            writeln!(blocks, "{},{rating},{day}", &user[1..]).expect("writes");
        }
    }
    let found = read("combined_data_1.txt", blocks.as_bytes(), |_| {}).expect("blocks");
    assert_eq!((found.interactions.len(), found.users.len()), (ROWS, USERS));
    let mut matrix = String::from("user,A,b,c,d,e,f\n");
    (0..4).for_each(|u| writeln!(matrix, "u{u},5,,{}.0,,1,", u + 1).expect("writes"));
    let found = read("ratings.csv", matrix.as_bytes(), |_| {}).expect("a matrix");
    assert!(!found.has_times && found.items.iter().map(|i| i.raw.0.as_str()).eq(["A", "c", "e"]));
    assert_eq!(found.interactions.len(), 12);
    assert_eq!(found.interactions.iter().map(|r| r.rating).sum::<f32>(), 4.0 * 6.0 + 10.0);
}

/// A pipe gives all that it has, and a run that would read it again says so.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_once_and_whole() {
    let dir = tempfile::tempdir().expect("folder");
    let pipe = dir.path().join("ratings.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let (to, bytes) = (pipe.clone(), plain());
    let writer = std::thread::spawn(move || std::fs::write(to, bytes));
    assert_eq!(rows(&open(&table(dir.path(), |_| {})).expect("a pipe")), rows(&wanted()));
    writer.join().expect("joins").expect("writes");
}
