//! `rallrec data inspect | pull`.

use std::path::PathBuf;

use super::progress::Bar;
use super::{inspected, output};
use crate::config;
use crate::data::{self, DataSettings, Kind, pull};
use crate::error::{Error, Result};

/// Look into a data set, or get one.
#[derive(clap::Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read the raw files and print counts, filters, ratings, histories, splits and repeats.
    ///
    /// Counts are given for the correct settings and for the authors' published code, with the
    /// difference explained switch by switch. With a kind and a folder, the authors' filters for
    /// that data set are used; with --recipe those of the recipe.
    Inspect {
        #[arg(help = kinds(), value_name = "KIND or RECIPE", required_unless_present = "recipe", conflicts_with = "recipe")]
        kind: Option<String>,
        /// Folder or zip file with the raw files, plain or .gz (not needed for synthetic).
        #[arg(conflicts_with = "recipe")]
        path: Option<PathBuf>,
        /// Take the `data` part of this recipe.
        #[arg(long, value_name = "FILE")]
        recipe: Option<PathBuf>,
        /// Change a key, e.g. --set data.min_history=3.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download a data set from its publisher, check it, and say where it is.
    ///
    /// The publisher's terms are shown first; nothing is downloaded until --accept-licence says
    /// that you accept them. A download that was cut short goes on where it stopped.
    Pull {
        #[arg(help = pull::names())]
        name: String,
        /// Folder to put it in; default data/NAME.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// A mirror with the publisher's layout of files.
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        /// I accept the publisher's terms.
        #[arg(long, alias = "accept-license")]
        accept_licence: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The settings with some keys changed, checked as those of a recipe are.
fn changed(settings: DataSettings, set: &[String]) -> Result<DataSettings> {
    if set.is_empty() {
        return Ok(settings);
    }
    let recipe = config::Recipe { data: settings, ..config::Recipe::default() };
    Ok(config::parse(&config::annotated(&recipe)?, "--set", set)?.data)
}

/// What stands for a kind of data, for the help.
fn kinds() -> String {
    format!("Kind of data: {}; or a recipe (table needs one)", Kind::names())
}

pub fn main(args: DataArgs) -> Result<()> {
    match args.command {
        Command::Inspect { kind, path, recipe, set, json } => {
            let is_recipe =
                |name: &str| path.is_none() && (name.ends_with(".toml") || std::path::Path::new(name).is_file());
            let (kind, recipe) = match kind {
                Some(name) if is_recipe(&name) => (None, Some(PathBuf::from(name))),
                Some(name) => (Some(name.parse::<Kind>()?), recipe),
                None => (None, recipe),
            };
            let settings = match (kind, recipe) {
                (_, Some(recipe)) => output::recipe(&crate::config::Source::open(&recipe)?, &set)?.recipe.data,
                (Some(kind), None) if kind == Kind::TABLE => {
                    return Err(Error::usage("data inspect table", "a recipe must say which column is what")
                        .next("use `rallrec data inspect RECIPE`; `rallrec init FILE` writes one"));
                }
                (Some(kind), None) => changed(DataSettings::method(kind, path.unwrap_or_default()), &set)?,
                (None, None) => return Err(Error::usage("data inspect", "needs a kind or a recipe")),
            };
            let bar = Bar::new("data");
            let (dataset, filters) = data::open_traced(&settings, &bar)?;
            let samples = data::build_samples(&dataset, &settings);
            bar.finish();
            let (found, problem) = match samples {
                Ok(samples) => (data::inspect(&dataset, &samples, &settings)?, None),
                // What is in the files is of use all the more where no samples can be made of it.
                Err(e) => (data::inspect::inspect_tables(&dataset, &settings), Some(e)),
            };
            let found = found.with_filters(filters);
            if json {
                output::json(&found)?
            } else {
                output::text(&inspected::render(&found))?
            }
            problem.map_or(Ok(()), Err)
        }
        Command::Pull { name, to, from, accept_licence, json } => {
            let wanted = pull::find(&name)?;
            let wanted = match from {
                Some(base) => wanted.from(&base),
                None => wanted,
            };
            if !accept_licence {
                output::text(&wanted.terms())?;
                return Err(Error::usage("data pull", "the terms above are not accepted yet")
                    .next(format!("read them, then run `rallrec data pull {name} --accept-licence`")));
            }
            let to = to.unwrap_or_else(|| PathBuf::from("data").join(wanted.folder()));
            let bar = Bar::new("pull");
            let pulled = pull::pull(&wanted, &to, &bar)?;
            bar.finish();
            if json { output::json(&pulled) } else { output::fields(&pulled) }
        }
    }
}
