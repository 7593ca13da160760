//! The terminal is given back whatever ends the program: on a pseudo-terminal, with this test
//! program as the child.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rallrec_events::{Event, Record, VERSION};
use rallrec_tui::terminal::Screen;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const CHILD: &str = "RALLREC_TUI_TEST_CHILD";
const FOLDER: &str = "RALLREC_TUI_TEST_FOLDER";
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the child does; in the parent, which has no such variable, nothing.
#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    match what.as_str() {
        "panic" => {
            let _screen = Screen::take(true, |_| {}).unwrap();
            panic!("on purpose, in a test");
        }
        "thread" => {
            let mut tty = File::options().write(true).open("/dev/tty").unwrap();
            let shown = tty.try_clone().unwrap();
            let screen = Screen::take(true, move |line| write!(&mut &shown, "<{line}>").unwrap()).unwrap();
            assert!(std::thread::spawn(|| panic!("on purpose, in a test")).join().is_err());
            write!(tty, "still up").unwrap();
            // The words go through a pipe.
            std::thread::sleep(Duration::from_secs(1));
            drop(screen);
        }
        _ => {
            let folder = std::env::var(FOLDER).unwrap();
            let options = rallrec_tui::Options { folders: vec![folder.into()], ..Default::default() };
            let outcome = rallrec_tui::run(options).unwrap();
            print!("{}", outcome.summary);
            std::io::stdout().flush().unwrap();
            std::process::exit(outcome.code.into());
        }
    }
}

/// A command of this test program as the child, with the terminal as its own.
fn on(slave: &File, program: &[&std::ffi::OsStr], what: &str, folder: &Path) -> Child {
    let io = || Stdio::from(slave.try_clone().unwrap());
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).env(CHILD, what).env(FOLDER, folder);
    command.env("XDG_CONFIG_HOME", folder).env("TERM", "xterm-256color");
    command.stdin(io()).stdout(io()).stderr(io());
    // SAFETY: between fork and exec two system calls that are async-signal-safe and allocate
    // nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// A pseudo-terminal: its two ends.
fn pair() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(name).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (File::from(master), slave)
}

struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    heard: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn start(what: &str, folder: &Path) -> Self {
        let (master, slave) = pair();
        let program = std::env::current_exe().unwrap();
        let words = [program.as_os_str(), "--exact".as_ref(), "child".as_ref(), "--nocapture".as_ref()];
        let child = on(&slave, &words, what, folder);
        let (send, heard) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = reader.read(&mut buffer)
                && n > 0
                && send.send(buffer[..n].to_vec()).is_ok()
            {}
        });
        Self { child, master, slave: slave.into(), heard, text: String::new() }
    }

    /// Reads until `wanted` has come.
    fn wait(&mut self, wanted: &str) {
        let since = Instant::now();
        while !self.text.contains(wanted) {
            assert!(
                since.elapsed() < PATIENCE,
                "'{}' did not come:\n{}",
                wanted.escape_debug(),
                self.text.escape_debug()
            );
            if let Ok(bytes) = self.heard.recv_timeout(Duration::from_millis(100)) {
                self.text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.slave).unwrap().local_modes & (LocalModes::ICANON | LocalModes::ECHO)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end: the exit code, and what was on the terminal after the screen was left.
    fn end(mut self) -> (Option<i32>, String) {
        self.wait(LEFT);
        let since = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(since.elapsed() < PATIENCE, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        while let Ok(bytes) = self.heard.recv_timeout(Duration::from_millis(300)) {
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert_eq!(self.modes(), LocalModes::ICANON | LocalModes::ECHO, "lines and echo are back");
        let (before, after) = self.text.split_once(LEFT).unwrap();
        for undone in ["\u{1b}[?1000l", "\u{1b}[?2004l"] {
            assert!(self.text.contains(undone), "mouse and paste reports are off: {}", undone.escape_debug());
        }
        assert!(before.contains(ENTERED) && after.contains("\u{1b}[?25h"), "the cursor is back");
        (status.code(), after.to_string())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, device, program) = ("made-up".to_string(), "cpu".to_string(), "0".to_string());
    let event = Event::RunStarted { recipe, device, program, resumed: false };
    let line = Record { v: VERSION, t_ms: 1_750_000_000_000, event }.to_line().unwrap();
    std::fs::write(folder.path().join("events.jsonl"), line).unwrap();
    folder
}

#[test]
fn a_panic_gives_the_terminal_back_before_its_words() {
    let folder = run_folder();
    let (code, after) = Terminal::start("panic", folder.path()).end();
    assert_ne!(code, Some(0));
    assert!(after.contains("on purpose, in a test"), "{}", after.escape_debug());
}

#[test]
fn a_panic_of_a_helper_leaves_the_screen_up_and_its_words_are_caught() {
    let folder = run_folder();
    let mut terminal = Terminal::start("thread", folder.path());
    terminal.wait("still up");
    assert!(!terminal.text.contains(LEFT), "{}", terminal.text.escape_debug());
    terminal.wait("<on purpose, in a test>");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn signals_and_the_key_leave_the_summary_on_the_terminal() {
    let folder = run_folder();
    let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    let signals =
        [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130), (Signal::QUIT, 131), (Signal::ABORT, 134)];
    let signals = signals.into_iter().chain([(Signal::USR1, 138), (Signal::ALARM, 142)]);
    for (signal, code) in signals.map(|(signal, code)| (Some(signal), code)).chain([(None, 0)]) {
        let mut terminal = Terminal::start("dashboard", folder.path());
        // It has been drawn with the run in it.
        terminal.wait("made-up");
        assert_eq!(terminal.modes(), LocalModes::empty());
        match signal {
            Some(signal) => terminal.signal(signal),
            None => terminal.master.write_all(b"q").unwrap(),
        }
        let (found, after) = terminal.end();
        assert_eq!(found, Some(code), "{signal:?}");
        assert!(after.contains(&name) && after.contains("rallrec watch"), "{}", after.escape_debug());
    }
}

/// A dashboard whose terminal had gone away, and whose session was led by something that ignores
/// the hang-up, once span for ever.
#[test]
fn an_orphan_ends() {
    let folder = run_folder();
    let (mut master, slave) = pair();
    let program = std::env::current_exe().unwrap();
    // The leader of the session hears the hang-up and waits on.
    let script = "trap : HUP; \"$0\" --exact child --nocapture; exit 0";
    let words = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), program.as_os_str()];
    let mut child = on(&slave, &words, "dashboard", folder.path());
    drop(slave);
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("made-up") {
        let n = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    drop(master);
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A terminal's reply to a question of somebody else once started a run.
#[test]
fn a_reply_of_the_terminal_is_no_key() {
    let folder = run_folder();
    let mut terminal = Terminal::start("dashboard", folder.path());
    terminal.wait("made-up");
    // With `q` in it, which would leave.
    terminal.master.write_all(b"\x1b]10;rgb:qqqq/ffff/ffff\x1b\\\x1bP1$rq\x1b\\\x1b[?1;2c").unwrap();
    terminal.master.write_all(b"?").unwrap();
    terminal.wait("Help: type to search");
    terminal.master.write_all(b"\x1b").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    terminal.master.write_all(b"q").unwrap();
    assert_eq!(terminal.end().0, Some(0));
}
