//! `predict`: the Yes/No probability of every row, by the tuned and the untuned model, for every
//! variant.
//!
//! Three artifacts: the tuned model on the rows that are merged and reported, on the variants of
//! the ablation table, and the untuned model.

mod question;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::question::Questions;
use super::collab::Features;
use super::prompts::{PromptRow, PromptRows};
use super::tune::Tuned;
use crate::collab::{log_odds, sigmoid};
use crate::config::Recipe;
use crate::content::Content;
use crate::error::Result;
use crate::eval::Score;
use crate::events::{Event, StageId};
use crate::lm::{LanguageModel, Reading, View};
use crate::monitor::Monitor;
use crate::ops::cross_entropy::Choice;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::cost::{self, AskedCost};
use crate::pipeline::earlier::{AskedFile, AskedFiles, Earlier, Named};
use crate::pipeline::rows::read_rows;
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::text::prompts::Prompt;

/// Scores Yes against No for every prompt.
pub struct Predict;

/// What `predict` sees of the recipe.
#[derive(Clone, Serialize)]
pub struct PredictSettings<'r> {
    score: Score,
    /// Yes, no.
    answers: [&'r str; 2],
    /// System message in scoring, where it is not that of tuning.
    system: Option<&'r str>,
    /// The model's log odds are added to those of the causal features.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    residual: bool,
    /// Test rows for the untuned model; 0 = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_shot_rows: Option<usize>,
}

impl<'r> PredictSettings<'r> {
    /// Of a recipe, for the tuned model.
    pub fn tuned(recipe: &'r Recipe) -> Self {
        let own = &recipe.predict;
        Self {
            score: own.score,
            answers: [&own.yes, &own.no],
            system: own.system.as_deref(),
            residual: recipe.tune.residual,
            zero_shot_rows: None,
        }
    }

    /// Of a recipe, for the untuned model.
    pub fn zero_shot(recipe: &'r Recipe) -> Self {
        Self { zero_shot_rows: Some(recipe.predict.zero_shot_rows), residual: false, ..Self::tuned(recipe) }
    }

    /// Yes, no.
    pub fn answers(&self) -> [&'r str; 2] {
        self.answers
    }

    /// What the model reads of a prompt.
    pub fn reading<'p>(&self, prompt: Cow<'p, Prompt>) -> Reading<'p> {
        Reading::Prompt(match self.system {
            Some(system) => Cow::Owned(prompt.with_system(system)),
            None => prompt,
        })
    }

    /// Probability of "Yes". `features`: what the causal features alone say of the row.
    pub fn probability(&self, choice: &Choice, features: Option<f64>) -> f64 {
        match features.filter(|_| self.residual) {
            Some(features) => added(features, choice),
            None => as_probability(choice, self.score),
        }
    }
}

/// What `predict` reads.
pub struct PredictInputs<'a> {
    /// The prompts to score.
    pub prompts: &'a Made<PromptRows>,
    /// The adapter; the untuned model has none.
    pub tuned: Option<&'a Made<Tuned>>,
    /// What the causal features say, where the tuned model's log odds are added to theirs.
    pub features: Option<&'a Made<Features>>,
    /// The model.
    pub model: View<'a>,
}

impl Inputs for PredictInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([
            ("prompts", Some(self.prompts.content())),
            ("tune", self.tuned.map(Made::content)),
            ("collab", self.features.map(Made::content)),
        ])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("model", self.model.identity()?)])
    }
}

/// Which of the two models scored a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The model without an adapter.
    ZeroShot,
    /// The model with the adapter of `tune`.
    Tuned,
}

/// The score of one prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prediction {
    /// The untuned or the tuned model.
    pub model: Who,
    /// Whether the row is tuned on, chosen on or tested on.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// How the history was chosen.
    pub variant: Variant,
    /// How the probability was formed.
    pub score: Score,
    /// Probability of liking.
    pub p: f64,
    /// Logits and log-sum-exp behind it.
    pub choice: Choice,
    /// The row's label.
    pub label: bool,
}

