//! `rallrec export`: tables of a finished run, into a file or a database; its rows in the forms
//! that other recommenders read.

mod folder;
mod fuxictr;
mod graph;
mod recbole;

use std::path::PathBuf;

use self::folder::Labelled;

use super::output::{self, Interruptible};
use crate::data::{Dataset, Part, Sample, Samples};
use crate::error::{Error, Result};
use crate::eval::rows::TUNED;
use crate::export::{Column, Kind, Target, Value, Writer};
use crate::monitor::Monitor;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::finished::Finished;
use crate::pipeline::stages::evaluate::{EvaluateSettings, predicted};

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// What every model of the tables of results says of each row that it was asked about.
    Predictions,
    /// All samples: training, validation and test rows, as a table or in a form of another program.
    Rows,
}

const ROWS: [Column; 11] = [
    Column::new("row", Kind::Integer, "number of the sample, from 0, in order of time; a row keeps it in all tables"),
    Column::new("part", Kind::Text, "train, valid or test"),
    Column::new("user", Kind::Text, "id as the data set writes it"),
    Column::new("item", Kind::Text, "id as the data set writes it"),
    Column::new("time", Kind::Integer, "seconds since 1970, UTC; missing where the data has no times"),
    Column::new("rating", Kind::Real, "as the data set has it; of test rows only with --with-test-labels"),
    Column::new("liked", Kind::Boolean, "whether the rating is above the threshold; of test rows as `rating`"),
    Column::new("history", Kind::Integer, "how many earlier ratings of the user the row has"),
    Column::new("history_items", Kind::Text, "the latest of them, oldest first: a JSON list of ids"),
    Column::new("history_ratings", Kind::Text, "their ratings: a JSON list of numbers"),
    Column::new("genres", Kind::Text, "the item's: a JSON list of texts"),
];

const PREDICTIONS: [Column; 9] = [
    ROWS[0],
    Column::new("part", Kind::Text, "valid or test"),
    ROWS[2],
    ROWS[3],
    ROWS[4],
    ROWS[5],
    ROWS[6],
    Column::new("model", Kind::Text, "a row of the tables of results: tuned, zero-shot, merged, LightGCN, ..."),
    Column::new("probability", Kind::Real, "that the user likes the item, as the model says"),
];

/// The form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One table.
    Table,
    /// A folder of RecBole's atomic files with the split as it is, and its configuration.
    Recbole,
    /// A folder of CSV files for FuxiCTR, and its configuration.
    Fuxictr,
    /// A folder with the training edges, and vectors of users and items.
    Graph,
}

impl What {
    fn columns(self) -> &'static [Column] {
        match self {
            What::Predictions => &PREDICTIONS,
            What::Rows => &ROWS,
        }
    }
}

/// Write predictions or rows of a finished run into a file or a table of a database.
///
/// The table is there whole or not at all. Ids are those of the data set. Neither the raw data nor
/// the models are needed.
#[derive(clap::Args)]
#[command(after_long_help = help())]
pub struct ExportArgs {
    /// What to write.
    #[arg(value_enum)]
    what: What,
    /// Folder of the run.
    run: PathBuf,
    /// FILE.csv, FILE.jsonl or FILE.parquet (the first two also with .gz behind), FILE.db#TABLE for
    /// SQLite, or postgresql://HOST/DATABASE#TABLE; passwords come from PGPASSWORD or ~/.pgpass.
    /// With another --format than `table`, the folder to make.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// The form of rows: a table, or a folder that another program reads.
    #[arg(long, value_enum, default_value_t = Form::Table)]
    format: Form,
    /// The latest so many ratings of a row's history. Not given: `retrieve.k`, as many as the
    /// recipe shows.
    #[arg(long, value_name = "N")]
    history: Option<usize>,
    /// Write ratings and labels of test rows too. Without it a program cannot learn from them.
    #[arg(long)]
    with_test_labels: bool,
    /// Replace a file or a table that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The columns of each table, and an example.
fn help() -> String {
    format!(
        "{}\n{}\nExamples:\n  rallrec export predictions runs/demo --to predictions.csv\n  rallrec export rows runs/demo \
         --to dataset/demo --format recbole",
        output::columns("predictions", &PREDICTIONS),
        output::columns("rows", &ROWS)
    )
}

/// What rows are told by.
struct Rows<'a> {
    dataset: &'a Dataset,
    samples: &'a Samples,
}

impl Rows<'_> {
    /// The columns that both tables have: user, item, time, rating, liked.
    fn of(&self, sample: &Sample) -> [Value<'_>; 5] {
        let Self { dataset, .. } = self;
        [
            Value::Text(&dataset.users[sample.user.at()].raw.0),
            Value::Text(&dataset.items[sample.item.at()].raw.0),
            if dataset.has_times { Value::Integer(sample.time) } else { Value::None },
            Value::single(sample.rating),
            Value::Boolean(sample.label),
        ]
    }

    fn part(&self, row: usize) -> Value<'static> {
        let part = Part::ALL.into_iter().find(|part| self.samples.split.range(*part).contains(&row));
        Value::or_none(part.map(|part| Value::Text(part.name())))
    }
}

