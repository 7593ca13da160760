//! `rallrec init`: a first recipe out of a look at the data.

use std::path::PathBuf;

use comfy_table::presets::ASCII_MARKDOWN;

use super::output;
use super::progress::Bar;
use crate::durable;
use crate::error::{Error, Result};
use crate::init::{self, Asked, Proposal};
use crate::pipeline::progress::thousands;

/// Look at ratings or a log of events, and write a recipe for them.
///
/// Finds out how files are written, which column is the user, the item, the rating, the time and so
/// on, the scale of the ratings, and files of items and users that belong to them. Rows from all
/// over a large table are looked at; a small one is read in full with the recipe that came out, and
/// nothing is written where that fails. What was found is printed, with how sure it is.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  rallrec init shop/ratings.csv\n  rallrec init 'logs/part-*.jsonl' --out logs.toml\n  \
    rallrec init shop.db --table ratings\n  rallrec init postgresql://db.example.org/shop --query 'SELECT ...'"
)]
pub struct InitArgs {
    /// A file of ratings or events, a folder, a zip file, a pattern in quotes, an SQLite file, or
    /// postgresql://host/name.
    source: String,
    /// A table of the database; without it, the one that looks most like ratings.
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// A SELECT over the database, in place of a table.
    #[arg(long, value_name = "SQL", conflicts_with = "table")]
    query: Option<String>,
    /// The name of the recipe and of its run folder; without it, after the source.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where to write the recipe; without it, NAME.toml.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a recipe that is there.
    #[arg(long)]
    force: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(args: InitArgs) -> Result<()> {
    let folder = args.out.as_deref().and_then(std::path::Path::parent).unwrap_or(std::path::Path::new("")).to_owned();
    let asked = Asked { source: args.source, table: args.table, query: args.query, name: args.name, folder };
    let taken = |path: &std::path::Path| {
        Error::usage(path.display(), "is there already").next("choose another name by --out, or replace it by --force")
    };
    // Before any work, where the place is known already.
    if let Some(out) = args.out.as_deref().filter(|out| out.exists() && !args.force) {
        return Err(taken(out));
    }
    let bar = Bar::new("init");
    let proposal = init::propose(&asked, &bar)?;
    bar.finish();
    let out = args.out.unwrap_or_else(|| PathBuf::from(format!("{}.toml", proposal.name)));
    if args.force {
        durable::write(&out, proposal.text.as_bytes())?;
    } else {
        use std::io::Write;
        let mut file = durable::Pending::new(&out)?;
        file.write_all(proposal.text.as_bytes()).map_err(|e| Error::io(&out, "write the file", &e))?;
        file.finish_new().map_err(|e| match e {
            durable::Unfinished::Taken => taken(&out),
            durable::Unfinished::Failed(e) => e,
        })?;
    }
    if args.json {
        return output::json(&serde_json::json!({ "recipe": out, "found": proposal }));
    }
    output::text(&render(&proposal, &out))
}

fn render(proposal: &Proposal, out: &std::path::Path) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["key", "value", "", "told by"]);
    for found in &proposal.findings {
        table.add_row([&found.key, &found.value, found.sure.name(), &found.why]);
    }
    let mut text = format!("{}\n\n{table}\n", proposal.looked_at);
    if let Some(counts) = proposal.counts {
        text += &format!(
            "\nread in full: {} ratings of {} users and {} items\n",
            thousands(counts.ratings as u64),
            thousands(counts.users as u64),
            thousands(counts.items as u64)
        );
    }
    for note in &proposal.notes {
        text += &format!("\nnote: {note}\n");
    }
    let shown = out.display();
    text + &format!("\nwritten to {shown}\nnext: rallrec data inspect {shown}, then rallrec run {shown}\n")
}
