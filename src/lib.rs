//! `rallrec`: RALLRec (arXiv 2502.06101) and RALLRec+ (arXiv 2503.20430) from raw rating files to
//! merged predictions.

pub mod bench;
pub mod check;
pub mod cli;
pub mod collab;
pub mod config;
pub mod content;
pub mod data;
pub mod database;
pub mod device;
pub mod download;
pub mod durable;
pub mod error;
pub mod eval;
pub mod export;
pub mod generate;
pub mod init;
pub mod kernels;
pub mod lm;
pub mod memory;
pub mod merge;
pub mod models;
pub mod monitor;
pub mod ops;
pub mod pipeline;
pub mod retrieval;
pub mod rng;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod server;
pub mod settings;
pub mod store;
pub mod tensor;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod text;
pub mod tiny_model;
pub mod tune;

pub use error::{Error, Kind, Result};
pub use monitor::{Monitor, Silent};
pub use rallrec_events as events;
pub use tensor::Matrix;
