//! A part of `reason`: the reasoning model tuned by reward on its own samples. It thinks about the
//! tuning rows; of each row the thought that leads best to the right answer is kept, if it leads
//! there at all, and the model is tuned to write it (rejection sampling; RFT of Yuan et al., 2023,
//! one round of STaR of Zelikman et al., NeurIPS 2022).

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::super::predict::as_probability;
use super::super::prompts::{PromptRow, PromptRows};
use super::super::tune::Tuned;
use super::ReasonSettings;
use crate::config::{self, Recipe};
use crate::content::Content;
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::Score;
use crate::events::StageId;
use crate::generate;
use crate::lm::{Answer, Ask, LanguageModel, Listener, Local, Reading, View};
use crate::models::decoder::train::{Branch, Group};
use crate::models::lora::Adapter;
use crate::monitor::{CountedElsewhere, Monitor};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::Set;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::text::prompts::{reasoning, second_pass};
use crate::tune::{LoraSettings, Training};

/// Tunes the reasoning model.
pub struct TuneByReward;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct RewardSettings<'r> {
    reason: ReasonSettings<'r>,
    lora: LoraSettings,
}

impl<'r> RewardSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let neutral = config::Reason::default();
        let mut reason = ReasonSettings::of(recipe);
        // Thoughts about tuning rows have no hint, and all samples are taken.
        let own = reason.reason.to_mut();
        (own.valid_rows, own.test_rows) = (neutral.valid_rows, neutral.test_rows);
        (own.hint, own.ablation, own.without_retrieval) = (neutral.hint, neutral.ablation, neutral.without_retrieval);
        (own.adaptive, own.adaptive_step) = (neutral.adaptive, neutral.adaptive_step);
        own.certainty = neutral.certainty;
        let seconds = LoraSettings::default().checkpoint_seconds;
        Self { reason, lora: LoraSettings { checkpoint_seconds: seconds, ..recipe.tune.lora.clone() } }
    }
}

/// What it reads.
pub struct RewardInputs<'a> {
    /// Tuning rows.
    pub prompts: &'a Made<PromptRows>,
    /// The model.
    pub model: View<'a>,
}

impl Inputs for RewardInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("prompts", self.prompts.content())]
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("model", self.model.identity()?)])
    }
}

/// How many rows and thoughts there were.
const SUMMARY: &str = "reward.json";

impl Stage for TuneByReward {
    const ID: StageId = StageId::Reason;
    const VERSION: u32 = 1;
    const NOTES: &'static [&'static str] = &[SUMMARY];
    type Settings<'r> = RewardSettings<'r>;
    type Inputs<'a> = RewardInputs<'a>;
    type Output = Tuned;

    fn run(settings: &RewardSettings<'_>, inputs: &RewardInputs<'_>, work: &Work<'_>) -> Result<()> {
        let local = inputs.model.local()?;
        let rows = once_each(&inputs.prompts.get()?.rows);
        let thoughts = thoughts(&settings.reason, &rows, inputs.model.open(work.device)?.as_ref(), work.monitor)?;
        let kept = best(&thoughts);
        let groups = groups(settings, &rows, &kept, local)?;
        if groups.is_empty() {
            let what = format!(
                "none of {} thoughts about {} tuning rows leads to the right answer",
                thoughts.len(),
                rows.len()
            );
            return Err(Error::input("reason.tuned_by", what).next("raise reason.samples or rows.tune"));
        }
        let (config, lora) = (local.model.config(), &settings.lora);
        let adapter = Adapter::init(config, lora.rank, lora.alpha, &lora.targets, lora.seed)?;
        let checkpoint = work.folder.join("checkpoint");
        let training = Training {
            device: work.device,
            config,
            source: &groups,
            settings: lora,
            checkpoint: Some(&checkpoint),
            monitor: work.monitor,
            arithmetic: inputs.model.learns_in(),
        };
        let done = training.adapter(local.model.weights(), adapter, None)?;
        Tuned::write(work.folder, &done.best, config, inputs.model.spec())?;
        let summary = serde_json::json!({ "rows": rows.len(), "thoughts": thoughts.len(), "kept": groups.len() });
        durable::write(&work.folder.join(SUMMARY), summary.to_string().as_bytes())?;
        if checkpoint.exists() {
            std::fs::remove_dir_all(&checkpoint).map_err(|e| Error::io(&checkpoint, "remove the folder", &e))?;
        }
        Ok(())
    }

    fn load(artifact: &Artifact) -> Result<Tuned> {
        Ok(Tuned::of(artifact))
    }
}

/// Each tuning row in its first rendering.
fn once_each(rows: &[PromptRow]) -> Vec<&PromptRow> {
    let mut seen = HashSet::new();
    rows.iter().filter(|row| row.set == Set::Tune && seen.insert(row.row)).collect()
}

