//! What the model can do, asked of a world that it has not seen.

use std::fmt;

use super::world::World;
use crate::data::synthetic::{self, THRESHOLD};
use crate::data::{ItemIdx, Sample};
use crate::error::Result;
use crate::eval::auc;
use crate::generate::scoring::score;
use crate::generate::{self, Finish, Prompt, generate};
use crate::models::decoder::Model;
use crate::monitor::Silent;
use crate::store::Loaded;
use crate::store::{ChatTemplate, Tokenizer};
use crate::text::answer::{Match, hard_answer};
use crate::text::prompts::{
    Conversation, Order, PromptSettings, Prompter, ReasoningSettings, description, reasoning, second_pass,
};
use crate::text::ratings::Wording;

/// History items shown.
const SHOWN: usize = 8;
/// Samples of a reasoning answer.
const SAMPLES: u32 = 4;

/// One manner of asking for Yes or No.
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroShot {
    /// Which.
    pub name: &'static str,
    /// Area under the curve of P(Yes).
    pub auc: f64,
    /// Mean of P(Yes) + P(No).
    pub mass: f64,
}

/// The results.
#[derive(Debug, Clone, PartialEq)]
pub struct Exam {
    /// Without tuning and without thinking.
    pub zero_shot: Vec<ZeroShot>,
    /// Area under the curve of the mean soft answer over several chains of thought.
    pub reasoning: f64,
    /// Share of chains of thought that end with the closing tag and an answer of their own.
    pub answered: f64,
    /// Mean standard deviation of the soft answers of one row.
    pub spread: f64,
    /// Descriptions, the likeliest each time, and why they ended.
    pub descriptions: Vec<(String, Finish)>,
    /// A few chains of thought.
    pub chains: Vec<String>,
}

impl fmt::Display for Exam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for z in &self.zero_shot {
            writeln!(f, "zero-shot, {}: AUC {:.3}, P(Yes) + P(No) {:.3}", z.name, z.auc, z.mass)?;
        }
        writeln!(
            f,
            "after thinking: AUC {:.3}; {:.0} % of the chains of thought end in an answer; soft answers of a row differ by {:.3}",
            self.reasoning,
            100.0 * self.answered,
            self.spread
        )?;
        for (text, finish) in &self.descriptions {
            writeln!(f, "description ({finish:?}): {text}")?;
        }
        for text in &self.chains {
            writeln!(f, "chain of thought: {}", text.replace('\n', " "))?;
        }
        Ok(())
    }
}

struct Pupil<'a> {
    model: Model,
    tokenizer: &'a Tokenizer,
    chat: &'a ChatTemplate,
    answers: [u32; 2],
}

impl Pupil<'_> {
    fn tokens(&self, c: &Conversation) -> Result<Vec<u32>> {
        let text = self.chat.render(&c.messages, c.generation_prompt, None)? + &c.assistant_prefix.content;
        self.tokenizer.encode(&text, true)
    }

    /// P(Yes) against No, and both together.
    fn score(&self, conversation: &Conversation) -> Result<(f64, f64)> {
        let tokens = self.tokens(conversation)?;
        let choices = score(&self.model, &[vec![tokens]], self.answers, 1)?;
        Ok(choices.iter().flatten().next().map_or((0.5, 0.0), |c| (c.two_way(), c.mass())))
    }

    fn write(&self, prompts: &[Conversation], samples: u32, temperature: f32, longest: usize) -> Result<Vec<Written>> {
        let mut requests = Vec::new();
        for (row, prompt) in (0..).zip(prompts) {
            requests.push(Prompt::new(row, self.tokens(prompt)?, samples));
        }
        let settings = generate::GenerateSettings {
            temperature,
            max_new_tokens: longest,
            ..generate::GenerateSettings::default()
        };
        let mut out = Vec::new();
        generate(&self.model, &requests, &self.model.config().eos, &settings, &Silent, &mut out)?;
        out.sort_by_key(|s| (s.row, s.sample));
        out.iter()
            .map(|s| {
                Ok(Written { row: s.row as usize, text: self.tokenizer.decode(&s.tokens, true)?, finish: s.finish })
            })
            .collect()
    }
}

struct Written {
    row: usize,
    text: String,
    finish: Finish,
}

