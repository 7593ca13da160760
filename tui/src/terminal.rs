//! The terminal while the dashboard is up. The screen is drawn to the controlling terminal itself;
//! standard output and standard error, where they point at a terminal, go into a pipe instead, so
//! that a stray print lands in the log pane and never on the screen. Whatever ends the process (a
//! return, a panic, a signal), the terminal is as it was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use base64::prelude::{BASE64_STANDARD, Engine};
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;

use crate::backend::Placed;

/// What must be undone, wherever the process is when it has to leave. `None`: the terminal is as it
/// was.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// The terminal as it was taken, so that it can be given back whatever happens.
struct Taken {
    tty: File,
    mouse: bool,
    /// The real standard output and standard error, where they were put aside.
    outputs: [Option<OwnedFd>; 2],
}

/// The controlling terminal, taken over.
pub struct Screen {
    /// Draws.
    pub terminal: Terminal<Placed<BufWriter<File>>>,
    mouse: bool,
}

/// Columns of the terminal, where there is one.
pub fn columns() -> Option<u16> {
    crossterm::terminal::size().ok().map(|(columns, _)| columns).filter(|columns| *columns > 0)
}

fn tty() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// True when there is a terminal to draw on.
pub fn there_is_a_terminal() -> bool {
    tty().is_ok()
}

impl Screen {
    /// Takes the terminal; from now on lines that this process prints go to `printed`.
    ///
    /// # Errors
    /// There is no controlling terminal, or it refuses raw mode.
    pub fn take(mouse: bool, printed: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        let read = capture(mouse)?;
        std::thread::Builder::new().name("printed".into()).spawn(move || {
            let mut reader = BufReader::new(read);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                printed(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_string());
                line.clear();
            }
        })?;
        // From here on the terminal is changed, so that every way out of here gives it back.
        let made = enter(mouse).and_then(|()| Terminal::new(Placed::new(BufWriter::new(tty()?))));
        match made {
            Ok(terminal) => Ok(Self { terminal, mouse }),
            Err(e) => {
                restore();
                Err(e)
            }
        }
    }

    /// Writes control sequences to the terminal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&mut self, sequences: &str) -> io::Result<()> {
        let mut tty = tty()?;
        tty.write_all(sequences.as_bytes())?;
        tty.flush()
    }

    /// Gives the terminal back and stops the process, as Ctrl-Z does elsewhere; returns when it
    /// goes on.
    ///
    /// # Errors
    /// The terminal cannot be taken again.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        let stopped = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
        self.resume()?;
        stopped
    }

    /// Takes the terminal again after it was given back or after somebody else changed it.
    ///
    /// # Errors
    /// The terminal cannot be taken again.
    pub fn resume(&mut self) -> io::Result<()> {
        enter(self.mouse)?;
        self.empty()
    }

    /// Empties the screen, so that the next drawing draws all of it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn empty(&mut self) -> io::Result<()> {
        // Not `clear`: it asks the terminal where its cursor is, and waits for the answer.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }
}

/// Asks for the background.
pub const ASK_BACKGROUND: &str = "\x1b]11;?\x1b\\";

/// Asks where the cursor stands behind a glyph of braille: in the second column where the terminal
/// reads UTF-8, farther on where it takes the three bytes for three letters. The screen is empty
/// again behind it.
pub const ASK_UTF8: &str = "\x1b[H\u{28ff}\x1b[6n\x1b[2J";

/// The title of the terminal's window.
pub fn title(text: &str) -> String {
    format!("\x1b]2;{}\x1b\\", text.replace(|c: char| c.is_control(), " "))
}

/// A notification of the desktop, where the terminal makes one of it, and the bell.
pub fn notification(text: &str) -> String {
    format!("\x1b]9;{}\x1b\\\x07", text.replace(|c: char| c.is_control(), " "))
}

/// `text` into the clipboard of the machine that the terminal runs on.
pub fn clipboard(text: &str) -> String {
    format!("\x1b]52;c;{}\x1b\\", BASE64_STANDARD.encode(text))
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts standard output and error into a pipe, where they are terminals, and returns its other end.
fn capture(mouse: bool) -> io::Result<File> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut outputs = [None, None];
    if io::stdout().is_terminal() {
        outputs[0] = Some(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
        rustix::stdio::dup2_stdout(&write)?;
    }
    if io::stderr().is_terminal() {
        outputs[1] = Some(rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?);
        rustix::stdio::dup2_stderr(&write)?;
    }
    *taken() = Some(Taken { tty: tty()?, mouse, outputs });
    install_panic_hook();
    Ok(File::from(read))
}

fn taken() -> std::sync::MutexGuard<'static, Option<Taken>> {
    TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn enter(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    let mut tty = tty()?;
    execute!(tty, EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
    if mouse {
        execute!(tty, EnableMouseCapture)?;
    }
    Ok(())
}

/// Leaves the screen but keeps standard output and error in the pipe.
fn leave() {
    if let Some(taken) = taken().as_mut() {
        leave_on(&mut taken.tty, taken.mouse);
    }
}

fn leave_on(tty: &mut File, mouse: bool) {
    // The terminal may be gone (SIGHUP); then there is nothing to restore.
    if mouse {
        let _ = execute!(tty, DisableMouseCapture);
    }
    let _ = execute!(tty, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
    let _ = tty.flush();
}

/// Gives everything back. Safe to call twice and from a panic.
pub fn restore() {
    if let Some(mut taken) = taken().take() {
        leave_on(&mut taken.tty, taken.mouse);
        let [out, err] = taken.outputs;
        if let Some(out) = out {
            let _ = rustix::stdio::dup2_stdout(out);
        }
        if let Some(err) = err {
            let _ = rustix::stdio::dup2_stderr(err);
        }
    }
}

/// A panic of the thread that draws ends the program, so the terminal is given back before its
/// words are printed. One of a helper ends that helper alone: its words go where everything printed
/// goes, and the screen stays up.
fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let drawing = std::thread::current().id();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == drawing {
                restore();
            }
            before(info);
        }));
    });
}
