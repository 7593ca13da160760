//! Which items of a user's own history a prompt shows, and in which order; and whole-catalogue
//! recommendations with how good their order is.

pub mod catalogue;
pub mod history;
pub mod mixture;
pub mod pca;
pub mod rankers;
pub mod rerank;
mod settings;
mod words;

pub use history::{Parts, Retrieved, Retriever, distinct};
pub use mixture::{Embedding, Mixture, Scale, Sources};
pub use rerank::{RerankRule, Template, needed, order};
pub use settings::{RetrievalSettings, SimilarUser};
pub use words::Words;
