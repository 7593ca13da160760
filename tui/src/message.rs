//! What the outside tells the state, and what the state asks of the outside.

use std::path::PathBuf;

use crossterm::event::{KeyEvent, MouseEvent};
use rallrec_events::folder::{Requests, Word};
use rallrec_events::scatter::Scatter;
use rallrec_events::{Record, RunView};

use crate::input::Reply;
use crate::panes::runs;
use crate::prefs::Prefs;
use crate::signals::Signal;

/// Which opened run; never given out twice.
pub type RunId = u32;

/// Something happened outside.
#[derive(Debug, Clone)]
pub enum Message {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal answered a question.
    Reply(Reply),
    /// The terminal has another size.
    Resize(u16, u16),
    /// Time passes: milliseconds since the Unix epoch.
    Tick(u64),
    /// A signal.
    Signal(Signal),
    /// This process printed a line while the screen was up.
    Printed(String),
    /// News of an opened run.
    Run(RunId, RunNews),
    /// News for pane 0.
    Runs(runs::News),
    /// An effect was carried out, or could not be.
    Done(Result<String, String>),
    /// The outcome of a bench or check of an operator.
    Measured { operator: String, check: bool, outcome: Result<String, String> },
}

/// News of an opened run.
#[derive(Debug, Clone)]
pub enum RunNews {
    /// A first look at a very long file, shown until it has been read.
    Glance(Box<RunView>),
    /// What was in the folder when it was opened.
    Opened(Box<RunView>),
    /// What was written since.
    Records(Vec<Record>),
    /// Lines that the run's process printed.
    Printed(Vec<String>),
    /// How reading goes.
    Status(Status),
    /// The scatter of the embeddings, or why it cannot be read.
    Scatter(Result<Option<Box<Scatter>>, String>),
}

/// How reading of a run folder goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// A process of the engine holds the folder's lock; `None`: cannot be told (another machine).
    pub alive: Option<bool>,
    /// Why nothing can be read: the folder or its file of events is not there.
    pub trouble: Option<String>,
    /// Lines that were no records.
    pub broken: u64,
    /// What the control file asks for.
    pub control: Requests,
    /// Bytes of the artifacts, by stage, where the folder tells.
    pub artifacts: Vec<(String, u64)>,
    /// Bytes free and in all on the disk of the folder.
    pub disk: Option<(u64, u64)>,
    /// Seconds that stages took in other runs of the same recipe.
    pub former: Vec<(String, u32)>,
}

/// Something to do outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Leave with this exit code.
    Quit(u8),
    /// To the background.
    Suspend,
    /// The terminal may have changed: take it again, draw everything.
    Redraw,
    /// Mouse reports on or off are the terminal's business; this writes the preferences.
    Save(Box<Prefs>),
    /// Writes a word into a run's control file.
    Control {
        /// Run folder.
        folder: PathBuf,
        /// The word.
        word: Word,
    },
    /// Begins to follow a run folder.
    Follow(RunId, PathBuf),
    /// Ends that.
    Unfollow(RunId),
    /// Writes control sequences to the terminal: a title, a bell, the clipboard.
    Terminal(String),
    /// Reads a run's scatter.
    ReadScatter(RunId, PathBuf),
    /// Something of pane 0.
    Runs(runs::Effect),
    /// Shows what is known of an operator: these lines, and what the engine knows of its kernels.
    Ledger {
        /// The operator.
        operator: String,
        /// From the run.
        lines: Vec<String>,
    },
    /// Runs the engine's own bench or check of an operator.
    Measure {
        /// The operator.
        operator: String,
        /// Check instead of bench.
        check: bool,
    },
}
