//! The pipeline: stages from raw files to the result table, their artifacts, events and progress.
//!
//! A stage declares what it sees and reads ([`stage`]); [`run`] derives its key from that and finds
//! or makes its artifact; [`stages`] has them in order.

pub mod artifact;
pub mod chosen;
pub mod control;
pub mod cost;
mod earlier;
mod examples;
pub mod finished;
pub mod key;
#[cfg(test)]
mod keys_test;
mod lock;
pub mod machine;
pub mod matrices;
pub mod newer;
pub mod progress;
pub mod reporter;
pub mod results;
pub mod rows;
pub mod run;
mod scatter;
pub mod scores;
pub mod soft;
pub mod stage;
pub mod stages;
mod summary;
pub mod sweep;
mod told;
pub mod trace;
pub mod unused;
mod whole;

pub use artifact::Artifact;
pub use key::Key;
pub use reporter::Reporter;
pub use run::{Run, Span};
pub use stage::{Made, Stage, Work};
pub use stages::Chain;
pub use whole::{run_all, set_threads};
