//! A run folder: the one contract between the engine and anything that watches it.
//!
//! ```text
//! recipe.toml     the resolved recipe
//! events.jsonl    what happened, append-only
//! log.txt         the same for people
//! control         words from a watcher: pause, run, checkpoint, stop
//! artifacts/      results of the stages, keyed by what they follow from; format: their layout
//! scatter.json    the item embeddings in two dimensions, for dashboards and reports
//! told.json       what the events have of artifacts, so that no start tells it again
//! results.json    the final tables; results.md the same for people
//! scores.jsonl    what each model of the tables says of each test row
//! ```

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use rallrec_events::{Event, StageId};

use super::artifact::{Artifact, Origin, Recorded, Store};
use super::control::Place;
use super::key::{Key, key};
use super::lock::Lock;
use super::progress::Verbosity;
use super::reporter::Reporter;
use super::results::StageTime;
use super::stage::{Inputs, Made, Stage, Work};
use crate::content::Content;
use crate::device::{Device, nvtx};
use crate::durable;
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
        let span = Self { from: stage("--from", from)?, until: stage("--until", until)? };
        if let (Some(from), Some(until)) = (span.from, span.until)
            && from as usize > until as usize
        {
            let what = format!("the stage '{}' comes behind '{}', which --until names", from.name(), until.name());
            return Err(
                Error::usage("--from", what).next(format!("the stages are, in their order: {}", StageId::names()))
            );
        }
        Ok(span)
    }
}

/// What a stage of a test does in the place of its work: writes one file.
#[cfg(test)]
pub type StandIn = fn(&Origin, &Path) -> Result<()>;

/// An open run folder.
pub struct Run {
    folder: PathBuf,
    store: Store,
    reporter: Reporter,
    span: Span,
    started: Instant,
    times: Mutex<Vec<StageTime>>,
    /// `None` for a finished run that is only read.
    lock: Option<Lock>,
    /// Where the folder was when it was opened.
    place: Option<Place>,
    /// Folders of the artifacts that were found or made.
    used: Mutex<Vec<PathBuf>>,
    #[cfg(test)]
    stand_in: Option<StandIn>,
}

impl Run {
    /// Opens (and makes) the folder. Fails when another process works in it.
    pub fn open(folder: &Path, span: Span, verbosity: Verbosity) -> Result<Self> {
        durable::make_folder(folder)?;
        let lock = Lock::take(folder)?;
        let store = Store::open(folder)?;
        let reporter = Reporter::new(Some(folder), verbosity)?;
        if let Some(why) = lock.missing() {
            reporter.warn(
                &format!("this run folder cannot be locked ({why}): nothing keeps a second run out of it"),
                "start no other run with the same --out",
            );
        }
        Ok(Self::new(folder, store, reporter, span, Some(lock)))
    }

    /// Opens the folder of a run for reading: a stage whose artifact is not there is an error that
    /// names it, and nothing is made, written or locked.
    pub fn open_finished(folder: &Path) -> Result<Self> {
        let store = Store::open_finished(folder)?;
        Ok(Self::new(folder, store, Reporter::new(None, Verbosity::Quiet)?, Span::default(), None))
    }

    fn new(folder: &Path, store: Store, reporter: Reporter, span: Span, lock: Option<Lock>) -> Self {
        Self {
            folder: folder.to_path_buf(),
            store,
            reporter,
            span,
            started: Instant::now(),
            times: Mutex::new(Vec::new()),
            lock,
            place: Place::of(folder),
            used: Mutex::new(Vec::new()),
            #[cfg(test)]
            stand_in: None,
        }
    }

