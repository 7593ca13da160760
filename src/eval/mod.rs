//! Metrics of what was predicted.

pub mod ranking;
