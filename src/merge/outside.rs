//! Experts of other programs: a file of predictions of this run's rows, by the number that
//! `rallrec export rows` gives each.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::table::Named;
use crate::data::{Dataset, Part, Samples};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::settings::{Checked, Faults};

/// What makes probabilities of an expert's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Calibrate {
    /// They are probabilities.
    #[default]
    None,
    /// A logistic fit of one number on the run's validation rows (Platt scaling).
    Platt,
}

/// Predictions that another program made of this run's rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutsideExpert {
    /// The predictions: CSV, JSON lines or Parquet with the columns `row`, as `rallrec export rows`
    /// numbers them, and `p`, `probability` or `score`. Every validation and test row of the run
    /// stands there once. Columns `user` and `item` are compared with the run's, where there are
    /// any.
    pub file: PathBuf,
    /// The column of the values. Not set: `p`, else `probability`, else `score`.
    pub column: Option<String>,
    /// Only lines whose column `model` holds this, as in a file of `rallrec export predictions`.
    pub model: Option<String>,
    /// What makes probabilities of the values: nothing, or a logistic fit on validation rows.
    pub calibrate: Calibrate,
}

impl Checked for OutsideExpert {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let named = !self.file.as_os_str().is_empty();
        faults.unless(named, "file", "no file is named", "name the file of predictions");
        faults
    }
}

/// Columns that are looked for, in this order.
const VALUES: [&str; 3] = ["p", "probability", "score"];

/// Lines that are read between two reports.
const REPORTED: usize = 65_536;

/// What a file says of the validation and test rows of a run.
pub struct Source<'a> {
    /// The expert's name in the recipe.
    pub name: &'a str,
    /// Its settings.
    pub expert: &'a OutsideExpert,
    /// Users and items of the run.
    pub dataset: &'a Dataset,
    /// The run's samples.
    pub samples: &'a Samples,
}

/// Rows of one fault: how many, and the first.
#[derive(Default)]
struct Counted(usize, Option<usize>);

impl Counted {
    fn add(&mut self, row: usize) {
        self.0 += 1;
        self.1.get_or_insert(row);
    }

    fn told(&self, what: &str) -> Option<String> {
        self.1.map(|first| format!("{} {what} (the first: row {first})", self.0))
    }
}

