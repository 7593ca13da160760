//! One thread for each opened run: its events, its control file, its lock, what its process prints.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rallrec_events::tail::{Item, State as TailState, Tail};
use rallrec_events::{Follow, RunFolder, RunView};

use super::catalogue::is_at_work;
use super::engine::OUTPUT;
use super::former;
use crate::message::{Message, RunId, RunNews, Status};

/// Between two looks at a file that grows.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at everything else of the folder.
const STATUS: Duration = Duration::from_millis(500);
/// The end of earlier output that is shown.
const OUTPUT_END: u64 = 8 << 10;

/// Follows the folder until `stop`, or until nobody listens.
pub fn follow(id: RunId, folder: &Path, stop: &AtomicBool, send: &SyncSender<Message>) {
    let tell = |news: RunNews| send.send(Message::Run(id, news)).is_ok();
    // A pipe would keep whoever opens it waiting, and the thread could not be stopped.
    if std::fs::metadata(RunFolder::new(folder).events()).is_ok_and(|m| !m.is_file()) {
        let trouble = Some(format!("{}: events.jsonl is no plain file", folder.display()));
        tell(RunNews::Status(Status { trouble, ..Status::default() }));
        tell(RunNews::Opened(Box::default()));
        return;
    }
    let Follow { folder, mut tail, mut view } = Follow::new(folder);
    let mut output = Output::new(folder.path());
    let former = former::seconds(folder.path());
    let status = |folder: &RunFolder, tail: &Tail| Status { former: former.clone(), ..status(folder, tail) };
    if let Some(view) = tail.glance() {
        // The file is there, though the tail has not read it yet.
        let now = Status { trouble: None, ..status(&folder, &tail) };
        if !tell(RunNews::Status(now)) || !tell(RunNews::Glance(Box::new(view))) {
            return;
        }
    }
    let mut gone_through = false;
    while !gone_through {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        gone_through = !read(&mut tail, &mut view).1;
    }
    // The state goes first: with it the view is shown right from its first moment on.
    let mut known = status(&folder, &tail);
    if !tell(RunNews::Status(known.clone())) || !tell(RunNews::Opened(Box::new(view))) {
        return;
    }
    let mut looked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut records = Vec::new();
        let mut anew = None;
        let polled = tail.poll(|item| match item {
            Item::Restarted => {
                records.clear();
                anew = Some(RunView::new());
            }
            Item::Sampled(sampled) => anew.get_or_insert_with(RunView::new).sampled = Some(sampled),
            Item::Record(record) => match &mut anew {
                Some(view) => view.apply(&record),
                None => records.push(record),
            },
        });
        if let Some(mut view) = anew {
            while read(&mut tail, &mut view).1 {}
            if !tell(RunNews::Opened(Box::new(view))) {
                return;
            }
        }
        if !records.is_empty() && !tell(RunNews::Records(records)) {
            return;
        }
        let lines = output.lines();
        if !lines.is_empty() && !tell(RunNews::Printed(lines)) {
            return;
        }
        if looked.elapsed() >= STATUS {
            looked = Instant::now();
            let now = status(&folder, &tail);
            if now != known {
                known = now;
                if !tell(RunNews::Status(known.clone())) {
                    return;
                }
            }
        }
        if !polled.more {
            std::thread::sleep(LOOK);
        }
    }
}

/// One piece of the file into the view: (something changed, there is more).
fn read(tail: &mut Tail, view: &mut RunView) -> (bool, bool) {
    let polled = tail.poll(|item| match item {
        Item::Restarted => *view = RunView::new(),
        Item::Sampled(sampled) => view.sampled = Some(sampled),
        Item::Record(record) => view.apply(&record),
    });
    (polled.changed, polled.more)
}

/// How the folder stands at this moment.
pub fn status(folder: &RunFolder, tail: &Tail) -> Status {
    let at = folder.path();
    let trouble = match tail.state() {
        TailState::Open => None,
        TailState::Waiting if !folder.exists() => Some(format!("{}: there is no such folder", at.display())),
        TailState::Waiting => Some(format!("{}: no events have been written yet", at.display())),
        TailState::Gone if !folder.exists() => Some(format!("{}: the folder is gone", at.display())),
        TailState::Gone => Some(format!("{}: events.jsonl is gone", at.display())),
        TailState::Unreadable(why) => Some(format!("{}: events.jsonl cannot be read: {why}", at.display())),
    };
    let counts = tail.counts();
    let artifacts = if folder.is_alive() {
        folder.artifacts().into_iter().filter(|a| !a.complete).map(|a| (a.stage, a.bytes)).collect()
    } else {
        Vec::new()
    };
    let disk = rustix::fs::statvfs(at).ok().map(|s| (s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize));
    Status {
        alive: Some(is_alive(folder)),
        trouble,
        broken: counts.damaged,
        control: folder.asked(),
        artifacts,
        // Rounded, so that a disk in use elsewhere does not make the screen draw.
        disk: disk.map(|(free, all)| (free >> 26 << 26, all)),
        former: Vec::new(),
    }
}

/// A process works in the folder, as the list of runs sees it too.
pub fn is_alive(folder: &RunFolder) -> bool {
    let since = |t: SystemTime| t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let modified = std::fs::metadata(folder.events()).and_then(|m| m.modified()).map_or(0, since);
    is_at_work(folder, false, modified, since(SystemTime::now()))
}

/// What the run's process prints, where it was started from a dashboard.
struct Output {
    path: std::path::PathBuf,
    at: Option<u64>,
    rest: Vec<u8>,
}

impl Output {
    fn new(folder: &Path) -> Self {
        Self { path: folder.join(OUTPUT), at: None, rest: Vec::new() }
    }

    /// New whole lines; at most the end of a large piece.
    fn lines(&mut self) -> Vec<String> {
        let Ok(length) = std::fs::metadata(&self.path).map(|m| m.len()) else { return Vec::new() };
        let mut from = self.at.unwrap_or(length.saturating_sub(OUTPUT_END));
        if length < from {
            from = 0;
        }
        if length == from {
            self.at = Some(from);
            return Vec::new();
        }
        let from = from.max(length.saturating_sub(1 << 20));
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut f| {
            f.seek(SeekFrom::Start(from))?;
            f.take(1 << 20).read_to_end(&mut bytes)
        });
        let Ok(n) = read else { return Vec::new() };
        self.at = Some(from + n as u64);
        self.rest.extend_from_slice(&bytes);
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else {
            self.rest.truncate(64 << 10);
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().filter(|l| !l.trim().is_empty()).map(str::to_string).collect()
    }
}
