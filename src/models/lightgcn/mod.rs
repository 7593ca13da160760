//! LightGCN (He et al. 2020): embeddings of users and items from the graph of who rated what.
//!
//! Every training interaction is an edge, whatever its rating. Output rows are the mean of layers 0
//! to L, a score is an inner product of two of them.

mod checkpoint;
mod graph;
mod sample;
mod settings;
mod step;
#[cfg(test)]
mod tests;
mod train;

pub use graph::Graph;
pub use sample::Sampler;
pub use settings::{Draw, LightGcnSettings};
pub use step::{Negatives, Trainer};
pub use train::{Embeddings, Epoch, train};
