//! The program from outside: what it prints, what it leaves behind, and its exit codes.
#![cfg(unix)]

mod clean;
mod common;
mod data;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod database;
mod describe;
mod experts;
mod faults;
mod init;
mod kernels;
mod keys;
mod llm;
mod memory;
mod options;
mod queue;
mod ranges;
mod rankings;
mod run;
mod serve;
#[path = "../common/skip.rs"]
mod skip;
mod space;
mod splits;
mod standing;
mod stops;
mod sweep;
mod tuned_runs;
mod usage;
mod watch;
