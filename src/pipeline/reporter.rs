//! The monitor of a real run: writes `events.jsonl` and `log.txt`, draws progress, obeys control
//! file and signals. A thread of its own samples the machine and the times of operators, also while
//! a long step says nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rallrec_events::folder::Word;
use rallrec_events::{Checkpoints, Event, Record, StageId, VERSION};

use super::control::{self, Control};
use super::machine::Machine;
use super::progress::{Progress, Verbosity};
use super::trace::TraceFile;
use crate::bench::Ceilings;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::tensor::profile::{self, Place};
use crate::terminal;

/// Where the engine reports to: the event stream and the progress line. It also reads the control
/// file.
pub struct Reporter {
    sink: Arc<Mutex<Sink>>,
    progress: Progress,
    control: Control,
    stage: Mutex<Option<StageId>>,
    /// A checkpoint was asked for and no stage has taken the request yet.
    checkpoint: AtomicBool,
    sampler: Option<MachineSampler>,
}

struct Sink {
    events: Option<File>,
    log: Option<File>,
    /// The first write error; said once, the run goes on.
    broken: Option<std::io::Error>,
    progressed: Instant,
    peak: u64,
    /// What the CPU gives at best, once it is measured.
    ceilings: Option<Ceilings>,
    /// Where single calls go, if they are asked for.
    trace: Option<TraceFile>,
}

/// A thread that samples machine and operators, and how it is ended.
struct MachineSampler {
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// How often the time of each operator is reported.
const OPERATORS: Duration = Duration::from_secs(1);
/// Load and memory of the machine are sampled in every second of those turns.
const MACHINE: u32 = 2;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    fn write(&mut self, event: Event) {
        let t_ms = rallrec_events::now_ms();
        if let (Some(log), Some(text)) = (self.log.as_mut(), log_line(&event)) {
            // The log repeats what the events say; losing it must not end a run.
            let _ = writeln!(log, "{} {text}", terminal::moment(t_ms));
        }
        let Some(file) = self.events.as_mut() else { return };
        let Ok(line) = (Record { v: VERSION, t_ms, event }).to_line() else { return };
        if let Err(error) = file.write_all(line.as_bytes()) {
            self.broken.get_or_insert(error);
        }
    }

    fn memory(&mut self) -> (u64, u64) {
        let (resident, peak) = process_memory();
        self.peak = self.peak.max(peak).max(resident);
        (resident, self.peak)
    }

    fn operators(&mut self) {
        if !profile::is_on() {
            return;
        }
        for ((name, place), tally) in profile::take() {
            // The ceilings are the CPU's.
            let ceilings = self.ceilings.filter(|_| place == Place::Cpu);
            let ceiling_seconds = ceilings.map(|c| c.seconds(tally.cost));
            self.write(Event::Operator {
                operator: name.into(),
                device: place.device().into(),
                calls: tally.calls,
                seconds: tally.seconds,
                bytes: tally.cost.bytes,
                flops: tally.cost.flops,
                ceiling_seconds,
                shape: place.shape(),
            });
        }
        self.calls();
    }

    /// Writes the calls since the last time into the trace.
    fn calls(&mut self) {
        if self.trace.is_none() {
            return;
        }
        let (calls, ceilings) = (profile::trace::take(), self.ceilings);
        self.traced(|trace| trace.calls(&calls, ceilings));
    }

    /// Writes into the trace, if there is one; when that fails or it is full, the run goes on
    /// without.
    fn traced(&mut self, write: impl FnOnce(&mut TraceFile) -> Result<bool>) {
        let Some(trace) = &mut self.trace else { return };
        let text = match write(trace) {
            Ok(true) => return,
            Ok(false) => "the trace is full: later calls are left out; `--until` ends a run early".to_owned(),
            Err(error) => format!("the trace ends here: {error}"),
        };
        profile::trace::switch(false);
        let _ = trace.finish();
        self.trace = None;
        self.write(Event::Log { level: "warning".into(), text });
    }
}

