//! The pictures of the report, one file a subject. Each is `None` when the run said nothing about
//! it.

pub mod embeddings;
pub mod merge;
pub mod operators;
pub mod sampling;
pub mod system;
pub mod training;

/// A picture with its caption.
#[derive(Debug, serde::Serialize)]
pub struct Figure {
    /// SVG, with its legend.
    pub svg: String,
    /// What it shows.
    pub caption: String,
}

impl Figure {
    pub(crate) fn new(svg: String, caption: impl Into<String>) -> Self {
        Self { svg, caption: caption.into() }
    }
}
