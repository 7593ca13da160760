//! What a data set looks like, for `rallrec data inspect`.

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Part, Samples};
use super::loaders::repeat_count;
use super::settings::{Repeats, Settings};
use super::{Core, Descriptions, build_samples, leaks};
use crate::error::Result;

/// The summary; serialises to the command's JSON output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Name of the data set.
    pub name: String,
    /// Users in the table.
    pub users: usize,
    /// Users with a profile field.
    pub users_with_profile: usize,
    /// Users with at least one rating.
    pub active_users: usize,
    /// Items in the catalogue.
    pub items: usize,
    /// Items with at least one rating.
    pub rated_items: usize,
    /// Items without a title.
    pub items_without_title: usize,
    /// Items without any genre.
    pub items_without_genre: usize,
    /// Items without a description; `None` when no descriptions are configured.
    pub items_without_description: Option<usize>,
    /// Ratings.
    pub ratings: usize,
    /// Ratings / (active users x rated items).
    pub density: f64,
    /// Each rating value with its count, rising.
    pub histogram: Vec<(f32, usize)>,
    /// First and last time, seconds since the epoch; `None` without times.
    pub time_range: Option<(i64, i64)>,
    /// Rows that repeat an earlier (user, item) pair.
    pub repeated_rows: usize,
    /// Of these, rows that are equal in everything.
    pub exact_repeats: usize,
    /// Ratings above this are likes.
    pub threshold: f32,
    /// The three parts of the split.
    pub parts: Vec<PartSummary>,
    /// Cores for a few k.
    pub cores: Vec<CoreSize>,
    /// Samples with repeats dropped.
    pub correct: Counts,
    /// Samples as the authors make them, with repeats kept (D6).
    pub faithful: Counts,
    /// Why the two differ, or that they do not.
    pub difference: String,
}

/// One part of the split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartSummary {
    /// `train`, `valid` or `test`.
    pub name: String,
    /// Samples.
    pub samples: usize,
    /// Share of likes, 0 to 1.
    pub positives: f64,
    /// First and last target time.
    pub time_range: Option<(i64, i64)>,
    /// Length of history at the 0, 10, 25, 50, 75, 90 and 100 % quantile (nearest rank).
    pub history: [usize; 7],
}

/// Size of a k-core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreSize {
    /// Fewest interactions of each user and item.
    pub k: u32,
    /// Interactions left.
    pub ratings: usize,
    /// Users left.
    pub users: usize,
    /// Items left.
    pub items: usize,
}

/// Counts of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Training samples.
    pub train: usize,
    /// Validation samples.
    pub valid: usize,
    /// Test samples.
    pub test: usize,
    /// Samples whose target stands in its own history.
    pub target_in_history: usize,
}

impl Counts {
    fn of(samples: &Samples) -> Self {
        Self {
            train: samples.split.train.len(),
            valid: samples.split.valid.len(),
            test: samples.split.test.len(),
            target_in_history: leaks::targets_in_history(samples),
        }
    }

    /// All samples.
    pub fn total(&self) -> usize {
        self.train + self.valid + self.test
    }
}

impl Inspection {
    /// Adds how many items lack a description.
    #[must_use]
    pub fn with_descriptions(mut self, descriptions: &Descriptions) -> Self {
        self.items_without_description = Some(descriptions.missing);
        self
    }
}

/// Summarises a data set and the samples made of it with `settings`.
pub fn inspect(dataset: &Dataset, samples: &Samples, settings: &Settings) -> Result<Inspection> {
    let rows = &dataset.interactions;
    let with = |repeats| {
        if repeats == settings.repeats {
            return Ok(Counts::of(samples));
        }
        Ok(Counts::of(&build_samples(dataset, &Settings { repeats, ..settings.clone() })?))
    };
    let (correct, faithful) = (with(Repeats::Drop)?, with(Repeats::Keep)?);
    let repeats = repeat_count(rows);
    let (active_users, rated_items) =
        (distinct(rows.iter().map(|r| r.user.0)), distinct(rows.iter().map(|r| r.item.0)));
    Ok(Inspection {
        name: dataset.name.clone(),
        users: dataset.users.len(),
        users_with_profile: dataset.users.iter().filter(|u| !u.fields.is_empty()).count(),
        active_users,
        items: dataset.items.len(),
        rated_items,
        items_without_title: dataset.items.iter().filter(|i| i.title.trim().is_empty()).count(),
        items_without_genre: dataset.items.iter().filter(|i| i.genres.is_empty()).count(),
        items_without_description: None,
        ratings: rows.len(),
        density: rows.len() as f64 / (active_users * rated_items).max(1) as f64,
        histogram: histogram(dataset),
        time_range: if dataset.has_times { ends(rows.iter().map(|r| r.time)) } else { None },
        repeated_rows: repeats.rows,
        exact_repeats: repeats.exact,
        threshold: settings.threshold(),
        parts: Part::ALL.into_iter().map(|part| summary(samples, part)).collect(),
        cores: [5, 10, 20].into_iter().map(|k| core_size(dataset, k)).collect(),
        correct,
        faithful,
        difference: if correct == faithful {
            "none: no user rated an item twice, so keeping repeats (D6) changes nothing".into()
        } else {
            format!(
                "keeping {} repeated rows (D6) makes {} samples instead of {}, and {} of them have their target in \
                 their own history",
                repeats.rows,
                faithful.total(),
                correct.total(),
                faithful.target_in_history
            )
        },
    })
}

fn distinct(ids: impl Iterator<Item = u32>) -> usize {
    let mut seen = Vec::new();
    for id in ids {
        if seen.len() <= id as usize {
            seen.resize(id as usize + 1, false);
        }
        seen[id as usize] = true;
    }
    seen.iter().filter(|&&s| s).count()
}

fn ends(times: impl Iterator<Item = i64>) -> Option<(i64, i64)> {
    times.fold(None, |range, t| Some(range.map_or((t, t), |(a, b): (i64, i64)| (a.min(t), b.max(t)))))
}

fn histogram(dataset: &Dataset) -> Vec<(f32, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for row in &dataset.interactions {
        // Ratings are finite and not negative, so their bits are in their order.
        *counts.entry(row.rating.to_bits()).or_insert(0) += 1;
    }
    counts.into_iter().map(|(bits, n)| (f32::from_bits(bits), n)).collect()
}

fn summary(samples: &Samples, part: Part) -> PartSummary {
    let rows = samples.part(part);
    let mut lengths: Vec<_> = rows.iter().map(|s| samples.history(s).len()).collect();
    lengths.sort_unstable();
    let quantile = |q: f64| {
        let rank = (q * lengths.len() as f64).ceil() as usize;
        lengths.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    PartSummary {
        name: part.name().into(),
        samples: rows.len(),
        positives: rows.iter().filter(|s| s.label).count() as f64 / rows.len().max(1) as f64,
        time_range: ends(rows.iter().map(|s| s.time)),
        history: [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0].map(quantile),
    }
}

fn core_size(dataset: &Dataset, k: u32) -> CoreSize {
    let rows = Core::k(k).filter(&dataset.interactions);
    CoreSize {
        k,
        ratings: rows.len(),
        users: distinct(rows.iter().map(|r| r.user.0)),
        items: distinct(rows.iter().map(|r| r.item.0)),
    }
}
