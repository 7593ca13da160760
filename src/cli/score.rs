//! `rallrec score`: pairs of users and items, scored by a finished run.

use std::path::PathBuf;

use super::output::{self, Interruptible};
use crate::data::delimited::{Dialect, Records};
use crate::error::{Error, Result};
use crate::export::{Column, Kind, Target, Value};
use crate::pipeline::run::Run;
use crate::serve::Pair;

/// Score pairs of users and items by the ranker of a finished run.
///
/// The pairs are read a block at a time and written as they are scored. A score compares items for
/// one user: it is no probability, and says nothing across users.
#[derive(clap::Args)]
#[command(after_long_help = help())]
pub struct ScoreArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// A CSV file with the columns user and item; other columns are passed over.
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Where to: FILE.csv, FILE.jsonl or FILE.parquet (the first two also with .gz behind),
    /// FILE.db#TABLE for SQLite, or postgresql://HOST/DATABASE#TABLE.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Take in the ratings that the raw data has by now, without a new fit.
    #[arg(long)]
    with_new_ratings: bool,
    /// Replace a file or a table that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 6] = [
    Column::new("user", Kind::Text, "id as the data set writes it"),
    Column::new("item", Kind::Text, "id as the data set writes it"),
    Column::new("score", Kind::Real, "of what ranks the user's list; missing where it says nothing of the item"),
    Column::new("ranked_by", Kind::Text, "what gave the score"),
    Column::new("probability", Kind::Real, "that the user likes the item, by its ratings and the user's own"),
    Column::new("met", Kind::Boolean, "whether the item stands in the user's history"),
];

/// Pairs that are held at a time.
const BLOCK: usize = 65_536;

fn help() -> String {
    let columns = output::columns("--to", &COLUMNS);
    format!("{columns}\nExample: rallrec score --run runs/demo --pairs pairs.csv --to scores.csv")
}

pub fn main(args: ScoreArgs) -> Result<()> {
    let target = Target::parse(&args.to)?;
    let recipe = output::recipe_of_run(&args.run)?;
    let run = Run::open_finished(&args.run)?;
    let monitor = Interruptible("score");
    let (mut records, header) = Records::with_header(&args.pairs, Dialect::CSV)?;
    let (user, item) = (header.need(&["user"])?, header.need(&["item"])?);
    let recommender = output::recommender(&run, &recipe, args.with_new_ratings, &monitor)?;
    let mut table = target.open(&COLUMNS, args.force)?;
    let (mut rows, mut pairs) = (0, Vec::new());
    let mut more = true;
    while more {
        more = records.advance()?;
        if more {
            let field = |column: usize| {
                std::str::from_utf8(records.get(column))
                    .map(|text| text.trim().to_owned())
                    .map_err(|_| records.error("an id that is not UTF-8"))
            };
            let pair = Pair { user: field(user)?, item: field(item)? };
            recommender.check(&pair).map_err(|e| Error::input(records.error("").place(), e))?;
            pairs.push(pair);
        }
        if pairs.len() == BLOCK || (!more && !pairs.is_empty()) {
            for found in recommender.score(&pairs, &monitor)? {
                rows += 1;
                table.row(&[
                    Value::Text(&found.user),
                    Value::Text(&found.item),
                    Value::or_none(found.score.map(Value::single)),
                    Value::Text(found.ranked_by),
                    Value::or_none(found.probability.map(Value::Real)),
                    Value::Boolean(found.met),
                ])?;
            }
            pairs.clear();
        }
    }
    table.finish()?;
    output::written(rows, &target, args.json)
}
