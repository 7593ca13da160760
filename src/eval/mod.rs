//! How good a set of predictions is: metrics with 95 % intervals, tests between two sets on the
//! same rows, and a table of them.

pub mod auc;
pub mod bootstrap;
pub mod calibration;
pub mod check;
pub mod clusters;
pub mod loss;
pub mod metrics;
pub mod paired;
pub mod published;
mod render;
pub mod rows;
pub mod score;
pub mod seeds;
pub mod slices;
pub mod table;
pub mod thoughts;
mod uauc;

pub use auc::{auc, delong, delong_test};
pub use calibration::{Bin, ece, reliability};
pub use clusters::Clusters;
pub use loss::{accuracy, brier, log_loss, wilson};
pub use metrics::{Estimate, EvalRows, EvalSettings, Metrics, measure};
pub use paired::Compared;
pub use published::{Figures, Published};
pub use render::p_value;
pub use score::{Reading, Score};
pub use slices::Slice;
pub use table::{Row, Table};
pub use thoughts::{ThoughtTables, Thoughts};

pub mod ranking;