/// Examines a model on the world of `seed` with `rows` test rows (a fifth of them for chains of
/// thought).
///
/// # Errors
/// A model that cannot run, or whose Yes and No are not single tokens.
pub fn exam(loaded: Loaded, seed: u64, rows: usize) -> Result<Exam> {
    let Loaded { config, weights, tokenizer, chat, .. } = loaded;
    let answers = [tokenizer.single_token("Yes")?, tokenizer.single_token("No")?];
    let pupil = Pupil { model: Model::new(config, weights)?, tokenizer: &tokenizer, chat: &chat, answers };
    let world = World::new(&synthetic::SyntheticSettings { seed, ..synthetic::SyntheticSettings::default() })?;
    let test = &world.samples.samples[world.samples.split.test.clone()];
    let chosen: Vec<&Sample> = test.iter().step_by((test.len() / rows.max(1)).max(1)).take(rows).collect();

    let paper = PromptSettings { order: Order::MostRelevant, ..PromptSettings::default() };
    let mut zero_shot = Vec::new();
    for (name, settings, wording) in [
        ("paper style", &paper, Wording::None),
        ("short style", &PromptSettings::short(), Wording::None),
        ("short style with facts", &PromptSettings::short(), Wording::ItemUser),
    ] {
        let (mut labels, mut scores, mut mass) = (Vec::new(), Vec::new(), 0.0);
        for sample in &chosen {
            let conversation = Conversation::of(prompt(&world, sample, settings, wording)?.messages);
            let (p, both) = pupil.score(&conversation)?;
            labels.push(sample.label);
            scores.push(p);
            mass += both / chosen.len() as f64;
        }
        zero_shot.push(ZeroShot { name, auc: auc(&labels, &scores)?.unwrap_or(f64::NAN), mass });
    }

    let passes = ReasoningSettings::default();
    let few: Vec<&Sample> = chosen.iter().copied().step_by(5).collect();
    let mut prompts = Vec::new();
    for sample in &few {
        prompts.push(prompt(&world, sample, &PromptSettings::short(), Wording::None)?);
    }
    let first: Vec<Conversation> = prompts.iter().map(|p| reasoning(p, "", &passes)).collect();
    let chains = pupil.write(&first, SAMPLES, 0.6, 96)?;
    let mut soft = vec![Vec::new(); few.len()];
    for chain in &chains {
        soft[chain.row].push(pupil.score(&second_pass(&prompts[chain.row], &chain.text, &passes))?.0);
    }
    let mean = |p: &Vec<f64>| p.iter().sum::<f64>() / p.len() as f64;
    let deviation = |p: &Vec<f64>| (p.iter().map(|x| (x - mean(p)).powi(2)).sum::<f64>() / p.len() as f64).sqrt();
    let labels: Vec<bool> = few.iter().map(|s| s.label).collect();
    let answered = |w: &&Written| w.text.contains("</think>") && hard_answer(&w.text, Match::Word).is_some();

    let items = (0..4).map(|i| ItemIdx(i * 37 % world.dataset.items.len() as u32));
    let requests =
        items.map(|item| Ok(Conversation::of(description(&world.dataset, item)?))).collect::<Result<Vec<_>>>()?;
    Ok(Exam {
        zero_shot,
        reasoning: auc(&labels, &soft.iter().map(mean).collect::<Vec<_>>())?.unwrap_or(f64::NAN),
        answered: chains.iter().filter(answered).count() as f64 / chains.len() as f64,
        spread: soft.iter().map(deviation).sum::<f64>() / soft.len() as f64,
        descriptions: pupil.write(&requests, 1, 0.0, 64)?.into_iter().map(|w| (w.text, w.finish)).collect(),
        chains: chains.into_iter().take(2 * SAMPLES as usize).map(|w| w.text).collect(),
    })
}

fn prompt(
    world: &World,
    sample: &Sample,
    settings: &PromptSettings,
    wording: Wording,
) -> Result<crate::text::prompts::Prompt> {
    let history = world.samples.history(sample);
    let shown = &history[history.len().saturating_sub(SHOWN)..];
    let stated = world.counts.of_new_row(sample.item, history).stated(wording);
    Prompter::new(&world.dataset, THRESHOLD, settings)?.build(sample.user, shown, sample.item, stated.as_ref())
}
