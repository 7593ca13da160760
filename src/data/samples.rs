//! Timelines, samples and the split in time.

use std::collections::HashSet;

use super::dataset::{Dataset, Exception, Rated, Sample, Samples, Split};
use super::settings::{Repeats, Settings};
use crate::error::{Error, Result};

/// Every interaction whose user has at least `min_history` earlier ones becomes a sample, in order of (time, user,
/// item); the first floor(train n) are for training, the next floor(valid n) for validation, the rest for test.
///
/// A data set that came through [`open`](super::open) is filtered to its core already; on another one the core's rows
/// are chosen here without renumbering.
///
/// # Errors
/// Settings out of range, or data too small to fill each part of the split.
pub fn build_samples(dataset: &Dataset, settings: &Settings) -> Result<Samples> {
    settings.check()?;
    if !dataset.has_times {
        return Err(
            Error::input(&dataset.name, "has no times, so there is no split in time").next("use a data set with times")
        );
    }
    let filtered;
    let rows = if settings.core.is_off() {
        &dataset.interactions
    } else {
        filtered = settings.core.filter(&dataset.interactions);
        &filtered
    };
    let threshold = settings.threshold();
    let min_history = settings.min_history;
    let mut timelines: Vec<Vec<Rated>> = vec![Vec::new(); dataset.users.len()];
    let mut samples = Vec::with_capacity(rows.len());
    let mut exceptions = Vec::new();
    let mut seen = Seen::new(dataset.users.len(), dataset.items.len());
    for row in rows {
        let again = settings.repeats != Repeats::Keep && !seen.first(row.user.at(), row.item.at());
        if again && settings.repeats == Repeats::Drop {
            continue;
        }
        let timeline = &mut timelines[row.user.at()];
        let position = timeline.len() as u32;
        let own_history = again.then(|| timeline.iter().filter(|r| r.item != row.item).copied().collect::<Vec<_>>());
        if own_history.as_ref().map_or(timeline.len(), Vec::len) >= min_history {
            samples.push(Sample {
                user: row.user,
                item: row.item,
                rating: row.rating,
                label: row.rating > threshold,
                time: row.time,
                position,
            });
            exceptions.extend(own_history.map(|history| Exception { user: row.user, position, history }));
        }
        timeline.push(Rated { item: row.item, rating: row.rating, time: row.time });
    }
    exceptions.sort_by_key(|e| (e.user, e.position));
    let split = split(samples.len(), settings);
    for (name, range) in [("train", &split.train), ("valid", &split.valid), ("test", &split.test)] {
        if range.is_empty() && !(name == "valid" && settings.split.valid == 0.0) {
            return Err(Error::input(
                &dataset.name,
                format!("{} samples leave the {name} part of the split empty", samples.len()),
            )
            .next("use more data, a smaller data.min_history, or another data.split"));
        }
    }
    Ok(Samples { timelines, samples, split, exceptions })
}

fn split(n: usize, settings: &Settings) -> Split {
    let train = (settings.split.train * n as f64).floor() as usize;
    let valid = train + (settings.split.valid * n as f64).floor() as usize;
    Split { train: 0..train, valid: train..valid, test: valid..n }
}

/// Which (user, item) pairs were met: one bit a pair where that is small, a set otherwise.
enum Seen {
    Bits { items: usize, words: Vec<u64> },
    Set(HashSet<(usize, usize)>),
}

impl Seen {
    fn new(users: usize, items: usize) -> Self {
        // 64 MiB; MovieLens 1M needs 3 MiB.
        const MOST_BITS: usize = 1 << 29;
        match users.checked_mul(items).filter(|&bits| bits <= MOST_BITS) {
            Some(bits) => Self::Bits { items, words: vec![0; bits.div_ceil(64)] },
            None => Self::Set(HashSet::new()),
        }
    }

    /// True the first time.
    fn first(&mut self, user: usize, item: usize) -> bool {
        match self {
            Self::Set(set) => set.insert((user, item)),
            Self::Bits { items, words } => {
                let bit = user * *items + item;
                let (word, mask) = (&mut words[bit / 64], 1 << (bit % 64));
                let first = *word & mask == 0;
                *word |= mask;
                first
            }
        }
    }
}
