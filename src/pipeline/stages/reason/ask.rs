//! Asking the reasoning model: what is missing, the samples, the second pass over each.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::super::data::DataOutput;
use super::super::predict::{Predictions, as_probability};
use super::super::prompts::{PromptRow, PromptRows};
use super::question::Questions;
use super::{Pass, ReasonSettings, Reasoned};
use crate::content::Content;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::generate;
use crate::lm::{Answer, Ask, LanguageModel, Listener, Reading};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::ops::cross_entropy::Choice;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::earlier::{AskedFile, Earlier, Named};
use crate::pipeline::examples;
use crate::pipeline::stage::Work;
use crate::text::answer::hard_answer;
use crate::text::hint::hint;
use crate::text::prompts::{reasoning, second_pass};

/// All that the work needs but the model.
pub(super) struct Asking<'a> {
    pub work: &'a Work<'a>,
    pub settings: &'a ReasonSettings<'a>,
    pub data: DataOutput<'a>,
    pub predictions: Option<&'a Predictions>,
}

/// A pass with the samples that are stored already, and those that the model has to write.
struct Begun<'p> {
    pass: Pass,
    rows: Vec<&'p PromptRow>,
    file: AskedFile<Reasoned>,
    missing: Vec<Missing<'p>>,
}

/// Samples of a row that the model has to write.
struct Missing<'p> {
    row: &'p PromptRow,
    /// The tuned model's opinion, and the sentence that states it.
    p: Option<f64>,
    hint: String,
    /// Their numbers, and what each was asked.
    samples: Vec<(u32, Content)>,
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
    /// `open` loads the model; it is not called where no sample is missing.
    pub fn write<'m>(
        &self,
        prompts: &PromptRows,
        others: Option<&PromptRows>,
        questions: &Questions<'_>,
        earlier: &Earlier<Reasoned>,
        open: impl FnOnce() -> Result<Box<dyn LanguageModel + 'm>>,
    ) -> Result<()> {
        let settings = &self.settings.reason;
        let mut passes = vec![(Pass::Main, Pass::Main.rows(settings, prompts))];
        // Without a hint there is nothing to leave out.
        if settings.hint && settings.ablation {
            passes.push((Pass::WithoutHint, Pass::WithoutHint.rows(settings, prompts)));
        }
        if let Some(others) = others {
            passes.push((Pass::WithoutRetrieval, Pass::WithoutRetrieval.rows(settings, others)));
        }
        let rows: usize = passes.iter().map(|(_, rows)| rows.len()).sum();
        let mut count = Count { done: 0, total: (rows * settings.samples) as u64 };
        let mut begun = Vec::new();
        for (pass, rows) in passes {
            begun.push(self.begin(pass, rows, questions, earlier, &mut count)?);
        }
        self.work.monitor.progress(count.done, count.total, "answers");
        if begun.iter().any(|pass| !pass.missing.is_empty()) {
            let model = open()?;
            begun.iter_mut().try_for_each(|pass| self.finish(pass, model.as_ref(), &mut count))?;
        }
        for Begun { rows, file, .. } in begun {
            let order: HashMap<_, usize> = rows.iter().enumerate().map(|(n, r)| ((r.set, r.row), n)).collect();
            file.sorted_by_key(|r| (order.get(&(r.set, r.row)).copied(), r.sample))?;
        }
        Ok(())
    }

    /// Opens the pass's file and takes over what another artifact was asked.
    fn begin<'p>(
        &self,
        pass: Pass,
        rows: Vec<&'p PromptRow>,
        questions: &Questions<'_>,
        earlier: &Earlier<Reasoned>,
        count: &mut Count,
    ) -> Result<Begun<'p>> {
        let (mut file, done) = AskedFile::<Reasoned>::open(self.work.folder, pass.files())?;
        let there: HashSet<(Set, usize, u32)> = done.iter().map(Reasoned::name).collect();
        count.done += done.len() as u64;
        let mut missing = Vec::new();
        for &row in &rows {
            let (p, hint) = self.hint(pass, row)?;
            let mut samples = Vec::new();
            for sample in (0..self.settings.reason.samples as u32).filter(|&s| !there.contains(&(row.set, row.row, s)))
            {
                let question = questions.of(row, &hint, sample)?;
                match earlier.get(&question) {
                    // The sentence is the same; the number behind it need not be.
                    Some(found) => {
                        let reasoned = Reasoned { set: row.set, hint: p, ..found.clone() };
                        self.store(pass, &mut file, &reasoned, &question)?;
                        count.done += 1;
                    }
                    None => samples.push((sample, question)),
                }
            }
            if !samples.is_empty() {
                missing.push(Missing { row, p, hint, samples });
            }
        }
        Ok(Begun { pass, rows, file, missing })
    }

    fn store(&self, pass: Pass, file: &mut AskedFile<Reasoned>, reasoned: &Reasoned, asked: &Content) -> Result<()> {
        // The live view has one place for a sample of a row: the recipe's own.
        if pass == Pass::Main {
            self.work.monitor.emit(self.event(reasoned));
        }
        file.append(reasoned, asked)
    }

    /// Has the model write what is missing.
    fn finish(&self, begun: &mut Begun<'_>, model: &dyn LanguageModel, count: &mut Count) -> Result<()> {
        let (monitor, settings) = (self.work.monitor, &self.settings.reason);
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
        for some in begun.missing.chunks(model.rows_in_flight().max(1)) {
            monitor.check()?;
            let began = Instant::now();
            let mut asked = Vec::new();
            for Missing { row, hint, samples, .. } in some {
                if begun.pass == Pass::Main && shown < examples::PROMPTS {
                    examples::report_prompt(monitor, self.data, row, row.prompt.user(), hint);
                    shown += 1;
                }
                let chat = reasoning(&row.prompt, hint, &settings.prompt);
                // Sample indices of the data are unique over validation and test, so they serve as
                // random counters.
                let number = u32::try_from(row.row).map_err(|_| Error::failed("reason", "more than 2^32 samples"))?;
                let samples = samples.iter().map(|(sample, _)| *sample).collect();
                asked.push(Ask { row: number, reading: Reading::Conversation(chat), samples });
            }
            let mut answers = Answers { all: Vec::new(), monitor };
            model.write_on(&asked, &sampling, &CountedElsewhere(monitor), &mut answers)?;
            let mut answers = answers.all;
            answers.sort_by_key(|a| (a.row, a.sample));
            for (reasoned, question) in self.judge(some, &answers, model)? {
                self.store(begun.pass, &mut begun.file, &reasoned, &question)?;
                count.done += 1;
            }
            let tokens = answers.iter().map(|a| u64::from(a.tokens)).sum();
            let (prompts, seconds) = (asked.len() as u64, began.elapsed().as_secs_f64());
            monitor.emit(Event::PromptCost { how: "reasoning".into(), prompts, seconds, tokens });
            monitor.progress(count.done, count.total, "answers");
        }
        Ok(())
    }

    /// The tuned model's opinion and the sentence that states it.
    fn hint(&self, pass: Pass, row: &PromptRow) -> Result<(Option<f64>, String)> {
        let predictions = self.predictions.filter(|_| pass == Pass::Main);
        let p = predictions.and_then(|p| p.p(row.set, row.row, Variant::Main));
        let (score, certainty) = (self.settings.score, &self.settings.reason.certainty);
        Ok((p, p.map(|p| hint(p, score, certainty)).transpose()?.unwrap_or_default()))
    }

    /// The second pass over the answers to some prompts, row by row.
    fn judge(
        &self,
        rows: &[Missing<'_>],
        answers: &[Answer],
        model: &dyn LanguageModel,
    ) -> Result<Vec<(Reasoned, Content)>> {
        let settings = &self.settings.reason;
        let own = |row: &PromptRow| -> Vec<&Answer> { answers.iter().filter(|a| a.row as usize == row.row).collect() };
        let answered: Vec<(&Missing<'_>, Vec<&Answer>)> =
            rows.iter().map(|asked| (asked, own(asked.row))).filter(|(_, answers)| !answers.is_empty()).collect();
        let reading = |row: &PromptRow, answer: &Answer| {
            Reading::Conversation(second_pass(&row.prompt, &answer.text, &settings.prompt))
        };
        let bundles: Vec<Vec<Reading<'_>>> =
            answered.iter().map(|(asked, answers)| answers.iter().map(|a| reading(asked.row, a)).collect()).collect();
        let mut out = Vec::with_capacity(answers.len());
        let mut received = |at: usize, choices: &[Choice]| {
            let (asked, answers) = &answered[at];
            for (answer, choice) in answers.iter().zip(choices) {
                // A sample that was not asked for has no place.
                let Some((_, question)) = asked.samples.iter().find(|(sample, _)| *sample == answer.sample) else {
                    continue;
                };
                let reasoned = Reasoned {
                    set: asked.row.set,
                    row: asked.row.row,
                    sample: answer.sample,
                    hint: asked.p,
                    answer: hard_answer(&answer.text, settings.matching),
                    text: answer.text.clone(),
                    tokens: answer.tokens,
                    finished: answer.finished,
                    p: as_probability(choice, self.settings.score),
                    mass: choice.mass(),
                };
                out.push((reasoned, question.clone()));
            }
            Ok(())
        };
        model.score(&bundles, self.settings.answers, self.work.monitor, &mut received)?;
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
