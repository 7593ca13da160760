//! Everything that the dashboard knows. Only [`crate::update`] changes it, and [`crate::draw`] only
//! reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use rallrec_events::RunView;
use rallrec_events::folder::Word;
use rallrec_events::scatter::Scatter;
use rallrec_events::view::{Line, State as StageState};
use ratatui::layout::Rect;

use crate::format;
use crate::layout::{self, Arrangement};
use crate::message::{RunId, Status};
use crate::notify;
use crate::panes::{PaneId, Views, alarms, runs};
use crate::prefs::Prefs;
use crate::theme::{Palette, Theme};

/// Lines that this process printed and that are kept.
const PRINTED: usize = 500;
/// How long a notice stays in the bottom line.
const NOTICE_MS: u64 = 8_000;

/// A run folder that is open.
#[derive(Debug, Clone)]
pub struct OpenRun {
    /// Which.
    pub id: RunId,
    /// The folder.
    pub folder: PathBuf,
    /// Number of its colour, the same in every chart.
    pub colour: usize,
    /// Everything that was read; boxed because it is large.
    pub view: Box<RunView>,
    /// How reading goes.
    pub status: Status,
    /// What was in the folder has been read, or a first look at it taken.
    pub opened: bool,
    /// What is shown is a first look; the whole is being read.
    pub glance: bool,
    /// The embeddings' scatter, once read: `None` inside when the folder has none.
    pub scatter: Option<Result<Option<Box<Scatter>>, String>>,
    /// The scatter's version that was asked for.
    pub scatter_asked: u64,
}

/// What a run is doing, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Its folder is being read.
    Opening,
    /// Nothing has happened yet.
    Empty,
    /// At work, no progress yet in the stage.
    Running,
    /// Waits for the word to go on.
    Paused,
    /// Ended well.
    Done,
    /// Stopped on request.
    Stopped,
    /// Ended with an error.
    Failed,
    /// No process works in the folder and nobody said why.
    Killed,
    /// The folder is gone.
    Gone,
}

impl Doing {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Doing::Opening => "opening",
            Doing::Empty => "waiting",
            Doing::Running => "running",
            Doing::Paused => "paused",
            Doing::Done => "done",
            Doing::Stopped => "stopped",
            Doing::Failed => "failed",
            Doing::Killed => "killed",
            Doing::Gone => "gone",
        }
    }

    /// A process should be there.
    pub fn is_live(self) -> bool {
        matches!(self, Doing::Running | Doing::Paused)
    }
}

impl OpenRun {
    /// A run that is about to be read.
    pub fn new(id: RunId, folder: PathBuf) -> Self {
        Self {
            id,
            folder,
            colour: 0,
            view: Box::default(),
            status: Status::default(),
            opened: false,
            glance: false,
            scatter: None,
            scatter_asked: 0,
        }
    }

    /// Name to show: that of the folder.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(|| self.folder.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// What the run is doing, as far as folder and events tell.
    pub fn doing(&self) -> Doing {
        let run = &self.view.run;
        if self.status.trouble.is_some() && self.view.records > 0 {
            return Doing::Gone;
        }
        match run.outcome.as_ref().map(|o| o.word.as_str()) {
            Some("done") => Doing::Done,
            Some("stopped") => Doing::Stopped,
            Some(_) => Doing::Failed,
            None if !self.opened => Doing::Opening,
            None if self.view.records == 0 => Doing::Empty,
            None if self.status.alive == Some(false) => Doing::Killed,
            None if run.paused_ms.is_some() => Doing::Paused,
            None => Doing::Running,
        }
    }

    /// The control file says "pause", whether or not the engine has said that it does.
    pub fn is_asked_to_pause(&self) -> bool {
        self.status.control.lasting == Some(Word::Pause)
    }

    /// Seconds of the latest process until `now`, or until it ended.
    pub fn elapsed(&self, now_ms: u64) -> f64 {
        let run = &self.view.run;
        match &run.outcome {
            Some(outcome) => outcome.seconds,
            None if self.doing().is_live() => now_ms.max(run.last_ms).saturating_sub(run.started_ms) as f64 / 1e3,
            None => run.last_ms.saturating_sub(run.started_ms) as f64 / 1e3,
        }
    }

    /// The stage at work, or where work ended.
    pub fn stage(&self) -> Option<&rallrec_events::view::Stage> {
        let list = &self.view.stages.list;
        list.iter()
            .find(|s| s.state == StageState::Running)
            .or_else(|| list.iter().find(|s| matches!(s.state, StageState::Failed | StageState::Stopped)))
    }
}

