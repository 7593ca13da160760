//! A part of `describe`: descriptions with wrong words, or of other items, for runs that ask how
//! much the method leans on them. A model that makes things up writes such descriptions.

use serde::Serialize;

use crate::config::Recipe;
use crate::content::Content;
use crate::data::descriptions::{DescriptionRow, Descriptions};
use crate::data::{Dataset, RawId};
use crate::durable;
use crate::error::{Error, Result};
use crate::events::StageId;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::stage::{Inputs, Made, Stage, Work};
use crate::pipeline::stages::describe::{FILES, read};
use crate::rng::{Rng, Use};

/// Spoils descriptions.
pub struct Spoil;

/// What it sees of the recipe.
#[derive(Serialize)]
pub struct SpoilSettings {
    noise: f64,
    swapped: f64,
    seed: u64,
}

impl SpoilSettings {
    /// Takes them out of a recipe; `None` where descriptions stay as they are.
    pub fn of(recipe: &Recipe) -> Option<Self> {
        let own = &recipe.describe;
        let spoils = own.noise > 0.0 || own.swapped > 0.0;
        spoils.then_some(Self { noise: own.noise, swapped: own.swapped, seed: own.seed })
    }
}

/// What it reads.
pub struct SpoilInputs<'a> {
    /// Items.
    pub tables: &'a Made<Dataset>,
    /// Descriptions as they should be.
    pub described: &'a Made<Descriptions>,
}

impl Inputs for SpoilInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        vec![("tables", self.tables.content()), ("describe", self.described.content())]
    }
}

impl Stage for Spoil {
    const ID: StageId = StageId::Describe;
    const VERSION: u32 = 1;
    type Settings<'r> = SpoilSettings;
    type Inputs<'a> = SpoilInputs<'a>;
    type Output = Descriptions;

    fn run(settings: &SpoilSettings, inputs: &SpoilInputs<'_>, work: &Work<'_>) -> Result<()> {
        let spoiled = spoiled(&inputs.described.get()?.texts, settings);
        let mut lines = Vec::new();
        for (item, text) in inputs.tables.get()?.items.iter().zip(spoiled) {
            let item: RawId = item.raw.clone();
            let row = DescriptionRow { item, text: text.unwrap_or_default() };
            serde_json::to_writer(&mut lines, &row).map_err(|e| Error::failed(FILES.rows, e))?;
            lines.push(b'\n');
        }
        durable::write(&work.folder.join(FILES.rows), &lines)
    }

    fn load(artifact: &Artifact) -> Result<Descriptions> {
        read(artifact)
    }
}

/// A share of the descriptions goes round among their items; of each, a share of the words is
/// another, drawn from all words of all descriptions. Items without a description keep none.
fn spoiled(texts: &[Option<String>], settings: &SpoilSettings) -> Vec<Option<String>> {
    let mut out = texts.to_vec();
    let mut described: Vec<usize> = (0..texts.len()).filter(|&n| texts[n].is_some()).collect();
    Rng::new(settings.seed, Use::Rows, 81, 0).shuffle(&mut described);
    described.truncate((settings.swapped * described.len() as f64).round() as usize);
    for (at, &item) in described.iter().enumerate() {
        out[item].clone_from(&texts[described[(at + 1) % described.len()]]);
    }
    let words: Vec<&str> = texts.iter().flatten().flat_map(|text| text.split_whitespace()).collect();
    if settings.noise > 0.0 && !words.is_empty() {
        for (item, text) in out.iter_mut().enumerate() {
            let Some(text) = text else { continue };
            let mut rng = Rng::new(settings.seed, Use::Rows, 82, item as u32);
            let other = |word: &str| {
                // Both are drawn for each word, so that more noise spoils the same words and
                // others.
                let (draw, place) = (rng.uniform_f64(), rng.below(words.len() as u32));
                if draw < settings.noise { words[place as usize].to_owned() } else { word.to_owned() }
            };
            *text = text.split_whitespace().map(other).collect::<Vec<_>>().join(" ");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Option<String>> {
        let text = |n: usize| (0..20).map(|w| format!("item{n}word{w}")).collect::<Vec<_>>().join(" ");
        (0..40).map(|n| (n % 4 != 3).then(|| text(n))).collect()
    }

    #[test]
    fn a_share_of_the_words_is_of_other_items() {
        let before = texts();
        let share = |noise: f64| {
            let after = spoiled(&before, &SpoilSettings { noise, swapped: 0.0, seed: 3 });
            let (mut changed, mut all) = (0, 0);
            for (a, b) in before.iter().zip(&after) {
                assert_eq!(a.is_some(), b.is_some());
                let (Some(a), Some(b)) = (a, b) else { continue };
                let pairs: Vec<_> = a.split(' ').zip(b.split(' ')).collect();
                assert_eq!(pairs.len(), 20);
                changed += pairs.iter().filter(|(a, b)| a != b).count();
                all += pairs.len();
            }
            changed as f64 / all as f64
        };
        assert!(share(0.0).abs() <= 1e-12);
        assert!((share(0.3) - 0.3).abs() <= 0.07 && share(1.0) > 0.95, "{} {}", share(0.3), share(1.0));
    }

    #[test]
    fn a_share_of_the_descriptions_is_of_other_items_and_none_is_lost() {
        let before = texts();
        let after = spoiled(&before, &SpoilSettings { noise: 0.0, swapped: 0.5, seed: 3 });
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(moved, 15, "half of the 30 that have one");
        let sorted = |texts: &[Option<String>]| {
            let mut all: Vec<_> = texts.iter().flatten().cloned().collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&before), sorted(&after));
        assert!(before.iter().zip(&after).all(|(a, b)| a.is_some() == b.is_some()));
        assert_eq!(after, spoiled(&before, &SpoilSettings { noise: 0.0, swapped: 0.5, seed: 3 }));
        assert_ne!(after, spoiled(&before, &SpoilSettings { noise: 0.0, swapped: 0.5, seed: 4 }));
    }
}
