//! An invented world with everything that a lesson may speak of.

use crate::collab::{CollabSettings, Counts};
use crate::data::synthetic::{self, THRESHOLD};
use crate::data::{DataSettings, Dataset, ItemIdx, Kind, Rated, Samples, build_samples};
use crate::error::Result;
use crate::rng::Rng;

/// A data set with its descriptions, samples and counts.
pub(super) struct World {
    pub dataset: Dataset,
    pub descriptions: Vec<String>,
    pub samples: Samples,
    pub counts: Counts,
}

impl World {
    pub fn new(settings: &synthetic::SyntheticSettings) -> Result<Self> {
        let (dataset, latent) = synthetic::generate(&settings.checked()?);
        let samples = build_samples(&dataset, &DataSettings::new(Kind::SYNTHETIC, ""))?;
        let train = &samples.samples[samples.split.train.clone()];
        let counts = Counts::fit(dataset.items.len(), THRESHOLD, train, &CollabSettings::default())?;
        Ok(Self { dataset, descriptions: latent.descriptions, samples, counts })
    }

    /// The first genre.
    pub fn genre(&self, item: ItemIdx) -> &str {
        self.dataset.items[item.at()].genres.first().map_or("", String::as_str)
    }

    /// The first sentences of an item's description, 16 words or more.
    pub fn short_description(&self, item: ItemIdx) -> String {
        let mut text = String::new();
        for sentence in self.descriptions[item.at()].split_inclusive(". ") {
            text += sentence;
            if text.split_whitespace().count() >= 16 {
                break;
            }
        }
        text.trim_end().into()
    }

    /// Up to `count` items of the history, oldest first: the latest, or those of the target's genre
    /// before others.
    pub fn shown(&self, history: &[Rated], target: ItemIdx, count: usize, by_genre: bool, rng: &mut Rng) -> Vec<Rated> {
        let mut order: Vec<usize> = (0..history.len()).rev().collect();
        if by_genre {
            rng.shuffle(&mut order);
            order.sort_by_key(|&at| self.genre(history[at].item) != self.genre(target));
        }
        order.truncate(count);
        if !by_genre || rng.below(2) == 0 {
            order.sort_unstable();
        }
        order.into_iter().map(|at| history[at]).collect()
    }
}
