//! `reason`: S sampled chains of thought a row, behind the hint, and the soft answer that each of
//! them leads to.

mod ask;
mod enough;
mod question;
pub mod reward;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::ask::Asking;
use self::question::Questions;
use super::data::DataOutput;
use super::predict::Predictions;
use super::prompts::{PromptRow, PromptRows};
use super::tune::Tuned;
use crate::config::{self, Recipe};
use crate::content::Content;
use crate::data::{Dataset, Samples as DataSamples};
use crate::error::Result;
use crate::eval::Score;
use crate::events::StageId;
use crate::lm::View;
use crate::monitor::Monitor;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::cost;
use crate::pipeline::earlier::{AskedFiles, Earlier, Named};
use crate::pipeline::rows::read_rows;
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};

/// Samples chains of thought and scores the answer behind each.
pub struct Reason;

/// What `reason` sees of the recipe.
#[derive(Clone, Serialize)]
pub struct ReasonSettings<'r> {
    reason: Cow<'r, config::Reason>,
    score: Score,
    /// Yes, no.
    answers: [&'r str; 2],
}

impl<'r> ReasonSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let (own, predict) = (&recipe.reason, &recipe.predict);
        // Nothing is made of the step where every row has all samples.
        let reason = if own.adaptive > 0.0 {
            Cow::Borrowed(own)
        } else {
            Cow::Owned(config::Reason { adaptive_step: config::Reason::default().adaptive_step, ..own.clone() })
        };
        Self { reason, score: predict.score, answers: [&predict.yes, &predict.no] }
    }
}

/// What `reason` reads.
pub struct ReasonInputs<'a> {
    /// Titles, for whoever watches.
    pub tables: &'a Made<Dataset>,
    /// As `tables`.
    pub samples: &'a Made<DataSamples>,
    /// Rows that may be reasoned about.
    pub prompts: &'a Made<PromptRows>,
    /// The same test rows with other histories, where they are reasoned about without retrieval.
    pub others: Option<&'a Made<PromptRows>>,
    /// The tuned model's opinion, where the hint states it.
    pub predictions: Option<&'a Made<Predictions>>,
    /// The reasoning model.
    pub model: View<'a>,
    /// The adapter that it reasons with.
    pub tuned: Option<&'a Made<Tuned>>,
}

impl Inputs for ReasonInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([
            ("prompts", Some(self.prompts.content())),
            ("predict", self.predictions.map(Made::content)),
            ("other prompts", self.others.map(Made::content)),
            ("tune", self.tuned.map(Made::content)),
        ])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("model", self.model.identity()?)])
    }
}

/// One sampled answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reasoned {
    /// Whether the row is tuned on, chosen on or tested on.
    pub set: Set,
    /// Index of the sample (row of data).
    pub row: usize,
    /// Number of the sample, below `reason.samples`.
    pub sample: u32,
    /// The hint's probability, when there was a hint.
    pub hint: Option<f64>,
    /// What the model wrote.
    pub text: String,
    /// Its length in tokens.
    pub tokens: u32,
    /// It ended by itself.
    pub finished: bool,
    /// Yes or no at its end, if either was said.
    pub answer: Option<bool>,
    /// The soft answer of the second pass.
    pub p: f64,
    /// P(Yes) + P(No) there.
    pub mass: f64,
}

impl Named for Reasoned {
    type Name = (Set, usize, u32);

    fn name(&self) -> Self::Name {
        (self.set, self.row, self.sample)
    }
}

/// By (set, row), samples in order.
pub type Samples = HashMap<(Set, usize), Vec<Reasoned>>;

/// All sampled answers.
pub struct Reasoning {
    /// By (set, row), samples in order.
    pub rows: Samples,
    /// The same test rows without the hint; empty unless `reason.ablation` asks for them.
    pub without_hint: Samples,
    /// Test rows with the newest items instead of retrieved ones, without the hint; empty unless
    /// `reason.without_retrieval` asks for them.
    pub without_retrieval: Samples,
}

