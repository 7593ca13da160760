//! From raw rating files to samples: one loader a data set, then filters, labels, histories, splits and
//! leak checks that all data sets share.

pub mod dataset;
pub mod ids;

pub use dataset::{Dataset, Field, Interaction, Item, Rated, Sample, Samples, Split, User};
pub use ids::{ItemIdx, RawId, UserIdx};
