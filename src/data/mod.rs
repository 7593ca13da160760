//! From raw rating files to samples: one file a data set, then filters, labels, histories, splits
//! and leak checks that all data sets share.
//!
//! ```text
//!    load / generate -> Dataset -> core filter -> build_samples -> Samples -> graph_edges, leaks::check, inspect
//! ```

pub mod core_filter;
pub mod dataset;
pub mod delimited;
pub mod descriptions;
pub mod graph;
pub mod ids;
pub mod inspect;
pub mod json;
pub mod leaks;
pub mod lines;
pub mod method;
pub mod nouns;
mod oddities;
pub mod pull;
mod python;
pub mod samples;
pub mod set;
pub mod sets;
pub mod settings;
pub mod source;
pub mod split;
pub mod store;
pub mod synthetic;
pub mod table;
pub mod time;

use std::path::Path;

pub use core_filter::{Core, Known, Step};
pub use dataset::{Dataset, Dealt, Exception, Field, Interaction, Item, Part, Rated, Sample, Samples, Split, User};
pub use descriptions::Descriptions;
pub use graph::{GraphEdges, graph_edges};
pub use ids::{ItemIdx, RawId, UserIdx};
pub use inspect::{Inspection, inspect};
pub use method::Switch;
pub use samples::{build_samples, two_classes};
pub use set::{DataSet, Kind};
pub use settings::{Damaged, DataSettings, Implicit, Repeats, Shuffle, Targets};
pub use split::{By, SplitSettings};

use crate::content::Content;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::settings::Checked;

/// Reads a data set from the folder `path`, or makes the built-in one (then `path` is not looked
/// at), all settings at their defaults.
///
/// The tables are sorted by id (numeric ids as numbers) and the interactions by (time, user, item,
/// rating), so the order of the lines in the files does not matter. Repeated (user, item) rows are
/// kept and reported as a warning; what happens to them is [`Repeats`].
///
/// # Errors
/// Names file and line of whatever cannot be read, and the next step.
pub fn load(kind: Kind, path: &Path, monitor: &dyn Monitor) -> Result<Dataset> {
    read(&DataSettings::new(kind, path), monitor)
}

/// As [`load`], with the settings of a recipe; nothing is filtered yet.
pub fn read(settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    let set = settings.kind.set();
    (set.load)(set, settings, monitor)
}

/// What a recipe's `data` part asks for: [`read`], then the filters, after which the tables hold
/// only the users and items that are left. Every later stage uses this data set's indices.
pub fn open(settings: &DataSettings, monitor: &dyn Monitor) -> Result<Dataset> {
    open_traced(settings, monitor).map(|(dataset, _)| dataset)
}

/// What is known of the raw data: the bytes of the files that are read, or the rows of queries.
/// What else lies beside them, and when a file was touched, is no part of it.
///
/// # Errors
/// What cannot be read, or what a database says.
pub fn content(settings: &DataSettings, monitor: &dyn Monitor) -> Result<Content> {
    if settings.kind == Kind::TABLE {
        return Ok(table::Sources::find(settings, monitor)?.content());
    }
    settings.kind.set().content(settings)
}

/// As [`open`], with what each filter left.
pub fn open_traced(settings: &DataSettings, monitor: &dyn Monitor) -> Result<(Dataset, Vec<Step>)> {
    settings.check()?;
    let dataset = read(settings, monitor)?;
    oddities::tell(&dataset, settings, monitor);
    filter(dataset, settings)
}

/// The filters of `settings`, and what each of them left.
///
/// # Errors
/// Nothing is left.
pub fn filter(mut dataset: Dataset, settings: &DataSettings) -> Result<(Dataset, Vec<Step>)> {
    if settings.implicit == Implicit::Dislike || !dataset.set().is_some_and(|set| set.zero_is_unrated) {
        return settings.core.traced(dataset);
    }
    let all = Step::new("all", &dataset.interactions);
    dataset.interactions.retain(|r| r.rating != 0.0);
    let (dataset, mut steps) = settings.core.traced(dataset)?;
    steps[0].filter = "data.implicit = drop".into();
    steps.insert(0, all);
    Ok((dataset, steps))
}
