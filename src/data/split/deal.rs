//! Deals out rows: a part for each row of each timeline, and the samples that follow.

use super::By;
use crate::data::dataset::{Dataset, Dealt, Part, Rated, Sample, Samples, Split};
use crate::data::samples::{Exceptions, without};
use crate::data::settings::{DataSettings, Repeats, Targets};
use crate::data::{ItemIdx, UserIdx};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};

/// A row of a timeline and its part.
pub type Row = (Rated, Part);

/// A timeline of the draws that concern all users.
const ALL_USERS: u32 = u32::MAX;
/// The stream of the draws of parts.
const PARTS: u32 = 2;
/// The streams of the orders of samples without times; one for each part.
const ORDERS: u32 = 3;

/// The samples under a rule other than by time. `timelines` are those of all users in order, each
/// row with the part that the data gives it.
///
/// # Errors
/// A rule that the data cannot follow: no times, no parts, a validation part too many.
pub fn deal(dataset: &Dataset, settings: &DataSettings, by: By, mut timelines: Vec<Vec<Row>>) -> Result<Samples> {
    refuse(dataset, settings, by)?;
    if by == By::Given {
        // Stable: training rows first, so of a pair that is there twice the training row counts.
        timelines.iter_mut().for_each(|t| t.sort_by_key(|row| row.1));
    }
    if settings.repeats == Repeats::Drop {
        drop_later_repeats(&mut timelines, dataset.items.len(), |row| row.0.item);
    }
    assign(&mut timelines, settings, by, dataset.items.len());
    let frozen = match by {
        By::Chance | By::UserChance | By::Items => true,
        By::Given => !(dataset.has_times && follow_each_other(&timelines)),
        By::Auto | By::Time | By::UserTime | By::Last | By::Users => false,
    };
    if frozen {
        timelines.iter_mut().for_each(|t| t.sort_by_key(|row| row.1));
    }
    let end = |t: &[Row], part: Part| t.partition_point(|row| row.1 <= part) as u32;
    let ends = timelines.iter().map(|t| [end(t, Part::Train), end(t, Part::Valid)]).collect();
    let timelines: Vec<Vec<Rated>> = timelines.into_iter().map(|t| t.into_iter().map(|row| row.0).collect()).collect();
    take(dataset, settings, timelines, Dealt { by, frozen, ends })
}

/// Whether the rows of each user, part by part, follow each other in time.
fn follow_each_other(timelines: &[Vec<Row>]) -> bool {
    timelines.iter().all(|timeline| {
        timeline.is_sorted_by_key(|row| (row.1, row.0.time)) && timeline.is_sorted_by_key(|row| row.0.time)
    })
}

fn refuse(dataset: &Dataset, settings: &DataSettings, by: By) -> Result<()> {
    if by.needs_times() && !dataset.has_times {
        let what = format!("\"{}\" goes by the order of a user's rows, and {} has no times", by.name(), dataset.name);
        return Err(Error::usage("data.split.by", what).next("set it to \"user_chance\", or name a column of times"));
    }
    if by == By::Given && !dataset.brings_parts() {
        let what = format!("\"given\", but {} does not say which part a row belongs to", dataset.name);
        return Err(Error::usage("data.split.by", what).next(
            "name files by data.table.test (and data.table.valid) or a column by data.table.part, or leave it out",
        ));
    }
    let given_valid = || dataset.interactions.iter().any(|row| row.part == Some(Part::Valid));
    if by == By::Given && settings.split.valid(by) > 0.0 && given_valid() {
        return Err(Error::usage("data.split.valid", "the data brings a validation part of its own")
            .next("leave the key out; or set data.split.by, e.g. to \"user_chance\", to deal out all rows anew"));
    }
    if settings.targets == Targets::Last {
        let what = format!("one sample a user is a split of its own, and data.split.by = \"{}\" is another", by.name());
        return Err(Error::usage("data.targets", what).next("leave out data.targets, or data.split.by"));
    }
    Ok(())
}

/// Leaves the first row of each (user, item).
pub fn drop_later_repeats<T>(timelines: &mut [Vec<T>], items: usize, item: impl Fn(&T) -> ItemIdx) {
    // The last user who met an item, plus 1.
    let mut met = vec![0usize; items];
    for (user, timeline) in timelines.iter_mut().enumerate() {
        timeline.retain(|row| std::mem::replace(&mut met[item(row).at()], user + 1) != user + 1);
    }
}

/// Rows of `n` that are held out for validation and test, each rounded down.
fn held_out(n: usize, train: f64, valid: f64) -> [usize; 2] {
    // A hair more, so that 0.2 of 5 is 1.
    let rows = |share: f64| (share * n as f64 + 1e-9).floor() as usize;
    [rows(valid), rows(1.0 - train - valid)]
}

/// Parts of `n` things in the order of a draw: the first are for training, the last for test.
fn drawn(n: usize, train: f64, valid: f64, mut rng: Rng) -> Vec<Part> {
    let rows = |share: f64| (share * n as f64 + 1e-9).floor() as usize;
    let ends = [rows(train), rows(train) + rows(valid)];
    let mut order: Vec<usize> = (0..n).collect();
    rng.shuffle(&mut order);
    let mut parts = vec![Part::Test; n];
    for (place, &at) in order.iter().enumerate() {
        if place < ends[0] {
            parts[at] = Part::Train;
        } else if place < ends[1] {
            parts[at] = Part::Valid;
        }
    }
    parts
}

