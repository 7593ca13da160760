//! `rallrec compare`: the results of several runs in one table.

use std::path::PathBuf;

use super::output;
use crate::error::{Error, Result};
use crate::pipeline::results::{Results, side_by_side};

/// Put the result tables of several runs side by side.
#[derive(clap::Args)]
pub struct Args {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(args: Args) -> Result<()> {
    let mut all = Vec::new();
    for folder in &args.runs {
        let path = folder.join("results.json");
        let text = std::fs::read(&path).map_err(|e| {
            Error::io(&path, "read the results", &e).next("give the folder of a finished run, e.g. runs/demo")
        })?;
        let results: Results = serde_json::from_slice(&text)
            .map_err(|e| Error::input(path.display(), e).next("run the recipe again: finished stages are reused"))?;
        all.push((folder.display().to_string(), results));
    }
    if args.json { output::json(&all) } else { output::text(&side_by_side(&all)) }
}
