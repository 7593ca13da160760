//! Training of Llama-type decoders: packed ragged batches of shared-prefix groups, a forward that keeps what is cheap to
//! keep, and a hand-written backward. On the CPU for adapters or for all weights, by launches (`device/`) for adapters.

mod backward;
pub mod batch;
pub mod device;
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
pub use device::DeviceEngine;
pub use engine::{Backend, Engine, Model, Noise, Trained};
pub use params::Parameters;
