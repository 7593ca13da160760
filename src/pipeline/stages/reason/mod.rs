//! `reason`: S sampled chains of thought a row, behind the hint, and the soft answer that each of them leads to.

mod live;

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::Ground;
use super::examples;
use super::language::{self, Language};
use super::predict::{Predictions, Who, as_probability};
use super::prompts::{PromptRow, Prompts};
use super::retrieve::{Set, Variant};
use super::scorer::Scorer;
use crate::config::Recipe;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::events::{Event, StageId};
use crate::generate::{self, Finish, Prompt, Sample};
use crate::monitor::CountedElsewhere;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::text::answer::hard_answer;
use crate::text::hint::hint;
use crate::text::prompts::{reasoning, second_pass};
use live::{Answers, Live};

/// One sampled answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reasoned {
    /// Which set.
    pub set: Set,
    /// Index of the sample (row of data).
    pub row: usize,
    /// Which of the S.
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

/// By (set, row), samples in order.
pub type Samples = HashMap<(Set, usize), Vec<Reasoned>>;

/// All of them.
pub struct Reasoning {
    /// By (set, row), samples in order.
    pub rows: Samples,
    /// The same test rows without the hint; empty unless `reason.ablation` asks for them.
    pub without_hint: Samples,
    /// The artifact.
    pub artifact: Artifact,
}

/// Rows whose samples are in flight at a time; a stop loses at most these.
const ROWS_AT_A_TIME: usize = 8;

/// Runs or reuses the stage.
pub fn reason(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    prompts: &Prompts,
    predictions: &Predictions,
    language: &mut super::Lazy<'_>,
) -> Result<Reasoning> {
    let spec = if recipe.model.reasoning.is_empty() { &recipe.model.path } else { &recipe.model.reasoning };
    let key = KeyBuilder::new(StageId::Reason.name(), 2)
        .input("prompts", &prompts.artifact.key)
        .input("predict", &predictions.artifact.key)
        .settings("reason", &(&recipe.reason, recipe.predict.score))?;
    let key = language::add_to_key(key, "model", spec, &recipe.model)?.finish();
    let artifact = run.stage(StageId::Reason, &key, |work| {
        let other;
        let language = if recipe.model.reasoning.is_empty() {
            language.get()?
        } else {
            other = Language::load(spec, recipe)?;
            &other
        };
        Stage { work, recipe, ground, predictions, language, model: Scorer::new(device, &language.model)? }
            .write(prompts)
    })?;
    let rows = |pass: Pass| -> Result<Samples> {
        let mut rows = Samples::new();
        for row in read_rows::<Reasoned>(&artifact.file(pass.file()))? {
            rows.entry((row.set, row.row)).or_default().push(row);
        }
        rows.values_mut().for_each(|r| r.sort_by_key(|s| s.sample));
        Ok(rows)
    };
    let without_hint = if ablates(recipe) { rows(Pass::WithoutHint)? } else { Samples::new() };
    Ok(Reasoning { rows: rows(Pass::Main)?, without_hint, artifact })
}

/// Without a hint there is nothing to leave out.
fn ablates(recipe: &Recipe) -> bool {
    recipe.reason.hint && recipe.reason.ablation
}

/// What is asked of the reasoning model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// What the recipe says, on validation and test rows.
    Main,
    /// The test rows once more, with the same random numbers and without the hint.
    WithoutHint,
}

impl Pass {
    fn file(self) -> &'static str {
        match self {
            Pass::Main => "samples.jsonl",
            Pass::WithoutHint => "without_hint.jsonl",
        }
    }

    /// Its rows, validation first.
    fn rows<'a>(self, recipe: &Recipe, prompts: &'a Prompts) -> Vec<&'a PromptRow> {
        let of = |set: Set, limit: usize| {
            let rows = prompts.rows.iter().filter(move |r| r.set == set && r.variant == Variant::Main);
            rows.take(if limit == 0 { usize::MAX } else { limit })
        };
        let test = of(Set::Test, recipe.reason.test_rows);
        match self {
            Pass::Main => of(Set::Valid, recipe.reason.valid_rows).chain(test).collect(),
            Pass::WithoutHint => test.collect(),
        }
    }
}

/// All that the work needs.
struct Stage<'a> {
    work: &'a Work<'a>,
    recipe: &'a Recipe,
    ground: &'a Ground,
    predictions: &'a Predictions,
    language: &'a Language,
    model: Scorer<'a>,
}

/// Answers so far, over all passes.
struct Count {
    done: u64,
    total: u64,
}

