//! A run folder: the one contract between the engine and anything that watches it.
//!
//! ```text
//! recipe.toml     the resolved recipe
//! events.jsonl    what happened, append-only
//! log.txt         the same for people
//! control         words from a watcher: pause, run, checkpoint, stop
//! artifacts/      results of the stages, keyed by content
//! scatter.json    the item embeddings in two dimensions, for dashboards and reports
//! results.json    the final tables; results.md the same for people
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rallrec_events::{Event, StageId};

use super::artifact::{Artifact, Store};
use super::key::Key;
use super::progress::Verbosity;
use super::reporter::Reporter;
use super::results::StageTime;
use crate::device::nvtx;
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Which stages to do again, and where to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// Do this stage and all later ones again.
    pub from: Option<StageId>,
    /// End after this stage.
    pub until: Option<StageId>,
}

impl Span {
    /// From the words of a command line.
    ///
    /// # Errors
    /// A name that is no stage's.
    pub fn named(from: Option<&str>, until: Option<&str>) -> Result<Self> {
        let stage = |flag: &str, name: Option<&str>| -> Result<Option<StageId>> {
            let Some(name) = name else { return Ok(None) };
            let found = StageId::named(name).ok_or_else(|| {
                Error::usage(flag, format!("there is no stage '{name}'"))
                    .next(format!("the stages are: {}", StageId::names()))
            })?;
            Ok(Some(found))
        };
        Ok(Self { from: stage("--from", from)?, until: stage("--until", until)? })
    }
}

/// An open run folder.
pub struct Run {
    folder: PathBuf,
    store: Store,
    reporter: Reporter,
    span: Span,
    started: Instant,
    times: Mutex<Vec<StageTime>>,
    /// `None` for a finished run that is only read.
    lock: Option<File>,
}

/// What a stage's work is given.
pub struct Work<'a> {
    /// Its folder; files there survive a kill and are found again.
    pub folder: &'a Path,
    /// Where to report.
    pub monitor: &'a dyn Monitor,
}

