//! `rallrec demo`: the whole chain on what is built in.

use std::path::PathBuf;

use super::{output, run, watch};
use crate::config;
use crate::error::Result;
use crate::pipeline::run::Span;

/// The demo's recipe, as it stands in configs/demo.toml.
const RECIPE: &str = include_str!("../../configs/demo.toml");

/// Run the whole chain on the built-in data and the built-in tiny model: no files, no network, about a minute.
///
/// The data are synthetic: invented users, films and tastes. The model is a toy made by `rallrec tiny-model`. What the
/// demo shows is every stage of the method at work, not what a real language model achieves.
#[derive(clap::Args)]
pub struct Args {
    /// Run folder.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Change one key of the recipe: section.key=value. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the demo's recipe, every key with its meaning, and end.
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
    let recipe = config::parse(RECIPE, "configs/demo.toml", &args.set)?;
    if args.print_recipe {
        return output::text(&config::annotated(&recipe)?);
    }
    if args.screen.tui {
        return watch::with_run(&args.out, &args.screen);
    }
    watch::wait_for_turn(&args.out, &args.screen)?;
    let show = run::Show { quiet: args.quiet, json: args.json, profile: args.profile };
    run::execute(&recipe, &args.out, Span::default(), show, "rallrec demo")
}
