//! The course: lessons by number, each a pure function of seed and number.

use super::chains::{Case, evidence, think};
use super::conversation::{Lesson, group, running};
use super::world::World;
use crate::collab::sigmoid;
use crate::data::ItemIdx;
use crate::data::synthetic::THRESHOLD;
use crate::error::Result;
use crate::eval::Score;
use crate::models::decoder::train::Group;
use crate::rng::{Rng, Use};
use crate::store::{ChatTemplate, Tokenizer};
use crate::text::hint::{self, hint};
use crate::text::item_text::{Genres, plain_with};
use crate::text::prompts::{
    self, FRIENDLY, GOLD, List, Order, Placement, Prompter, ReasoningSettings, SecondPass, Style, description,
    reasoning, second_pass,
};
use crate::text::ratings::Wording;
use crate::tune::GroupSource;

/// An answer of one word counts like a few words of prose.
const ANSWER_WEIGHT: f32 = 4.0;
/// Running text is there for the sake of embeddings, and tells the genre behind a title.
const TEXT_WEIGHT: f32 = 0.5;
/// Targets behind one history.
const TARGETS: usize = 8;

/// Sorts of lessons, in the order in which they take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Describe,
    Text,
    Recommend,
    Reason,
    SecondPass,
}

const TURNS: [Sort; 12] = {
    use Sort::{Describe as D, Reason as R, Recommend as A, SecondPass as S, Text as T};
    [A, R, D, S, R, A, T, R, S, A, R, D]
};

/// All lessons.
pub(super) struct Course<'a> {
    worlds: &'a [World],
    tokenizer: &'a Tokenizer,
    chat: &'a ChatTemplate,
    seed: u64,
    count: usize,
    context: usize,
}

impl<'a> Course<'a> {
    pub fn new(
        worlds: &'a [World],
        tokenizer: &'a Tokenizer,
        chat: &'a ChatTemplate,
        seed: u64,
        count: usize,
        context: usize,
    ) -> Self {
        Self { worlds, tokenizer, chat, seed, count, context }
    }
}

impl GroupSource for Course<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn group(&self, i: usize) -> Result<Group> {
        let (world, mut rng) = draw(self.worlds, self.seed, i);
        match TURNS[i % TURNS.len()] {
            Sort::Text => running(&texts(world, &mut rng), self.tokenizer, TEXT_WEIGHT),
            sort => group(&lessons(world, sort, &mut rng)?, self.tokenizer, self.chat, self.context),
        }
    }
}

fn draw(worlds: &[World], seed: u64, i: usize) -> (&World, Rng) {
    let mut rng = Rng::new(seed, Use::Synthetic, u32::from_be_bytes(*b"less"), i as u32);
    let world = &worlds[rng.below(worlds.len() as u32) as usize];
    (world, rng)
}

/// Every text of lesson `i`, for learning a tokenizer.
pub(super) fn spoken(worlds: &[World], seed: u64, i: usize) -> Result<Vec<String>> {
    let (world, mut rng) = draw(worlds, seed, i);
    Ok(match TURNS[i % TURNS.len()] {
        Sort::Text => texts(world, &mut rng),
        sort => lessons(world, sort, &mut rng)?.iter().flat_map(Lesson::texts).map(str::to_owned).collect(),
    })
}

fn any_item(world: &World, rng: &mut Rng) -> ItemIdx {
    ItemIdx(rng.below(world.dataset.items.len() as u32))
}

/// Catalogue texts as the embedding stage reads them.
fn texts(world: &World, rng: &mut Rng) -> Vec<String> {
    (0..6)
        .map(|_| {
            let item = any_item(world, rng);
            let genres = if rng.below(2) == 0 { Genres::All } else { Genres::First };
            let plain = plain_with(&world.dataset.items[item.at()], &world.dataset.noun, genres);
            let short = world.short_description(item);
            if rng.below(4) == 0 { world.descriptions[item.at()].clone() } else { format!("{plain} {short}") }
        })
        .collect()
}

