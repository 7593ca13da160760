//! The pipeline: stages from raw files to the result table, their artifacts, events and progress.

pub mod artifact;
pub mod control;
pub mod key;
pub mod machine;
pub mod matrices;
pub mod progress;
pub mod recommend;
pub mod reporter;
pub mod results;
pub mod rows;
pub mod run;
pub mod stages;
pub mod trace;

pub use artifact::Artifact;
pub use key::{Key, KeyBuilder};
pub use reporter::Reporter;
pub use run::{Run, Span};
