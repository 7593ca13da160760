//! `rallrec export`: tables of a finished run, into a file or a database.

use std::path::PathBuf;

use super::output::{self, Interruptible};
use crate::data::{Dataset, Part, Sample, Samples};
use crate::error::Result;
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
    /// All samples: training, validation and test rows.
    Rows,
}

const ROWS: [Column; 8] = [
    Column::new("row", Kind::Integer, "number of the sample, from 0, in order of time; a row keeps it in all tables"),
    Column::new("part", Kind::Text, "train, valid or test"),
    Column::new("user", Kind::Text, "id as the data set writes it"),
    Column::new("item", Kind::Text, "id as the data set writes it"),
    Column::new("time", Kind::Integer, "seconds since 1970, UTC; missing where the data has no times"),
    Column::new("rating", Kind::Real, "as the data set has it"),
    Column::new("liked", Kind::Boolean, "whether the rating is above the threshold"),
    Column::new("history", Kind::Integer, "how many earlier ratings of the user the row has"),
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
    #[arg(long, value_name = "TARGET")]
    to: String,
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
        "{}\n{}\nExample: rallrec export predictions runs/demo --to predictions.csv",
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

fn write_rows(dataset: &Dataset, samples: &Samples, table: &mut Counted) -> Result<()> {
    let rows = Rows { dataset, samples };
    for (row, sample) in samples.samples.iter().enumerate() {
        let [user, item, time, rating, liked] = rows.of(sample);
        let history = number(samples.history(sample).len());
        table.row(&[number(row), rows.part(row), user, item, time, rating, liked, history])?;
    }
    Ok(())
}

pub fn main(args: ExportArgs) -> Result<()> {
    let target = Target::parse(&args.to)?;
    let recipe = output::recipe_of_run(&args.run)?;
    let finished = Finished::open(&args.run)?;
    let mut table = Counted { writer: target.open(args.what.columns(), args.force)?, rows: 0 };
    match args.what {
        What::Rows => {
            let (tables, samples) = finished.data()?;
            write_rows(tables.get()?, samples.get()?, &mut table)?;
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
