//! `reason`: S sampled chains of thought a row, behind the hint, and the soft answer that each of
//! them leads to.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::data::DataOutput;
use super::predict::{Predictions, as_probability};
use super::prompts::{PromptRow, PromptRows};
use crate::config::{self, Recipe};
use crate::content::Content;
use crate::data::{Dataset, Samples as DataSamples};
use crate::error::{Error, Result};
use crate::eval::Score;
use crate::events::{Event, StageId};
use crate::generate;
use crate::lm::{Answer, Ask, LanguageModel, Listener, Reading, View};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::ops::cross_entropy::Choice;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::examples;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::text::answer::hard_answer;
use crate::text::hint::hint;
use crate::text::prompts::{reasoning, second_pass};

/// The stage.
pub struct Reason;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct ReasonSettings<'r> {
    reason: &'r config::Reason,
    score: Score,
    /// Yes, no.
    answers: [&'r str; 2],
}

impl<'r> ReasonSettings<'r> {
    /// Of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let (own, predict) = (&recipe.reason, &recipe.predict);
        Self { reason: own, score: predict.score, answers: [&predict.yes, &predict.no] }
    }
}

/// What it reads.
pub struct ReasonInputs<'a> {
    /// Titles, for whoever watches.
    pub tables: &'a Made<Dataset>,
    /// As `tables`.
    pub samples: &'a Made<DataSamples>,
    /// Rows that may be reasoned about.
    pub prompts: &'a Made<PromptRows>,
    /// The tuned model's opinion, where the hint tells it.
    pub predictions: Option<&'a Made<Predictions>>,
    /// The reasoning model.
    pub model: View<'a>,
}

impl Inputs for ReasonInputs<'_> {
    fn contents(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(contents([
            ("prompts", Some(self.prompts.content())),
            ("predict", self.predictions.map(Made::content)),
            ("model", Some(self.model.identity()?)),
        ]))
    }
}

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

/// All sampled answers.
pub struct Reasoning {
    /// By (set, row), samples in order.
    pub rows: Samples,
    /// The same test rows without the hint; empty unless `reason.ablation` asks for them.
    pub without_hint: Samples,
}

impl Stage for Reason {
    const ID: StageId = StageId::Reason;
    const VERSION: u32 = 2;
    type Settings<'r> = ReasonSettings<'r>;
    type Inputs<'a> = ReasonInputs<'a>;
    type Output = Reasoning;

    fn run(settings: &ReasonSettings<'_>, inputs: &ReasonInputs<'_>, work: &Work<'_>) -> Result<()> {
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let predictions = inputs.predictions.map(Made::get).transpose()?;
        let model = inputs.model.open(work.device)?;
        Asking { work, settings, data, predictions, model: model.as_ref() }.write(inputs.prompts.get()?)
    }

    fn load(artifact: &Artifact) -> Result<Reasoning> {
        let rows = |pass: Pass| -> Result<Samples> {
            let mut rows = Samples::new();
            let file = artifact.file(pass.file());
            if pass == Pass::WithoutHint && !file.exists() {
                return Ok(rows);
            }
            for row in read_rows::<Reasoned>(&file)? {
                rows.entry((row.set, row.row)).or_default().push(row);
            }
            rows.values_mut().for_each(|r| r.sort_by_key(|s| s.sample));
            Ok(rows)
        };
        Ok(Reasoning { rows: rows(Pass::Main)?, without_hint: rows(Pass::WithoutHint)? })
    }
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
    fn rows<'a>(self, settings: &config::Reason, prompts: &'a PromptRows) -> Vec<&'a PromptRow> {
        let of = |set: Set, limit: usize| {
            let rows = prompts.rows.iter().filter(move |r| r.set == set && r.variant == Variant::Main);
            rows.take(if limit == 0 { usize::MAX } else { limit })
        };
        let test = of(Set::Test, settings.test_rows);
        match self {
            Pass::Main => of(Set::Valid, settings.valid_rows).chain(test).collect(),
            Pass::WithoutHint => test.collect(),
        }
    }
}

/// All that the work needs.
struct Asking<'a> {
    work: &'a Work<'a>,
    settings: &'a ReasonSettings<'a>,
    data: DataOutput<'a>,
    predictions: Option<&'a Predictions>,
    model: &'a dyn LanguageModel,
}

/// Answers so far, over all passes.
struct Count {
    done: u64,
    total: u64,
}

/// Keeps the answers and lets one of them be read while it is written.
struct Answers<'a> {
    all: Vec<Answer>,
    monitor: &'a dyn Monitor,
}

impl Listener for Answers<'_> {
    fn piece(&mut self, row: u32, sample: u32, start: bool, text: &str) -> Result<()> {
        self.monitor.emit(Event::TextChunk { row: row.into(), sample, start, text: text.into() });
        Ok(())
    }

    fn finished(&mut self, answer: Answer) -> Result<()> {
        self.all.push(answer);
        Ok(())
    }
}

