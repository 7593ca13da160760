//! The scatter of the item embeddings: a file of the run folder, named by
//! [`crate::Event::Scatter`].
//!
//! Two pictures tell what alignment did: `text` and `collaborative` each on its own two main axes
//! (before), and `collaborative` with `aligned` on the axes of `collaborative` (after).

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// File name in the run folder.
pub const FILE: &str = "scatter.json";

/// Points of every space, in the same order of items.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scatter {
    /// Layout version.
    pub version: u32,
    /// What it was made of; another key is another picture.
    #[serde(default)]
    pub key: String,
    /// One entry an item.
    pub items: Vec<Dot>,
    /// The spaces, e.g. `text`, `collaborative`, `aligned`.
    pub spaces: Vec<Space>,
}

/// An item of the scatter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Dot {
    /// Title.
    pub title: String,
    /// First genre, empty when there is none.
    pub genre: String,
}

/// One space in two dimensions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Space {
    /// `text`, `collaborative` or `aligned`.
    pub name: String,
    /// How the points were made, e.g. `PCA` or `PCA, axes of collaborative`.
    pub method: String,
    /// Share of the variance on each axis, where known.
    pub explained: Option<[f64; 2]>,
    /// One point an item; `None` for an item without an embedding in this space.
    pub points: Vec<Option<[f32; 2]>>,
}

impl Scatter {
    /// Reads `scatter.json` of a run folder; `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged: no JSON, or another count of points than of items.
    pub fn read(run: &Path) -> io::Result<Option<Self>> {
        let bytes = match crate::folder::read_plain(&run.join(FILE)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let found: Self = serde_json::from_slice(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if let Some(space) = found.spaces.iter().find(|s| s.points.len() != found.items.len()) {
            let what =
                format!("space {} has {} points for {} items", space.name, space.points.len(), found.items.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(found))
    }

    /// A space by name.
    pub fn space(&self, name: &str) -> Option<&Space> {
        self.spaces.iter().find(|s| s.name == name)
    }
}
