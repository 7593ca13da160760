use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::event::Event;

fn line(n: u64) -> String {
    format!("{{\"v\":1,\"t_ms\":{n},\"kind\":\"log\",\"level\":\"info\",\"text\":\"line {n}\"}}\n")
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Times of the records that a poll hands on; 0 stands for a restart.
fn poll(tail: &mut Tail) -> Vec<u64> {
    let mut out = Vec::new();
    loop {
        let polled = tail.poll(|item| match item {
            Item::Restarted => out.push(0),
            Item::Record(r) => out.push(r.t_ms),
            Item::Sampled(_) => {}
        });
        if !polled.more {
            return out;
        }
    }
}

fn fresh() -> (tempfile::TempDir, PathBuf, Tail) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let tail = Tail::new(&path);
    (folder, path, tail)
}

#[test]
fn a_file_that_grows_is_read_line_by_line_and_a_torn_end_waits_for_its_rest() {
    let (_folder, path, mut tail) = fresh();
    assert!(poll(&mut tail).is_empty());
    assert_eq!(tail.state(), &State::Waiting);
    append(&path, &line(1));
    append(&path, &line(2)[..20]);
    assert_eq!(poll(&mut tail), [1]);
    assert!(tail.has_torn_end());
    assert_eq!(tail.state(), &State::Open);
    append(&path, &line(2)[20..]);
    assert_eq!(poll(&mut tail), [2]);
    assert!(!tail.has_torn_end());
    assert!(poll(&mut tail).is_empty());
    assert_eq!((tail.counts().records, tail.counts().damaged), (2, 0));
}

#[test]
fn damaged_foreign_and_newer_lines_are_counted_and_the_rest_is_read() {
    let (_folder, path, mut tail) = fresh();
    append(&path, &line(1));
    append(&path, "{\"v\":1,\"t_ms\":2,\"kin\n\nnonsense\n\u{fffd}\n");
    append(&path, "{\"v\":3,\"t_ms\":4,\"kind\":\"from_the_future\",\"x\":1}\n");
    append(&path, &line(5));
    assert_eq!(poll(&mut tail), [1, 4, 5]);
    let counts = tail.counts();
    assert_eq!((counts.damaged, counts.newer, counts.lines), (3, 1, 7));
    assert_eq!(counts.unknown.get("from_the_future"), Some(&1));
}

#[test]
fn a_line_without_end_is_skipped_in_bounded_memory() {
    let (_folder, path, mut tail) = fresh();
    append(&path, &line(1));
    append(&path, &"x".repeat(3 << 20));
    assert_eq!(poll(&mut tail), [1]);
    append(&path, "\n");
    append(&path, &line(2));
    assert_eq!(poll(&mut tail), [2]);
    assert_eq!(tail.counts().damaged, 1);
}

#[test]
fn a_truncated_or_replaced_file_is_read_from_its_start() {
    let (_folder, path, mut tail) = fresh();
    append(&path, &(line(1) + &line(2) + &line(3)));
    assert_eq!(poll(&mut tail), [1, 2, 3]);
    // Shorter.
    fs::write(&path, line(4)).unwrap();
    assert_eq!(poll(&mut tail), [0, 4]);
    // Another file of the same name, longer.
    let other = path.with_extension("new");
    fs::write(&other, line(5) + &line(6) + &line(7)).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(poll(&mut tail), [0, 5, 6, 7]);
    // Truncated and written beyond the old end between two looks.
    fs::write(&path, (10..16).map(line).collect::<String>()).unwrap();
    assert_eq!(poll(&mut tail), [0, 10, 11, 12, 13, 14, 15]);
    assert_eq!(tail.counts().restarts, 3);
}

#[test]
fn a_deleted_folder_is_a_state_and_it_may_come_back() {
    let (folder, path, _) = fresh();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    let path = run.join(path.file_name().unwrap());
    let mut tail = Tail::new(&path);
    append(&path, &line(1));
    assert_eq!(poll(&mut tail), [1]);
    fs::remove_dir_all(&run).unwrap();
    assert!(poll(&mut tail).is_empty());
    assert_eq!(tail.state(), &State::Gone);
    fs::create_dir(&run).unwrap();
    append(&path, &line(2));
    assert_eq!(poll(&mut tail), [0, 2]);
    assert_eq!(tail.state(), &State::Open);
    // Something that is no file.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    poll(&mut tail);
    assert!(matches!(tail.state(), State::Unreadable(_)), "{:?}", tail.state());
}

