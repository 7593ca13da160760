//! Signals as messages, so that the loop can leave the terminal as it found it.

use std::io;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGHUP, SIGINT: leave. The number is 128 + signal, the usual exit code.
    Leave(u8),
    /// SIGTSTP from outside.
    Suspend,
    /// SIGCONT: the terminal may have been changed meanwhile.
    Continue,
}

/// Calls `heard` from a thread of its own at each signal.
///
/// # Errors
/// The handlers cannot be installed.
pub fn listen(heard: impl Fn(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            heard(match signal {
                SIGTSTP => Signal::Suspend,
                SIGCONT => Signal::Continue,
                other => Signal::Leave(128 + u8::try_from(other).unwrap_or(0)),
            });
        }
    })?;
    Ok(())
}
