//! How a run is asked to pause or stop: Ctrl-C in its own terminal, or a word in the run folder's `control` file,
//! so that an attached watcher on another terminal or machine can do it too.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by Ctrl-C, SIGTERM and SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Name of the file in the run folder.
pub const CONTROL_FILE: &str = "control";

/// What the control file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Nothing: go on.
    Go,
    /// Wait until the word changes.
    Pause,
    /// Leave at the next clean point.
    Stop,
}

impl Command {
    /// Reads the word; anything unknown means go on.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "pause" => Command::Pause,
            "stop" => Command::Stop,
            _ => Command::Go,
        }
    }
}

/// Installs the signal handler: the first signal asks for a clean stop, the second ends the process at once.
pub fn install_signal_handler() {
    // A second installation in one process fails; the first one stays in force, which is what is wanted.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping at the next clean point (press Ctrl-C again to end at once)");
    });
}

/// True after a signal.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Looks at the control file, at most five times a second.
pub struct Control {
    file: Option<PathBuf>,
    last: Mutex<(Instant, Command)>,
}

impl Control {
    /// Watches `folder/control`; a word left over from an earlier process is cleared.
    pub fn new(folder: Option<&Path>) -> Self {
        let file = folder.map(|f| f.join(CONTROL_FILE));
        if let Some(file) = &file {
            // Absent is the normal case.
            let _ = std::fs::remove_file(file);
        }
        Self { file, last: Mutex::new((Instant::now(), Command::Go)) }
    }

    fn read(&self) -> Command {
        let Some(file) = &self.file else { return Command::Go };
        let mut last = match self.last.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        if last.0.elapsed() >= Duration::from_millis(200) {
            *last = (Instant::now(), std::fs::read_to_string(file).map_or(Command::Go, |t| Command::parse(&t)));
        }
        last.1
    }

    /// Waits while paused; true when the run should stop.
    pub fn stop_requested(&self) -> bool {
        loop {
            if interrupted() {
                return true;
            }
            match self.read() {
                Command::Go => return false,
                Command::Stop => return true,
                Command::Pause => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_stops_and_an_old_word_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(CONTROL_FILE);
        std::fs::write(&file, "stop").unwrap();
        let control = Control::new(Some(folder.path()));
        std::thread::sleep(Duration::from_millis(250));
        assert!(!control.stop_requested());
        std::fs::write(&file, "stop\n").unwrap();
        std::thread::sleep(Duration::from_millis(250));
        assert!(control.stop_requested());
    }
}