/// A file with many steps and samples, and a few rare records among them.
fn long_file(path: &Path, lines: u64) {
    let mut out = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for n in 0..lines {
        if n % 5000 == 0 {
            let value = n as f64 / lines as f64;
            writeln!(out, "{{\"v\":1,\"t_ms\":{n},\"kind\":\"metric\",\"stage\":\"graph\",\"name\":\"recall@20\",\"split\":\"valid\",\"value\":{value},\"epoch\":{n},\"best\":false}}").unwrap();
        } else if n % 2 == 0 {
            writeln!(out, "{{\"v\":1,\"t_ms\":{n},\"kind\":\"train_step\",\"stage\":\"graph\",\"epoch\":1,\"step\":{n},\"steps\":{lines},\"loss\":0.5,\"learning_rate\":0.001,\"gradient_norm\":null,\"rate\":1.0}}").unwrap();
        } else {
            let (row, sample) = (n / 16, n % 16 / 2);
            writeln!(out, "{{\"v\":1,\"t_ms\":{n},\"kind\":\"reasoning_sample\",\"row\":{row},\"sample\":{sample},\"p\":0.25,\"answer\":true,\"tokens\":9,\"finished\":true,\"text\":\"\",\"label\":true,\"hint\":null}}").unwrap();
        }
    }
}

#[test]
fn a_long_file_is_sampled_rare_records_and_the_end_are_whole_and_it_says_so() {
    let (_folder, path, _) = fresh();
    let lines = 400_000;
    long_file(&path, lines);
    let mut tail = Tail::with_limit(&path, 1 << 20);
    let (mut said, mut metrics, mut last, mut rows, mut seen) = (None, 0, 0, BTreeMap::new(), 0u64);
    while tail
        .poll(|item| match item {
            Item::Sampled(s) => said = Some(s),
            Item::Restarted => panic!("restarted"),
            Item::Record(r) => {
                assert!(r.t_ms >= last, "{} after {last}", r.t_ms);
                last = r.t_ms;
                seen += 1;
                match r.event {
                    Event::Metric { .. } => metrics += 1,
                    Event::ReasoningSample { row, .. } => *rows.entry(row).or_insert(0) += 1,
                    _ => {}
                }
            }
        })
        .more
    {}
    let said = said.expect("it says that it sampled");
    assert_eq!(metrics, lines / 5000, "a rare record was left out");
    assert_eq!(last, lines - 1);
    assert_eq!(tail.counts().lines, lines);
    assert!(said.read < said.records / 2 && seen < lines / 2, "{} of {lines} were read", seen);
    let kinds: Vec<&str> = said.kinds.iter().map(|k| k.0.as_str()).collect();
    assert_eq!(kinds, ["reasoning_sample", "train_step"]);
    // A prompt comes with all its samples, but for the one that the whole end begins in.
    let torn = rows.values().filter(|n| **n != 8).count();
    assert!(torn <= 1 + (lines / 5000) as usize && rows.len() > 500, "{torn} of {} prompts are torn", rows.len());
    append(&path, &line(lines + 7));
    assert_eq!(poll(&mut tail), [lines + 7]);
}

#[test]
fn the_first_look_at_a_long_file_is_its_beginning_its_end_and_something_between() {
    let (_folder, path, _) = fresh();
    let lines = 400_000;
    long_file(&path, lines);
    assert!(Tail::with_limit(&path, u64::MAX).glance().is_none(), "a file that is read whole needs none");
    assert!(Tail::with_limit(&path.with_extension("none"), 1).glance().is_none());
    let view = Tail::with_limit(&path, 1 << 20).glance().expect("it is long");
    assert_eq!(view.run.last_ms, lines - 1);
    assert!(view.records > 30_000 && view.records < lines / 3, "{}", view.records);
    // A file that the end holds alone comes whole and once.
    long_file(&path, 20_000);
    let view = Tail::with_limit(&path, 1).glance().expect("longer than a byte");
    assert_eq!(view.records, 20_000);
}

#[test]
fn a_sampled_file_that_fits_its_budget_equals_the_file_read_whole() {
    let (_folder, path, _) = fresh();
    long_file(&path, 30_000);
    let (mut whole, mut sampled) = (Tail::with_limit(&path, u64::MAX), Tail::with_limit(&path, 1));
    let (a, b) = (poll(&mut whole), poll(&mut sampled));
    assert!(a == b, "{} and {} records", a.len(), b.len());
    assert_eq!(whole.counts().records, sampled.counts().records);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However the bytes arrive, the records are those of the file.
    #[test]
    fn pieces_of_any_size_give_the_same_records(
        parts in prop::collection::vec(prop_oneof![
            3 => (1u64..1000).prop_map(line),
            1 => "[a-z{}\":\u{e4}]{0,40}".prop_map(|s| s + "\n"),
            1 => Just("\n".to_string()),
        ], 0..30),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (_folder, path, mut tail) = fresh();
        let bytes = parts.concat().into_bytes();
        let expected: Vec<u64> =
            bytes.split(|b| *b == b'\n').filter_map(|l| Record::parse_bytes(l).ok()).map(|r| r.t_ms).collect();
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        at.sort_unstable();
        fs::write(&path, b"").unwrap();
        let mut found = Vec::new();
        for pair in at.windows(2) {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(&bytes[pair[0]..pair[1]]).unwrap();
            found.extend(poll(&mut tail));
        }
        prop_assert_eq!(found, expected);
    }
}