impl Named for Prediction {
    type Name = (Set, usize, Variant);

    fn name(&self) -> Self::Name {
        (self.set, self.row, self.variant)
    }
}

/// The scores of one model.
pub struct Predictions {
    rows: Vec<Prediction>,
    places: HashMap<(Set, usize, Variant), usize>,
    by_row: HashMap<(Set, usize), Vec<usize>>,
}

impl Predictions {
    fn new(rows: Vec<Prediction>) -> Self {
        let places = rows.iter().enumerate().map(|(n, p)| ((p.set, p.row, p.variant), n)).collect();
        let mut by_row: HashMap<(Set, usize), Vec<usize>> = HashMap::new();
        rows.iter().enumerate().for_each(|(n, p)| by_row.entry((p.set, p.row)).or_default().push(n));
        Self { rows, places, by_row }
    }

    /// The score of a row with the history of a variant.
    pub fn get(&self, set: Set, row: usize, variant: Variant) -> Option<&Prediction> {
        self.places.get(&(set, row, variant)).map(|&at| &self.rows[at])
    }

    /// The probability of one score.
    pub fn p(&self, set: Set, row: usize, variant: Variant) -> Option<f64> {
        self.get(set, row, variant).map(|p| p.p)
    }

    /// The probabilities of a row, one a variant, in the order of the recipe.
    pub fn all_of(&self, set: Set, row: usize) -> impl Iterator<Item = f64> + '_ {
        self.by_row.get(&(set, row)).into_iter().flatten().map(|&at| self.rows[at].p)
    }

    /// The rows of a set with their labels, in order, with the history as the recipe has it.
    pub fn labelled(&self, set: Set) -> (Vec<usize>, Vec<bool>) {
        let own = self.rows.iter().filter(|p| p.set == set && p.variant == Variant::Main);
        own.map(|p| (p.row, p.label)).unzip()
    }

    /// Rows of a variant, in order.
    pub fn rows_of(&self, variant: Variant) -> Vec<usize> {
        self.rows.iter().filter(|p| p.variant == variant).map(|p| p.row).collect()
    }

    /// Mean of P(Yes) + P(No) over the test rows, with the history as the recipe has it.
    pub fn mean_mass(&self) -> Option<f64> {
        let own = self.rows.iter().filter(|p| p.set == Set::Test && p.variant == Variant::Main);
        let masses: Vec<f64> = own.map(|p| p.choice.mass()).collect();
        (!masses.is_empty()).then(|| masses.iter().sum::<f64>() / masses.len() as f64)
    }
}

/// Probability of "Yes" of a model that was tuned as a residual: its log odds and those of the
/// causal features, added.
pub fn added(features: f64, choice: &Choice) -> f64 {
    // Held off 0 and 1, where log odds end.
    sigmoid(log_odds(features.clamp(1e-6, 1.0 - 1e-6)) + choice.margin())
}

/// Probability of "Yes" by the recipe's rule.
pub fn as_probability(choice: &Choice, rule: Score) -> f64 {
    match rule {
        Score::TwoWay => choice.two_way(),
        Score::DoubleSoftmax => {
            let [yes, no] = choice.probabilities();
            1.0 / (1.0 + (-(yes - no)).exp())
        }
    }
}

const FILES: AskedFiles = AskedFiles { rows: "predictions.jsonl", asked: "predictions.asked.jsonl" };

