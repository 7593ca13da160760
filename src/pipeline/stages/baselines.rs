//! A part of `evaluate`: baselines without a language model that take some seconds, on the rows
//! that are chosen on and reported. All are fitted on training rows; what makes a score a
//! probability is fitted on rows of the validation part.

use std::collections::HashMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use crate::collab::boosted::{Boosted, Growth};
use crate::collab::similar::{Asked, by_words, neighbours};
use crate::collab::{AlsSettings, CollabSettings, Counts, FoldIn, Logistic, TREE_FEATURES, TreeFeatures, als};
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, Descriptions, Part, Rated, Sample, Samples};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::rows;
use crate::events::StageId;
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{ChosenRows, Set};
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::rng::{Rng, Use};
use crate::text::item_text::words;

/// Fits the baselines.
pub struct FitBaselines;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct BaselinesSettings<'r> {
    /// A rating above it is a like.
    threshold: f32,
    /// Draws the rows that are fitted on.
    seed: u64,
    /// Validation and test rows.
    rows: [&'r [usize]; 2],
}

impl<'r> BaselinesSettings<'r> {
    /// Of a recipe, for these rows.
    pub fn of(recipe: &Recipe, rows: &'r ChosenRows) -> Self {
        Self { threshold: recipe.data.threshold(), seed: recipe.rows.seed, rows: [&rows.valid, &rows.test] }
    }
}

/// What it reads.
pub struct BaselinesInputs<'a> {
    /// Items.
    pub tables: &'a Made<Dataset>,
    /// Rows, histories, labels.
    pub samples: &'a Made<Samples>,
    /// Words of items, beside their titles.
    pub descriptions: &'a Made<Descriptions>,
}

impl Inputs for BaselinesInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![
            ("tables", self.tables.content()),
            ("samples", self.samples.content()),
            ("describe", self.descriptions.content()),
        ]
    }
}

/// One row by all baselines, in the order of [`rows::FITTED`].
#[derive(Serialize, Deserialize)]
struct Line {
    set: Set,
    row: usize,
    p: [f64; rows::FITTED.len()],
}

/// Probabilities of the baselines.
#[derive(Default)]
pub struct FittedBaselines {
    by_row: HashMap<(Set, usize), [f64; rows::FITTED.len()]>,
}

impl FittedBaselines {
    /// What the baseline at a place of [`rows::FITTED`] says of a row.
    pub fn p(&self, at: usize, set: Set, row: usize) -> Option<f64> {
        self.by_row.get(&(set, row)).map(|p| p[at])
    }
}

/// What a baseline took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its row in the tables.
    pub name: String,
    /// Seconds to fit it and to score the rows.
    pub seconds: f64,
    /// Bytes of what it holds beside the data.
    pub bytes: u64,
}

const ROWS: &str = "baselines.jsonl";
/// What each took; no stage reads it.
const COSTS: &str = "costs.json";

/// The costs in a finished artifact.
///
/// # Errors
/// A file that cannot be read.
pub fn costs(artifact: &Artifact) -> Result<Vec<Cost>> {
    artifact.json(COSTS, "run again: --from evaluate")
}

/// Training rows behind the trees.
const TREE_ROWS: usize = 50_000;
/// Rows of the validation part that make probabilities of scores.
const CALIBRATION_ROWS: usize = 20_000;

impl Stage for FitBaselines {
    const ID: StageId = StageId::Evaluate;
    const VERSION: u32 = 1;
    const NOTES: &'static [&'static str] = &[COSTS];
    type Settings<'r> = BaselinesSettings<'r>;
    type Inputs<'a> = BaselinesInputs<'a>;
    type Output = FittedBaselines;

    fn run(settings: &BaselinesSettings<'_>, inputs: &BaselinesInputs<'_>, work: &Work<'_>) -> Result<()> {
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let [valid, test] = settings.rows;
        let mut calibration: Vec<usize> = data.samples.split.range(Part::Valid).collect();
        Rng::new(settings.seed, Use::Rows, 79, 0).shuffle(&mut calibration);
        calibration.truncate(CALIBRATION_ROWS);
        calibration.sort_unstable();
        let fitting = Fitting {
            data,
            rows: [valid, test].concat(),
            calibration,
            threshold: settings.threshold,
            seed: settings.seed,
            monitor: work.monitor,
        };
        let (fitted, costs) = fitting.all(inputs.descriptions.get()?)?;
        let mut file = RowFile::<Line>::anew(&work.folder.join(ROWS))?;
        let sets = valid.iter().map(|_| Set::Valid).chain(test.iter().map(|_| Set::Test));
        for (n, (set, &row)) in sets.zip(&fitting.rows).enumerate() {
            file.append(&Line { set, row, p: std::array::from_fn(|at| fitted[at][n]) })?;
        }
        let json = serde_json::to_vec(&costs).map_err(|e| Error::failed(COSTS, e))?;
        durable::write(&work.folder.join(COSTS), &json)
    }

    fn load(artifact: &Artifact) -> Result<FittedBaselines> {
        let rows: Vec<Line> = read_rows(&artifact.file(ROWS))?;
        Ok(FittedBaselines { by_row: rows.into_iter().map(|line| ((line.set, line.row), line.p)).collect() })
    }
}

/// Baselines being fitted.
struct Fitting<'a> {
    data: DataOutput<'a>,
    /// The rows that are scored.
    rows: Vec<usize>,
    calibration: Vec<usize>,
    threshold: f32,
    seed: u64,
    monitor: &'a dyn Monitor,
}

type Probabilities = Vec<f64>;

