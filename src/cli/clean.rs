//! `rallrec clean`: removes the artifacts that a run's recipe does not use.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use super::output;
use crate::error::{Error, Result};
use crate::pipeline::progress::thousands;
use crate::pipeline::unused;

/// Remove the artifacts of a run folder that its recipe does not use.
///
/// A run keeps what it made with other settings, so that going back costs nothing. This lists such
/// artifacts with their sizes and asks before it removes them. What the recipe in the folder uses
/// stays, and so does everything of stages that are not finished.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  rallrec clean runs/demo --dry-run\n  rallrec clean runs/demo --yes")]
pub struct CleanArgs {
    /// The run folder.
    run: PathBuf,
    /// Only list what would be removed.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Remove without asking.
    #[arg(long)]
    yes: bool,
    /// Print JSON; removes nothing without --yes.
    #[arg(long)]
    json: bool,
}

pub fn main(args: CleanArgs) -> Result<()> {
    let recipe = output::recipe_of_run(&args.run)?;
    // Nothing may begin to use an artifact between the look and the removal.
    let _alone = if args.dry_run { None } else { Some(unused::alone(&args.run)?) };
    let found = unused::find(&args.run, &recipe)?;
    let bytes: u64 = found.unused.iter().map(|u| u.bytes).sum();
    if args.json {
        output::json(&found)?;
    } else {
        let mut text = String::new();
        for artifact in &found.unused {
            let name = artifact.folder.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
            text += &format!("{:>15}  {name}\n", thousands(artifact.bytes));
        }
        if !found.kept.is_empty() {
            text += &format!("artifacts of stages that are not finished are kept ({})\n", found.kept);
        }
        text += &match found.unused.len() {
            0 => "nothing to remove: the recipe uses every artifact\n".to_owned(),
            n => format!("{:>15}  bytes in {n} artifacts that the recipe does not use\n", thousands(bytes)),
        };
        output::text(&text)?;
    }
    if args.dry_run || found.unused.is_empty() || args.json && !args.yes {
        return Ok(());
    }
    if !args.yes && !agreed()? {
        return output::text("nothing was removed\n");
    }
    for artifact in &found.unused {
        std::fs::remove_dir_all(&artifact.folder)
            .map_err(|e| Error::io(&artifact.folder, "remove the artifact", &e))?;
    }
    if args.json { Ok(()) } else { output::text("removed\n") }
}

fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage("clean", "nobody can be asked: standard input is no terminal")
            .next("give --yes to remove them, or --dry-run to list them only"));
    }
    // Where the question cannot be shown there is no answer either.
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "remove them? [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| Error::io("standard input", "read", &e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
