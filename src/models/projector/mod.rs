//! The alignment of text and collaborative embeddings: a two-layer perceptron f maps text rows into
//! the collaborative space, trained by InfoNCE in both directions with the same item as the
//! positive pair. f(text) is the SSL embedding. With attention in front, the slices of a text's
//! embedding look at one another first.

mod attention;
mod checkpoint;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod train;

pub use checkpoint::forget;
pub use settings::{Projection, ProjectorSettings};
pub use train::{Aligned, Embeddings, Epoch, Separation, train};
