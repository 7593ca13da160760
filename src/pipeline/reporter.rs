//! The monitor of a real run: writes `events.jsonl` and `log.txt`, draws progress, obeys control file and signals.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rallrec_events::{Event, Record, VERSION};

use super::control::Control;
use super::progress::{Progress, Verbosity};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// See the module.
pub struct Reporter {
    sink: Mutex<Sink>,
    progress: Progress,
    control: Control,
    stage: Mutex<&'static str>,
}

struct Sink {
    events: Option<File>,
    log: Option<File>,
    /// The first write error; said once, the run goes on.
    broken: bool,
    progressed: Instant,
    memory: Instant,
    peak: u64,
}

impl Reporter {
    /// Reports into `folder` (`None`: progress only).
    pub fn new(folder: Option<&Path>, verbosity: Verbosity) -> Result<Self> {
        let open = |name: &str| -> Result<Option<File>> {
            let Some(folder) = folder else { return Ok(None) };
            let path = folder.join(name);
            seal_torn_line(&path);
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.map(Some).map_err(|e| Error::io(&path, "open for appending", &e))
        };
        let now = Instant::now();
        let events = open("events.jsonl")?;
        let log = open("log.txt")?;
        Ok(Self {
            sink: Mutex::new(Sink { events, log, broken: false, progressed: now, memory: now, peak: 0 }),
            progress: Progress::new(verbosity),
            control: Control::new(folder),
            stage: Mutex::new("run"),
        })
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        match self.sink.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The progress line.
    pub fn line(&self) -> &Progress {
        &self.progress
    }

    /// Enters a stage.
    pub fn enter(&self, stage: &'static str) {
        if let Ok(mut current) = self.stage.lock() {
            *current = stage;
        }
    }

    /// Samples memory now; resident and peak bytes.
    pub fn memory(&self) -> (u64, u64) {
        let (resident, peak) = process_memory();
        let mut sink = self.sink();
        sink.peak = sink.peak.max(peak).max(resident);
        (resident, sink.peak)
    }
}

impl Monitor for Reporter {
    fn emit(&self, event: Event) {
        match &event {
            Event::Warning { stage, what, next } => {
                self.progress.line(&format!("{stage:<10} warning: {what}\n           next: {next}"));
            }
            Event::Log { level, text } if level != "debug" => self.progress.line(text),
            _ => {}
        }
        let t_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let mut sink = self.sink();
        if let (Some(log), Some(text)) = (sink.log.as_mut(), log_line(&event)) {
            // The log repeats what the events say; losing it must not end a run.
            let _ = writeln!(log, "{t_ms} {text}");
        }
        let Some(file) = sink.events.as_mut() else { return };
        let Ok(mut line) = serde_json::to_vec(&Record { v: VERSION, t_ms, event }) else { return };
        line.push(b'\n');
        if let Err(error) = file.write_all(&line)
            && !std::mem::replace(&mut sink.broken, true)
        {
            self.progress.line(&format!("warning: events.jsonl cannot be written any more: {error}"));
        }
    }

    fn progress(&self, done: u64, total: u64, unit: &str) {
        self.progress.update(done, total, unit);
        let (tell, sample) = {
            let mut sink = self.sink();
            let now = Instant::now();
            let tell = done >= total || now - sink.progressed > Duration::from_millis(250);
            if tell {
                sink.progressed = now;
            }
            let sample = now - sink.memory > Duration::from_secs(2);
            if sample {
                sink.memory = now;
            }
            (tell, sample)
        };
        if tell {
            self.emit(Event::StageProgress { stage: self.stage().into(), done, total, unit: unit.into() });
        }
        if sample {
            let (resident, peak) = self.memory();
            self.emit(Event::Memory { resident, peak });
        }
    }

    fn stop_requested(&self) -> bool {
        self.control.stop_requested()
    }

    fn stage(&self) -> &str {
        self.stage.lock().map_or("run", |s| *s)
    }
}

fn log_line(event: &Event) -> Option<String> {
    Some(match event {
        Event::StageStarted { stage, key } => format!("info {stage}: started, key {key}"),
        Event::StageFinished { stage, cached: true, .. } => format!("info {stage}: reused"),
        Event::StageFinished { stage, seconds, bytes, .. } => {
            format!("info {stage}: done in {seconds:.1} s, {bytes} bytes")
        }
        Event::Warning { stage, what, next } => format!("warn {stage}: {what}; next: {next}"),
        Event::Log { level, text } => format!("{level} {text}"),
        Event::RunFinished { outcome, message, .. } => format!("info run: {outcome} {message}"),
        _ => return None,
    })
}

/// A process that was killed may have left half a line; end it, so that it spoils itself only.
fn seal_torn_line(path: &Path) {
    let Ok(bytes) = std::fs::metadata(path).map(|m| m.len()) else { return };
    if bytes == 0 {
        return;
    }
    use std::io::{Read, Seek, SeekFrom};
    let last = File::open(path).and_then(|mut f| {
        f.seek(SeekFrom::End(-1))?;
        let mut byte = [0u8];
        f.read_exact(&mut byte).map(|()| byte[0])
    });
    if let Ok(byte) = last
        && byte != b'\n'
        && let Ok(mut file) = OpenOptions::new().append(true).open(path)
    {
        let _ = file.write_all(b"\n");
    }
}

/// (resident, peak resident) bytes of this process; zero where the system does not say.
pub fn process_memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb * 1024)
    };
    match (field("VmRSS:"), field("VmHWM:")) {
        (Some(resident), Some(peak)) => (resident, peak),
        _ => {
            let Ok(pid) = sysinfo::get_current_pid() else { return (0, 0) };
            let Ok(mut system) = sysinfo::System::new() else { return (0, 0) };
            system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), false);
            let resident = system.process(pid).map_or(0, |p| p.memory());
            (resident, resident)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_lines_also_after_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, "{\"v\":1,\"t_ms\":3,\"ki").unwrap();
        let reporter = Reporter::new(Some(folder.path()), Verbosity::Quiet).unwrap();
        reporter.emit(Event::Log { level: "debug".into(), text: "hello".into() });
        let text = std::fs::read_to_string(&path).unwrap();
        let good: Vec<_> = text.lines().filter_map(|l| Record::parse(l).ok()).collect();
        assert_eq!(good.len(), 1);
        assert!(matches!(&good[0].event, Event::Log { text, .. } if text == "hello"));
    }

    #[test]
    fn the_process_knows_its_memory() {
        let (resident, peak) = process_memory();
        assert!(resident > 1 << 20 && peak >= resident / 2);
    }
}
