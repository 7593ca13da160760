//! Kernels as a kernel engineer works on them: sources out of a folder instead of those in the
//! program, compiled at once (`sources`, `compile`); what their machine code says (`sass`), and
//! what that lets expect of a GPU (`model`).

pub mod compile;
pub mod ledger;
pub mod model;
pub mod sass;
pub mod sources;

pub use compile::{Built, Compiler};
pub use sources::{SOURCES, Sources, Unit};
