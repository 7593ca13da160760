//! `data`: raw files to data set and samples. Two artifacts: what concerns items alone does not
//! depend on how the samples are made and split.

use std::sync::OnceLock;

use crate::config::Recipe;
use crate::content::Content;
use crate::data::table::Sources;
use crate::data::{self, By, Dataset, Kind, Rated, Sample, Samples, SplitSettings};
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};

/// Data set and samples, as later stages use them.
#[derive(Clone, Copy)]
pub struct DataOutput<'a> {
    /// Tables.
    pub dataset: &'a Dataset,
    /// Samples with histories and split.
    pub samples: &'a Samples,
}

impl<'a> DataOutput<'a> {
    /// The sample at an index.
    pub fn sample(&self, row: usize) -> &'a Sample {
        &self.samples.samples[row]
    }

    /// The history of `row`, frozen at the position of `at` (the earliest target of its group).
    pub fn history_at(&self, row: usize, at: usize) -> Vec<Rated> {
        let (sample, base) = (self.sample(row), self.sample(at));
        let mut history = self.samples.history(base).to_vec();
        if row != at {
            history.retain(|r| r.item != sample.item);
        }
        history
    }
}

/// Users, items, interactions after the filters.
pub struct Tables;

/// Where the raw data is: files, or the rows of queries; the built-in set has none.
pub struct Raw<'a> {
    settings: &'a data::DataSettings,
    monitor: &'a dyn Monitor,
    /// What a query gave stays as it is from the key to the tables.
    sources: OnceLock<Sources>,
}

impl<'a> Raw<'a> {
    /// Of a recipe; `monitor` hears of a query that runs, and stops it.
    pub fn of(recipe: &'a Recipe, monitor: &'a dyn Monitor) -> Self {
        Self { settings: &recipe.data, monitor, sources: OnceLock::new() }
    }
}

impl Inputs for Raw<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        Vec::new()
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        let Self { settings, monitor, sources } = self;
        let path = settings.path.as_path();
        if !settings.reads_files() {
            return Ok(Vec::new());
        }
        if data::source::is_pipe(path) {
            return Err(Error::input(path.display(), "is a pipe, and a run reads its files again where it goes on")
                .next("write it to a file first; `rallrec data inspect` reads pipes"));
        }
        let content = if settings.kind == Kind::TABLE {
            let found = Sources::find(settings, *monitor)?;
            sources.get_or_init(|| found).content()
        } else {
            settings.kind.set().content(settings)?
        };
        Ok(vec![("raw", content)])
    }
}

/// The keys that decide the tables, all others at their defaults. Path and queries are an input.
pub fn tables_settings(recipe: &Recipe) -> data::DataSettings {
    let own = recipe.data.clone();
    let none = data::DataSettings::default();
    data::DataSettings {
        kind: own.kind,
        category: own.category,
        core: own.core,
        damaged: own.damaged,
        damaged_limit: own.damaged_limit,
        implicit: if own.kind.set().zero_is_unrated { own.implicit } else { none.implicit },
        table: if own.kind == Kind::TABLE { own.table.without_source() } else { none.table },
        synthetic: if own.kind == Kind::SYNTHETIC { own.synthetic } else { none.synthetic },
        path: none.path,
        min_history: none.min_history,
        threshold: none.threshold,
        targets: none.targets,
        shuffle: none.shuffle,
        seed: none.seed,
        repeats: none.repeats,
        // A table may bring its parts, unless the split is another.
        split: SplitSettings {
            by: if own.kind == Kind::TABLE && !matches!(own.split.by, By::Auto | By::Given) {
                By::Time
            } else {
                By::Auto
            },
            ..none.split
        },
    }
}

impl Stage for Tables {
    const ID: StageId = StageId::Data;
    const VERSION: u32 = 1;
    type Settings<'r> = data::DataSettings;
    type Inputs<'a> = Raw<'a>;
    type Output = Dataset;

    fn run(settings: &data::DataSettings, raw: &Raw<'_>, work: &Work<'_>) -> Result<()> {
        work.monitor.progress(0, 2, "steps");
        let mut settings = data::DataSettings { path: raw.settings.path.clone(), ..settings.clone() };
        if settings.kind == Kind::TABLE {
            settings.table = raw.settings.table.clone();
        }
        let dataset = data::open(&settings, work.monitor)?;
        work.monitor.progress(1, 2, "steps");
        dataset.write(&work.folder.join("dataset.bin"))
    }

    fn load(artifact: &Artifact) -> Result<Dataset> {
        Dataset::read(&artifact.file("dataset.bin"))
    }
}

/// Labelled samples with histories and split.
pub struct SampleRows;

impl Inputs for &Made<Dataset> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.content())]
    }
}

/// The keys that decide the samples, all others at their defaults.
pub fn samples_settings(recipe: &Recipe) -> data::DataSettings {
    let own = &recipe.data;
    data::DataSettings {
        min_history: own.min_history(),
        threshold: Some(own.threshold()),
        targets: own.targets,
        shuffle: own.shuffle,
        seed: own.seed,
        repeats: own.repeats,
        split: own.split,
        ..data::DataSettings::default()
    }
}

impl Stage for SampleRows {
    const ID: StageId = StageId::Data;
    const VERSION: u32 = 1;
    type Settings<'r> = data::DataSettings;
    type Inputs<'a> = &'a Made<Dataset>;
    type Output = Samples;

    fn run(settings: &data::DataSettings, dataset: &&Made<Dataset>, work: &Work<'_>) -> Result<()> {
        let samples = data::build_samples(dataset.get()?, settings)?;
        work.monitor.progress(2, 2, "steps");
        samples.write(&work.folder.join("samples.bin"))
    }

    fn load(artifact: &Artifact) -> Result<Samples> {
        Samples::read(&artifact.file("samples.bin"))
    }
}
