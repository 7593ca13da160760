//! The report of a run: one self-contained HTML file with tables and pictures, or event files for
//! TensorBoard.
//!
//! It knows the run folder and the event stream alone, so a run of another machine or version can
//! be reported, and a run that goes on can be reported as far as it has come. What a run did not
//! say is left out, with a note.

mod page;
mod plot;
mod plots;
mod tables;
pub mod tensorboard;

use std::io;
use std::path::Path;

use rallrec_events::Follow;
use rallrec_events::scatter::Scatter;
use rallrec_events::tail::State;

/// The page of the run in `folder`.
///
/// # Errors
/// The folder holds no events that can be read.
pub fn html(folder: &Path) -> io::Result<String> {
    let follow = read(folder)?;
    let scatter = Scatter::read(folder);
    page::render(&follow, scatter)
}

/// Reads all events of a run.
///
/// # Errors
/// The folder holds no events that can be read.
pub fn read(folder: &Path) -> io::Result<Follow> {
    let mut follow = Follow::new(folder);
    follow.catch_up();
    let missing = |what: String| Err(io::Error::new(io::ErrorKind::NotFound, what));
    match follow.tail.state() {
        State::Open if follow.view.records > 0 => Ok(follow),
        State::Open => missing(format!("{} holds no event", follow.folder.events().display())),
        State::Unreadable(what) => Err(io::Error::other(format!("{}: {what}", follow.folder.events().display()))),
        State::Waiting | State::Gone => missing(format!("{} is not there", follow.folder.events().display())),
    }
}
