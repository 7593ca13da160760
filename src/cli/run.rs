//! `rallrec run`: a recipe from raw files to the result table.

use std::path::PathBuf;

use super::{output, watch};
use crate::config;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::eval::seeds::OverSeeds;
use crate::events::StageId;
use crate::monitor::Monitor;
use crate::pipeline::progress::Verbosity;
use crate::pipeline::results::Results;
use crate::pipeline::run::{Run, Span};
use crate::pipeline::scores;
use crate::pipeline::trace::TraceFile;
use crate::terminal::say;

/// Run a recipe: raw rating files and a language model in, merged predictions and a result table
/// out.
///
/// Everything is written into one run folder (default runs/NAME). A second run of the same recipe
/// reuses every finished stage; a changed key does again exactly what depends on it; a stopped run
/// goes on where it was. Ctrl-C stops at a clean point.
#[derive(clap::Args)]
#[command(
    after_help = format!("Stages: {}.\n\
    Example: rallrec run configs/ml-1m-quick.toml --set data.path=/data/ml-1m --set rows.test=2000", StageId::names())
)]
pub struct RunArgs {
    /// The recipe (TOML).
    recipe: PathBuf,
    #[command(flatten)]
    pub options: Options,
}

/// What `run` and `demo` both take.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Change one key of the recipe: section.key=value. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
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
    /// Write every call of an operator and every kernel launch into this file, for Perfetto or
    /// chrome://tracing; times operators as --profile does.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    pub screen: watch::Screen,
}

/// Refuses a recipe that says nothing. Every key has a default, so a run of it would be one of the
/// built-in set, which nobody asked for.
fn refuse_empty(source: &config::Source, path: &std::path::Path) -> Result<()> {
    if !source.is_empty() {
        return Ok(());
    }
    Err(Error::usage(path.display(), "is empty: it says neither which data nor which model")
        .next("`rallrec init FILE` writes a recipe for your data; `rallrec demo` runs the built-in set"))
}

pub fn main(args: RunArgs) -> Result<()> {
    let source = config::Source::open(&args.recipe)?;
    let read = output::recipe(&source, &args.options.set)?;
    if args.options.set.is_empty() && !args.options.print_recipe {
        refuse_empty(&source, &args.recipe)?;
    }
    if !read.recipe.seeds.is_empty() && !args.options.print_recipe {
        return several(&source, &read.recipe, &args);
    }
    execute(read, args.options, &["run", &args.recipe.display().to_string()])
}

/// The recipe once with each of its seeds, and what they say together.
fn several(source: &config::Source, recipe: &config::Recipe, args: &RunArgs) -> Result<()> {
    let options = &args.options;
    if options.screen.tui {
        return Err(Error::usage("--tui", "several seeds are several runs, and the dashboard begins one")
            .next("run them, and look with `rallrec watch FOLDER/seed-N` or `rallrec`"));
    }
    let folder = options.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let mut found = Vec::new();
    for &seed in &recipe.seeds {
        // What is drawn of the data stays: models differ by their own draws, on the same rows.
        let own = [
            "seeds=[]".to_owned(),
            format!("seed={seed}"),
            format!("data.seed={}", recipe.data.seed),
            format!("rows.seed={}", recipe.rows.seed),
            format!("evaluate.seed={}", recipe.evaluate.seed),
        ];
        let sets: Vec<String> = options.set.iter().cloned().chain(own).collect();
        let read = output::recipe(source, &sets)?;
        let out = folder.join(format!("seed-{seed}"));
        let again = again(&["run", &args.recipe.display().to_string()], options);
        let options = Options { out: Some(out.clone()), set: sets, ..options.clone() };
        if !options.quiet {
            say!("seed {seed}: {}", out.display());
        }
        if let Some((results, _)) = go(read, options, again)? {
            let rows = if results.tables.is_empty() { Vec::new() } else { scores::read(&out)? };
            found.push((seed, rows));
        }
    }
    if found.len() < recipe.seeds.len() || found.iter().any(|(_, rows)| rows.is_empty()) {
        if !options.quiet {
            say!("there are no tables to compare over the seeds");
        }
        return Ok(());
    }
    let over = scores::over_seeds(&found, &recipe.evaluate)?;
    let json = serde_json::to_vec_pretty(&over).map_err(|e| Error::failed("seeds.json", e))?;
    crate::durable::write(&folder.join("seeds.json"), &json)?;
    let markdown: Vec<String> = over.iter().map(OverSeeds::to_markdown).collect();
    let text = format!("# {}\n\n{}", recipe.name, markdown.join("\n"));
    crate::durable::write(&folder.join("seeds.md"), text.as_bytes())?;
    let text: Vec<String> = over.iter().map(OverSeeds::to_text).collect();
    if options.json { output::json(&over) } else { output::text(&text.join("\n")) }
}

