//! Timelines, samples and the split.

use rayon::slice::ParallelSliceMut;

use super::UserIdx;
use super::dataset::{Dataset, Exception, Part, Rated, Sample, Samples, Split};
use super::python::{AUTHORS_SEED, Random};
use super::settings::{Repeats, Settings, Shuffle, Targets};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::settings::Checked;

/// Most rows of histories of their own ([`Repeats::ExcludeTarget`]), together: 1 GiB of them.
const MOST_EXCEPTIONS: usize = 1 << 26;

/// Every interaction whose user has at least `min_history` earlier ones becomes a sample (or, with
/// [`Targets::Last`], each user's last one), in order of (time, user, item); the first floor(train
/// n) are for training, the next floor(valid n) for validation, the rest for test. Without times,
/// each user's interactions and then the samples are in a seeded random order.
///
/// LightGCN's split comes ready made: its training pairs are training samples, but for a share of
/// each user's that is held out for validation, and its test pairs are test samples.
///
/// The data set's filters are not applied here: [`open`](super::open) did that.
///
/// # Errors
/// Settings out of range, or data too small to fill each part of the split.
pub fn build_samples(dataset: &Dataset, settings: &Settings) -> Result<Samples> {
    settings.check()?;
    let mut timelines = timelines(dataset, settings);
    // Times finer than a second are told by the order of the interactions alone.
    let fine = dataset.has_times && !dataset.interactions.is_sorted_by(|a, b| super::sets::order(a, b).is_le());
    let samples = if dataset.set().is_some_and(|set| set.graph_only) {
        ready_made(timelines, settings)
    } else {
        let every = match settings.targets {
            Targets::Auto => dataset.has_times,
            Targets::Every if !dataset.has_times => {
                return Err(Error::usage(
                    "data.targets",
                    format!("{} has no times, so a history would hold targets of other samples", dataset.name),
                )
                .next("set data.targets to \"last\" (one sample a user) or leave it out"));
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
        let split = split(samples.len(), settings);
        Samples { timelines, samples, split, exceptions }
    };
    let split = &samples.split;
    for (name, range) in [("train", &split.train), ("valid", &split.valid), ("test", &split.test)] {
        if range.is_empty() && !(name == "valid" && settings.split.valid == 0.0) {
            return Err(Error::input(
                &dataset.name,
                format!(
                    "{} samples of {} ratings leave the {name} part of the split empty",
                    samples.samples.len(),
                    dataset.interactions.len()
                ),
            )
            .next("use more data, a smaller data.min_history, or another data.split"));
        }
    }
    Ok(samples)
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
fn timelines(dataset: &Dataset, settings: &Settings) -> Vec<Vec<Rated>> {
    let mut lengths = vec![0usize; dataset.users.len()];
    dataset.interactions.iter().for_each(|r| lengths[r.user.at()] += 1);
    let mut timelines: Vec<Vec<Rated>> = lengths.into_iter().map(Vec::with_capacity).collect();
    for row in &dataset.interactions {
        timelines[row.user.at()].push(Rated { item: row.item, rating: row.rating, time: row.time });
    }
    if !dataset.has_times {
        for (user, timeline) in (0..).zip(&mut timelines) {
            match settings.shuffle {
                Shuffle::PerUser => Rng::new(settings.seed, Use::Rows, user, 0).shuffle(timeline),
                Shuffle::Python => {
                    timeline.sort_by(|a, b| dataset.items[a.item.at()].raw.0.cmp(&dataset.items[b.item.at()].raw.0));
                    Random::new(AUTHORS_SEED).shuffle(timeline);
                }
            }
        }
        // Stable: LightGCN's test pairs (time 1) stay behind the training pairs.
        timelines.iter_mut().for_each(|t| t.sort_by_key(|r| r.time));
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
    settings: &Settings,
    every: bool,
) -> Result<Taken> {
    let (threshold, min_history) = (settings.threshold(), settings.min_history);
    let expected =
        if every { timelines.iter().map(|t| t.len().saturating_sub(min_history)).sum() } else { timelines.len() };
    let mut samples = Vec::with_capacity(expected);
    let (mut exceptions, mut excepted) = (Vec::<Exception>::new(), 0);
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
            let history = timeline[..position].iter();
            let length = if own { history.clone().filter(|r| r.item != row.item).count() } else { position };
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
                excepted += length;
                if excepted > MOST_EXCEPTIONS {
                    return Err(Error::usage("data.repeats", "exclude_target needs too much memory: too many repeats")
                        .next("set data.repeats to \"drop\""));
                }
                exceptions.push(Exception {
                    user,
                    position,
                    history: history.filter(|r| r.item != row.item).copied().collect(),
                });
            }
        }
    }
    Ok((samples, exceptions, rows))
}

/// Training pairs (time 0) less a share for validation, then test pairs (time 1). A pair that is
/// there twice counts where it stands first, so a test pair that is a training pair too is none;
/// unless repeats are kept.
fn ready_made(mut timelines: Vec<Vec<Rated>>, settings: &Settings) -> Samples {
    if settings.repeats != Repeats::Keep {
        let mut met = std::collections::HashSet::new();
        for timeline in &mut timelines {
            met.clear();
            timeline.retain(|row| met.insert(row.item));
        }
    }
    let mut parts: [Vec<Sample>; 3] = Default::default();
    for (user, timeline) in (0..).map(UserIdx).zip(&timelines) {
        let train = timeline.partition_point(|r| r.time == 0);
        let valid = train - (settings.split.valid * train as f64).floor() as usize;
        for (position, row) in timeline.iter().enumerate() {
            let part = if position < valid { 0 } else { 1 + usize::from(position >= train) };
            parts[part].push(Sample {
                user,
                item: row.item,
                rating: row.rating,
                label: true,
                time: row.time,
                position: position as u32,
            });
        }
    }
    let [train, valid, test] = parts.each_ref().map(Vec::len);
    let split = Split { train: 0..train, valid: train..train + valid, test: train + valid..train + valid + test };
    Samples { timelines, samples: parts.concat(), split, exceptions: Vec::new() }
}

fn split(n: usize, settings: &Settings) -> Split {
    let train = (settings.split.train * n as f64).floor() as usize;
    let valid = train + (settings.split.valid * n as f64).floor() as usize;
    Split { train: 0..train, valid: train..valid, test: valid..n }
}