impl Stage for Predict {
    const ID: StageId = StageId::Predict;
    const VERSION: u32 = 3;
    const NOTES: &'static [&'static str] = &[FILES.asked, cost::FILE];
    const TAKES_OVER: bool = true;
    type Settings<'r> = PredictSettings<'r>;
    type Inputs<'a> = PredictInputs<'a>;
    type Output = Predictions;

    fn run(settings: &PredictSettings<'_>, inputs: &PredictInputs<'_>, work: &Work<'_>) -> Result<()> {
        let (mut file, done) = AskedFile::<Prediction>::open(work.folder, FILES)?;
        let there: HashSet<_> = done.iter().map(Prediction::name).collect();
        let prompts = inputs.prompts.get()?;
        let mut wanted: Vec<&PromptRow> = prompts.rows.iter().collect();
        if let Some(rows) = settings.zero_shot_rows {
            wanted.retain(|r| r.set == Set::Test);
            wanted.truncate(if rows == 0 { usize::MAX } else { rows });
        }
        let name = |row: &PromptRow| (row.set, row.row, row.variant);
        let order: HashMap<_, usize> = wanted.iter().enumerate().map(|(n, row)| (name(row), n)).collect();
        let total = wanted.len() as u64;
        wanted.retain(|r| !there.contains(&name(r)));
        let mut scoring = Scoring {
            settings,
            features: inputs.features.map(Made::get).transpose()?,
            who: if inputs.tuned.is_some() { Who::Tuned } else { Who::ZeroShot },
            count: total - wanted.len() as u64,
            total,
            since: Instant::now(),
            unreported: 0,
            cost: AskedCost::default(),
            monitor: work.monitor,
        };
        let questions = Questions::new(settings, inputs, prompts)?;
        let earlier = Earlier::<Prediction>::read(work.others, &[FILES]);
        let mut missing = Vec::with_capacity(wanted.len());
        for row in wanted {
            let question = questions.of(row)?;
            match earlier.get(&question) {
                Some(found) => file.append(&scoring.report(row, &found.choice), &question)?,
                None => missing.push((row, question)),
            }
        }
        drop(earlier);
        if !missing.is_empty() {
            // What the answers cost is told without what loading the model costs.
            inputs.model.local()?;
        }
        scoring.since = Instant::now();
        // Variants of a sample begin alike.
        let samples: Vec<&[(&PromptRow, Content)]> =
            missing.chunk_by(|(a, _), (b, _)| a.set == b.set && a.row == b.row).collect();
        let mut received = |at: usize, choices: &[Choice]| -> Result<()> {
            for ((row, question), choice) in samples[at].iter().zip(choices) {
                file.append(&scoring.scored(row, choice), question)?;
            }
            Ok(())
        };
        let score =
            |model: &dyn LanguageModel, received: &mut dyn FnMut(usize, &[Choice]) -> Result<()>, soft: bool| {
                let mut bundles: Vec<Vec<Reading<'_>>> = Vec::with_capacity(samples.len());
                for same in &samples {
                    bundles.push(same.iter().map(|(row, _)| settings.reading(prompt(row, soft))).collect());
                }
                model.score(&bundles, settings.answers, work.monitor, received)
            };
        match inputs.tuned {
            _ if missing.is_empty() => {}
            None => score(inputs.model.open(work.device)?.as_ref(), &mut received, false)?,
            Some(tuned) => {
                let (local, tuned) = (inputs.model.local()?, tuned.get()?);
                let (adapter, projector) = (tuned.adapter(local)?, tuned.projector(local)?);
                let soft = prompts.inputs(local)?;
                let adapted = inputs.model.adapted(&adapter, projector.as_ref().zip(soft.as_ref()))?;
                score(&adapted.open(work.device)?, &mut received, true)?;
            }
        }
        scoring.report_cost();
        scoring.cost.write(work.folder)?;
        file.sorted_by_key(|p| order.get(&p.name()).copied())
    }

    fn load(artifact: &Artifact) -> Result<Predictions> {
        Ok(Predictions::new(read_rows(&artifact.file(FILES.rows))?))
    }
}

/// What a projector was not trained for has no soft tokens.
fn prompt(row: &PromptRow, soft: bool) -> Cow<'_, Prompt> {
    if soft { Cow::Borrowed(&row.prompt) } else { Cow::Owned(row.prompt.without_soft()) }
}

/// Prompts whose cost is reported together.
const REPORTED_TOGETHER: u64 = 16;

