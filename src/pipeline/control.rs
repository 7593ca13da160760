//! How a run is asked to pause, to write a checkpoint or to stop: Ctrl-C in its own terminal, or
//! words in the run folder's `control` file, so that an attached watcher on another terminal or
//! machine can do it too.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::terminal::say;
use rallrec_events::folder::{Requests, Word};

/// Set by Ctrl-C, SIGTERM and SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The file is looked at no more often than this.
const LOOK: Duration = Duration::from_millis(200);

/// Installs the signal handler: the first signal asks for a clean stop, the second ends the process
/// at once.
pub fn install_signal_handler() {
    // A second installation in one process fails; the first one stays in force, which is what is
    // wanted.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        say!("\nstopping at the next clean point (press Ctrl-C again to end at once)");
    });
}

/// The first signal ends the process: for commands that keep nothing that a stop could damage.
pub fn end_on_a_signal() {
    // As above: a second installation changes nothing.
    let _ = ctrlc::set_handler(|| std::process::exit(130));
}

/// True after a signal.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// What is asked at the moment, and what was asked since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlWords {
    /// The word in force.
    pub lasting: Option<Word>,
    /// Words that were not there at the last look.
    pub new: Vec<Word>,
    /// The run folder is not where it was: somebody has removed or moved it.
    pub gone: bool,
}

/// Which folder a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64, u64);

impl Place {
    /// `None` where there is no folder.
    pub fn of(folder: &Path) -> Option<Self> {
        let found = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self(found.dev(), found.ino()))
        }
        #[cfg(not(unix))]
        {
            let _ = found;
            Some(Self(0, 0))
        }
    }
}

/// Looks at the control file.
pub struct Control {
    folder: Option<PathBuf>,
    place: Option<Place>,
    /// When it was looked at, what it asked for, and the latest word that means nothing.
    last: Mutex<(Instant, Requests, Option<String>)>,
}

impl Control {
    /// Watches `folder/control`; a word left over from an earlier process is cleared.
    pub fn new(folder: Option<&Path>) -> Self {
        if let Some(folder) = folder {
            // Absent is the normal case, and a folder that cannot be written says so elsewhere.
            let _ = Requests::default().write(folder);
        }
        Self {
            folder: folder.map(Path::to_path_buf),
            place: folder.and_then(Place::of),
            last: Mutex::new((Instant::now(), Requests::default(), None)),
        }
    }

    /// The words in force. A request for a checkpoint is taken out of the file and returned once,
    /// in `new`.
    pub fn look(&self) -> ControlWords {
        let Some(folder) = &self.folder else { return ControlWords::default() };
        let mut last = match self.last.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        let before = last.1;
        if last.0.elapsed() < LOOK {
            return ControlWords { lasting: before.lasting, new: Vec::new(), gone: false };
        }
        if Place::of(folder) != self.place {
            return ControlWords { gone: true, ..ControlWords::default() };
        }
        let (mut now, unknown) = Requests::read_after(folder, before);
        let mut new = Vec::new();
        if let Some(word) = unknown.filter(|word| last.2.as_ref() != Some(word)) {
            say!("control: '{word}' means nothing; write pause, run, checkpoint or stop");
            last.2 = Some(word);
        }
        if std::mem::take(&mut now.checkpoint) {
            new.push(Word::Checkpoint);
            // When it cannot be taken out it is read again: one checkpoint too many does no harm.
            let _ = now.write(folder);
        }
        if now.lasting != before.lasting {
            new.push(now.lasting.unwrap_or(Word::Run));
        }
        (last.0, last.1) = (Instant::now(), now);
        ControlWords { lasting: now.lasting, new, gone: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rallrec_events::folder::CONTROL_FILE;

    #[test]
    fn words_are_taken_once_an_old_one_is_cleared_and_a_checkpoint_leaves_the_pause() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(CONTROL_FILE);
        std::fs::write(&file, "stop").unwrap();
        let control = Control::new(Some(folder.path()));
        let look = || {
            std::thread::sleep(LOOK + Duration::from_millis(20));
            control.look()
        };
        assert_eq!(look(), ControlWords::default());
        std::fs::write(&file, "pause checkpoint\n").unwrap();
        let words = ControlWords { lasting: Some(Word::Pause), new: vec![Word::Checkpoint, Word::Pause], gone: false };
        assert_eq!(look(), words);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pause\n");
        assert_eq!(look(), ControlWords { lasting: Some(Word::Pause), new: vec![], gone: false });
        // A word that means nothing once woke the run.
        std::fs::write(&file, "pauze\n").unwrap();
        assert_eq!(look(), ControlWords { lasting: Some(Word::Pause), new: vec![], gone: false });
        std::fs::remove_file(&file).unwrap();
        assert_eq!(look(), ControlWords { lasting: None, new: vec![Word::Run], gone: false });
        std::fs::write(&file, "stop\n").unwrap();
        assert_eq!(look().lasting, Some(Word::Stop));
    }
}