    /// The same with stand-ins for the work of every stage but `data`.
    #[cfg(test)]
    pub fn with_stand_in(self, stand_in: StandIn) -> Self {
        Self { stand_in: Some(stand_in), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses to go on in a folder that was removed or moved meanwhile: what would be written is
    /// in no place, or in two.
    ///
    /// # Errors
    /// The folder is not where it was.
    pub fn is_there(&self) -> Result<()> {
        if Place::of(&self.folder) == self.place {
            return Ok(());
        }
        Err(Error::failed(self.folder.display(), "the run folder was removed or moved while the run was at work")
            .next("put it back and run the same command again, or begin anew with another --out"))
    }

    /// Whether nothing can be made here.
    pub fn is_read_only(&self) -> bool {
        self.lock.is_none()
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

    /// Folders of the artifacts that were found or made so far.
    pub fn used(&self) -> Vec<PathBuf> {
        self.used.lock().map_or(Vec::new(), |used| used.clone())
    }

    /// The stage after which the run is to end.
    pub fn until(&self) -> Option<StageId> {
        self.span.until
    }

    /// True when `--until` names a stage before this one.
    pub fn is_beyond(&self, stage: StageId) -> bool {
        self.span.until.is_some_and(|until| stage > until)
    }

    /// True when `--from` asks for this stage once more, whatever is there.
    fn again(&self, stage: StageId) -> bool {
        self.span.from.is_some_and(|from| stage >= from)
    }

    /// A stage with one artifact: the one that is there, or what the stage makes. On a stop or an
    /// error the folder keeps what was done, and the next run goes on there.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn stage<S: Stage>(
        &self,
        settings: &S::Settings<'_>,
        inputs: &S::Inputs<'_>,
        device: &Device,
    ) -> Result<Made<S::Output>> {
        let mut stage = self.enter(S::ID, device);
        let made = stage.part::<S>("", settings, inputs)?;
        stage.finish();
        Ok(made)
    }

    /// Begins a stage that has several artifacts, each with a key of its own.
    pub fn enter<'a>(&'a self, id: StageId, device: &'a Device) -> Entered<'a> {
        self.reporter.enter(id);
        Entered { run: self, id, device, keys: Vec::new(), began: false, took: 0.0, seconds: 0.0, bytes: 0 }
    }

    fn work<S: Stage>(
        &self,
        origin: &Origin,
        settings: &S::Settings<'_>,
        inputs: &S::Inputs<'_>,
        work: &Work<'_>,
    ) -> Result<()> {
        #[cfg(test)]
        if let Some(stand_in) = self.stand_in.filter(|_| S::ID != StageId::Data) {
            return stand_in(origin, work.folder);
        }
        let _ = origin;
        S::run(settings, inputs, work)
    }
}

/// A stage that is being found or made, part by part. It is reported as one: begun with the first
/// part that has to be made.
pub struct Entered<'a> {
    run: &'a Run,
    id: StageId,
    device: &'a Device,
    keys: Vec<Key>,
    /// A part had to be made.
    began: bool,
    /// Seconds of this process.
    took: f64,
    /// Seconds when the parts were made.
    seconds: f64,
    bytes: u64,
}

impl Entered<'_> {
    /// The artifact of a part, found or made.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn part<S: Stage>(
        &mut self,
        part: &'static str,
        settings: &S::Settings<'_>,
        inputs: &S::Inputs<'_>,
    ) -> Result<Made<S::Output>> {
        let settings_content = Content::of(settings)?;
        if self.run.is_read_only() {
            return self.recorded::<S>(part, &settings_content, inputs);
        }
        let mut contents = inputs.made();
        contents.extend(inputs.outside()?);
        let origin = Origin {
            stage: S::ID.name(),
            part,
            key: key(S::ID.name(), part, S::VERSION, &settings_content, &contents),
            version: S::VERSION,
            settings: settings_content,
            inputs: contents,
            notes: S::NOTES,
        };
        let store = &self.run.store;
        if self.run.again(self.id) {
            store.discard(&origin)?;
        }
        let artifact = match store.find(&origin)? {
            Some(artifact) => artifact,
            None => self.make::<S>(&origin, settings, inputs)?,
        };
        Ok(self.take::<S>(artifact))
    }

    fn take<S: Stage>(&mut self, artifact: Artifact) -> Made<S::Output> {
        self.keys.push(artifact.manifest.key.clone());
        if let Ok(mut used) = self.run.used.lock() {
            used.push(artifact.folder.clone());
        }
        self.seconds += artifact.manifest.seconds;
        self.bytes += artifact.manifest.bytes;
        Made::new(artifact, S::load)
    }

    /// The artifact of a part in a run that is only read, found by its settings and by the
    /// artifacts behind it. What lies outside of the folder may have changed or be gone.
    fn recorded<S: Stage>(
        &mut self,
        part: &'static str,
        settings: &Content,
        inputs: &S::Inputs<'_>,
    ) -> Result<Made<S::Output>> {
        let (run, id) = (self.run, self.id);
        let found = run.store.recorded(&Recorded {
            stage: id.name(),
            part,
            version: S::VERSION,
            settings,
            made: &inputs.made(),
            outside: &|| inputs.outside(),
        })?;
        let artifact = found.ok_or_else(|| {
            let what = format!("the stage '{id}' is not there for the recipe in it");
            let recipe = run.folder.join("recipe.toml");
            Error::input(run.folder.display(), what).next(format!(
                "make it: rallrec run {} --until {id} --out {}",
                recipe.display(),
                run.folder.display()
            ))
        })?;
        Ok(self.take::<S>(artifact))
    }

    fn make<S: Stage>(
        &mut self,
        origin: &Origin,
        settings: &S::Settings<'_>,
        inputs: &S::Inputs<'_>,
    ) -> Result<Artifact> {
        let (run, id, reporter) = (self.run, self.id, &self.run.reporter);
        let (folder, resumed) = run.store.begin(origin)?;
        if !self.began {
            self.began = true;
            reporter.emit(Event::StageStarted { stage: id.into(), key: origin.key.short().into() });
            reporter.line().start(id.name());
        }
        if resumed {
            let text = format!("{id}: going on with earlier work");
            reporter.emit(Event::Log { level: "debug".into(), text });
        }
        let begun = Instant::now();
        let range = nvtx::range(id.name());
        // Others are held to their bytes too, which a stage that takes nothing over need not wait
        // for.
        let wanted = S::TAKES_OVER && !run.again(id);
        let others = if wanted { run.store.others(origin) } else { Vec::new() };
        let work = Work { folder: &folder, others: &others, device: self.device, monitor: reporter };
        let outcome = reporter.check().and_then(|()| run.work::<S>(origin, settings, inputs, &work));
        // What went wrong follows from it.
        if let Err(gone) = run.is_there() {
            reporter.line().abandon();
            return Err(gone);
        }
        drop(range);
        let seconds = begun.elapsed().as_secs_f64();
        reporter.stage_took(id.name(), begun, seconds);
        if let Err(error) = outcome {
            reporter.line().abandon();
            return Err(error);
        }
        self.took += seconds;
        run.store.commit(origin, seconds)
    }

    /// Tells that all parts are there.
    pub fn finish(self) {
        let (id, reporter) = (self.id, &self.run.reporter);
        let cached = !self.began;
        let shown = match &self.keys[..] {
            [only] => only.clone(),
            several => Key::of_all(several),
        };
        if let Ok(mut times) = self.run.times.lock() {
            times.push(StageTime { stage: id.into(), seconds: self.seconds, reused: cached });
        }
        let mut note = String::new();
        if !cached {
            let (resident, peak) = reporter.memory();
            reporter.emit(Event::Memory { resident, peak });
            note = format!("(memory peak {:.2} GiB)", peak as f64 / (1u64 << 30) as f64);
        }
        reporter.emit(Event::StageFinished {
            stage: id.into(),
            key: shown.short().into(),
            cached,
            seconds: self.took,
            bytes: self.bytes,
        });
        reporter.line().finish(id.name(), cached, self.took, &note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs;

    thread_local! {
        static DONE: Cell<u32> = const { Cell::new(0) };
    }

    fn open(folder: &Path, span: Span) -> Run {
        Run::open(folder, span, Verbosity::Quiet).unwrap()
    }

    /// Counts how often it is done; its result is the setting without its last digit.
    struct Graph;

    impl Stage for Graph {
        const ID: StageId = StageId::Graph;
        const VERSION: u32 = 1;
        type Settings<'r> = u32;
        type Inputs<'a> = ();
        type Output = String;

        fn run(settings: &u32, (): &(), work: &Work<'_>) -> Result<()> {
            DONE.set(DONE.get() + 1);
            fs::write(work.folder.join("rows"), (settings / 10).to_string()).map_err(|e| Error::failed("graph", e))
        }

        fn load(artifact: &Artifact) -> Result<String> {
            fs::read_to_string(artifact.file("rows")).map_err(|e| Error::failed("graph", e))
        }
    }

    /// Reads the graph; fails once where the setting says so.
    struct Align;

    struct Read<'a>(&'a Made<String>);

    impl Inputs for Read<'_> {
        fn made(&self) -> Vec<(&'static str, Content)> {
            vec![("graph", self.0.content())]
        }
    }

    impl Stage for Align {
        const ID: StageId = StageId::Align;
        const VERSION: u32 = 1;
        type Settings<'r> = bool;
        type Inputs<'a> = Read<'a>;
        type Output = ();

        fn run(fails: &bool, inputs: &Read<'_>, work: &Work<'_>) -> Result<()> {
            DONE.set(DONE.get() + 1);
            let file = work.folder.join("checkpoint");
            if *fails && !file.exists() {
                fs::write(&file, inputs.0.get()?).unwrap();
                return Err(Error::stopped("align"));
            }
            Ok(())
        }

        fn load(_: &Artifact) -> Result<()> {
            Ok(())
        }
    }

    fn graph(run: &Run, setting: u32) -> Made<String> {
        run.stage::<Graph>(&setting, &(), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_stage_is_done_once_and_again_when_its_settings_change_or_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let go = |setting, from| {
            graph(&open(folder.path(), Span { from, until: None }), setting);
            DONE.take()
        };
        assert_eq!(go(10, None), 1);
        assert_eq!(go(10, None), 0);
        assert_eq!(go(20, None), 1);
        assert_eq!(go(20, Some(StageId::Embed)), 1);
        assert_eq!(go(20, Some(StageId::Align)), 0);
    }

    #[test]
    fn an_input_that_comes_out_as_it_was_ends_the_cascade() {
        let folder = tempfile::tempdir().unwrap();
        let go = |setting| {
            let run = open(folder.path(), Span::default());
            let input = graph(&run, setting);
            run.stage::<Align>(&false, &Read(&input), &Device::Cpu).unwrap();
            DONE.take()
        };
        assert_eq!(go(10), 2);
        assert_eq!(go(11), 1, "another setting, the same result");
        assert_eq!(go(21), 2);
    }

    #[test]
    fn a_failed_stage_keeps_its_work_and_is_not_taken_for_done() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(folder.path(), Span::default());
        let input = graph(&run, 70);
        let go = || run.stage::<Align>(&true, &Read(&input), &Device::Cpu);
        assert_eq!(go().err().unwrap().exit_code(), 130);
        let artifact = go().unwrap().artifact().clone();
        assert_eq!(fs::read_to_string(artifact.file("checkpoint")).unwrap(), "7");
        assert_eq!(artifact.manifest.inputs[0].content, input.content());
    }

    #[test]
    fn parts_of_a_stage_are_reported_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let go = |one: u32, two: u32| {
            let run = open(folder.path(), Span::default());
            let mut stage = run.enter(StageId::Graph, &Device::Cpu);
            let made = [stage.part::<Graph>("one", &one, &()).unwrap(), stage.part::<Graph>("two", &two, &()).unwrap()];
            stage.finish();
            assert_eq!(made.map(|m| m.get().unwrap().clone()), [(one / 10).to_string(), (two / 10).to_string()]);
            let reported = run.times();
            assert_eq!(reported.len(), 1);
            (DONE.take(), reported[0].reused)
        };
        assert_eq!(go(10, 10), (2, false), "the same settings, but not the same part");
        assert_eq!(go(10, 20), (1, false));
        assert_eq!(go(10, 20), (0, true));
    }

    #[test]
    fn a_finished_run_is_read_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Run::open_finished(folder.path()).err().unwrap().exit_code(), 2);
        graph(&open(folder.path(), Span::default()), 10);
        DONE.take();
        let run = Run::open_finished(folder.path()).unwrap();
        let input = graph(&run, 10);
        let missing = run.stage::<Align>(&false, &Read(&input), &Device::Cpu).err().unwrap();
        assert_eq!((missing.exit_code(), DONE.take()), (2, 0));
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
