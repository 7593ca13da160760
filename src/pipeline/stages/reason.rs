//! `reason`: S sampled chains of thought a row, behind the hint, and the soft answer that each of them leads to.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::data::Ground;
use super::examples;
use super::language::{self, Language};
use super::predict::{Predictions, Scorer, Who, as_probability};
use super::prompts::{PromptRow, Prompts};
use super::retrieve::{Set, Variant};
use crate::config::Recipe;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::generate::{self, Finish, Listener, Prompt, Sample};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::pipeline::artifact::Artifact;
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::run::{Run, Work};
use crate::text::answer::hard_answer;
use crate::text::hint::hint;
use crate::text::prompts::{reasoning, second_pass};

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

/// All of them.
pub struct Reasoning {
    /// By (set, row), samples in order.
    pub rows: HashMap<(Set, usize), Vec<Reasoned>>,
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
    let key = KeyBuilder::new("reason", 1)
        .input("prompts", &prompts.artifact.key)
        .input("predict", &predictions.artifact.key)
        .settings("reason", &(&recipe.reason, recipe.predict.score, recipe.seed))?;
    let key = language::add_to_key(key, "model", spec, &recipe.model)?.finish();
    let artifact = run.stage("reason", &key, |work| {
        if recipe.model.reasoning.is_empty() {
            write(work, recipe, device, ground, prompts, predictions, language.get()?)
        } else {
            let other = Language::load(spec, recipe)?;
            write(work, recipe, device, ground, prompts, predictions, &other)
        }
    })?;
    let mut rows: HashMap<_, Vec<Reasoned>> = HashMap::new();
    for row in read_rows::<Reasoned>(&artifact.file("samples.jsonl"))? {
        rows.entry((row.set, row.row)).or_default().push(row);
    }
    rows.values_mut().for_each(|r| r.sort_by_key(|s| s.sample));
    Ok(Reasoning { rows, artifact })
}

/// The rows that are reasoned about.
fn wanted<'a>(recipe: &Recipe, prompts: &'a Prompts) -> Vec<&'a PromptRow> {
    let of = |set: Set, limit: usize| {
        let rows = prompts.rows.iter().filter(move |r| r.set == set && r.variant == Variant::Main);
        rows.take(if limit == 0 { usize::MAX } else { limit })
    };
    of(Set::Valid, recipe.reason.valid_rows).chain(of(Set::Test, recipe.reason.test_rows)).collect()
}

