//! Runs that wait for others, as processes of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rallrec::events::folder::Word;
use rallrec::events::{Event, Record, RunFolder};

use super::common::Place;

/// Longest wait for what should come within a second or two, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Long enough for a run that wrongly does not wait to begin: it looks twice a second.
const A_WHILE: Duration = Duration::from_secs(3);

struct Process {
    child: Child,
    folder: RunFolder,
}

impl Process {
    fn start(place: &Place, recipe: &str, name: &str, more: &[&str]) -> Self {
        let child = Command::new(assert_cmd::cargo::cargo_bin("rallrec"))
            .args(["run", recipe, "--quiet", "--out", &place.text(&format!("runs/{name}"))])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { child, folder: RunFolder::new(&place.at("runs").join(name)) }
    }

    /// One that works until it is stopped.
    fn long(place: &Place, recipe: &str, name: &str) -> Self {
        let long = ["--set", "graph.lightgcn.epochs=1000000", "--set", "graph.lightgcn.early_stop=0"];
        Self::start(place, recipe, name, &long)
    }

    /// A short one that waits for every run in the folder.
    fn queued(place: &Place, recipe: &str, name: &str) -> Self {
        Self::start(place, recipe, name, &["--until", "data", "--after", &place.text("runs")])
    }

    fn code(&mut self) -> Option<i32> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} does not end", self.folder.path().display());
    }

    fn begun(&self) -> bool {
        self.folder.events().exists()
    }

    fn ask(&self, word: Word) {
        self.folder.ask(word).expect("a word in the control file");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A run once waited for the one folder that a dashboard's list had last: taking that one out of
/// the queue started the next beside the run at work.
#[test]
fn a_run_that_leaves_the_queue_lets_nobody_start_beside_the_run_at_work() {
    let place = Place::new();
    let recipe = place.recipe();
    let mut first = Process::long(&place, &recipe, "first");
    // At once: the first one may not have its lock yet.
    let mut second = Process::queued(&place, &recipe, "second");
    until("the second waits", || second.folder.is_queued());
    until("the first works", || first.begun() && first.folder.is_alive());
    let mut third = Process::queued(&place, &recipe, "third");
    until("the third waits", || third.folder.is_queued());
    second.ask(Word::Stop);
    assert_eq!(second.code(), Some(130));
    assert!(!second.folder.exists(), "it leaves nothing behind");
    // From the command line, by somebody who does not wait.
    let mut other = Process::long(&place, &recipe, "other");
    until("the other works", || other.begun() && other.folder.is_alive());
    std::thread::sleep(A_WHILE);
    assert!(third.folder.is_queued() && !third.begun(), "two are at work");
    first.ask(Word::Stop);
    assert_eq!(first.code(), Some(130));
    std::thread::sleep(A_WHILE);
    assert!(third.folder.is_queued() && !third.begun(), "one is still at work");
    other.ask(Word::Stop);
    assert_eq!(other.code(), Some(130));
    assert_eq!(third.code(), Some(0));
    assert!(third.begun() && !third.folder.is_queued());
}

/// Milliseconds in which a run was at work, by its events.
fn at_work(folder: &Path) -> (u64, u64) {
    let (mut from, mut to) = (None, None);
    let text = std::fs::read_to_string(RunFolder::new(folder).events()).expect("events");
    for record in text.lines().filter_map(|line| Record::parse_bytes(line.as_bytes()).ok()) {
        match record.event {
            Event::RunStarted { .. } => from = Some(record.t_ms),
            Event::RunFinished { .. } => to = Some(record.t_ms),
            _ => {}
        }
    }
    (from.expect("it began"), to.expect("it ended"))
}

#[test]
fn runs_that_are_queued_at_the_same_moment_work_one_after_the_other() {
    let place = Place::new();
    let recipe = place.recipe();
    let names = ["d", "b", "a", "c"];
    let mut all: Vec<Process> = names.iter().map(|name| Process::queued(&place, &recipe, name)).collect();
    for process in &mut all {
        assert_eq!(process.code(), Some(0));
    }
    let mut times: Vec<(u64, u64)> = all.iter().map(|p| at_work(p.folder.path())).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{times:?}");
}