impl Run {
    /// Opens (and makes) the folder. Fails when another process works in it.
    pub fn open(folder: &Path, span: Span, verbosity: Verbosity) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, "make the run folder", &e))?;
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(|e| Error::io(&path, "write in the run folder", &e))?;
        // Whoever lists runs looks at the lock for a moment: only one that stays held is another process at work.
        let held = (0..5).all(|n| {
            std::thread::sleep(Duration::from_millis(30 * n));
            matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock))
        });
        if held {
            return Err(Error::failed(folder.display(), "another process is working in this run folder")
                .next("wait for it, stop it, or give another folder with --out"));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            store: Store::open(folder)?,
            reporter: Reporter::new(Some(folder), verbosity)?,
            span,
            started: Instant::now(),
            times: Mutex::new(Vec::new()),
            lock: Some(lock),
        })
    }

    /// Opens the folder of a run for reading: a stage whose artifact is not there is an error that names it, and
    /// nothing is made, written or locked.
    pub fn open_finished(folder: &Path) -> Result<Self> {
        let artifacts = folder.join("artifacts");
        if !artifacts.is_dir() {
            return Err(Error::input(folder.display(), "is not a run folder: there is no artifacts/ in it")
                .next("give the folder that `rallrec run` wrote into, e.g. runs/demo"));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            store: Store::open(folder)?,
            reporter: Reporter::new(None, Verbosity::Quiet)?,
            span: Span::default(),
            started: Instant::now(),
            times: Mutex::new(Vec::new()),
            lock: None,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where to report outside of stages.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Seconds since the run was opened.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The stages so far, with the seconds that each took when it was made.
    pub fn times(&self) -> Vec<StageTime> {
        self.times.lock().map_or(Vec::new(), |t| t.clone())
    }

    fn note_time(&self, stage: StageId, seconds: f64, reused: bool) {
        if let Ok(mut times) = self.times.lock() {
            times.push(StageTime { stage: stage.into(), seconds, reused });
        }
    }

    /// True when `--until` names a stage before this one.
    pub fn is_beyond(&self, stage: StageId) -> bool {
        self.span.until.is_some_and(|until| stage > until)
    }

    /// Returns the stage's artifact: the one that is there, or what `work` makes. The stage's files must be written
    /// into `Work::folder`. On a stop or an error the folder keeps what was done, and the next run goes on there.
    pub fn stage(&self, stage: StageId, key: &Key, work: impl FnOnce(&Work<'_>) -> Result<()>) -> Result<Artifact> {
        self.reporter.enter(stage);
        if self.span.from.is_some_and(|from| stage >= from) {
            self.store.discard(stage.name(), key)?;
        }
        let shown = key.short().to_string();
        if let Some((artifact, done)) = self.store.find(stage.name(), key) {
            self.reporter.emit(Event::StageFinished {
                stage: stage.into(),
                key: shown,
                cached: true,
                seconds: 0.0,
                bytes: done.bytes,
            });
            self.reporter.line().finish(stage.name(), true, 0.0, "");
            self.note_time(stage, done.seconds, true);
            return Ok(artifact);
        }
        if self.lock.is_none() {
            let recipe = self.folder.join("recipe.toml");
            return Err(Error::input(
                self.folder.display(),
                format!("the stage '{stage}' is not there, or its recipe, raw files or model have changed since"),
            )
            .next(format!(
                "make it: rallrec run {} --until {stage} --out {}",
                recipe.display(),
                self.folder.display()
            )));
        }
        let (folder, resumed) = self.store.begin(stage.name(), key)?;
        self.reporter.emit(Event::StageStarted { stage: stage.into(), key: shown.clone() });
        self.reporter.line().start(stage.name());
        if resumed {
            self.reporter
                .emit(Event::Log { level: "debug".into(), text: format!("{stage}: going on with earlier work") });
        }
        let begun = Instant::now();
        let range = nvtx::range(stage.name());
        let outcome = self.reporter.check().and_then(|()| work(&Work { folder: &folder, monitor: &self.reporter }));
        drop(range);
        self.reporter.stage_took(stage.name(), begun, begun.elapsed().as_secs_f64());
        if let Err(error) = outcome {
            self.reporter.line().abandon();
            return Err(error);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (artifact, done) = self.store.commit(stage.name(), key, seconds)?;
        self.note_time(stage, seconds, false);
        let (resident, peak) = self.reporter.memory();
        self.reporter.emit(Event::Memory { resident, peak });
        self.reporter.emit(Event::StageFinished {
            stage: stage.into(),
            key: shown,
            cached: false,
            seconds,
            bytes: done.bytes,
        });
        self.reporter.line().finish(
            stage.name(),
            false,
            seconds,
            &format!("(memory peak {:.2} GiB)", peak as f64 / (1u64 << 30) as f64),
        );
        Ok(artifact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::key::KeyBuilder;
    use std::cell::Cell;

    fn open(folder: &Path, span: Span) -> Run {
        Run::open(folder, span, Verbosity::Quiet).unwrap()
    }

    #[test]
    fn a_stage_is_done_once_and_again_when_its_key_changes_or_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let count = Cell::new(0);
        let go = |run: &Run, setting: u32| {
            let key = KeyBuilder::new(StageId::Graph.name(), 1).settings("s", &setting).unwrap().finish();
            run.stage(StageId::Graph, &key, |_| {
                count.set(count.get() + 1);
                Ok(())
            })
            .unwrap();
        };
        go(&open(folder.path(), Span::default()), 1);
        go(&open(folder.path(), Span::default()), 1);
        assert_eq!(count.get(), 1);
        go(&open(folder.path(), Span::default()), 2);
        assert_eq!(count.get(), 2);
        go(&open(folder.path(), Span { from: Some(StageId::Embed), until: None }), 2);
        assert_eq!(count.get(), 3);
        go(&open(folder.path(), Span { from: Some(StageId::Align), until: None }), 2);
        assert_eq!(count.get(), 3);
    }

    #[test]
    fn a_failed_stage_keeps_its_work_and_is_not_taken_for_done() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyBuilder::new(StageId::Tune.name(), 1).finish();
        let run = open(folder.path(), Span::default());
        let failed = run.stage(StageId::Tune, &key, |w| {
            fs::write(w.folder.join("checkpoint"), "7").unwrap();
            Err(Error::stopped("tune"))
        });
        assert_eq!(failed.unwrap_err().exit_code(), 130);
        let artifact = run.stage(StageId::Tune, &key, |w| {
            assert_eq!(fs::read_to_string(w.folder.join("checkpoint")).unwrap(), "7");
            Ok(())
        });
        assert!(artifact.unwrap().file("checkpoint").exists());
    }

    #[test]
    fn a_finished_run_is_read_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Run::open_finished(folder.path()).err().unwrap().exit_code(), 2);
        let key = KeyBuilder::new(StageId::Graph.name(), 1).finish();
        open(folder.path(), Span::default()).stage(StageId::Graph, &key, |_| Ok(())).unwrap();
        let run = Run::open_finished(folder.path()).unwrap();
        run.stage(StageId::Graph, &key, |_| panic!("made again")).unwrap();
        let missing = run
            .stage(StageId::Align, &KeyBuilder::new(StageId::Align.name(), 1).finish(), |_| panic!("made"))
            .unwrap_err();
        assert_eq!(missing.exit_code(), 2);
        assert!(missing.next_step().contains("--until align"), "{missing}");
    }

    #[test]
    fn two_processes_cannot_share_a_folder_and_unknown_stages_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = open(folder.path(), Span::default());
        assert!(Run::open(folder.path(), Span::default(), Verbosity::Quiet).is_err());
        assert_eq!(Span::named(None, Some("nonsense")).unwrap_err().exit_code(), 2);
        assert_eq!(Span::named(Some("tune"), None).unwrap().from, Some(StageId::Tune));
    }
}