/// A sampled thought.
#[derive(Debug, Clone, PartialEq)]
struct Thought {
    /// Place of its row.
    at: usize,
    text: String,
    /// Probability of the row's label behind it.
    reward: f64,
}

/// Keeps answers.
struct Kept(Vec<Answer>);

impl Listener for Kept {
    fn finished(&mut self, answer: Answer) -> Result<()> {
        self.0.push(answer);
        Ok(())
    }
}

fn thoughts(
    settings: &ReasonSettings<'_>,
    rows: &[&PromptRow],
    model: &dyn LanguageModel,
    monitor: &dyn Monitor,
) -> Result<Vec<Thought>> {
    let own = &settings.reason;
    let sampling = generate::GenerateSettings {
        temperature: own.temperature,
        top_p: own.top_p,
        top_k: own.top_k,
        max_new_tokens: own.max_tokens,
        seed: own.seed,
        ends: if own.stop_at_answer { model.spellings(settings.answers) } else { Vec::new() },
        ..generate::GenerateSettings::default()
    };
    let (mut out, size) = (Vec::new(), model.rows_in_flight().max(1));
    for (n, some) in rows.chunks(size).enumerate() {
        monitor.check()?;
        let ask = |(place, row): (usize, &&PromptRow)| Ask {
            row: (n * size + place) as u32,
            reading: Reading::Conversation(reasoning(&row.prompt, "", &own.prompt)),
            samples: (0..own.samples as u32).collect(),
        };
        let asked: Vec<Ask<'_>> = some.iter().enumerate().map(ask).collect();
        let mut answers = Kept(Vec::new());
        model.write_on(&asked, &sampling, &CountedElsewhere(monitor), &mut answers)?;
        answers.0.sort_by_key(|answer| (answer.row, answer.sample));
        let bundles: Vec<Vec<Reading<'_>>> = answers
            .0
            .iter()
            .map(|a| vec![Reading::Conversation(second_pass(&rows[a.row as usize].prompt, &a.text, &own.prompt))])
            .collect();
        let mut received = |place: usize, choices: &[crate::ops::cross_entropy::Choice]| {
            let answer = &answers.0[place];
            let at = answer.row as usize;
            let p = choices.first().map_or(0.5, |choice| as_probability(choice, Score::TwoWay));
            let reward = if rows[at].label { p } else { 1.0 - p };
            out.push(Thought { at, text: answer.text.clone(), reward });
            Ok(())
        };
        model.score(&bundles, settings.answers, &CountedElsewhere(monitor), &mut received)?;
        monitor.progress((n * size + some.len()) as u64, rows.len() as u64, "rows thought about");
    }
    Ok(out)
}

/// Of each row the thought with the highest reward, the first of equal ones, where it is above
/// even.
fn best(thoughts: &[Thought]) -> BTreeMap<usize, &Thought> {
    let mut kept: BTreeMap<usize, &Thought> = BTreeMap::new();
    for thought in thoughts.iter().filter(|thought| thought.reward > 0.5 && !thought.text.is_empty()) {
        let best = kept.entry(thought.at).or_insert(thought);
        if thought.reward > best.reward {
            *best = thought;
        }
    }
    kept
}

/// The kept thoughts behind their prompts. One that does not fit into the context is left out.
fn groups(
    settings: &RewardSettings<'_>,
    rows: &[&PromptRow],
    kept: &BTreeMap<usize, &Thought>,
    model: &Local,
) -> Result<Vec<Group>> {
    let mut out = Vec::new();
    for (&at, thought) in kept {
        let chat = reasoning(&rows[at].prompt, "", &settings.reason.reason.prompt);
        let mut tokens = model.tokens(&Reading::Conversation(chat))?;
        let first = tokens.len();
        tokens.extend(model.answer_tokens(&thought.text, settings.lora.train_end_of_turn)?);
        if tokens.len() <= model.model.config().context && tokens.len() > first {
            let targets = first..tokens.len();
            out.push(Group { prefix: Vec::new(), branches: vec![Branch { tokens, targets, weight: 1.0 }] });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_row_the_best_thought_is_kept_if_it_leads_to_the_answer() {
        let thought = |at, text: &str, reward| Thought { at, text: text.into(), reward };
        let all = [
            thought(0, "a", 0.6),
            thought(0, "b", 0.9),
            thought(0, "c", 0.9),
            thought(1, "d", 0.5),
            thought(1, "e", 0.2),
            thought(2, "", 0.99),
            thought(2, "f", 0.51),
        ];
        let kept: Vec<(usize, &str)> = best(&all).iter().map(|(at, t)| (*at, t.text.as_str())).collect();
        assert_eq!(kept, [(0, "b"), (2, "f")]);
    }
}
