//! A part of `predict`: what files of other programs say of the rows that are chosen on and
//! reported. They are copied into the run, so that it can be read without them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use crate::collab::Logistic;
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, Samples};
use crate::error::Result;
use crate::eval::auc;
use crate::events::StageId;
use crate::merge::outside::Source;
use crate::merge::{Calibrate, OutsideExpert};
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{ChosenRows, Set};
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work};

/// Reads the files of `experts`.
pub struct Experts;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct ExpertSettings<'r> {
    /// How each file is read; what it holds is an input.
    experts: Vec<(&'r str, Option<&'r str>, Option<&'r str>, Calibrate)>,
    /// Validation and test rows.
    rows: [&'r [usize]; 2],
}

impl<'r> ExpertSettings<'r> {
    /// Of a recipe, for these rows.
    pub fn of(recipe: &'r Recipe, rows: &'r ChosenRows) -> Self {
        let of = |(name, e): (&'r String, &'r OutsideExpert)| {
            (name.as_str(), e.column.as_deref(), e.model.as_deref(), e.calibrate)
        };
        Self { experts: recipe.experts.iter().map(of).collect(), rows: [&rows.valid, &rows.test] }
    }
}

/// What it reads.
pub struct ExpertInputs<'a> {
    /// Names of users and items.
    pub tables: &'a Made<Dataset>,
    /// Rows, labels, split.
    pub samples: &'a Made<Samples>,
    /// The files by the names of their experts.
    pub files: &'a BTreeMap<String, OutsideExpert>,
}

impl Inputs for ExpertInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.tables.content()), ("samples", self.samples.content())]
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        let of = |(name, expert): (&String, &OutsideExpert)| {
            Ok((name.clone(), Content::of_path(&expert.file).map_err(|e| e.within(format!("experts.{name}.file")))?))
        };
        let parts: Vec<(String, Content)> = self.files.iter().map(of).collect::<Result<_>>()?;
        Ok(vec![("files", Content::of_parts(parts.iter().map(|(name, content)| (name.as_str(), content.as_str()))))])
    }
}

/// One expert on one row.
#[derive(Serialize, Deserialize)]
struct Line {
    expert: String,
    set: Set,
    row: usize,
    p: f64,
}

/// Probabilities of validation and test rows by expert.
#[derive(Default)]
pub struct Opinions {
    by_expert: BTreeMap<String, HashMap<(Set, usize), f64>>,
}

impl Opinions {
    /// What an expert says of a row.
    pub fn p(&self, expert: &str, set: Set, row: usize) -> Option<f64> {
        self.by_expert.get(expert)?.get(&(set, row)).copied()
    }

    /// The experts in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_expert.keys().map(String::as_str)
    }
}

const ROWS: &str = "experts.jsonl";

impl Stage for Experts {
    const ID: StageId = StageId::Predict;
    const VERSION: u32 = 1;
    type Settings<'r> = ExpertSettings<'r>;
    type Inputs<'a> = ExpertInputs<'a>;
    type Output = Opinions;

    fn run(settings: &ExpertSettings<'_>, inputs: &ExpertInputs<'_>, work: &Work<'_>) -> Result<()> {
        let mut file = RowFile::<Line>::anew(&work.folder.join(ROWS))?;
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let [valid, test] = settings.rows;
        let mut wanted = [valid, test].concat();
        wanted.sort_unstable();
        for (n, (name, expert)) in inputs.files.iter().enumerate() {
            let source = Source { name, expert, dataset: data.dataset, samples: data.samples };
            let said = source.read(&wanted, work.monitor)?;
            let p = probabilities(name, expert.calibrate, &said, valid, data, work.monitor)?;
            for (set, rows) in [(Set::Valid, valid), (Set::Test, test)] {
                for &row in rows {
                    file.append(&Line { expert: name.clone(), set, row, p: p(said[&row]) })?;
                }
            }
            work.monitor.progress(n as u64 + 1, inputs.files.len() as u64, "files");
        }
        Ok(())
    }

    fn load(artifact: &Artifact) -> Result<Opinions> {
        let mut all = Opinions::default();
        for line in read_rows::<Line>(&artifact.file(ROWS))? {
            all.by_expert.entry(line.expert).or_default().insert((line.set, line.row), line.p);
        }
        Ok(all)
    }
}

/// What makes probabilities of an expert's values. Says so where they look reversed on the
/// validation rows.
fn probabilities(
    name: &str,
    calibrate: Calibrate,
    said: &HashMap<usize, f64>,
    valid: &[usize],
    data: DataOutput<'_>,
    monitor: &dyn Monitor,
) -> Result<impl Fn(f64) -> f64 + use<>> {
    let values: Vec<f64> = valid.iter().map(|row| said[row]).collect();
    let labels: Vec<bool> = valid.iter().map(|&row| data.sample(row).label).collect();
    if let Some(area) = auc(&labels, &values)?.filter(|area| *area < 0.5) {
        monitor.warn(
            &format!("experts.{name}: AUC {area:.3} on the {} validation rows: reversed?", valid.len()),
            "write the probability that the user likes the item; nothing is to be done if it is",
        );
    }
    let fit = match calibrate {
        Calibrate::None => None,
        Calibrate::Platt => {
            Some(Logistic::fit(&values, 1, &labels, 1.0).map_err(|e| e.within(format!("experts.{name}.calibrate")))?)
        }
    };
    Ok(move |value: f64| fit.as_ref().map_or(value, |fit| fit.predict(&[value])))
}
