//! Asking the reasoning model: what is missing, the samples, the second pass over each.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::super::data::DataOutput;
use super::super::predict::{Predictions, as_probability};
use super::super::prompts::{PromptRow, PromptRows};
use super::enough::wanted;
use super::question::Questions;
use super::{Pass, ReasonSettings, Reasoned};
use crate::config;
use crate::content::Content;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::generate;
use crate::lm::{Answer, Ask, LanguageModel, Listener, Reading};
use crate::monitor::{CountedElsewhere, Monitor};
use crate::ops::cross_entropy::Choice;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::cost::AskedCost;
use crate::pipeline::earlier::{AskedFile, Earlier};
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
    /// P(Yes) of the samples that are there, by their numbers.
    there: BTreeMap<u32, f64>,
}

impl Missing<'_> {
    /// Numbers of the samples that are asked for next; none where the row has enough.
    fn next(&self, settings: &config::Reason) -> Vec<u32> {
        // Those from the first on without a gap tell how many are enough.
        let known: Vec<f64> = (0u32..).map_while(|sample| self.there.get(&sample).copied()).collect();
        (0..wanted(&known, settings) as u32).filter(|sample| !self.there.contains_key(sample)).collect()
    }
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
            for pass in &mut begun {
                let cost = self.finish(pass, questions, model.as_ref(), &mut count)?;
                if pass.pass == Pass::Main {
                    cost.write(self.work.folder)?;
                }
            }
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
        let mut there: HashMap<(Set, usize), BTreeMap<u32, f64>> = HashMap::new();
        for sample in &done {
            there.entry((sample.set, sample.row)).or_default().insert(sample.sample, sample.p);
        }
        count.done += done.len() as u64;
        let mut missing = Vec::new();
        for &row in &rows {
            let (p, hint) = self.hint(pass, row)?;
            let there = there.remove(&(row.set, row.row)).unwrap_or_default();
            let mut own = Missing { row, p, hint, there };
            loop {
                let mut found = false;
                for sample in own.next(&self.settings.reason) {
                    let question = questions.of(row, &own.hint, sample)?;
                    // The sentence is the same; the number behind it need not be.
                    let Some(taken) = earlier.get(&question) else { continue };
                    let reasoned = Reasoned { set: row.set, hint: p, ..taken.clone() };
                    self.store(pass, &mut file, &reasoned, &question)?;
                    own.there.insert(sample, reasoned.p);
                    count.done += 1;
                    found = true;
                }
                if !found {
                    break;
                }
            }
            if own.next(&self.settings.reason).is_empty() {
                // What the row does not need is as good as done.
                count.done += (self.settings.reason.samples - own.there.len().min(self.settings.reason.samples)) as u64;
            } else {
                missing.push(own);
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
    fn finish(
        &self,
        begun: &mut Begun<'_>,
        questions: &Questions<'_>,
        model: &dyn LanguageModel,
        count: &mut Count,
    ) -> Result<AskedCost> {
        let (monitor, settings) = (self.work.monitor, &self.settings.reason);
        let ends = if settings.stop_at_answer { model.spellings(self.settings.answers) } else { Vec::new() };
        let sampling = generate::GenerateSettings {
            temperature: settings.temperature,
            top_p: settings.top_p,
            top_k: settings.top_k,
            min_new_tokens: 0,
            max_new_tokens: settings.max_tokens,
            seed: settings.seed,
            ends,
            ..generate::GenerateSettings::default()
        };
        let (mut shown, mut cost) = (0, AskedCost::default());
        for some in begun.missing.chunks_mut(model.rows_in_flight().max(1)) {
            for Missing { row, hint, .. } in &*some {
                if begun.pass == Pass::Main && shown < examples::PROMPTS {
                    examples::report_prompt(monitor, self.data, row, row.prompt.user(), hint);
                    shown += 1;
                }
            }
            let mut first = true;
            // Rows whose samples do not agree are asked again.
            loop {
                monitor.check()?;
                let began = Instant::now();
                let mut asked = Vec::new();
                for row in &*some {
                    let samples = row.next(settings);
                    if samples.is_empty() {
                        continue;
                    }
                    let chat = reasoning(&row.row.prompt, &row.hint, &settings.prompt);
                    // Sample indices of the data are unique over validation and test, so they serve
                    // as random counters.
                    let number =
                        u32::try_from(row.row.row).map_err(|_| Error::failed("reason", "more than 2^32 samples"))?;
                    asked.push(Ask { row: number, reading: Reading::Conversation(chat), samples });
                }
                if asked.is_empty() {
                    break;
                }
                let mut answers = Answers { all: Vec::new(), monitor };
                model.write_on(&asked, &sampling, &CountedElsewhere(monitor), &mut answers)?;
                let mut answers = answers.all;
                answers.sort_by_key(|a| (a.row, a.sample));
                for (at, reasoned) in self.judge(some, &answers, model)? {
                    let question = questions.of(some[at].row, &some[at].hint, reasoned.sample)?;
                    self.store(begun.pass, &mut begun.file, &reasoned, &question)?;
                    some[at].there.insert(reasoned.sample, reasoned.p);
                    count.done += 1;
                }
                let tokens = answers.iter().map(|a| u64::from(a.tokens)).sum();
                let (prompts, seconds) = (asked.len() as u64, began.elapsed().as_secs_f64());
                cost.rows += if first { prompts } else { 0 };
                cost.samples += answers.len() as u64;
                cost.tokens += tokens;
                cost.seconds += seconds;
                first = false;
                monitor.emit(Event::PromptCost { how: "reasoning".into(), prompts, seconds, tokens });
                monitor.progress(count.done, count.total, "answers");
            }
            let all = settings.samples;
            count.done += some.iter().map(|row| (all - row.there.len().min(all)) as u64).sum::<u64>();
            monitor.progress(count.done, count.total, "answers");
        }
        Ok(cost)
    }

    /// The tuned model's opinion and the sentence that states it.
    fn hint(&self, pass: Pass, row: &PromptRow) -> Result<(Option<f64>, String)> {
        let predictions = self.predictions.filter(|_| pass == Pass::Main);
        let p = predictions.and_then(|p| p.p(row.set, row.row, Variant::Main));
        let (score, certainty) = (self.settings.score, &self.settings.reason.certainty);
        Ok((p, p.map(|p| hint(p, score, certainty)).transpose()?.unwrap_or_default()))
    }

    /// The second pass over the answers to some prompts, row by row; each with the place of its
    /// row.
    fn judge(
        &self,
        rows: &[Missing<'_>],
        answers: &[Answer],
        model: &dyn LanguageModel,
    ) -> Result<Vec<(usize, Reasoned)>> {
        let settings = &self.settings.reason;
        let own = |row: &PromptRow| -> Vec<&Answer> { answers.iter().filter(|a| a.row as usize == row.row).collect() };
        let answered = rows.iter().enumerate().map(|(at, asked)| (at, asked, own(asked.row)));
        let answered: Vec<(usize, &Missing<'_>, Vec<&Answer>)> =
            answered.filter(|(_, _, answers)| !answers.is_empty()).collect();
        let reading = |row: &PromptRow, answer: &Answer| {
            Reading::Conversation(second_pass(&row.prompt, &answer.text, &settings.prompt))
        };
        let bundles: Vec<Vec<Reading<'_>>> = answered
            .iter()
            .map(|(_, asked, answers)| answers.iter().map(|a| reading(asked.row, a)).collect())
            .collect();
        let mut out = Vec::with_capacity(answers.len());
        let mut received = |bundle: usize, choices: &[Choice]| {
            let (at, asked, answers) = &answered[bundle];
            for (answer, choice) in answers.iter().zip(choices) {
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
                // A sample that was not asked for has no place.
                if asked.next(settings).contains(&answer.sample) {
                    out.push((*at, reasoned));
                }
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
