//! Timelines, samples and the split.

use rayon::slice::ParallelSliceMut;

use super::dataset::{Dataset, Exception, Interaction, Part, Rated, Sample, Samples, Split};
use super::python::{AUTHORS_SEED, Random};
use super::settings::{DataSettings, Repeats, Shuffle, Targets};
use super::split::{self, By};
use super::{ItemIdx, UserIdx};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::settings::Checked;

/// Most rows of histories of their own ([`Repeats::ExcludeTarget`]), together: 1 GiB of them.
const MOST_EXCEPTIONS: usize = 1 << 26;

/// The samples of a data set, dealt out as `data.split` says.
///
/// By `time`, the default: every interaction whose user has at least `min_history` earlier ones
/// becomes a sample (or, with [`Targets::Last`], each user's last one), in order of (time, user,
/// item); the first floor(train n) are for training, the next floor(valid n) for validation, the
/// rest for test. Without times, each user's interactions and then the samples are in a seeded
/// random order. The other rules stand in [`super::split`].
///
/// The data set's filters are not applied here: [`open`](super::open) did that.
///
/// # Errors
/// Settings out of range, a rule that the data cannot follow, or data too small to fill each part.
pub fn build_samples(dataset: &Dataset, settings: &DataSettings) -> Result<Samples> {
    settings.check()?;
    let rule = settings.split.rule(dataset.brings_parts());
    if let Some(fault) = settings.split.faults(rule).iter().next() {
        return Err(Error::usage(&fault.key, &fault.what).next(&fault.next));
    }
    let samples = if rule == By::Time {
        in_time(dataset, settings)?
    } else {
        let row = |row: &Interaction| (rated(row), row.part.unwrap_or(Part::Train));
        split::deal(dataset, settings, rule, timelines(dataset, settings, row, |row| row.0.item))?
    };
    for part in Part::ALL {
        if samples.split.range(part).is_empty() && !settings.split.may_lack(part, rule) {
            return Err(Error::input(
                &dataset.name,
                format!(
                    "{} samples of {} ratings leave the {} part of the split empty",
                    samples.samples.len(),
                    dataset.interactions.len(),
                    part.name()
                ),
            )
            .next("use more data, a smaller data.min_history, or another data.split"));
        }
    }
    Ok(samples)
}

fn in_time(dataset: &Dataset, settings: &DataSettings) -> Result<Samples> {
    let mut timelines = timelines(dataset, settings, rated, |row| row.item);
    // Times finer than a second are told by the order of the interactions alone.
    let fine = dataset.has_times && !dataset.interactions.is_sorted_by(|a, b| super::sets::order(a, b).is_le());
    let every = match settings.targets {
        Targets::Auto => dataset.has_times,
        Targets::Every if !dataset.has_times => {
            return Err(Error::usage(
                "data.targets",
                format!("{} has no times, so a history would hold targets of other samples", dataset.name),
            )
            .next("set data.targets to \"last\" (one sample a user), or data.split.by to \"user_chance\""));
        }
        Targets::Every => true,
        Targets::Last => false,
    };
    let mut places = if fine { places(dataset) } else { Vec::new() };
    let (mut samples, exceptions, rows) = take(&mut timelines, &mut places, dataset.items.len(), settings, every)?;
    if fine {
        samples = by_row(samples, &rows, dataset.interactions.len());
    } else if dataset.has_times {
        samples.par_sort_unstable_by_key(|s| (s.time, s.user, s.item, s.position));
    } else {
        match settings.shuffle {
            Shuffle::PerUser => Rng::new(settings.seed, Use::Rows, u32::MAX, 1).shuffle(&mut samples),
            Shuffle::Python => Random::new(AUTHORS_SEED).shuffle(&mut samples),
        }
    }
    let split = in_shares(samples.len(), settings);
    Ok(Samples { timelines, samples, split, exceptions, dealt: None })
}

fn rated(row: &Interaction) -> Rated {
    Rated { item: row.item, rating: row.rating, time: row.time }
}

/// Refuses samples that nothing can be learnt from: the training part has liked targets and others.
///
/// # Errors
/// All of them are of one class.
pub fn two_classes(samples: &Samples) -> Result<()> {
    let train = samples.part(Part::Train);
    let liked = train.iter().filter(|s| s.label).count();
    if liked > 0 && liked < train.len() {
        return Ok(());
    }
    let all = if liked > 0 { "liked" } else { "not liked" };
    Err(Error::input(
        "data",
        format!("all {} training samples are {all}: nothing can be tuned or told apart", train.len()),
    )
    .next("check data.threshold and data.table.scale; or end the run before the tuning, with --until align"))
}

/// Each user's interactions: in order of time, or where there are none, in a random one.
fn timelines<T>(
    dataset: &Dataset,
    settings: &DataSettings,
    make: impl Fn(&Interaction) -> T,
    item: impl Fn(&T) -> ItemIdx,
) -> Vec<Vec<T>> {
    let mut lengths = vec![0usize; dataset.users.len()];
    dataset.interactions.iter().for_each(|r| lengths[r.user.at()] += 1);
    let mut timelines: Vec<Vec<T>> = lengths.into_iter().map(Vec::with_capacity).collect();
    for row in &dataset.interactions {
        timelines[row.user.at()].push(make(row));
    }
    if !dataset.has_times {
        for (user, timeline) in (0..).zip(&mut timelines) {
            match settings.shuffle {
                Shuffle::PerUser => Rng::new(settings.seed, Use::Rows, user, 0).shuffle(timeline),
                Shuffle::Python => {
                    let raw = |row: &T| &dataset.items[item(row).at()].raw.0;
                    timeline.sort_by(|a, b| raw(a).cmp(raw(b)));
                    Random::new(AUTHORS_SEED).shuffle(timeline);
                }
            }
        }
    }
    timelines
}