impl Source<'_> {
    fn fault(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("experts.{}, {}", self.name, self.expert.file.display()), what)
    }

    /// The value of every row in `wanted`, as the file writes it.
    ///
    /// # Errors
    /// A file without the columns; a row that is missing, stands twice, or is none of the run's
    /// validation and test rows; a value that is no number, or no probability where nothing
    /// calibrates it; a row of another user or item.
    pub fn read(&self, wanted: &[usize], monitor: &dyn Monitor) -> Result<HashMap<usize, f64>> {
        let mut file = Named::open(&self.expert.file, monitor)?;
        let missing = |file: &Named, names: &str| {
            let there = file.names().iter().take(40).map(String::as_str).collect::<Vec<_>>().join(", ");
            self.fault(format!("there is no column {names}; the columns are: {there}"))
        };
        let column = |file: &Named, name: &str| file.column(name).ok_or_else(|| missing(file, &format!("`{name}`")));
        let row = column(&file, "row")
            .or_else(|e| file.column("row_id").ok_or(e))
            .map_err(|e| e.next("write the number that `rallrec export rows` gives each row"))?;
        let value = match &self.expert.column {
            Some(name) => column(&file, name).map_err(|e| e.next(format!("set experts.{}.column", self.name)))?,
            None => VALUES.iter().find_map(|name| file.column(name)).ok_or_else(|| {
                missing(&file, "`p`, `probability` or `score`")
                    .next(format!("name the column of the values by experts.{}.column", self.name))
            })?,
        };
        let only = match &self.expert.model {
            Some(model) => {
                let at =
                    column(&file, "model").map_err(|e| e.next(format!("leave out experts.{}.model", self.name)))?;
                Some((at, model))
            }
            None => None,
        };
        let ids = [file.column("user"), file.column("item")];
        let columns: Vec<usize> =
            [Some(row), Some(value), only.map(|(at, _)| at), ids[0], ids[1]].into_iter().flatten().collect();
        file.select(&columns)?;
        self.collect(&mut file, (row, value), only, ids, wanted, monitor)
    }

    fn collect(
        &self,
        file: &mut Named,
        (row, value): (usize, usize),
        only: Option<(usize, &String)>,
        [user, item]: [Option<usize>; 2],
        wanted: &[usize],
        monitor: &dyn Monitor,
    ) -> Result<HashMap<usize, f64>> {
        let split = &self.samples.split;
        let held_out = [split.range(Part::Valid), split.range(Part::Test)];
        let (mut found, mut twice, mut foreign) = (HashMap::new(), Counted::default(), Counted::default());
        let (mut lines, mut models) = (0usize, std::collections::BTreeSet::new());
        while file.advance()? {
            lines += 1;
            if lines.is_multiple_of(REPORTED) {
                file.report(monitor)?;
            }
            if let Some((at, model)) = only {
                let own = file.get(at);
                if own != *model {
                    models.insert(own);
                    continue;
                }
            }
            let number = self.number(file, row)?;
            let p = self.value(file, value)?;
            if !held_out.iter().any(|part| part.contains(&number)) {
                foreign.add(number);
                continue;
            }
            let sample = &self.samples.samples[number];
            let own = [&self.dataset.users[sample.user.at()].raw.0, &self.dataset.items[sample.item.at()].raw.0];
            for ((at, own), what) in [user, item].into_iter().zip(own).zip(["user", "item"]) {
                let Some(said) = at.map(|at| file.get(at)) else { continue };
                if said != *own {
                    return Err(file
                        .error(format!("experts.{}: row {number} is of {what} {own}, not {said}", self.name))
                        .next("the file is of other data or of another split: export the rows of this run again"));
                }
            }
            if found.insert(number, p).is_some() {
                twice.add(number);
            }
        }
        let mut missing = Counted::default();
        wanted.iter().filter(|row| !found.contains_key(row)).for_each(|row| missing.add(*row));
        let faults = [
            missing.told(&format!("of the run's {} validation and test rows are missing", wanted.len())),
            twice.told("rows stand there twice"),
            foreign.told("rows are no validation or test rows of this run"),
        ];
        let faults: Vec<String> = faults.into_iter().flatten().collect();
        if faults.is_empty() {
            found.retain(|row, _| wanted.binary_search(row).is_ok());
            return Ok(found);
        }
        let next = match (only, lines) {
            (Some((_, model)), _) if found.is_empty() => {
                let known = models.into_iter().take(20).collect::<Vec<_>>().join(", ");
                format!("no line is of model `{model}`; the file's models are: {known}")
            }
            _ => "predict each row of `rallrec export rows` whose set is valid or test, once".into(),
        };
        Err(self.fault(faults.join("; ")).next(next))
    }

    fn number(&self, file: &Named, column: usize) -> Result<usize> {
        let text = file.get(column);
        // Some programs make floats of all that they pass through.
        let whole = text.parse::<f64>().ok().filter(|x| x.fract() == 0.0 && (0.0..9.0e15).contains(x));
        let number = text.parse::<usize>().ok().or(whole.map(|x| x as usize));
        number.ok_or_else(|| {
            file.error(format!("experts.{}: `{text}` is no number of a row", self.name))
                .next("write the number that `rallrec export rows` gives each row")
        })
    }

    fn value(&self, file: &Named, column: usize) -> Result<f64> {
        let text = file.get(column);
        let p = text.parse::<f64>().ok().filter(|p| p.is_finite()).ok_or_else(|| {
            file.error(format!("experts.{}: `{text}` is not a finite number", self.name))
                .next("every row needs a value: mend the program that wrote the file")
        })?;
        if self.expert.calibrate == Calibrate::None && !(0.0..=1.0).contains(&p) {
            return Err(file.error(format!("experts.{}: {p} is no probability", self.name)).next(format!(
                "write probabilities, 0 to 1, or set experts.{}.calibrate = \"platt\" for scores",
                self.name
            )));
        }
        Ok(p)
    }
}
