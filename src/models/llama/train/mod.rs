//! Training of Llama-type decoders on the CPU: packed ragged batches of shared-prefix groups, a forward that keeps
//! what is cheap to keep, and a hand-written backward for adapters or for all weights.

mod backward;
pub mod batch;
mod engine;
mod forward;
#[cfg(test)]
mod oracle;
pub mod params;
#[cfg(test)]
mod soft_tests;
#[cfg(test)]
mod tests;

pub use batch::{Branch, Group, Packed};
pub use engine::{Engine, Model, Noise, Trained};
pub use params::Parameters;
