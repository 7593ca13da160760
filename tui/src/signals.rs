//! Signals as messages, so that the loop can leave the terminal as it found it.

use std::io;

use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// One that would end the process: leave. The number is 128 + signal, the usual exit code.
    Leave(u8),
    /// SIGWINCH: the terminal has another size.
    Resize,
    /// SIGTSTP from outside.
    Suspend,
    /// SIGCONT: the terminal may have been changed meanwhile.
    Continue,
}

/// All that can be caught and would end the process otherwise, but for those of broken memory and
/// arithmetic, after which no thread goes on.
const ENDING: [i32; 14] = [
    SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGABRT, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGXFSZ, SIGSYS,
    SIGTRAP,
];

/// Calls `heard` from a thread of its own at each signal.
///
/// # Errors
/// The handlers cannot be installed.
pub fn listen(heard: impl Fn(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(ENDING.into_iter().chain([SIGTSTP, SIGCONT, SIGWINCH]))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            heard(match signal {
                SIGTSTP => Signal::Suspend,
                SIGCONT => Signal::Continue,
                SIGWINCH => Signal::Resize,
                other => Signal::Leave(128 + u8::try_from(other).unwrap_or(0)),
            });
        }
    })?;
    Ok(())
}
