//! `rallrec data inspect`.

use std::path::PathBuf;

use super::output;
use crate::data::{self, Kind, Settings};
use crate::error::Result;
use crate::monitor::Silent;

/// Look into a data set.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read the raw files and print counts, ratings, histories, splits and repeats.
    ///
    /// Counts are given for the default (correct) settings and for the authors' published code, with the difference
    /// explained.
    Inspect {
        /// Kind of data: ml-1m, ml-100k, synthetic.
        kind: Kind,
        /// Folder with the raw files, plain or .gz (not needed for synthetic).
        path: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn main(args: Args) -> Result<()> {
    let Command::Inspect { kind, path, json } = args.command;
    let settings = Settings::new(kind, path.unwrap_or_default());
    let dataset = data::open(&settings, &Silent)?;
    let samples = data::build_samples(&dataset, &settings)?;
    let found = data::inspect(&dataset, &samples, &settings)?;
    if json { output::json(&found) } else { output::fields(&found) }
}