/// Counts what it passes on, and hears a stop.
struct Counted {
    writer: Box<dyn Writer>,
    rows: u64,
}

impl Counted {
    fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        self.rows += 1;
        if self.rows.is_multiple_of(65_536) {
            Interruptible("export").check()?;
        }
        self.writer.row(values)
    }

    fn prediction(&mut self, rows: &Rows<'_>, row: usize, model: &str, p: f64) -> Result<()> {
        let [user, item, time, rating, liked] = rows.of(&rows.samples.samples[row]);
        let part = rows.part(row);
        self.row(&[number(row), part, user, item, time, rating, liked, Value::Text(model), Value::Real(p)])
    }
}

fn number(number: usize) -> Value<'static> {
    Value::or_none(i64::try_from(number).ok().map(Value::Integer))
}

fn write_rows(all: &Labelled<'_>, table: &mut Counted) -> Result<()> {
    let rows = Rows { dataset: all.dataset, samples: all.samples };
    let list = |values: &[String]| serde_json::to_string(values).map_err(|e| Error::failed("export", e));
    for (row, sample) in all.samples.samples.iter().enumerate() {
        let [user, item, time, rating, liked] = rows.of(sample);
        let [rating, liked] = if all.tells(row) { [rating, liked] } else { [Value::None; 2] };
        let shown = all.history(sample);
        let items: Vec<String> = shown.iter().map(|rated| all.item(rated.item).to_owned()).collect();
        // Written as the data has them: 3.5, not 3.5000001.
        let ratings = format!("[{}]", shown.iter().map(|r| r.rating.to_string()).collect::<Vec<_>>().join(","));
        let (items, genres) = (list(&items)?, list(&all.dataset.items[sample.item.at()].genres)?);
        table.row(&[
            number(row),
            rows.part(row),
            user,
            item,
            time,
            rating,
            liked,
            number(all.samples.history(sample).len()),
            Value::Text(&items),
            Value::Text(&ratings),
            Value::Text(&genres),
        ])?;
    }
    Ok(())
}

/// Rows in a form of another program, or the graph.
fn write_folder(args: &ExportArgs, all: &Labelled<'_>, finished: &Finished) -> Result<()> {
    let folder = folder::Folder::new(&args.to, args.force)?;
    let rows = match args.format {
        Form::Recbole => recbole::write(all, &folder)?,
        Form::Fuxictr => fuxictr::write(all, &folder)?,
        Form::Table | Form::Graph => graph::write(all, finished, &folder)?,
    };
    let made = folder.finish()?;
    if args.json {
        return output::json(&serde_json::json!({ "rows": rows, "to": made }));
    }
    output::text(&format!("{rows} rows in {}", made.display()))
}

pub fn main(args: ExportArgs) -> Result<()> {
    if args.what == What::Predictions && (args.format != Form::Table || args.history.is_some() || args.with_test_labels)
    {
        return Err(Error::usage("export predictions", "--format, --history and --with-test-labels are of rows")
            .next("leave them out, or write `rallrec export rows`"));
    }
    if args.format != Form::Table {
        let recipe = output::recipe_of_run(&args.run)?;
        let finished = Finished::open(&args.run)?;
        let (tables, samples) = finished.data()?;
        let all = Labelled::of(&args, &recipe, tables.get()?, samples.get()?);
        return write_folder(&args, &all, &finished);
    }
    let target = Target::parse(&args.to)?;
    let recipe = output::recipe_of_run(&args.run)?;
    let finished = Finished::open(&args.run)?;
    let mut table = Counted { writer: target.open(args.what.columns(), args.force)?, rows: 0 };
    match args.what {
        What::Rows => {
            let (tables, samples) = finished.data()?;
            write_rows(&Labelled::of(&args, &recipe, tables.get()?, samples.get()?), &mut table)?;
        }
        What::Predictions => finished.results(|inputs| {
            let (dataset, samples) = (inputs.tables.get()?, inputs.samples.get()?);
            let (rows, tuned) = (Rows { dataset, samples }, inputs.main.get()?);
            for row in tuned.labelled(Set::Valid).0 {
                if let Some(p) = tuned.p(Set::Valid, row, Variant::Main) {
                    table.prediction(&rows, row, TUNED, p)?;
                }
            }
            let found = predicted(&EvaluateSettings::of(&recipe), inputs)?;
            for (row, models) in &found.rows {
                for (model, p) in models {
                    table.prediction(&rows, *row, &found.models[*model], *p)?;
                }
            }
            Ok(())
        })?,
    }
    let rows = table.rows;
    table.writer.finish()?;
    output::written(rows, &target, args.json)
}
