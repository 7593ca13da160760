//! The thread that reads the terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Decoder, Heard};

/// The terminal that keys come from.
fn terminal() -> io::Result<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::from(rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?));
    }
    File::open("/dev/tty")
}

/// Reads until `heard` returns false, or until the terminal is gone.
pub fn read(mut heard: impl FnMut(Heard) -> bool) {
    let Ok(mut tty) = terminal() else { return };
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4096];
    loop {
        let mut fds = [PollFd::new(&tty, PollFlags::IN)];
        let wait = decoder.patience().and_then(|w| Timespec::try_from(w).ok());
        let events = match poll(&mut fds, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(0) => decoder.silence(),
            // Also after a hang-up, to hear that there is nothing more.
            Ok(_) => match tty.read(&mut bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return,
                Ok(n) => decoder.feed(&bytes[..n]),
            },
        };
        if !events.into_iter().all(&mut heard) {
            return;
        }
    }
}
