//! `rallrec compare`: the results of several runs in one table, and whether two of them are the
//! same within a tolerance.

mod within;

use std::path::PathBuf;

use super::output;
use crate::error::{Error, Result};
use crate::pipeline::results::{Results, side_by_side};

/// Put the result tables of several runs side by side.
///
/// With --within, two runs of one recipe row by row: the same prompts, every probability within a
/// tolerance, the same sampled answers. Ends with 1 where they differ: how a run on another device
/// is held to the run on the CPU.
#[derive(clap::Args)]
#[command(after_help = "Example: rallrec compare runs/cpu runs/cuda --within 0.002")]
pub struct CompareArgs {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Compare two runs row by row, with this difference of probabilities allowed, 0 to 1.
    #[arg(long, value_name = "TOLERANCE")]
    within: Option<f64>,
    /// With --within: the share of rows that may differ all the same, 0 to 1: a near tie shows
    /// another history, a probability at the border of two wordings gives another hint.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "within")]
    except: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(args: CompareArgs) -> Result<()> {
    if let Some(tolerance) = args.within {
        return hold(&args, tolerance);
    }
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

/// `--within`.
fn hold(args: &CompareArgs, tolerance: f64) -> Result<()> {
    for (option, value) in [("--within", tolerance), ("--except", args.except)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::usage(option, format!("{value} is not from 0 to 1")).next("use e.g. 0.002"));
        }
    }
    let [first, second] = args.runs.as_slice() else {
        return Err(Error::usage("--within", format!("{} runs", args.runs.len())).next("name two run folders"));
    };
    let found = within::compare(&within::Rows::read(first)?, &within::Rows::read(second)?, tolerance);
    if args.json {
        output::json(&found)?
    } else {
        output::text(&found.text())?
    }
    match found.too_many(args.except) {
        None => Ok(()),
        Some(what) => Err(Error::failed("compare", format!("{} and {}: {what}", first.display(), second.display()))
            .next("--json lists what differs most; runs of one recipe and seed are compared")),
    }
}
