//! Training of Llama-type decoders: packed ragged batches of shared-prefix groups, a forward that
//! keeps what is cheap to keep, and a hand-written backward, each once for every device. On the CPU
//! for adapters or for all weights, on a device with kernels for adapters.

mod backward;
pub mod batch;
mod engine;
mod forward;
mod layout;
#[cfg(test)]
mod oracle;
pub mod params;
mod placed;
mod sink;
#[cfg(test)]
mod soft_tests;
mod tape;
#[cfg(test)]
mod tests;

pub use batch::{Branch, Group, Packed};
pub use engine::{Engine, Model, Pass, StepDropout, Trained};
pub use params::Parameters;
