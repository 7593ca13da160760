//! What a data set looks like, for `rallrec data inspect`.

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Part, Samples};
use super::sets::repeat_count;
use super::settings::{DataSettings, Repeats};
use super::{Core, Descriptions, Step, build_samples, leaks};
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
    /// The rule of the split in force, as `data.split.by` names it.
    #[serde(default)]
    pub split: String,
    /// The three parts of the split.
    pub parts: Vec<PartSummary>,
    /// Cores for a few k.
    pub cores: Vec<CoreSize>,
    /// Samples with repeats dropped.
    pub correct: Counts,
    /// Samples as the authors make them, every switch below turned.
    pub faithful: Counts,
    /// The way from the one to the other, a switch at a time.
    pub switches: Vec<SwitchEffect>,
    /// Why the two differ, or that they do not.
    pub difference: String,
    /// What each filter left; empty when the data set was not opened with its filters traced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Step>,
    /// What looks wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What this data set cannot be used for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What one switch changes, the switches before it being turned already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwitchEffect {
    /// The key and its faithful value.
    pub switch: String,
    /// What it means.
    pub why: String,
    /// Samples from here on.
    pub counts: Counts,
    /// Share of likes among the targets, 0 to 1.
    pub positives: f64,
    /// Samples of the step before that this one has too, with the same target in the same part.
    pub unchanged: usize,
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
    /// Adds what each filter left.
    #[must_use]
    pub fn with_filters(mut self, steps: Vec<Step>) -> Self {
        self.filters = steps;
        self
    }

    /// Adds how many items lack a description.
    #[must_use]
    pub fn with_descriptions(mut self, descriptions: &Descriptions) -> Self {
        self.items_without_description = Some(descriptions.missing);
        self
    }
}

/// Summarises a data set and the samples made of it with `settings`.
pub fn inspect(dataset: &Dataset, samples: &Samples, settings: &DataSettings) -> Result<Inspection> {
    let mut found = inspect_tables(dataset, settings);
    found.parts = Part::ALL.into_iter().map(|part| summary(samples, part)).collect();
    found.correct = Counts::of(samples);
    found.faithful = found.correct;
    match compare(dataset, samples, settings, found.repeated_rows) {
        Ok((correct, switches)) => {
            found.correct = correct;
            found.faithful = switches.last().map_or(correct, |last| last.counts);
            found.difference = difference(correct, &switches, found.repeated_rows);
            found.switches = switches;
        }
        // Where one of the two cannot be made, there is nothing to compare.
        Err(e) if e.kind() == crate::Kind::Input => {
            found.difference = format!("cannot be told: with other repeats or another split, {}", e.what());
        }
        Err(e) => return Err(e),
    }
    if !settings.is_implicit() {
        found.warnings.extend(one_class(&found.parts));
    }
    Ok(found)
}

/// Summarises a data set of which no samples are made: its parts and comparisons are empty.
pub fn inspect_tables(dataset: &Dataset, settings: &DataSettings) -> Inspection {
    let rows = &dataset.interactions;
    let repeats = repeat_count(rows);
    let (active_users, rated_items) =
        (distinct(rows.iter().map(|r| r.user.0)), distinct(rows.iter().map(|r| r.item.0)));
    let histogram = histogram(dataset);
    Inspection {
        warnings: doubts(dataset, &histogram, rated_items),
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
        histogram,
        time_range: if dataset.has_times { ends(rows.iter().map(|r| r.time)) } else { None },
        repeated_rows: repeats.rows,
        exact_repeats: repeats.exact,
        threshold: settings.threshold(),
        split: settings.split.rule(dataset.brings_parts()).name().into(),
        parts: Vec::new(),
        cores: [5, 10, 20].into_iter().map(|k| core_size(dataset, k)).collect(),
        correct: Counts::default(),
        faithful: Counts::default(),
        difference: String::new(),
        switches: Vec::new(),
        filters: Vec::new(),
        note: if dataset.set().is_some_and(|set| set.graph_only) {
            "there are no ratings, times, titles or profiles: only the graph stages make sense, and a run does these"
                .into()
        } else if settings.is_implicit() {
            "there are no ratings: every row is a like, and a run does the graph stages alone".into()
        } else {
            String::new()
        },
    }
}

/// Ratings below which nothing is doubted: few of them may look like anything.
const ENOUGH: usize = 100;