/// Makes predictions of choices and reports them.
struct Scoring<'a> {
    settings: &'a PredictSettings<'a>,
    features: Option<&'a Features>,
    who: Who,
    count: u64,
    total: u64,
    since: Instant,
    unreported: u64,
    cost: AskedCost,
    monitor: &'a dyn Monitor,
}

impl Scoring<'_> {
    /// A row that the model has scored just now.
    fn scored(&mut self, row: &PromptRow, choice: &Choice) -> Prediction {
        self.unreported += 1;
        if self.unreported >= REPORTED_TOGETHER {
            self.report_cost();
        }
        self.report(row, choice)
    }

    fn report(&mut self, row: &PromptRow, choice: &Choice) -> Prediction {
        let features = self.features.and_then(|features| features.p(row.set, row.row));
        let p = self.settings.probability(choice, features);
        self.monitor.emit(Event::SampleScored {
            stage: StageId::Predict.into(),
            model: format!("{}/{}", if self.who == Who::Tuned { "tuned" } else { "zero_shot" }, row.variant.title()),
            row: row.row as u64,
            p,
            yes_no_mass: choice.mass(),
            label: Some(row.label),
        });
        self.count += 1;
        self.monitor.progress(self.count, self.total, "prompts");
        Prediction {
            model: self.who,
            set: row.set,
            row: row.row,
            variant: row.variant,
            score: self.settings.score,
            p,
            choice: *choice,
            label: row.label,
        }
    }

    fn report_cost(&mut self) {
        if self.unreported == 0 {
            return;
        }
        let seconds = self.since.elapsed().as_secs_f64();
        self.monitor.emit(Event::PromptCost { how: "plain".into(), prompts: self.unreported, seconds, tokens: 0 });
        self.cost.rows += self.unreported;
        self.cost.seconds += seconds;
        (self.since, self.unreported) = (Instant::now(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chat::Message;

    #[test]
    fn a_residual_adds_its_log_odds_to_those_of_the_features() {
        let mut recipe = Recipe::default();
        let choice = Choice { logits: [2.0, 1.0], log_sum_exp: 3.0 };
        let of = |recipe: &Recipe, features| PredictSettings::tuned(recipe).probability(&choice, features);
        let plain = of(&recipe, Some(0.3));
        assert!((plain - sigmoid(1.0)).abs() <= 1e-12);
        recipe.tune.residual = true;
        assert!((of(&recipe, Some(0.3)) - sigmoid((0.3f64 / 0.7).ln() + 1.0)).abs() <= 1e-12);
        assert!((of(&recipe, Some(0.5)) - plain).abs() <= 1e-12, "features that say nothing change nothing");
        assert!(of(&recipe, Some(1.0)) < 1.0 && of(&recipe, Some(0.0)) > 0.0);
        assert!((PredictSettings::zero_shot(&recipe).probability(&choice, Some(0.3)) - plain).abs() <= 1e-12);
    }

    #[test]
    fn d8_scoring_has_another_system_message_where_the_recipe_says_so() {
        let messages = vec![Message::system("Be kind."), Message::user("Seen: Heat. Next: Up?".to_string())];
        let prompt = Prompt { messages, split: 0, shown: vec![0], soft: Vec::new() };
        let read =
            |recipe: &Recipe, prompt: &Prompt| match PredictSettings::tuned(recipe).reading(Cow::Borrowed(prompt)) {
                Reading::Prompt(prompt) => prompt.into_owned(),
                Reading::Conversation(_) => panic!("not a prompt"),
            };
        let theirs = Recipe { faithful: true, ..Recipe::default() }.faithfully();
        assert_eq!(read(&Recipe::default(), &prompt), prompt);
        assert_eq!(read(&theirs, &prompt).messages, [Message::system(""), prompt.messages[1].clone()]);
        let bare = Prompt { messages: vec![prompt.messages[1].clone()], ..prompt.clone() };
        assert_eq!(read(&theirs, &bare), bare, "no turn is added");
    }
}
