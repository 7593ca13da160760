//! The run folder as others see it: the event stream `events.jsonl` and the files beside it.
//!
//! The engine writes [`Record`]s and never knows who reads them; a dashboard, a progress line and a
//! report read them and never call the engine. This crate is all that the two sides share:
//!
//! - [`Event`] and [`Record`]: what is said, one JSON object a line, append-only, versioned;
//! - [`tail`]: reads a file of events while it grows, whatever happens to it;
//! - [`view`]: folds records into what panes and reports show, in bounded memory;
//! - [`folder`]: what else a run folder holds, and how a run is asked to pause, stop or write a
//!   checkpoint;
//! - [`metric`]: the metrics, their titles and which way is better;
//! - [`follow`]: tail and view of one run folder in one.
//!
//! A reader skips a torn line and shows, never refuses, a record whose `v` is newer or whose `kind`
//! it does not know ([`Event::Unknown`]).

mod event;
pub mod folder;
pub mod follow;
pub mod metric;
mod parts;
mod record;
pub mod scatter;
mod stage;
pub mod tail;
pub mod view;

pub use event::{Event, Unit};
pub use folder::RunFolder;
pub use follow::Follow;
pub use metric::Metric;
pub use parts::{Difference, Gpu, HistoryItem, ItemName};
pub use record::{LONGEST, Record, VERSION};
pub use stage::{Checkpoints, StageId};
pub use view::RunView;

/// Milliseconds since 1970: the clock of records and of whoever reads them.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