/// The place of every user's interactions among all, user by user.
fn places(dataset: &Dataset) -> Vec<u32> {
    let mut next = vec![0usize; dataset.users.len() + 1];
    dataset.interactions.iter().for_each(|r| next[r.user.at() + 1] += 1);
    for user in 1..next.len() {
        next[user] += next[user - 1];
    }
    let mut places = vec![0; dataset.interactions.len()];
    for (at, row) in (0..).zip(&dataset.interactions) {
        places[next[row.user.at()]] = at;
        next[row.user.at()] += 1;
    }
    places
}

/// The samples in the order of the interactions that they are made of.
fn by_row(samples: Vec<Sample>, rows: &[u32], interactions: usize) -> Vec<Sample> {
    let mut of = vec![u32::MAX; interactions];
    for (sample, &row) in (0..).zip(rows) {
        of[row as usize] = sample;
    }
    of.into_iter().filter_map(|sample| samples.get(sample as usize).copied()).collect()
}

/// Samples, histories of their own, and for each sample its row among the interactions.
type Taken = (Vec<Sample>, Vec<Exception>, Vec<u32>);

/// The samples, in order of users; repeats go from the timelines as the settings say. `places` has
/// the rows of the timelines, or is empty.
fn take(
    timelines: &mut [Vec<Rated>],
    places: &mut [u32],
    items: usize,
    settings: &DataSettings,
    every: bool,
) -> Result<Taken> {
    let (threshold, min_history) = (settings.threshold(), settings.min_history());
    let expected =
        if every { timelines.iter().map(|t| t.len().saturating_sub(min_history)).sum() } else { timelines.len() };
    let mut samples = Vec::with_capacity(expected);
    let mut exceptions = Exceptions::default();
    let (mut rows, mut places) = (Vec::new(), places);
    // The last user who met an item, plus 1.
    let mut met = vec![0u32; items];
    for (user, timeline) in (0..).zip(timelines) {
        let own_places: &mut [u32];
        let own = if places.is_empty() { 0 } else { timeline.len() };
        (own_places, places) = std::mem::take(&mut places).split_at_mut(own);
        let mut first = |row: &Rated| std::mem::replace(&mut met[row.item.at()], user + 1) != user + 1;
        let again: Vec<bool> = match settings.repeats {
            Repeats::Keep => Vec::new(),
            Repeats::Drop => {
                let (mut at, mut kept) = (0, 0);
                timeline.retain(|row| {
                    let keep = first(row);
                    if keep && !own_places.is_empty() {
                        own_places[kept] = own_places[at];
                        kept += 1;
                    }
                    at += 1;
                    keep
                });
                Vec::new()
            }
            Repeats::ExcludeTarget => timeline.iter().map(|row| !first(row)).collect(),
        };
        let from = if every { 0 } else { timeline.len().saturating_sub(1) };
        for (position, row) in timeline.iter().enumerate().skip(from) {
            let own = again.get(position).is_some_and(|&again| again);
            let history = &timeline[..position];
            let length = if own { without(history, row.item).count() } else { position };
            if length < min_history {
                continue;
            }
            rows.extend(own_places.get(position));
            let (user, position) = (UserIdx(user), position as u32);
            samples.push(Sample {
                user,
                item: row.item,
                rating: row.rating,
                label: row.rating > threshold,
                time: row.time,
                position,
            });
            if own {
                exceptions.add(user, position, without(history, row.item).copied().collect())?;
            }
        }
    }
    Ok((samples, exceptions.found, rows))
}

/// A history without the rows of one item.
pub(super) fn without(history: &[Rated], item: ItemIdx) -> impl Iterator<Item = &Rated> {
    history.iter().filter(move |row| row.item != item)
}

/// Histories of their own, within a bound.
#[derive(Default)]
pub(super) struct Exceptions {
    pub found: Vec<Exception>,
    /// Rows of all of them.
    rows: usize,
}

impl Exceptions {
    /// Adds one.
    ///
    /// # Errors
    /// Too many rows in all.
    pub fn add(&mut self, user: UserIdx, position: u32, history: Vec<Rated>) -> Result<()> {
        self.rows += history.len();
        if self.rows > MOST_EXCEPTIONS {
            return Err(Error::usage("data.repeats", "exclude_target needs too much memory: too many repeats")
                .next("set data.repeats to \"drop\""));
        }
        self.found.push(Exception { user, position, history });
        Ok(())
    }
}

fn in_shares(n: usize, settings: &DataSettings) -> Split {
    let train = (settings.split.train * n as f64).floor() as usize;
    let valid = train + (settings.split.valid(By::Time) * n as f64).floor() as usize;
    Split { train: 0..train, valid: train..valid, test: valid..n }
}
