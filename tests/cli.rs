//! The program from outside: what it prints, what it leaves behind, and its exit codes.
#![cfg(unix)]

#[path = "cli/common.rs"]
mod common;
#[path = "cli/data.rs"]
mod data;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/llm.rs"]
mod llm;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/space.rs"]
mod space;
#[path = "cli/stops.rs"]
mod stops;
#[path = "cli/usage.rs"]
mod usage;