impl Stage<'_> {
    fn write(&self, prompts: &Prompts) -> Result<()> {
        let of = |pass: Pass| (pass, pass.rows(self.recipe, prompts));
        let mut passes = vec![of(Pass::Main)];
        if ablates(self.recipe) {
            passes.push(of(Pass::WithoutHint));
        }
        let rows: usize = passes.iter().map(|(_, rows)| rows.len()).sum();
        let mut count = Count { done: 0, total: (rows * self.recipe.reason.samples) as u64 };
        passes.iter().try_for_each(|(pass, rows)| self.pass(*pass, rows, &mut count))
    }

    fn pass(&self, pass: Pass, rows: &[&PromptRow], count: &mut Count) -> Result<()> {
        let (monitor, settings) = (self.work.monitor, &self.recipe.reason);
        let (mut file, done) = RowFile::<Reasoned>::open(&self.work.folder.join(pass.file()))?;
        let there: HashSet<(Set, usize, u32)> = done.iter().map(|r| (r.set, r.row, r.sample)).collect();
        count.done += done.len() as u64;
        monitor.progress(count.done, count.total, "answers");
        let sampling = generate::Settings {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            min_new_tokens: 0,
            max_new_tokens: settings.max_tokens,
            seed: self.recipe.reason.seed,
            ..generate::Settings::default()
        };
        let mut shown = 0;
        let mut live = Live::default();
        for some in rows.chunks(ROWS_AT_A_TIME) {
            monitor.check()?;
            let began = Instant::now();
            let mut asked = Vec::new();
            let mut hints = HashMap::new();
            for row in some {
                let missing: Vec<u32> =
                    (0..settings.samples as u32).filter(|&s| !there.contains(&(row.set, row.row, s))).collect();
                if missing.is_empty() {
                    continue;
                }
                let (p, sentence) = self.hint(pass, row)?;
                hints.insert(row.row, p);
                if pass == Pass::Main && shown < examples::PROMPTS {
                    examples::tell_prompt(monitor, self.ground, row, row.prompt.user(), &sentence);
                    shown += 1;
                }
                let chat = reasoning(&row.prompt, &sentence, &settings.prompt);
                let tokens = self.language.conversation_tokens(&chat)?;
                // Sample indices of the data are unique over validation and test, so they serve as random counters.
                let number = u32::try_from(row.row).map_err(|_| Error::failed("reason", "more than 2^32 samples"))?;
                asked.push(Prompt { row: number, tokens, samples: missing });
            }
            let mut answers = Answers { all: Vec::new(), live: &mut live, language: self.language, monitor };
            self.model.generate(&asked, &self.language.stop, &sampling, &CountedElsewhere(monitor), &mut answers)?;
            let mut answers = answers.all;
            answers.sort_by_key(|a| (a.row, a.sample));
            for row in some {
                let mine: Vec<&Sample> = answers.iter().filter(|a| a.row as usize == row.row).collect();
                for reasoned in self.judge(row, hints.get(&row.row).copied().flatten(), &mine)? {
                    // The live view has one place for a sample of a row: the recipe's own.
                    if pass == Pass::Main {
                        monitor.emit(self.event(&reasoned));
                    }
                    file.append(&reasoned)?;
                    count.done += 1;
                }
            }
            if !asked.is_empty() {
                let tokens = answers.iter().map(|a| a.tokens.len() as u64).sum();
                let (prompts, seconds) = (asked.len() as u64, began.elapsed().as_secs_f64());
                monitor.emit(Event::PromptCost { how: "reasoning".into(), prompts, seconds, tokens });
            }
            monitor.progress(count.done, count.total, "answers");
        }
        Ok(())
    }

    /// The tuned model's opinion and the sentence that tells it.
    fn hint(&self, pass: Pass, row: &PromptRow) -> Result<(Option<f64>, String)> {
        let wanted = self.recipe.reason.hint && pass == Pass::Main;
        let p = if wanted { self.predictions.p(Who::Tuned, row.set, row.row, Variant::Main) } else { None };
        let (score, certainty) = (self.recipe.predict.score, &self.recipe.reason.certainty);
        Ok((p, p.map(|p| hint(p, score, certainty)).transpose()?.unwrap_or_default()))
    }

    /// The second pass over the answers to one prompt.
    fn judge(&self, row: &PromptRow, hint: Option<f64>, answers: &[&Sample]) -> Result<Vec<Reasoned>> {
        if answers.is_empty() {
            return Ok(Vec::new());
        }
        let (settings, language) = (&self.recipe.reason, self.language);
        let texts: Vec<String> =
            answers.iter().map(|a| language.tokenizer.decode(&a.tokens, true)).collect::<Result<_>>()?;
        let mut bundle = Vec::with_capacity(texts.len());
        for text in &texts {
            let tokens = language.conversation_tokens(&second_pass(&row.prompt, text, &settings.prompt))?;
            bundle.push(within_context(tokens, language));
        }
        let choices = self.model.score(&[bundle], language.yes_no)?.into_iter().flatten();
        let reasoned = answers.iter().zip(texts).zip(choices).map(|((answer, text), choice)| Reasoned {
            set: row.set,
            row: row.row,
            sample: answer.sample,
            hint,
            answer: hard_answer(&text, settings.matching),
            text,
            tokens: answer.tokens.len() as u32,
            finished: answer.finish == Finish::Stop,
            p: as_probability(&choice, self.recipe.predict.score),
            mass: choice.mass(),
        });
        Ok(reasoned.collect())
    }

    fn event(&self, reasoned: &Reasoned) -> Event {
        Event::ReasoningSample {
            row: reasoned.row as u64,
            sample: reasoned.sample,
            p: reasoned.p,
            answer: reasoned.answer,
            tokens: reasoned.tokens,
            finished: reasoned.finished,
            text: reasoned.text.chars().take(400).collect(),
            label: Some(self.ground.sample(reasoned.row).label),
            hint: reasoned.hint,
            set: Some(reasoned.set.name().into()),
            yes_no_mass: Some(reasoned.mass),
        }
    }
}

/// A thought that does not fit behind its prompt loses its middle, never the question or the place of the answer.
fn within_context(tokens: Vec<u32>, language: &Language) -> Vec<u32> {
    let context = language.model.config().context;
    if tokens.len() <= context {
        return tokens;
    }
    let tail = context / 4;
    [&tokens[..context - tail], &tokens[tokens.len() - tail..]].concat()
}
