//! Every operation of a run on its files fails in turn, and the power goes at every moment: the run
//! that follows gives equal results, or a clear error whose advice does.
//!
//! Each test takes a part of the points, spread over the run; `RALLREC_FAULTS=all` takes all of
//! them, and `RALLREC_FAULTS=2/8` every eighth from the second on. How many there were is printed.

mod damage;
mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use self::disk::Disk;
use super::common::{Place, Said, rallrec, results, say};

/// The library that lets operations fail; `None`, with a line that says so, without a C compiler.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        // Another run of the tests may load it meanwhile.
        let (made, library) = (folder.join(format!("faults-{}.so", std::process::id())), folder.join("faults.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/faults/faults.c");
        let named = std::env::var("CC").ok();
        let compilers = named.as_deref().into_iter().chain(["cc", "gcc", "clang"]);
        for compiler in compilers {
            let mut command = Command::new(compiler);
            command.args(["-shared", "-fPIC", "-O1", "-w", "-pthread", "-o"]).arg(&made).arg(&source);
            if command.output().is_ok_and(|done| done.status.success()) && fs::rename(&made, &library).is_ok() {
                return Some(library);
            }
        }
        crate::skip::skip("C compiler", "no C compiler (cc, gcc, clang, or $CC)");
        None
    };
    if cfg!(not(target_os = "linux")) {
        crate::skip::skip("Linux", "the library of faults is for Linux");
        return None;
    }
    BUILT.get_or_init(build).as_deref()
}

/// What makes the run of all stages small: every point of it costs a run.
const SMALL: [(&str, &str); 13] = [
    ("threads = 2", "threads = 1"),
    ("users = 40", "users = 20"),
    ("items = 40", "items = 20"),
    ("ratings = 700", "ratings = 180"),
    ("tune = 6", "tune = 3"),
    ("valid = 10", "valid = 5"),
    ("test = 12", "test = 6"),
    ("dim = 16", "dim = 8"),
    ("epochs = 4\neval_every = 2", "epochs = 2\neval_every = 1"),
    ("epochs = 5", "epochs = 2"),
    ("zero_shot_rows = 4", "zero_shot_rows = 2"),
    ("max_tokens = 6\nvalid_rows = 4\ntest_rows = 4", "max_tokens = 2\nvalid_rows = 2\ntest_rows = 2"),
    ("bootstrap = 50", "bootstrap = 10"),
];

/// A small run, whole, and what it came to.
struct Calm {
    place: Place,
    recipe: String,
    results: serde_json::Value,
    /// Operations on its files.
    operations: usize,
    disk: Disk,
}

impl Calm {
    fn new(library: &Path) -> Self {
        let place = Place::new();
        let recipe = place.recipe();
        let mut text = fs::read_to_string(&recipe).unwrap();
        for (from, to) in SMALL {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        fs::write(&recipe, text).unwrap();
        let (log, count) = (place.at("log"), place.at("count"));
        let mut calm = Self { recipe, results: serde_json::Value::Null, operations: 0, disk: Disk::default(), place };
        let mut command = calm.command(library, "calm");
        Said::of(&command.env("FAULTS_LOG", &log).env("FAULTS_COUNT", &count).output().unwrap()).ended_with(0);
        calm.results = results(&calm.place.at("calm/run"));
        calm.operations = fs::read_to_string(count).unwrap().trim().parse().unwrap();
        calm.disk = Disk::read(&fs::read(log).unwrap(), &calm.place.at("calm"));
        assert!(calm.operations > 300, "the library counts: {}", calm.operations);
        calm
    }

    /// The run in `run/` of a new folder.
    fn command(&self, library: &Path, folder: &str) -> assert_cmd::Command {
        let folder = self.place.at(folder);
        fs::create_dir(&folder).unwrap();
        let mut command = rallrec();
        command.args(["run", &self.recipe, "--quiet", "--out"]).arg(folder.join("run"));
        command.env("LD_PRELOAD", library).env("FAULTS_UNDER", folder);
        command
    }

    /// Goes on in a folder until the run is done, as its errors advise; what went otherwise than
    /// they should, for a report.
    fn go_on(&self, out: &Path, what: &str) -> Result<usize, String> {
        let folder = out.display().to_string();
        let mut command: Vec<String> =
            ["run", &self.recipe, "--quiet", "--out", &folder].map(String::from).into_iter().collect();
        for tried in 1..=4 {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let said = say(&words);
            if said.code == Some(0) {
                let found = results(out);
                return if found == self.results { Ok(tried) } else { Err(format!("{what}: other results")) };
            }
            if !is_clear(&said) {
                return Err(format!("{what}: {:?}: {}", said.code, said.err));
            }
            match advised(&said.err) {
                Some(words) => command = words,
                None => return Err(format!("{what}: no command to go on with: {}", said.err)),
            }
        }
        Err(format!("{what}: the advice leads nowhere"))
    }
}

/// An error in words, with what to do next; no panic, no abort.
fn is_clear(said: &Said) -> bool {
    matches!(said.code, Some(1 | 2)) && said.err.contains("rallrec:") && !said.err.contains("panicked")
}

/// The words of the command that an error advises.
fn advised(error: &str) -> Option<Vec<String>> {
    let command = error.rsplit_once("rallrec run ")?.1.lines().next()?;
    let words = command.split_whitespace().map(|word| word.trim_matches(['`', '.', '\'']).to_owned());
    Some(std::iter::once("run".to_owned()).chain(words).chain(["--quiet".to_owned()]).collect())
}

/// Which points are wanted, where the environment says so: the place of the first, and the step to
/// the next.
fn wanted() -> Option<(usize, usize)> {
    let said = std::env::var("RALLREC_FAULTS").ok()?;
    if said == "all" {
        return Some((0, 1));
    }
    let (part, parts) = said.split_once('/').expect("RALLREC_FAULTS is `all`, or like `2/8`");
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0).expect("a number from 1");
    Some((number(part) - 1, number(parts)))
}