impl Asking<'_> {
    fn write(&self, prompts: &PromptRows) -> Result<()> {
        let settings = self.settings.reason;
        let of = |pass: Pass| (pass, pass.rows(settings, prompts));
        let mut passes = vec![of(Pass::Main)];
        // Without a hint there is nothing to leave out.
        if settings.hint && settings.ablation {
            passes.push(of(Pass::WithoutHint));
        }
        let rows: usize = passes.iter().map(|(_, rows)| rows.len()).sum();
        let mut count = Count { done: 0, total: (rows * settings.samples) as u64 };
        passes.iter().try_for_each(|(pass, rows)| self.pass(*pass, rows, &mut count))
    }

    fn pass(&self, pass: Pass, rows: &[&PromptRow], count: &mut Count) -> Result<()> {
        let (monitor, settings) = (self.work.monitor, self.settings.reason);
        let (mut file, done) = RowFile::<Reasoned>::open(&self.work.folder.join(pass.file()))?;
        let there: HashSet<(Set, usize, u32)> = done.iter().map(|r| (r.set, r.row, r.sample)).collect();
        count.done += done.len() as u64;
        monitor.progress(count.done, count.total, "answers");
        let sampling = generate::GenerateSettings {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            min_new_tokens: 0,
            max_new_tokens: settings.max_tokens,
            seed: settings.seed,
            ..generate::GenerateSettings::default()
        };
        let mut shown = 0;
        for some in rows.chunks(self.model.rows_in_flight().max(1)) {
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
                    examples::tell_prompt(monitor, self.data, row, row.prompt.user(), &sentence);
                    shown += 1;
                }
                let chat = reasoning(&row.prompt, &sentence, &settings.prompt);
                // Sample indices of the data are unique over validation and test, so they serve as
                // random counters.
                let number = u32::try_from(row.row).map_err(|_| Error::failed("reason", "more than 2^32 samples"))?;
                asked.push(Ask { row: number, reading: Reading::Conversation(chat), samples: missing });
            }
            let mut answers = Answers { all: Vec::new(), monitor };
            self.model.write_on(&asked, &sampling, &CountedElsewhere(monitor), &mut answers)?;
            let mut answers = answers.all;
            answers.sort_by_key(|a| (a.row, a.sample));
            for reasoned in self.judge(some, &hints, &answers)? {
                // The live view has one place for a sample of a row: the recipe's own.
                if pass == Pass::Main {
                    monitor.emit(self.event(&reasoned));
                }
                file.append(&reasoned)?;
                count.done += 1;
            }
            if !asked.is_empty() {
                let tokens = answers.iter().map(|a| u64::from(a.tokens)).sum();
                let (prompts, seconds) = (asked.len() as u64, began.elapsed().as_secs_f64());
                monitor.emit(Event::PromptCost { how: "reasoning".into(), prompts, seconds, tokens });
            }
            monitor.progress(count.done, count.total, "answers");
        }
        Ok(())
    }

    /// The tuned model's opinion and the sentence that tells it.
    fn hint(&self, pass: Pass, row: &PromptRow) -> Result<(Option<f64>, String)> {
        let predictions = self.predictions.filter(|_| pass == Pass::Main);
        let p = predictions.and_then(|p| p.p(row.set, row.row, Variant::Main));
        let (score, certainty) = (self.settings.score, &self.settings.reason.certainty);
        Ok((p, p.map(|p| hint(p, score, certainty)).transpose()?.unwrap_or_default()))
    }

    /// The second pass over the answers to some prompts, row by row.
    fn judge(
        &self,
        rows: &[&PromptRow],
        hints: &HashMap<usize, Option<f64>>,
        answers: &[Answer],
    ) -> Result<Vec<Reasoned>> {
        let settings = self.settings.reason;
        let own = |row: &&PromptRow| -> Vec<&Answer> { answers.iter().filter(|a| a.row as usize == row.row).collect() };
        let answered: Vec<(&PromptRow, Vec<&Answer>)> =
            rows.iter().map(|row| (*row, own(row))).filter(|(_, answers)| !answers.is_empty()).collect();
        let reading = |row: &PromptRow, answer: &Answer| {
            Reading::Conversation(second_pass(&row.prompt, &answer.text, &settings.prompt))
        };
        let bundles: Vec<Vec<Reading<'_>>> =
            answered.iter().map(|(row, answers)| answers.iter().map(|a| reading(row, a)).collect()).collect();
        let mut out = Vec::with_capacity(answers.len());
        let mut received = |at: usize, choices: &[Choice]| {
            let (row, answers) = &answered[at];
            out.extend(answers.iter().zip(choices).map(|(answer, choice)| Reasoned {
                set: row.set,
                row: row.row,
                sample: answer.sample,
                hint: hints.get(&row.row).copied().flatten(),
                answer: hard_answer(&answer.text, settings.matching),
                text: answer.text.clone(),
                tokens: answer.tokens,
                finished: answer.finished,
                p: as_probability(choice, self.settings.score),
                mass: choice.mass(),
            }));
            Ok(())
        };
        self.model.score(&bundles, self.settings.answers, self.work.monitor, &mut received)?;
        Ok(out)
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
            label: Some(self.data.sample(reasoned.row).label),
            hint: reasoned.hint,
            set: Some(reasoned.set.name().into()),
            yes_no_mass: Some(reasoned.mass),
        }
    }
}