/// What looks as if a column or an id were read wrongly.
fn doubts(dataset: &Dataset, histogram: &[(f32, usize)], rated_items: usize) -> Vec<String> {
    let rows = &dataset.interactions;
    let mut doubts = Vec::new();
    if rows.len() < ENOUGH {
        return doubts;
    }
    let most = |counts: &[u32]| counts.iter().copied().enumerate().max_by_key(|(_, n)| *n).unwrap_or((0, 0));
    let mut counts = [vec![0u32; dataset.users.len()], vec![0u32; dataset.items.len()]];
    for row in rows {
        counts[0][row.user.at()] += 1;
        counts[1][row.item.at()] += 1;
    }
    for (what, counts) in [("user", &counts[0]), ("item", &counts[1])] {
        let (at, n) = most(counts);
        let id = if what == "user" { &dataset.users[at].raw } else { &dataset.items[at].raw };
        if n as usize * 2 >= rows.len() {
            doubts.push(format!(
                "{what} `{id}` has {n} of {} ratings: is it an id, and are the columns right?",
                rows.len()
            ));
        }
    }
    if let Some((first, last)) = ends(rows.iter().map(|r| r.time)).filter(|_| dataset.has_times) {
        if last < 366 * 86_400 {
            doubts
                .push("all times lie in 1970: are they seconds? data.table.time_format says how they are read".into());
        } else if first == last {
            doubts.push("all ratings have the same time, so their order means nothing".into());
        }
    }
    let (low, high) = dataset.scale;
    if let (Some((least, _)), Some((largest, _))) = (histogram.first(), histogram.last())
        && high > low
        && (largest - least) * 4.0 < high - low
        && histogram.len() > 1
    {
        doubts
            .push(format!("ratings go from {least} to {largest}, the scale from {low} to {high}: is the scale right?"));
    }
    let untitled = dataset.items.iter().filter(|item| item.title.trim().is_empty()).count();
    if untitled * 2 > dataset.items.len() && untitled < dataset.items.len() {
        doubts.push(format!(
            "{untitled} of {} items have no title: are their ids written alike in both files?",
            dataset.items.len()
        ));
    }
    if rated_items > 0 && rows.len() == rated_items {
        doubts.push("every item has one rating: is the column of items right?".into());
    }
    doubts
}

/// Parts whose samples are all liked, or all not.
fn one_class(parts: &[PartSummary]) -> Option<String> {
    let train = parts.first().filter(|part| part.samples > 0)?;
    let all = [(1.0, "liked"), (0.0, "not liked")].into_iter().find(|(share, _)| train.positives == *share)?.1;
    Some(format!(
        "all {} training samples are {all}: nothing can be tuned or told apart; data.threshold says what a like is",
        train.samples
    ))
}

/// The counts of the correct settings, and what each switch makes of them. Where a switch changes
/// nothing that the samples depend on, they are not made again.
fn compare(
    dataset: &Dataset,
    samples: &Samples,
    settings: &DataSettings,
    repeated: usize,
) -> Result<(Counts, Vec<SwitchEffect>)> {
    let made;
    let (mut at, mut current) = (DataSettings { repeats: Repeats::Drop, ..settings.clone() }, samples);
    if settings.repeats == Repeats::Keep && repeated > 0 {
        made = build_samples(dataset, &at)?;
        current = &made;
    }
    let correct = Counts::of(current);
    let (mut counts, mut effects, mut before) = (correct, Vec::new(), None);
    let mut positives = share(current);
    for switch in settings.switches() {
        (switch.apply)(&mut at);
        let mut unchanged = counts.total();
        let only_repeats = effects.is_empty() && switch.key.starts_with("data.repeats");
        if repeated > 0 || !only_repeats {
            let made = build_samples(dataset, &at)?;
            let now = Identity::of(&made);
            unchanged = now.shared(&before.unwrap_or_else(|| Identity::of(current)));
            (counts, positives, before) = (Counts::of(&made), share(&made), Some(now));
        }
        effects.push(SwitchEffect { switch: switch.key.into(), why: switch.why.into(), counts, positives, unchanged });
    }
    Ok((correct, effects))
}

fn share(samples: &Samples) -> f64 {
    samples.samples.iter().filter(|s| s.label).count() as f64 / samples.samples.len().max(1) as f64
}

/// Which target is a sample in which part, sorted.
struct Identity(Vec<(u32, u32, u32, u8)>);

impl Identity {
    fn of(samples: &Samples) -> Self {
        let part = |at: usize| u8::from(at >= samples.split.valid.start) + u8::from(at >= samples.split.test.start);
        let key = |(at, s): (usize, &super::Sample)| (s.user.0, s.item.0, s.position, part(at));
        let mut all: Vec<_> = samples.samples.iter().enumerate().map(key).collect();
        all.sort_unstable();
        Self(all)
    }

    fn shared(&self, other: &Self) -> usize {
        self.0.iter().filter(|key| other.0.binary_search(key).is_ok()).count()
    }
}

fn difference(correct: Counts, switches: &[SwitchEffect], repeated: usize) -> String {
    let Some(last) = switches.last() else { return "none: there is nothing to be faithful to".into() };
    if switches.iter().all(|s| s.counts == correct && s.unchanged == correct.total()) {
        return format!("none: of {} samples each is the same, as no user rated an item twice", correct.total());
    }
    format!(
        "{} repeated rows (D6); faithful makes {} samples instead of {}, {} of them with their target in their own history; \
         the switches say why",
        repeated,
        last.counts.total(),
        correct.total(),
        last.counts.target_in_history
    )
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
        *counts.entry(row.rating.to_bits()).or_insert(0) += 1;
    }
    let mut counts: Vec<(f32, usize)> = counts.into_iter().map(|(bits, n)| (f32::from_bits(bits), n)).collect();
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    counts
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