fn assign(timelines: &mut [Vec<Row>], settings: &DataSettings, by: By, items: usize) {
    let (train, valid) = (settings.split.train, settings.split.valid(by));
    let draw = |of: u32| Rng::new(settings.seed, Use::Rows, of, PARTS);
    let latest = |timeline: &mut [Row], [valid, test]: [usize; 2]| {
        let rows = timeline.len();
        for (at, row) in timeline.iter_mut().enumerate() {
            row.1 = match rows - at {
                left if left <= test => Part::Test,
                left if left <= test + valid => Part::Valid,
                _ => Part::Train,
            };
        }
    };
    match by {
        By::Auto | By::Time => {}
        By::UserTime => {
            for timeline in timelines.iter_mut() {
                let held = held_out(timeline.len(), train, valid);
                latest(timeline, held);
            }
        }
        By::Last => {
            let last = settings.split.last as usize;
            let held = [if valid > 0.0 { last } else { 0 }, last];
            for timeline in timelines.iter_mut() {
                let enough = timeline.len() > held.iter().sum();
                latest(timeline, if enough { held } else { [0, 0] });
            }
        }
        By::UserChance => {
            for (user, timeline) in (0..).zip(timelines.iter_mut()) {
                let mut order: Vec<usize> = (0..timeline.len()).collect();
                draw(user).shuffle(&mut order);
                let [valid, test] = held_out(timeline.len(), train, valid);
                for (place, &at) in order.iter().enumerate() {
                    timeline[at].1 = match place {
                        place if place < test => Part::Test,
                        place if place < test + valid => Part::Valid,
                        _ => Part::Train,
                    };
                }
            }
        }
        By::Chance => {
            let rows = timelines.iter().map(Vec::len).sum();
            let parts = drawn(rows, train, valid, draw(ALL_USERS));
            timelines.iter_mut().flatten().zip(parts).for_each(|(row, part)| row.1 = part);
        }
        By::Items => {
            let mut rated = vec![false; items];
            timelines.iter().flatten().for_each(|row| rated[row.0.item.at()] = true);
            let there: Vec<usize> = (0..items).filter(|&item| rated[item]).collect();
            let mut of = vec![Part::Train; items];
            for (&item, part) in there.iter().zip(drawn(there.len(), train, valid, draw(ALL_USERS))) {
                of[item] = part;
            }
            timelines.iter_mut().flatten().for_each(|row| row.1 = of[row.0.item.at()]);
        }
        By::Users => {
            let active: Vec<usize> = (0..timelines.len()).filter(|&user| !timelines[user].is_empty()).collect();
            for (&user, part) in active.iter().zip(drawn(active.len(), train, valid, draw(ALL_USERS))) {
                timelines[user].iter_mut().for_each(|row| row.1 = part);
            }
        }
        By::Given => {
            for timeline in timelines.iter_mut() {
                let rows = timeline.partition_point(|row| row.1 == Part::Train);
                let held = (valid * rows as f64).floor() as usize;
                timeline[rows - held..rows].iter_mut().for_each(|row| row.1 = Part::Valid);
            }
        }
    }
}

/// The samples of dealt timelines.
fn take(dataset: &Dataset, settings: &DataSettings, timelines: Vec<Vec<Rated>>, dealt: Dealt) -> Result<Samples> {
    let graph_only = dataset.set().is_some_and(|set| set.graph_only);
    let min_history = if graph_only { 0 } else { settings.min_history() };
    let threshold = settings.threshold();
    let mut parts: [Vec<Sample>; 3] = Default::default();
    let mut exceptions = Exceptions::default();
    let mut met = vec![0u32; dataset.items.len()];
    for (user, timeline) in (0..).zip(&timelines) {
        let ends = dealt.ends[user as usize].map(|end| end as usize);
        for (position, row) in timeline.iter().enumerate() {
            let part = usize::from(position >= ends[0]) + usize::from(position >= ends[1]);
            let end = if part > 0 && dealt.frozen { ends[0] } else { position };
            let again = std::mem::replace(&mut met[row.item.at()], user + 1) == user + 1;
            let own = again && settings.repeats == Repeats::ExcludeTarget;
            let history = &timeline[..end];
            let length = if own { without(history, row.item).count() } else { end };
            if length < min_history {
                continue;
            }
            let (user, position) = (UserIdx(user), position as u32);
            parts[part].push(Sample {
                user,
                item: row.item,
                rating: row.rating,
                label: graph_only || row.rating > threshold,
                time: row.time,
                position,
            });
            if own {
                exceptions.add(user, position, without(history, row.item).copied().collect())?;
            }
        }
    }
    for (part, samples) in (0..).zip(&mut parts) {
        if dataset.has_times {
            samples.sort_unstable_by_key(|s| (s.time, s.user, s.item, s.position));
        } else if !graph_only {
            Rng::new(settings.seed, Use::Rows, ALL_USERS, ORDERS + part).shuffle(samples);
        }
    }
    let [train, valid, test] = parts.each_ref().map(Vec::len);
    let split = Split { train: 0..train, valid: train..train + valid, test: train + valid..train + valid + test };
    Ok(Samples { timelines, samples: parts.concat(), split, exceptions: exceptions.found, dealt: Some(dealt) })
}