fn lessons(world: &World, sort: Sort, rng: &mut Rng) -> Result<Vec<Lesson>> {
    if sort == Sort::Describe {
        return (0..4)
            .map(|_| {
                let item = any_item(world, rng);
                Ok(Lesson::new(description(&world.dataset, item)?, world.short_description(item), 1.0))
            })
            .collect();
    }
    let train = world.samples.split.train.clone();
    let first = &world.samples.samples[train.start + rng.below(train.len() as u32) as usize];
    let history = world.samples.history(first);
    // Short histories are what small recipes show; long ones keep far positions from being strange.
    let count = if rng.below(24) == 0 { 13 + rng.below(18) } else { 4 + rng.below(7) } as usize;
    let settings = settings(sort, rng);
    let shown = world.shown(history, first.item, count, settings.order != Order::InOrder, rng);
    let prompter = Prompter::new(&world.dataset, THRESHOLD, &settings)?;
    let wording = match rng.below(8) {
        0 => Wording::Item,
        1 | 2 => Wording::ItemUser,
        3 => Wording::Verdict,
        4 => Wording::All,
        _ => Wording::None,
    };
    let hinted = sort == Sort::Reason && rng.below(2) == 0;
    let passes = ReasoningSettings {
        second_pass: if rng.below(4) == 0 { SecondPass::Assistant } else { SecondPass::User },
        ..ReasoningSettings::default()
    };
    let targets = &world.samples.timelines[first.user.at()][first.position as usize..];
    let mut lessons = Vec::with_capacity(TARGETS);
    for target in targets.iter().take(TARGETS) {
        let label = target.rating > THRESHOLD;
        let features = world.counts.of_training_row(first.user, target.item, history);
        let stated = features.stated(wording);
        let prompt = prompter.build(first.user, &shown, target.item, stated.as_ref())?;
        let opinion = hinted.then(|| sigmoid(f64::from(if label { 0.7 } else { -0.7 } + 1.5 * rng.normal())));
        let case =
            Case { shown: &shown, target: target.item, features: stated.map(|_| features), hint: opinion, label };
        if sort == Sort::Recommend {
            let gold = GOLD[usize::from(evidence(world, &case, rng) > 0.0)];
            lessons.push(Lesson::new(prompt.messages, gold.into(), ANSWER_WEIGHT));
            continue;
        }
        let chain = think(world, &case, rng);
        let gold = GOLD[usize::from(chain.yes)];
        lessons.push(if sort == Sort::Reason {
            let hint = opinion.map_or(Ok(String::new()), |p| hint(p, Score::TwoWay, &hint::HintSettings::default()))?;
            let mut conversation = reasoning(&prompt, &hint, &passes);
            if rng.below(3) == 0 {
                // The chain of thought is given: an answer among so many words of prose is learnt
                // too late otherwise.
                conversation.assistant_prefix.content += &format!("{}\n</think>\n\n", chain.text);
                Lesson { conversation, answer: gold.into(), weight: ANSWER_WEIGHT }
            } else {
                Lesson { conversation, answer: format!("{}\n</think>\n\n{gold}", chain.text), weight: 1.0 }
            }
        } else {
            Lesson {
                conversation: second_pass(&prompt, &chain.text, &passes),
                answer: gold.into(),
                weight: ANSWER_WEIGHT,
            }
        });
    }
    Ok(lessons)
}

/// The manners of asking that recipes use, all of them now and then.
fn settings(sort: Sort, rng: &mut Rng) -> prompts::PromptSettings {
    let short = rng.below(2) == 0;
    let list = match (short, rng.below(8)) {
        (true, 0..5) | (false, 5) => List::Lines,
        (true, 5) | (false, 0..5) => List::Python,
        (_, 6) => List::Inline,
        _ => List::Grouped,
    };
    let order = [Order::InOrder, Order::MostRelevant, Order::Relevant][rng.below(3) as usize];
    let placement = match rng.below(10) {
        0 => Placement::AfterQuestion,
        1 => Placement::First,
        _ => Placement::BeforeQuestion,
    };
    let friendly = sort == Sort::Recommend && rng.below(8) > 0;
    prompts::PromptSettings {
        style: if short { Style::Short } else { Style::Paper },
        list,
        order,
        threshold_note: rng.below(4) > 0,
        profile: rng.below(4) > 0,
        placement,
        system: if friendly { FRIENDLY.into() } else { String::new() },
        ..prompts::PromptSettings::default()
    }
}
