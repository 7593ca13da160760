//! What a run has told its watchers of artifacts that are there. A run that is started again and
//! again does not tell it each time: the examples of retrieval are some hundreds of kilobytes of
//! events.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::durable;
use crate::error::{Error, Result};

/// In the run folder.
const FILE: &str = "told.json";

/// What was told last.
#[derive(PartialEq, Serialize, Deserialize)]
struct Told {
    /// Of what.
    content: Content,
    /// Length of the event file afterwards, bytes: a shorter one is another file.
    events: u64,
}

/// Calls `tell`, unless the event file has it already.
///
/// # Errors
/// Those of `tell`; a folder that cannot be written.
pub fn once(run: &Path, content: &Content, tell: impl FnOnce() -> Result<()>) -> Result<()> {
    let length = || fs::metadata(run.join("events.jsonl")).map_or(0, |m| m.len());
    let path = run.join(FILE);
    let known = durable::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Told>(&bytes).ok());
    if known.is_some_and(|told| told.content == *content && (1..=length()).contains(&told.events)) {
        return Ok(());
    }
    tell()?;
    let told = Told { content: content.clone(), events: length() };
    let json = serde_json::to_vec(&told).map_err(|e| Error::failed(FILE, e))?;
    durable::write(&path, &json)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Each start of a run added some 300 kB to its events.
    #[test]
    fn what_the_events_have_is_not_told_again() {
        let run = tempfile::tempdir().unwrap();
        let events = run.path().join("events.jsonl");
        let calls = Cell::new(0);
        let go = |content: u32| {
            let tell = || {
                calls.set(calls.get() + 1);
                fs::write(&events, "x".repeat(100)).map_err(|e| Error::failed("test", e))
            };
            once(run.path(), &Content::of(&content).unwrap(), tell).unwrap();
            calls.get()
        };
        assert_eq!((go(1), go(1), go(2), go(2)), (1, 1, 2, 2));
        fs::write(&events, "x").unwrap();
        assert_eq!(go(2), 3, "somebody has emptied the events");
    }
}