/// How weighty a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Something worked.
    Good,
    /// For information.
    Plain,
    /// Something did not work.
    Bad,
}

/// A line at the bottom for a few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub text: String,
    /// How weighty.
    pub weight: Weight,
    /// Until when.
    pub until_ms: u64,
}

/// A word of control that was written and whose effect is awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Of which run.
    pub run: RunId,
    /// The word.
    pub word: Word,
    /// When.
    pub at_ms: u64,
    /// Latest record at that time: what comes later can be the answer.
    pub after_ms: u64,
}

/// What lies over the panes.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlay {
    /// The key table.
    Help {
        /// What is searched for.
        search: String,
        /// First line shown.
        scroll: usize,
    },
    /// A question.
    Question(Question),
    /// A line of input.
    Input(Input),
    /// A text to read, e.g. a comparison.
    Text {
        /// Heading.
        title: String,
        /// Lines.
        lines: Vec<String>,
        /// First line shown.
        scroll: usize,
        /// First column shown.
        shift: usize,
    },
}

/// A question with what follows from "yes".
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// What follows.
    pub then: Then,
}

/// What follows from "yes".
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// Leave; `s` stops this run before.
    Quit(RunId),
    /// Stop the run in this folder.
    Stop(PathBuf),
    /// Close the recipe without its changes.
    DropChanges,
    /// Measure an operator beside the run at work.
    Measure {
        /// The operator.
        operator: String,
        /// Check instead of bench.
        check: bool,
    },
    /// Something of pane 0.
    Runs(runs::Effect),
}

/// A line of input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What is asked for.
    pub title: String,
    /// The line so far.
    pub text: String,
    /// Where the next character goes: a place between characters, in bytes.
    pub cursor: usize,
    /// What it is for.
    pub purpose: Purpose,
    /// Values to choose from, if the setting has such.
    pub choices: Vec<String>,
    /// Further lines: meaning, default.
    pub about: Vec<String>,
    /// Why the line was refused last time.
    pub error: Option<String>,
}

impl Input {
    /// A line with `text` in it and the cursor at its end.
    pub fn new(title: &str, text: &str, purpose: Purpose, about: Vec<String>) -> Self {
        let (title, text, cursor) = (title.to_string(), text.to_string(), text.len());
        Self { title, text, cursor, purpose, choices: Vec::new(), about, error: None }
    }
}

/// What an input line is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Filter of the log.
    LogFilter,
    /// Filter of the runs.
    RunFilter,
    /// A text in the prompts.
    PromptSearch,
    /// Filter of the recipe's settings.
    RecipeFilter,
    /// The value of this setting.
    Setting(String),
    /// The folder for a new run.
    Folder,
}

/// The whole dashboard: what is open, what is shown, what is being asked.
#[derive(Debug, Clone)]
pub struct State {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Looks.
    pub theme: Theme,
    /// The palette that the user chose, as opposed to the one of the environment.
    pub chosen_palette: Option<Palette>,
    /// Nobody has said which palette: the terminal's background decides.
    pub palette_open: bool,
    /// Plain glyphs as the user chose them, as opposed to those of a flag.
    pub chosen_ascii: bool,
    /// Panes on the screen.
    pub arrangement: Arrangement,
    /// Opened runs.
    pub runs: Vec<OpenRun>,
    /// Which of them the panes show.
    pub current: usize,
    /// What the panes show while the display is frozen.
    pub frozen: Option<Vec<OpenRun>>,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Over the panes.
    pub overlay: Option<Overlay>,
    /// In the bottom line.
    pub notice: Option<Notice>,
    /// A word of control on its way.
    pub asked: Option<Asked>,
    /// What this process printed.
    pub printed: VecDeque<Line>,
    /// The run that was started together with this dashboard: leaving asks about it.
    pub own_run: Option<RunId>,
    /// Next [`RunId`].
    pub next_id: RunId,
    /// Alarms that the user has silenced.
    pub silenced: BTreeSet<alarms::Kind>,
    /// What has been told of runs outside of the screen: by bell, notification and title.
    pub told: notify::Told,
    /// Bells, notifications and titles are wanted.
    pub notify: bool,
    /// Something to draw has changed.
    pub dirty: bool,
    /// Keys that the user has given another meaning.
    pub keys: BTreeMap<String, String>,
    /// What each pane keeps.
    pub panes: Views,
}