/// The command that goes on where this one was stopped: the same, but for `--from`, which would
/// begin again.
fn again(command: &[&str], options: &Options) -> String {
    let mut words: Vec<String> = ["rallrec"].iter().chain(command).map(|w| (*w).to_owned()).collect();
    for change in &options.set {
        words.extend(["--set".into(), change.clone()]);
    }
    let device = options.device.and_then(|d| clap::ValueEnum::to_possible_value(&d));
    let valued = [
        ("--out", options.out.as_ref().map(|folder| folder.display().to_string())),
        ("--until", options.until.clone()),
        ("--trace", options.trace.as_ref().map(|file| file.display().to_string())),
        ("--device", device.map(|d| d.get_name().to_owned())),
    ];
    for (flag, value) in valued {
        words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    for (flag, given) in [("--json", options.json), ("--profile", options.profile), ("--quiet", options.quiet)] {
        words.extend(given.then(|| flag.to_owned()));
    }
    let quoted = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Runs a recipe as the options say and prints what came of it; `command` is how the program was
/// called for it.
pub fn execute(mut read: config::Read, options: Options, command: &[&str]) -> Result<()> {
    if let Some(device) = options.device {
        read.recipe.device = device;
    }
    if options.print_recipe {
        return output::text(&config::annotated(&read.recipe)?);
    }
    if !read.recipe.seeds.is_empty() {
        return Err(Error::usage("seeds", "only `rallrec run RECIPE` does a recipe with several seeds")
            .next("leave `seeds` out"));
    }
    let again = again(command, &options);
    let (json, quiet) = (options.json, options.quiet);
    let Some((results, folder)) = go(read, options, again)? else { return Ok(()) };
    if json {
        output::json(&results)?;
    } else {
        output::text(&results.render())?;
    }
    if !quiet {
        say!("\nwritten to {}: results.json, results.md, events.jsonl, recipe.toml, artifacts/", folder.display());
    }
    Ok(())
}

/// Runs a recipe; the results with their folder, where the run came to its end. `again` is the
/// command that goes on.
fn go(read: config::Read, options: Options, again: String) -> Result<Option<(Results, PathBuf)>> {
    let Options { from, until, out, profile, trace, quiet, screen, .. } = options;
    let span = Span::named(from.as_deref(), until.as_deref())?;
    // Before the dashboard or a folder is opened: what is wrong is reported where the command was
    // given.
    read.check_files(span.until)?;
    let recipe = read.recipe;
    let folder = out.unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    if screen.tui {
        return watch::with_run(&folder, &screen).map(|()| None);
    }
    let turn = watch::wait_for_turn(&folder, &screen)?;
    watch::hint(&folder, quiet);
    let verbosity = if quiet { Verbosity::Quiet } else { Verbosity::Normal };
    let run = Run::open(&folder, span, verbosity)?;
    drop(turn);
    let trace = trace.map(|file| TraceFile::create(&file)).transpose()?;
    if profile || trace.is_some() {
        // It takes a second or two, before the first stage says anything.
        let text = "measuring what memory and arithmetic units of this machine give, for --profile".to_owned();
        run.reporter().emit(rallrec_events::Event::Log { level: "info".into(), text });
        run.reporter().profile(Some(crate::bench::ceilings(&crate::device::Device::Cpu)?));
        if let Some(trace) = trace {
            run.reporter().trace(trace);
        }
    }
    match crate::pipeline::run_all(&run, &recipe) {
        Ok(Some(results)) => Ok(Some((results, folder))),
        Ok(None) => {
            if !quiet {
                say!("ended after the stage asked for; artifacts are in {}", folder.join("artifacts").display());
            }
            Ok(None)
        }
        Err(error) if error.kind() == crate::error::Kind::Stopped => {
            Err(Error::stopped(error.place()).next(format!("nothing is lost; go on with: {again}")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    #[test]
    fn the_command_to_go_on_is_the_same_but_for_from() {
        let of = |line: &str| {
            let args = Line::parse_from(["run"].into_iter().chain(line.split(' '))).args;
            again(&["run", &args.recipe.display().to_string()], &args.options)
        };
        assert_eq!(of("a.toml"), "rallrec run a.toml");
        assert_eq!(
            of("a.toml --from tune --device cpu --set a.b=1 --set c='x' --until merge --out o --json -q"),
            r"rallrec run a.toml --set a.b=1 --set 'c='\''x'\''' --out o --until merge --device cpu --json --quiet"
        );
    }
}
