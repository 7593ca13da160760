//! `rallrec explain`: what a key of a recipe means.

use super::output;
use crate::config::explain;
use crate::error::Result;

/// Say what a key of a recipe means: its type, range and default, and which stages depend on it.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  rallrec explain retrieve.k\n  rallrec explain tune.lora")]
pub struct ExplainArgs {
    /// The key with its sections, e.g. retrieve.k; a section lists its keys.
    #[arg(value_name = "KEY")]
    key: String,
}

pub fn main(args: ExplainArgs) -> Result<()> {
    output::text(&explain::explain(&args.key)?)
}