/// Some of the numbers from 1 to `last`, spread over them.
fn sample(last: usize, few: usize, seed: usize) -> Vec<usize> {
    let (first, step) = wanted().unwrap_or_else(|| {
        let step = last.div_ceil(few).max(1);
        (seed % step, step)
    });
    (1 + first..=last).step_by(step).collect()
}

#[track_caller]
fn report(what: &str, tried: usize, outcomes: &BTreeMap<String, usize>, wrong: &[String]) {
    println!("{what}: {tried} points: {outcomes:?}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_operation_that_fails_anywhere_costs_nothing() {
    let Some(library) = library() else { return };
    let calm = Calm::new(library);
    for (way, wanted) in [("fail", 9), ("short", 5), ("full", 5), ("kill", 9)] {
        let (mut outcomes, mut wrong) = (BTreeMap::new(), Vec::new());
        let points = sample(calm.operations, wanted, wanted * 7 + way.len());
        for &at in &points {
            let folder = format!("{way}-{at}");
            let out = calm.place.at(&folder).join("run");
            let what = format!("operation {at}, {way}");
            let mut command = calm.command(library, &folder);
            let said = Said::of(&command.env("FAULTS_AT", at.to_string()).env("FAULTS_HOW", way).output().unwrap());
            let first = match said.code {
                Some(0) => "done all the same",
                None if way == "kill" => "killed",
                _ if is_clear(&said) => "an error",
                code => {
                    wrong.push(format!("{what}: {code:?}: {}", said.err));
                    "neither"
                }
            };
            *outcomes.entry(first.to_owned()).or_insert(0) += 1;
            if said.code == Some(0) && results(&out) != calm.results {
                wrong.push(format!("{what}: other results, and no word of it"));
            }
            match calm.go_on(&out, &what) {
                Ok(tries) => *outcomes.entry(format!("equal after {tries}")).or_insert(0) += 1,
                Err(e) => wrong.push(e),
            }
            fs::remove_dir_all(calm.place.at(&folder)).unwrap();
        }
        report(way, points.len(), &outcomes, &wrong);
    }
}

/// What was not flushed is lost, at every moment after which something else would be lost: with the
/// names that were not flushed, or with the names there and the bytes gone, as a file system may
/// have it.
#[test]
fn a_power_cut_at_any_moment_costs_work_and_no_truth() {
    let Some(library) = library() else { return };
    let calm = Calm::new(library);
    for (way, wanted) in [("names and bytes are lost", 10), ("bytes are lost", 10)] {
        let (mut outcomes, mut wrong) = (BTreeMap::new(), Vec::new());
        let states = calm.disk.cuts(way == "bytes are lost");
        let points = sample(states.len(), wanted, wanted * 3 + way.len());
        for &at in &points {
            let (moment, state) = &states[at - 1];
            let root = calm.place.at(&format!("cut-{at}"));
            state.write(&root);
            let out = root.join("run");
            match calm.go_on(&out, &format!("cut after operation {moment}, {way}")) {
                Ok(tries) => *outcomes.entry(format!("equal after {tries}")).or_insert(0) += 1,
                Err(e) => wrong.push(e),
            }
            fs::remove_dir_all(&root).unwrap();
        }
        report(way, points.len(), &outcomes, &wrong);
        // A run that has ended is on the disk, whole.
        let (_, last) = states.last().expect("states");
        let root = calm.place.at("last");
        last.write(&root);
        assert_eq!(results(&root.join("run")), calm.results);
        let events = fs::read_to_string(root.join("run/events.jsonl")).unwrap();
        assert!(events.lines().last().is_some_and(|line| line.contains("run_finished")), "{way}");
        let again = say(&["run", &calm.recipe, "--out", &root.join("run").display().to_string()]).ended_with(0);
        assert_eq!(super::run::outcome(&again.err).1, Vec::<String>::new(), "{way}");
        fs::remove_dir_all(&root).unwrap();
    }
}
