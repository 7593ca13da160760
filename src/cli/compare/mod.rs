//! `rallrec compare`: several runs side by side, what they differ by, and whether two of them are
//! the same within a tolerance.

mod differences;
mod within;

use std::path::{Path, PathBuf};

use rallrec_events::RunFolder;
use rallrec_events::folder::read_plain;
use serde::Serialize;

use self::differences::Against;
use super::output;
use crate::error::{Error, Result};
use crate::pipeline::results::{Results, VERSION, side_by_side};

/// Put several runs side by side, finished or not.
///
/// Shows the settings that differ, figures, seconds of the stages, the tables of results, and what
/// each finished run differs by from the first one: paired on the test rows that both have,
/// clustered by user, with p values adjusted by Holm.
///
/// With --within, two runs of one recipe row by row: the same prompts, every probability within a
/// tolerance, the same sampled answers. Ends with 1 where they differ: how a run on another device
/// is held to the run on the CPU.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  rallrec compare runs/plain runs/soft\n  rallrec compare runs/cpu runs/cuda --within 0.002"
)]
pub struct CompareArgs {
    /// Run folders; the others are compared with the first.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Compare two runs row by row, with this difference of probabilities allowed, 0 to 1.
    #[arg(long, value_name = "TOLERANCE")]
    within: Option<f64>,
    /// With --within: the share of rows that may differ all the same, 0 to 1: a near tie shows
    /// another history, a probability at the border of two wordings gives another hint.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "within")]
    except: f64,
    /// Only what finished runs came to: tables, and differences of rows.
    #[arg(long, conflicts_with = "within")]
    results: bool,
    /// Print JSON: results, and differences of rows.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Compared<'a> {
    /// Run folder and results; null for a run that has none yet.
    runs: Vec<(String, Option<&'a Results>)>,
    /// Every later finished run against the first one.
    differences: Vec<Against>,
}

pub fn main(args: CompareArgs) -> Result<()> {
    if let Some(tolerance) = args.within {
        return hold(&args, tolerance);
    }
    let all: Vec<(String, Option<Results>)> =
        args.runs.iter().map(|folder| Ok((folder.display().to_string(), read(folder)?))).collect::<Result<_>>()?;
    let finished: Vec<(String, &Results)> =
        all.iter().filter_map(|(name, results)| Some((name.clone(), results.as_ref()?))).collect();
    if args.json {
        let runs = all.iter().map(|(name, results)| (name.clone(), results.as_ref())).collect();
        return output::json(&Compared { runs, differences: differences::of(&finished) });
    }
    let mut shown = Vec::new();
    if !finished.is_empty() {
        shown.push(side_by_side(&finished));
        shown.extend(differences::of(&finished).iter().map(Against::text));
    }
    if !args.results {
        let lines = rallrec_tui::edge::compare::lines(&args.runs, rallrec_events::now_ms());
        shown.insert(0, lines.join("\n"));
    }
    output::text(&shown.join("\n\n"))
}

/// The results of a run; `None` where it has none yet.
///
/// # Errors
/// What is no run folder; damaged results.
fn read(folder: &Path) -> Result<Option<Results>> {
    let path = folder.join("results.json");
    if !path.exists() && RunFolder::new(folder).exists() {
        return Ok(None);
    }
    let text = read_plain(&path)
        .map_err(|e| Error::io(&path, "read the results", &e).next("give the folder of a run, e.g. runs/demo"))?;
    let bad = |what: &dyn std::fmt::Display| {
        Error::input(path.display(), what).next("run the recipe again: finished stages are reused")
    };
    let results: Results = serde_json::from_slice(&text).map_err(|e| bad(&e))?;
    if results.version != VERSION {
        return Err(bad(&format!("has layout {}, and this program reads layout {VERSION}", results.version)));
    }
    Ok(Some(results))
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
