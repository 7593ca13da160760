//! `rallrec run`: a recipe from raw files to the result table.

use std::path::PathBuf;

use super::{output, watch};
use crate::config;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::pipeline::progress::Verbosity;
use crate::pipeline::run::{Run, Span};
use crate::pipeline::stages;

/// Run a recipe: raw rating files and a language model in, merged predictions and a result table out.
///
/// Everything is written into one run folder (default runs/NAME). A second run of the same recipe reuses every finished
/// stage; a changed key does again exactly what depends on it; a stopped run goes on where it was. Ctrl-C stops at a
/// clean point.
#[derive(clap::Args)]
#[command(
    after_help = "Stages: data, describe, embed, graph, align, retrieve, prompts, tune, predict, reason, merge, evaluate.\n\
    Example: rallrec run configs/ml-1m-quick.toml --set data.path=/data/ml-1m --set rows.test=2000"
)]
pub struct Args {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// Change one key: section.key=value. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Do this stage and all later ones again.
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// End after this stage.
    #[arg(long, value_name = "STAGE")]
    until: Option<String>,
    /// Run folder (default: runs/NAME).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where operators run (overrides the recipe).
    #[arg(long, value_enum)]
    device: Option<Choice>,
    /// Print the resolved recipe, every key with its meaning, and end.
    #[arg(long)]
    print_recipe: bool,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// Time every operator and write it into the events, for the dashboard and `rallrec report`.
    #[arg(long)]
    profile: bool,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub screen: watch::Screen,
}

pub fn main(args: Args) -> Result<()> {
    let mut recipe = config::load(&args.recipe, &args.set)?;
    if let Some(device) = args.device {
        recipe.device = device;
    }
    if args.print_recipe {
        return output::text(&config::annotated(&recipe)?);
    }
    let again = again(&args);
    let span = Span { from: args.from, until: args.until };
    let folder = args.out.unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    if args.screen.tui {
        return watch::with_run(&folder, &args.screen);
    }
    watch::wait_for_turn(&folder, &args.screen)?;
    let show = Show { quiet: args.quiet, json: args.json, profile: args.profile };
    execute(&recipe, &folder, span, show, &again)
}

/// The command that goes on where this one was stopped: the same, but for `--from`, which would begin again.
fn again(args: &Args) -> String {
    let quoted = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
        if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let mut out = format!("rallrec run {}", quoted(args.recipe.display().to_string()));
    let mut add = |flag: &str, value: String| out.push_str(&format!(" {flag} {}", quoted(value)));
    for change in &args.set {
        add("--set", change.clone());
    }
    if let Some(folder) = &args.out {
        add("--out", folder.display().to_string());
    }
    if let Some(stage) = &args.until {
        add("--until", stage.clone());
    }
    out
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Show {
    /// No progress.
    pub quiet: bool,
    /// Results as JSON.
    pub json: bool,
    /// Operators are timed.
    pub profile: bool,
}

/// Runs `recipe` in `folder` and prints what came of it; shared with `demo`.
pub fn execute(recipe: &config::Recipe, folder: &std::path::Path, span: Span, show: Show, again: &str) -> Result<()> {
    let Show { quiet, json, profile } = show;
    watch::hint(folder, quiet);
    let verbosity = if quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let run = Run::open(folder, span, verbosity)?;
    if profile {
        run.reporter().profile(Some(crate::bench::ceilings()));
    }
    match stages::run_all(&run, recipe) {
        Ok(Some(results)) => {
            if json {
                output::json(&results)?;
            } else {
                output::text(&results.render())?;
            }
            if !quiet {
                eprintln!(
                    "\nwritten to {}: results.json, results.md, events.jsonl, recipe.toml, artifacts/",
                    folder.display()
                );
            }
            Ok(())
        }
        Ok(None) => {
            if !quiet {
                eprintln!("ended after the stage asked for; artifacts are in {}", folder.join("artifacts").display());
            }
            Ok(())
        }
        Err(error) if error.kind() == crate::error::Kind::Stopped => {
            Err(Error::stopped(error.place()).next(format!("nothing is lost; go on with: {again}")))
        }
        Err(error) => Err(error),
    }
}
