//! The alignment of text and collaborative embeddings: a two-layer perceptron f maps text rows into the collaborative
//! space, trained by InfoNCE in both directions with the same item as the positive pair. f(text) is the SSL embedding.

mod settings;
mod train;

pub use settings::Settings;
pub use train::{Aligned, Epoch, Separation, train};
