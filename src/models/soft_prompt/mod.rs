//! Soft prompt tokens: an item's (or a user's) embedding, mapped by a small trained projector into
//! the language model's input space, stands as one token behind the item's title. An option beyond
//! the papers, in the manner of CoLLM (Zhang et al., 2023): what the interactions say about an item
//! reaches the model without words.
//!
//! `v = g (W2 act(W1 x + b1) + b2)`, with x the embedding, each column brought to mean 0 and
//! variance 1 over the items, and g a constant that gives the fresh projector's vectors the mean
//! norm of the model's own token embeddings.
//!
//! W1, b1, W2, b2 are trained together with the adapter, from the gradient by the input embeddings.

mod file;
mod inputs;
mod projector;
mod settings;
#[cfg(test)]
mod tests;

pub use inputs::{Inputs, standardised};
pub use projector::{Projector, mean_norm};
pub use settings::{Items, SoftSettings, Source, User};