impl<'a> Fitting<'a> {
    fn row(&self, row: usize) -> (&'a Sample, &'a [Rated]) {
        let sample = self.data.sample(row);
        (sample, self.data.samples.history(sample))
    }

    /// Rows of the calibration, then those that are scored.
    fn asked(&self) -> impl Iterator<Item = Asked<'a>> {
        self.calibration.iter().chain(&self.rows).map(|&row| {
            let (sample, history) = self.row(row);
            Asked { target: sample.item, history }
        })
    }

    /// Probabilities out of values of the calibration's rows and of those that are scored.
    fn calibrated<const N: usize>(&self, values: &[[f64; N]]) -> Result<Probabilities> {
        let (of_calibration, of_rows) = values.split_at(self.calibration.len());
        let labels: Vec<bool> = self.calibration.iter().map(|&row| self.data.sample(row).label).collect();
        let fit = Logistic::fit(of_calibration.as_flattened(), N, &labels, 1.0)
            .map_err(|e| e.within("baselines, on validation rows"))?;
        Ok(of_rows.iter().map(|values| fit.predict(values)).collect())
    }

    /// Every baseline of [`rows::FITTED`] with what it took.
    fn all(&self, descriptions: &Descriptions) -> Result<([Probabilities; rows::FITTED.len()], Vec<Cost>)> {
        let train = self.data.samples.part(Part::Train);
        // The counts' own defaults: what a recipe says in words has no part in a baseline.
        let own = CollabSettings { seed: self.seed, ..CollabSettings::default() };
        let counts = Counts::fit(self.data.dataset.items.len(), self.threshold, train, &own)?;
        let mut costs = Vec::new();
        let mut timed = |at: usize, fit: &dyn Fn() -> Result<(Probabilities, usize)>| -> Result<Probabilities> {
            let began = Instant::now();
            let (p, bytes) = fit()?;
            let seconds = began.elapsed().as_secs_f64();
            costs.push(Cost { name: rows::FITTED[at].into(), seconds, bytes: bytes as u64 });
            self.monitor.progress(at as u64 + 1, rows::FITTED.len() as u64, "baselines");
            Ok(p)
        };
        let all = [
            timed(0, &|| self.factorisation(&counts))?,
            timed(1, &|| self.neighbours(&counts))?,
            timed(2, &|| self.content(descriptions))?,
            timed(3, &|| self.trees(&counts, own.folds as usize))?,
        ];
        Ok((all, costs))
    }

    /// Item and user biases, and factors: the user is folded in by the ratings before the row.
    fn factorisation(&self, counts: &Counts) -> Result<(Probabilities, usize)> {
        let means = counts.item_means(None);
        let settings = AlsSettings { seed: self.seed, ..AlsSettings::default() };
        let factors = als::fit(self.data.samples.part(Part::Train), &means, &settings, self.monitor)?;
        let bytes = size_of_val(factors.as_slice());
        let fold_in = FoldIn::new(factors, means.clone(), settings.ridge)?;
        let score = |a: Asked<'_>| [means.expected(a.target, a.history) + fold_in.estimate(a.target, a.history)];
        let values: Vec<[f64; 1]> = self.asked().map(score).collect();
        Ok((self.calibrated(&values)?, bytes))
    }

    fn neighbours(&self, counts: &Counts) -> Result<(Probabilities, usize)> {
        let means = counts.item_means(None);
        let (asked, train): (Vec<Asked<'_>>, _) = (self.asked().collect(), self.data.samples.part(Part::Train));
        let estimates = neighbours(train, &means, &asked, self.monitor)?;
        let value = |(a, e): (&Asked<'_>, f64)| [means.expected(a.target, a.history) + e];
        let values: Vec<[f64; 1]> = asked.iter().zip(estimates).map(value).collect();
        // Residuals by user and by item, and a row of similarities a thread.
        let held = train.len() * (size_of::<(usize, f64)>() + size_of::<(u32, f64)>());
        Ok((self.calibrated(&values)?, held + rayon::current_num_threads() * means.stars.len() * size_of::<f64>()))
    }

    /// Words alone: nothing is known of how others rate an item.
    fn content(&self, descriptions: &Descriptions) -> Result<(Probabilities, usize)> {
        let words = words(self.data.dataset, Some(descriptions));
        let train = self.data.samples.part(Part::Train);
        let middle = train.iter().map(|s| f64::from(s.rating)).sum::<f64>() / train.len().max(1) as f64;
        let values: Vec<[f64; 2]> = self.asked().map(|asked| by_words(&words, asked, middle)).collect();
        Ok((self.calibrated(&values)?, words.bytes()))
    }

    fn trees(&self, counts: &Counts, folds: usize) -> Result<(Probabilities, usize)> {
        let features = TreeFeatures::new(self.data.dataset, counts, folds);
        let train = self.data.samples.split.range(Part::Train);
        let mut drawn: Vec<usize> = train.collect();
        Rng::new(self.seed, Use::Rows, 80, 0).shuffle(&mut drawn);
        drawn.truncate(TREE_ROWS);
        let of = |row: usize, training: bool| {
            let (sample, history) = self.row(row);
            features.of(sample, history, training)
        };
        let values: Vec<[f64; TREE_FEATURES]> = drawn.iter().map(|&row| of(row, true)).collect();
        let labels: Vec<bool> = drawn.iter().map(|&row| self.data.sample(row).label).collect();
        let fitted = Boosted::fit(values.as_flattened(), TREE_FEATURES, &labels, Growth::default(), self.monitor)?;
        let held = size_of_val(values.as_slice()) + values.len() * TREE_FEATURES + fitted.bytes();
        Ok((self.rows.iter().map(|&row| fitted.predict(&of(row, false))).collect(), held))
    }
}
