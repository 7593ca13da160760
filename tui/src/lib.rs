//! The terminal dashboard of rallrec. It knows the event stream and the run folder and nothing of
//! the engine: what it shows comes from [`rallrec_events::RunView`], what it controls goes through
//! the run folder's control file, and what it starts is the engine's own program as a process of
//! its own.
//!
//! [`update::update`] is pure: state and message in, state and effects out. [`draw::draw`] is pure:
//! state in, screen out. Threads, files, processes and the terminal are at the edge only ([`app`],
//! [`edge`], [`terminal`]).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod app;
pub mod backend;
pub mod control;
pub mod draw;
pub mod edge;
pub mod format;
pub mod input;
pub mod keys;
pub mod layout;
pub mod left;
pub mod message;
pub mod notify;
pub mod overlays;
pub mod panes;
pub mod prefs;
pub mod signals;
pub mod snapshot;
pub mod state;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod widgets;

pub use app::{Options, Outcome, run};
pub use panes::PaneId;
pub use theme::Palette;