impl MachineSampler {
    fn start(sink: Arc<Mutex<Sink>>, folder: &Path) -> Option<Self> {
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        let (shared, folder) = (end.clone(), folder.to_path_buf());
        let work = move || {
            let mut machine = Machine::new(&folder);
            let mut round = 0u32;
            loop {
                let (ended, bell) = &*shared;
                let waited = bell.wait_timeout_while(held(ended), OPERATORS, |ended| !*ended);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
                round = round.wrapping_add(1);
                // Asked for outside the lock: the run must not wait for it.
                let sample = if round.is_multiple_of(MACHINE) { machine.sample() } else { None };
                let mut sink = held(&sink);
                sink.operators();
                if let Some(sample) = sample {
                    let (resident, peak) = sink.memory();
                    sink.write(sample);
                    sink.write(Event::Memory { resident, peak });
                }
            }
        };
        // Without a thread the machine's curves are missing and nothing else.
        let thread = std::thread::Builder::new().name("machine".into()).spawn(work).ok()?;
        Some(Self { end, thread: Some(thread) })
    }
}

impl Drop for MachineSampler {
    fn drop(&mut self) {
        *held(&self.end.0) = true;
        self.end.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if self.sampler.take().is_some() {
            profile::switch(false);
            profile::trace::switch(false);
        }
        let mut sink = held(&self.sink);
        // The last second of a run that was stopped.
        sink.calls();
        if let Some(mut trace) = sink.trace.take() {
            let _ = trace.finish();
        }
    }
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
        let (events, log) = (open("events.jsonl")?, open("log.txt")?);
        let sink = Sink { events, log, broken: None, progressed: Instant::now(), peak: 0, ceilings: None, trace: None };
        let sink = Arc::new(Mutex::new(sink));
        let sampler = folder.and_then(|folder| MachineSampler::start(sink.clone(), folder));
        Ok(Self {
            sink,
            progress: Progress::new(verbosity),
            control: Control::new(folder),
            stage: Mutex::new(None),
            checkpoint: AtomicBool::new(false),
            sampler,
        })
    }

    /// The progress line.
    pub fn line(&self) -> &Progress {
        &self.progress
    }

    /// Enters a stage. A checkpoint that was asked for in the one before is void: its result is
    /// stored.
    pub fn enter(&self, stage: StageId) {
        *held(&self.stage) = Some(stage);
        self.checkpoint.store(false, Ordering::Relaxed);
    }

    /// Samples memory now; resident and peak bytes.
    pub fn memory(&self) -> (u64, u64) {
        held(&self.sink).memory()
    }

    /// Times operators from here on; their work is compared with these ceilings, where they are
    /// known.
    pub fn profile(&self, ceilings: Option<Ceilings>) {
        profile::take();
        profile::switch(true);
        if let Some(c) = ceilings {
            held(&self.sink).ceilings = Some(c);
            let (memory_gb_s, gflop_s) = (c.memory_gb_s(), c.gflop_s);
            self.emit(Event::Ceilings { device: "cpu".into(), memory_gb_s, gflop_s });
        }
    }

    /// Writes every call of an operator and every launch into a file from here on; after
    /// [`profile`](Self::profile).
    pub fn trace(&self, trace: TraceFile) {
        held(&self.sink).trace = Some(trace);
        profile::trace::switch(true);
    }

    /// A stage is through; for the trace.
    pub fn stage_took(&self, stage: &str, began: Instant, seconds: f64) {
        held(&self.sink).traced(|trace| trace.stage(stage, began, seconds).map(|()| true));
    }

    /// Flushes events and log to the disk; after the run's last word.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn sync(&self) -> Result<()> {
        let sink = held(&self.sink);
        let files = [(&sink.events, "events.jsonl"), (&sink.log, "log.txt")];
        for (file, name) in files.into_iter().filter_map(|(file, name)| Some((file.as_ref()?, name))) {
            file.sync_all().map_err(|e| Error::io(name, "flush the file to the disk", &e))?;
        }
        Ok(())
    }

    /// Says what the operators did since the last time; before the run's last word.
    pub fn report_operators(&self) {
        held(&self.sink).operators();
    }

    /// Says that a word of the control file was read, and what follows from it.
    fn answer(&self, word: Word) {
        let stage = self.stage();
        let effect = match word {
            Word::Pause => "waiting at a clean point until the word changes".to_string(),
            Word::Run => "going on".to_string(),
            Word::Stop => "stopping at the next clean point".to_string(),
            Word::Checkpoint => match *held(&self.stage) {
                Some(stage) => {
                    self.checkpoint.store(stage.checkpoints() == Checkpoints::Asked, Ordering::Relaxed);
                    stage.at_checkpoint()
                }
                None => "nothing to do: no stage is at work".to_string(),
            },
        };
        self.progress.line(&format!("{stage:<10} {}: {effect}", word.as_str()));
        self.emit(Event::Control { word: word.as_str().into(), effect });
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
        let mut sink = held(&self.sink);
        let sound = sink.broken.is_none();
        sink.write(event);
        if let (true, Some(error)) = (sound, &sink.broken) {
            self.progress.line(&format!("warning: events.jsonl cannot be written any more: {error}"));
        }
    }

    fn progress(&self, done: u64, total: u64, unit: &str) {
        self.progress.update(done, total, unit);
        let due = {
            let mut sink = held(&self.sink);
            let now = Instant::now();
            let due = done >= total || now - sink.progressed > Duration::from_millis(250);
            if due {
                sink.progressed = now;
            }
            due
        };
        if due {
            self.emit(Event::StageProgress { stage: self.stage().into(), done, total, unit: unit.into() });
        }
    }

    fn stop_requested(&self) -> bool {
        let mut paused: Option<Instant> = None;
        let stop = loop {
            if control::interrupted() {
                break true;
            }
            let words = self.control.look();
            if words.gone {
                break true;
            }
            words.new.into_iter().for_each(|word| self.answer(word));
            match words.lasting {
                Some(Word::Stop) => break true,
                // A stage that waits with a request for a checkpoint is let go until it has written
                // it.
                Some(Word::Pause) if !self.checkpoint.load(Ordering::Relaxed) => {
                    if paused.is_none() {
                        paused = Some(Instant::now());
                        self.emit(Event::Paused { stage: self.stage().into() });
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => break false,
            }
        };
        if let Some(since) = paused {
            self.emit(Event::Resumed { stage: self.stage().into(), seconds: since.elapsed().as_secs_f64() });
        }
        stop
    }

    fn checkpoint_requested(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    fn stage(&self) -> &str {
        held(&self.stage).map_or("run", StageId::name)
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
        Event::Control { word, effect } => format!("info control: {word}: {effect}"),
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

    fn reported(folder: &Path) -> Vec<Event> {
        let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
        text.lines().map(|l| Record::parse(l).unwrap().event).collect()
    }

    #[test]
    fn a_paused_run_writes_the_checkpoint_that_it_is_asked_for_and_goes_on_when_told() {
        use rallrec_events::RunFolder;
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Some(folder.path()), Verbosity::Quiet).unwrap();
        reporter.enter(StageId::Tune);
        let run = RunFolder::new(folder.path());
        run.ask(Word::Pause).unwrap();
        let wait = Duration::from_millis(300);
        std::thread::sleep(wait);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(2 * wait);
                run.ask(Word::Checkpoint).unwrap();
            });
            // Held until the checkpoint is asked for, then let go to write it.
            let began = Instant::now();
            assert!(!reporter.stop_requested());
            assert!(began.elapsed() >= 2 * wait);
            assert!(reporter.checkpoint_requested() && !reporter.checkpoint_requested());
            scope.spawn(|| {
                std::thread::sleep(2 * wait);
                run.ask(Word::Stop).unwrap();
            });
            assert!(reporter.stop_requested());
        });
        let words: Vec<String> = reported(folder.path())
            .into_iter()
            .filter_map(|e| match e {
                Event::Control { word, .. } => Some(word),
                Event::Paused { .. } => Some("(paused)".into()),
                Event::Resumed { .. } => Some("(resumed)".into()),
                _ => None,
            })
            .collect();
        let expected =
            ["pause", "(paused)", "checkpoint", "(resumed)", "(paused)", "stop", "(resumed)"].map(String::from);
        assert_eq!(words, expected);
    }

    #[test]
    fn the_machine_is_reported_during_a_silent_step() {
        let folder = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(Some(folder.path()), Verbosity::Quiet).unwrap();
        std::thread::sleep(OPERATORS * (MACHINE + 1));
        drop(reporter);
        let events = reported(folder.path());
        assert!(events.iter().any(|e| matches!(e, Event::System { cores, .. } if !cores.is_empty())), "{events:?}");
        assert!(events.iter().any(|e| matches!(e, Event::Memory { .. })));
    }

    #[test]
    fn the_process_knows_its_memory() {
        let (resident, peak) = process_memory();
        assert!(resident > 1 << 20 && peak >= resident / 2);
    }
}
