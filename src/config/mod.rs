//! The typed recipe. Every setting that the papers leave open is a key with a documented default;
//! unknown keys are refused; `correct` behaviour is the default and each reproducible defect of the
//! authors' code has a switch.

mod check;
mod differing;
pub mod explain;
pub mod load;
mod places;
pub mod presets;
pub mod print;
mod renamed;
mod sections;
pub mod streams;
#[cfg(test)]
mod tests;
mod tree;

pub use differing::differing;
pub use load::{Read, Source, load, parse, read_text};
pub use print::annotated;
pub use sections::{
    Describe, DescribeSource, Embed, Graph, ModelSettings, MoreHistory, Pooling, Predict, Reason, Recipe, RowChoice,
    Rows, Tune, TunedBy,
};
