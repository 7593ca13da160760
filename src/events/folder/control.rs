//! The control file: how a run is asked to pause, go on, write a checkpoint or stop.
//!
//! It holds words. Of `pause`, `run` and `stop` the last one counts and stays in force until
//! another is written; `checkpoint` is a request beside them, which the engine takes out when it
//! has read it. So a paused run can be asked for a checkpoint and stays paused.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::RunFolder;

/// Name of the file in the run folder.
pub const CONTROL_FILE: &str = "control";

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Wait at the next clean point.
    Pause,
    /// Go on.
    Run,
    /// Write a checkpoint at the next clean point.
    Checkpoint,
    /// Leave at the next clean point.
    Stop,
}

impl Word {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Pause => "pause",
            Word::Run => "run",
            Word::Checkpoint => "checkpoint",
            Word::Stop => "stop",
        }
    }
}

/// What the file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Requests {
    /// The word in force: `Pause`, `Stop`, or nothing.
    pub lasting: Option<Word>,
    /// A checkpoint is wanted.
    pub checkpoint: bool,
}

impl Requests {
    /// Reads the words; unknown ones ask for nothing.
    pub fn parse(text: &str) -> Self {
        Self::parsed(text).0
    }

    /// The same with the first word that is unknown.
    fn parsed(text: &str) -> (Self, Option<String>) {
        let (mut out, mut unknown) = (Self::default(), None);
        for word in text.split_whitespace() {
            match word {
                "pause" => out.lasting = Some(Word::Pause),
                "stop" => out.lasting = Some(Word::Stop),
                "run" | "go" | "resume" => out.lasting = None,
                "checkpoint" => out.checkpoint = true,
                word => {
                    unknown.get_or_insert_with(|| word.to_owned());
                }
            }
        }
        (out, unknown)
    }

    /// Reads the file in a run folder; absent or unreadable asks for nothing.
    pub fn read(folder: &Path) -> Self {
        let read = super::read_plain(&folder.join(CONTROL_FILE));
        read.map_or(Self::default(), |text| Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// As [`Requests::read`], for whoever obeys: a word that means nothing leaves in force what was
    /// asked before, so that a slip of the pen does not wake a paused run. It is returned too.
    pub fn read_after(folder: &Path, before: Self) -> (Self, Option<String>) {
        let Ok(text) = super::read_plain(&folder.join(CONTROL_FILE)) else { return (Self::default(), None) };
        let (mut asked, unknown) = Self::parsed(&String::from_utf8_lossy(&text));
        if unknown.is_some() {
            asked.lasting = asked.lasting.or(before.lasting);
        }
        (asked, unknown)
    }

    /// These and one more.
    pub fn with(mut self, word: Word) -> Self {
        match word {
            Word::Run => self.lasting = None,
            Word::Checkpoint => self.checkpoint = true,
            word => self.lasting = Some(word),
        }
        self
    }

    /// Writes the file anew, whole or not at all; removes it when nothing is asked.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(self, folder: &Path) -> io::Result<()> {
        let file = folder.join(CONTROL_FILE);
        let words: Vec<&str> =
            [self.lasting.map(Word::as_str), self.checkpoint.then_some("checkpoint")].into_iter().flatten().collect();
        if words.is_empty() {
            return match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let temporary = folder.join(format!(".{CONTROL_FILE}.{}", std::process::id()));
        let written = fs::File::create(&temporary)
            .and_then(|mut f| writeln!(f, "{}", words.join(" ")))
            .and_then(|()| fs::rename(&temporary, &file));
        if written.is_err() {
            // What stays behind would only be a stray name; the first error is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl RunFolder {
    /// Asks the run for something. The engine looks at the file about five times a second and
    /// answers by an [`crate::Event::Control`].
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn ask(&self, word: Word) -> io::Result<()> {
        Requests::read(self.path()).with(word).write(self.path())
    }

    /// What is asked at the moment.
    pub fn asked(&self) -> Requests {
        Requests::read(self.path())
    }
}