impl State {
    /// An empty dashboard of this size.
    pub fn new(size: (u16, u16), prefs: &Prefs, environment: Option<Palette>, now_ms: u64) -> Self {
        // NO_COLOR goes before what was chosen earlier, perhaps in another terminal.
        let palette = match environment {
            Some(Palette::Mono) => Palette::Mono,
            other => prefs.palette.or(other).unwrap_or_default(),
        };
        Self {
            size,
            chosen_ascii: prefs.ascii,
            theme: Theme { palette, ascii: prefs.ascii },
            chosen_palette: prefs.palette,
            palette_open: prefs.palette.is_none() && environment.is_none(),
            arrangement: prefs.arrangement.clone(),
            runs: Vec::new(),
            current: 0,
            frozen: None,
            now_ms,
            overlay: None,
            notice: None,
            asked: None,
            printed: VecDeque::new(),
            own_run: None,
            next_id: 1,
            silenced: BTreeSet::new(),
            told: notify::Told::default(),
            notify: prefs.notify,
            keys: prefs.keys.clone(),
            dirty: true,
            panes: Views {
                runs: runs::View { choice: prefs.runs.clone(), ..runs::View::default() },
                ..Views::default()
            },
        }
    }

    /// The runs as the panes show them.
    pub fn shown(&self) -> &[OpenRun] {
        self.frozen.as_deref().unwrap_or(&self.runs)
    }

    /// The run that the panes show.
    pub fn run(&self) -> Option<&OpenRun> {
        let shown = self.shown();
        shown.get(self.current.min(shown.len().saturating_sub(1)))
    }

    /// The same as it is now, frozen or not.
    pub fn live_run(&self) -> Option<&OpenRun> {
        self.runs.get(self.current.min(self.runs.len().saturating_sub(1)))
    }

    /// A live run by its id.
    pub fn run_mut(&mut self, id: RunId) -> Option<&mut OpenRun> {
        self.runs.iter_mut().find(|r| r.id == id)
    }

    /// Says something in the bottom line.
    pub fn say(&mut self, weight: Weight, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), weight, until_ms: self.now_ms.saturating_add(NOTICE_MS) });
        self.dirty = true;
    }

    /// Keeps a line that this process printed.
    pub fn print(&mut self, level: &str, text: &str) {
        if self.printed.len() == PRINTED {
            self.printed.pop_front();
        }
        let text: String = text.chars().take(2000).collect();
        self.printed.push_back(Line { t_ms: self.now_ms, level: level.into(), text });
        self.dirty = true;
    }

    /// The panes of the overview.
    pub fn tiles(&self) -> Vec<PaneId> {
        let Some(run) = self.run().filter(|_| self.arrangement.follow) else { return self.arrangement.tiles.clone() };
        let view = &run.view;
        let filled = |pane: PaneId| match pane {
            PaneId::Training => !view.training.0.is_empty(),
            PaneId::Sampling => view.sampling.answers > 0 || !view.sampling.scored.is_empty(),
            PaneId::Merge => !view.merge.is_empty() || !view.results.tables.is_empty(),
            PaneId::Retrieval => !view.retrieval.examples.is_empty(),
            PaneId::Kernels => !view.operators.list.is_empty(),
            PaneId::System => view.system.now.is_some(),
            PaneId::Alarms => !alarms::heard(self, run).is_empty(),
            PaneId::Log | PaneId::Pipeline | PaneId::Runs => true,
        };
        layout::of_stage(run.stage().and_then(|s| s.id()), filled)
    }

    /// The panes on the screen, each with its place in `area`.
    pub fn places(&self, area: Rect) -> Vec<(PaneId, Rect)> {
        self.arrangement.place(&self.tiles(), area)
    }

    /// What is to be remembered.
    pub fn prefs(&self) -> Prefs {
        Prefs {
            arrangement: self.arrangement.clone(),
            palette: self.chosen_palette,
            ascii: self.chosen_ascii,
            seen: true,
            notify: self.notify,
            runs: self.panes.runs.choice.clone(),
            keys: self.keys.clone(),
        }
    }

    /// What to call an opened run: the end of its path that no other opened run has.
    pub fn label(&self, run: &OpenRun) -> String {
        let parts = |folder: &Path| -> Vec<String> {
            folder.components().rev().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
        };
        let own = parts(&run.folder);
        let others: Vec<Vec<String>> =
            self.shown().iter().filter(|r| r.id != run.id).map(|r| parts(&r.folder)).collect();
        let unlike = (1..=own.len()).find(|n| others.iter().all(|o| o.iter().take(*n).ne(own.iter().take(*n))));
        let shown: Vec<&str> = own.iter().take(unlike.unwrap_or(own.len()).max(1)).rev().map(String::as_str).collect();
        format::clean(&shown.join("/"))
    }
}
