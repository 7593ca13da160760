//! `rallrec`: RALLRec (arXiv 2502.06101) and RALLRec+ (arXiv 2503.20430) from raw rating files to merged
//! predictions.

pub mod data;
pub mod error;
pub mod generate;
pub mod matrix;
pub mod models;
pub mod monitor;
pub mod ops;
pub mod rng;
pub mod text;

pub use error::{Error, Kind, Result};
pub use matrix::Matrix;
pub use monitor::{Monitor, Silent};
pub use rallrec_events as events;