fn write(
    work: &Work<'_>,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    prompts: &Prompts,
    predictions: &Predictions,
    language: &Language,
) -> Result<()> {
    let settings = &recipe.reason;
    let (mut file, done) = RowFile::<Reasoned>::open(&work.folder.join("samples.jsonl"))?;
    let there: HashSet<(Set, usize, u32)> = done.iter().map(|r| (r.set, r.row, r.sample)).collect();
    let rows = wanted(recipe, prompts);
    let total = (rows.len() * settings.samples) as u64;
    let mut count = done.len() as u64;
    work.monitor.progress(count, total, "answers");
    let sampling = generate::Settings {
        temperature: settings.temperature,
        top_p: settings.top_p,
        top_k: settings.top_k,
        min_new_tokens: 0,
        max_new_tokens: settings.max_tokens,
        seed: recipe.seed,
        ..generate::Settings::default()
    };
    let mut shown = 0;
    let mut live = Live::default();
    let model = Scorer::new(device, &language.model)?;
    for some in rows.chunks(ROWS_AT_A_TIME) {
        work.monitor.check()?;
        let began = Instant::now();
        let mut asked = Vec::new();
        let mut hints = HashMap::new();
        for row in some {
            let missing: Vec<u32> =
                (0..settings.samples as u32).filter(|&s| !there.contains(&(row.set, row.row, s))).collect();
            if missing.is_empty() {
                continue;
            }
            let p = if settings.hint { predictions.p(Who::Tuned, row.set, row.row, Variant::Main) } else { None };
            let sentence =
                p.map(|p| hint(p, recipe.predict.score, &settings.certainty)).transpose()?.unwrap_or_default();
            hints.insert(row.row, p);
            if shown < examples::PROMPTS {
                examples::tell_prompt(work.monitor, ground, row, row.prompt.user(), &sentence);
                shown += 1;
            }
            let tokens = language.conversation_tokens(&reasoning(&row.prompt, &sentence, &settings.prompt))?;
            // Sample indices of the data are unique over validation and test, so they serve as random counters.
            let number = u32::try_from(row.row).map_err(|_| Error::failed("reason", "more than 2^32 samples"))?;
            asked.push(Prompt { row: number, tokens, samples: missing });
        }
        let prompts_asked = asked.len() as u64;
        let mut answers = Answers { all: Vec::new(), live: &mut live, language, monitor: work.monitor };
        model.generate(&asked, &language.stop, &sampling, &CountedElsewhere(work.monitor), &mut answers)?;
        let mut answers = answers.all;
        answers.sort_by_key(|a| (a.row, a.sample));
        let tokens = answers.iter().map(|a| a.tokens.len() as u64).sum();
        for row in some {
            let mine: Vec<&Sample> = answers.iter().filter(|a| a.row as usize == row.row).collect();
            if mine.is_empty() {
                continue;
            }
            let texts: Vec<String> =
                mine.iter().map(|a| language.tokenizer.decode(&a.tokens, true)).collect::<Result<_>>()?;
            let mut bundle = Vec::with_capacity(texts.len());
            for text in &texts {
                let tokens = language.conversation_tokens(&second_pass(&row.prompt, text, &settings.prompt))?;
                bundle.push(within_context(tokens, language));
            }
            let choices = model.score(&[bundle], language.yes_no)?.into_iter().flatten();
            for ((answer, text), choice) in mine.iter().zip(texts).zip(choices) {
                let reasoned = Reasoned {
                    set: row.set,
                    row: row.row,
                    sample: answer.sample,
                    hint: hints.get(&row.row).copied().flatten(),
                    answer: hard_answer(&text, settings.matching),
                    text,
                    tokens: answer.tokens.len() as u32,
                    finished: answer.finish == Finish::Stop,
                    p: as_probability(&choice, recipe.predict.score),
                    mass: choice.mass(),
                };
                work.monitor.emit(Event::ReasoningSample {
                    row: reasoned.row as u64,
                    sample: reasoned.sample,
                    p: reasoned.p,
                    answer: reasoned.answer,
                    tokens: reasoned.tokens,
                    finished: reasoned.finished,
                    text: reasoned.text.chars().take(400).collect(),
                    label: Some(ground.sample(row.row).label),
                    hint: reasoned.hint,
                    set: Some(row.set.name().into()),
                    yes_no_mass: Some(reasoned.mass),
                });
                file.append(&reasoned)?;
                count += 1;
            }
        }
        if prompts_asked > 0 {
            let seconds = began.elapsed().as_secs_f64();
            work.monitor.emit(Event::PromptCost { how: "reasoning".into(), prompts: prompts_asked, seconds, tokens });
        }
        work.monitor.progress(count, total, "answers");
    }
    Ok(())
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

/// Keeps the answers and lets one of them be read while it is written.
struct Answers<'a> {
    all: Vec<Sample>,
    live: &'a mut Live,
    language: &'a Language,
    monitor: &'a dyn Monitor,
}

/// The sample whose text is told as it comes.
#[derive(Default)]
struct Live {
    /// (row, sample); `None` before the first and after the end of one.
    of: Option<(u32, u32)>,
    tokens: Vec<u32>,
    /// Bytes of the text that are told already.
    told: usize,
    at: Option<Instant>,
}

/// The text is told about this often.
const LIVE: Duration = Duration::from_millis(200);

impl Answers<'_> {
    fn tell(&mut self) -> Result<()> {
        let Some((row, sample)) = self.live.of else { return Ok(()) };
        let text = self.language.tokenizer.decode(&self.live.tokens, true)?;
        // A character that is not whole yet, or a tokenizer that takes back what it said: wait for more.
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(new) = whole.get(self.live.told..).filter(|new| !new.is_empty()) {
            let start = self.live.told == 0;
            self.monitor.emit(Event::TextChunk { row: row.into(), sample, start, text: new.into() });
            self.live.told = whole.len();
        }
        self.live.at = Some(Instant::now());
        Ok(())
    }
}

impl Listener for Answers<'_> {
    fn token(&mut self, row: u32, sample: u32, token: u32) -> Result<()> {
        if self.live.of.is_none() {
            *self.live = Live { of: Some((row, sample)), at: self.live.at, ..Live::default() };
        }
        if self.live.of != Some((row, sample)) {
            return Ok(());
        }
        self.live.tokens.push(token);
        if self.live.at.is_none_or(|at| at.elapsed() >= LIVE) { self.tell() } else { Ok(()) }
    }

    fn finished(&mut self, sample: Sample) -> Result<()> {
        if self.live.of == Some((sample.row, sample.sample)) {
            // Short answers follow each other faster than anyone reads: only some of them are shown whole.
            if self.live.told > 0 {
                self.tell()?;
            }
            self.live.of = None;
        }
        self.all.push(sample);
        Ok(())
    }
}