impl Stage for Reason {
    const ID: StageId = StageId::Reason;
    const VERSION: u32 = 3;
    const NOTES: &'static [&'static str] =
        &[Pass::Main.files().asked, Pass::WithoutHint.files().asked, Pass::WithoutRetrieval.files().asked, cost::FILE];
    const TAKES_OVER: bool = true;
    type Settings<'r> = ReasonSettings<'r>;
    type Inputs<'a> = ReasonInputs<'a>;
    type Output = Reasoning;

    fn run(settings: &ReasonSettings<'_>, inputs: &ReasonInputs<'_>, work: &Work<'_>) -> Result<()> {
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let predictions = inputs.predictions.map(Made::get).transpose()?;
        let model = match inputs.tuned {
            Some(tuned) => Content::of(&(inputs.model.identity()?, tuned.content()))?,
            None => inputs.model.identity()?,
        };
        let questions = Questions::new(settings, model);
        let earlier = Earlier::read(work.others, &Pass::ALL.map(Pass::files));
        let asking = Asking { work, settings, data, predictions };
        let others = inputs.others.map(Made::get).transpose()?;
        let prompts = inputs.prompts.get()?;
        match inputs.tuned {
            None => asking.write(prompts, others, &questions, &earlier, || inputs.model.open(work.device))?,
            Some(tuned) => {
                let adapted = inputs.model.adapted(&tuned.get()?.adapter(inputs.model.local()?)?, None)?;
                asking.write(prompts, others, &questions, &earlier, || Ok(Box::new(adapted.open(work.device)?)))?;
            }
        }
        tell_of_silence(&read_rows::<Reasoned>(&work.folder.join(Pass::Main.files().rows))?, work.monitor);
        Ok(())
    }

    fn load(artifact: &Artifact) -> Result<Reasoning> {
        let rows = |pass: Pass| -> Result<Samples> {
            let mut rows = Samples::new();
            let file = artifact.file(pass.files().rows);
            if pass != Pass::Main && !file.exists() {
                return Ok(rows);
            }
            for row in read_rows::<Reasoned>(&file)? {
                rows.entry((row.set, row.row)).or_default().push(row);
            }
            rows.values_mut().for_each(|r| r.sort_by_key(|s| s.sample));
            Ok(rows)
        };
        Ok(Reasoning {
            rows: rows(Pass::Main)?,
            without_hint: rows(Pass::WithoutHint)?,
            without_retrieval: rows(Pass::WithoutRetrieval)?,
        })
    }
}

/// Warns where one in five sampled answers or more say neither yes nor no in words.
fn tell_of_silence(samples: &[Reasoned], monitor: &dyn Monitor) {
    let silent = samples.iter().filter(|sample| sample.answer.is_none()).count();
    if silent == 0 || 5 * silent < samples.len() {
        return;
    }
    let cut = samples.iter().filter(|sample| sample.answer.is_none() && !sample.finished).count();
    let next = if 2 * cut >= silent {
        "most of them are cut: raise reason.max_tokens, or ask for shorter ones in reason.prompt"
    } else {
        "reason.matching says what counts as an answer; a larger model keeps to the form more often"
    };
    monitor.warn(
        &format!(
            "{silent} of {} sampled answers say neither yes nor no; the probability that is asked for behind each counts \
             all the same",
            samples.len()
        ),
        next,
    );
}

/// What is asked of the reasoning model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// What the recipe says, on validation and test rows.
    Main,
    /// The test rows once more, with the same random numbers and without the hint.
    WithoutHint,
    /// The test rows with the newest items of the history, likewise.
    WithoutRetrieval,
}

impl Pass {
    const ALL: [Pass; 3] = [Pass::Main, Pass::WithoutHint, Pass::WithoutRetrieval];

    const fn files(self) -> AskedFiles {
        match self {
            Pass::Main => AskedFiles { rows: "samples.jsonl", asked: "samples.asked.jsonl" },
            Pass::WithoutHint => AskedFiles { rows: "without_hint.jsonl", asked: "without_hint.asked.jsonl" },
            Pass::WithoutRetrieval => {
                AskedFiles { rows: "without_retrieval.jsonl", asked: "without_retrieval.asked.jsonl" }
            }
        }
    }

    /// Its rows, validation first.
    fn rows<'a>(self, settings: &config::Reason, prompts: &'a PromptRows) -> Vec<&'a PromptRow> {
        let of = |set: Set, limit: usize| {
            let variant = if self == Pass::WithoutRetrieval { Variant::NoRetrieval } else { Variant::Main };
            let rows = prompts.rows.iter().filter(move |r| r.set == set && r.variant == variant);
            rows.take(if limit == 0 { usize::MAX } else { limit })
        };
        let test = of(Set::Test, settings.test_rows);
        match self {
            Pass::Main => of(Set::Valid, settings.valid_rows).chain(test).collect(),
            Pass::WithoutHint | Pass::WithoutRetrieval => test.collect(),
        }
    }
}
