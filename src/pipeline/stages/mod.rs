//! The stages, one file each. What a stage sees of the recipe and what it reads stands at the top
//! of its file; the order in which they run is [`super::chain`].

pub mod align;
pub mod collab;
pub mod data;
pub mod describe;
pub mod embed;
pub mod evaluate;
pub mod graph;
pub mod merge;
pub mod predict;
pub mod prompts;
pub mod reason;
pub mod retrieve;
pub mod tune;
