//! From raw rating files to samples: one loader a data set, then filters, labels, histories, splits and
//! leak checks that all data sets share.
//!
//! ```text
//! load / generate -> Dataset -> core filter -> build_samples -> Samples -> graph_edges, leaks::check, inspect
//! ```

pub mod core_filter;
pub mod dataset;
pub mod descriptions;
pub mod graph;
pub mod ids;
pub mod inspect;
pub mod leaks;
pub mod lines;
pub mod loaders;
pub mod samples;
pub mod settings;
pub mod store;
pub mod synthetic;

use std::path::Path;

pub use core_filter::Core;
pub use dataset::{Dataset, Exception, Field, Interaction, Item, Part, Rated, Sample, Samples, Split, User};
pub use descriptions::Descriptions;
pub use graph::{GraphEdges, graph_edges};
pub use ids::{ItemIdx, RawId, UserIdx};
pub use inspect::{Inspection, inspect};
pub use samples::build_samples;
pub use settings::{Fractions, Kind, Repeats, Settings};

use crate::error::Result;
use crate::monitor::Monitor;

/// Reads a data set from the folder `path`, or makes the built-in one (then `path` is not looked at).
///
/// The tables are sorted by id (numeric ids as numbers) and the interactions by (time, user, item, rating), so the
/// order of the lines in the files does not matter. Repeated (user, item) rows are kept and reported as a warning;
/// what happens to them is [`Repeats`].
///
/// # Errors
/// Names file and line of whatever cannot be read, and the next step.
pub fn load(kind: Kind, path: &Path, monitor: &dyn Monitor) -> Result<Dataset> {
    match loaders::find(kind) {
        Some(loader) => loader.load(path, monitor),
        None => Ok(synthetic::generate(&synthetic::Settings::default()).0),
    }
}

/// What a recipe's `data` part asks for: [`load`], then the core filter, after which the tables hold only the users
/// and items that are left. Every later stage uses this data set's indices.
pub fn open(settings: &Settings, monitor: &dyn Monitor) -> Result<Dataset> {
    settings.check()?;
    let dataset = match settings.kind {
        Kind::Synthetic => synthetic::generate(&settings.synthetic.checked()?).0,
        kind => load(kind, &settings.path, monitor)?,
    };
    settings.core.apply(dataset)
}
