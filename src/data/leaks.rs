//! Checks that nothing of validation or test is seen before its time. Each leak is an error that
//! names the setting behind it; where a setting asks for the authors' behaviour it becomes a
//! warning. What is free of leaks under which split stands in [`super::split`].

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::dataset::{Dealt, Part, Rated, Samples};
use super::split::By;
use super::{ItemIdx, UserIdx};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// What is to be checked.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Samples with their histories and split.
    pub samples: &'a Samples,
    /// The edges of the graph that embeddings are trained on, if there is one.
    pub edges: Option<&'a [(UserIdx, ItemIdx)]>,
    /// The part that early stopping and the choice of settings look at, if anything is chosen.
    pub selection: Option<Part>,
    /// Which of the authors' behaviours were asked for.
    pub allowed: Allowed,
}

/// Behaviours of the authors that leak and are asked for on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowed {
    /// Repeats are kept, so a target can stand in its own history (D6).
    pub target_in_history: bool,
    /// The graph is leave-one-out, so it holds validation and test interactions (D5).
    pub later_edges: bool,
    /// Early stopping looks at test rows (D7).
    pub selection_on_test: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeakReport {
    /// Samples whose history holds their target.
    pub target_in_history: usize,
    /// Graph edges that are targets of validation samples.
    pub valid_edges: usize,
    /// Graph edges that are targets of test samples.
    pub test_edges: usize,
    /// Selection looks at test rows.
    pub selection_on_test: bool,
    /// The leaks that were let through, in words.
    pub warnings: Vec<String>,
}

/// Runs all checks.
///
/// # Errors
/// The first leak that is not allowed, and always: parts of the split that overlap or are not in
/// order of time, a history that reaches beyond its target.
pub fn check(inputs: Inputs<'_>, monitor: &dyn Monitor) -> Result<LeakReport> {
    joined(inputs.samples)?;
    match &inputs.samples.dealt {
        None => in_time(inputs.samples)?,
        Some(dealt) => as_dealt(inputs.samples, dealt)?,
    }
    let mut report = LeakReport { target_in_history: targets_in_history(inputs.samples), ..LeakReport::default() };
    let total = inputs.samples.samples.len();
    report.judge(
        report.target_in_history > 0,
        inputs.allowed.target_in_history,
        "data.repeats",
        format!("{} of {total} samples have their target in their own history", report.target_in_history),
        "set data.repeats to \"drop\" or \"exclude_target\"",
        monitor,
    )?;
    if let Some(edges) = inputs.edges {
        let edges: HashSet<_> = edges.iter().copied().collect();
        let shared = |part| held_out(inputs.samples, part).filter(|pair| edges.contains(pair)).count();
        (report.valid_edges, report.test_edges) = (shared(Part::Valid), shared(Part::Test));
        report.judge(
            report.valid_edges + report.test_edges > 0,
            inputs.allowed.later_edges,
            "graph.edges",
            format!(
                "the graph holds the targets of {} of {} validation and {} of {} test samples",
                report.valid_edges,
                held_out(inputs.samples, Part::Valid).count(),
                report.test_edges,
                held_out(inputs.samples, Part::Test).count()
            ),
            "set graph.edges to \"train_split\"",
            monitor,
        )?;
    }
    report.selection_on_test = inputs.selection == Some(Part::Test);
    report.judge(
        report.selection_on_test,
        inputs.allowed.selection_on_test,
        "selection",
        "early stopping or the choice of settings looks at test rows".into(),
        "select on the validation split",
        monitor,
    )?;
    Ok(report)
}

impl LeakReport {
    fn judge(
        &mut self,
        found: bool,
        allowed: bool,
        setting: &str,
        what: String,
        next: &str,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        if !found {
            return Ok(());
        }
        if !allowed {
            return Err(Error::usage(setting, format!("leak: {what}")).next(next));
        }
        monitor.warn(&format!("{setting}: leak, as asked for: {what}"), next);
        self.warnings.push(what);
        Ok(())
    }
}

/// How many samples have their target in their history.
pub fn targets_in_history(samples: &Samples) -> usize {
    // A repeat is needed for it: only users with one are searched.
    let mut met = HashSet::new();
    let repeats: Vec<bool> = samples
        .timelines
        .iter()
        .map(|timeline| {
            met.clear();
            timeline.iter().any(|r| !met.insert(r.item))
        })
        .collect();
    samples
        .samples
        .iter()
        .filter(|s| repeats.get(s.user.at()).copied().unwrap_or(false))
        .filter(|s| samples.history(s).iter().any(|r| r.item == s.item))
        .count()
}

/// The pairs of a part: targets of samples; where rows are dealt out, all rows.
fn held_out(samples: &Samples, part: Part) -> Box<dyn Iterator<Item = (UserIdx, ItemIdx)> + '_> {
    match &samples.dealt {
        None => Box::new(samples.part(part).iter().map(|s| (s.user, s.item))),
        Some(dealt) => Box::new((0..).map(UserIdx).zip(&samples.timelines).flat_map(move |(user, timeline)| {
            timeline[dealt.range(user, part, timeline.len())].iter().map(move |row| (user, row.item))
        })),
    }
}

/// The parts follow each other without gaps, and each sample's target stands where it says.
fn joined(samples: &Samples) -> Result<()> {
    let split = &samples.split;
    let joined = split.train.start == 0
        && split.train.end == split.valid.start
        && split.valid.end == split.test.start
        && split.test.end == samples.samples.len()
        && Part::ALL.into_iter().all(|part| split.range(part).start <= split.range(part).end);
    if !joined {
        return Err(Error::input("samples", format!("the parts of the split overlap or leave gaps: {split:?}"))
            .next("make the samples again"));
    }
    for (row, sample) in samples.samples.iter().enumerate() {
        let timeline = samples.timelines.get(sample.user.at()).map(Vec::as_slice).unwrap_or_default();
        let target = timeline.get(sample.position as usize);
        if target.is_none_or(|t| (t.item, t.time) != (sample.item, sample.time)) {
            return Err(Error::input(
                format!("samples: row {row}"),
                format!("the target is not at position {} of its user's timeline", sample.position),
            )
            .next("the history would hold the future: make the samples again"));
        }
    }
    Ok(())
}

/// Rows that follow each other in time.
fn later_first(times: impl Iterator<Item = i64> + Clone) -> Option<(usize, i64, i64)> {
    let pairs = times.clone().zip(times.skip(1)).enumerate();
    pairs.map(|(at, (a, b))| (at, a, b)).find(|&(_, a, b)| a > b)
}

/// The parts, and each user's rows, follow each other in time.
fn in_time(samples: &Samples) -> Result<()> {
    if let Some((at, first, second)) = later_first(samples.samples.iter().map(|s| s.time)) {
        return Err(Error::input(
            format!("samples: row {}", at + 1),
            format!("is earlier than the row before it: {second} after {first}"),
        )
        .next("a split in time needs samples in order of time: make the samples again"));
    }
    ordered(samples, |_, timeline| whole(timeline))
}

/// One range of all rows, and no others.
fn whole(timeline: &[Rated]) -> [Range<usize>; 3] {
    let end = timeline.len();
    [0..end, end..end, end..end]
}

/// The rows of each range of a timeline follow each other in time.
fn ordered(samples: &Samples, ranges: impl Fn(UserIdx, &[Rated]) -> [Range<usize>; 3]) -> Result<()> {
    for (user, timeline) in (0..).map(UserIdx).zip(&samples.timelines) {
        for range in ranges(user, timeline) {
            if later_first(timeline[range].iter().map(|row| row.time)).is_some() {
                let place = format!("samples: timeline of user {}", user.0);
                return Err(Error::input(place, "is not in order of time").next("make the samples again"));
            }
        }
    }
    Ok(())
}

/// What holds of every split but that in time: each sample lies in its own part of its user's rows;
/// histories that are frozen end with the training rows; withheld items and users have none.
fn as_dealt(samples: &Samples, dealt: &Dealt) -> Result<()> {
    let again = "make the samples again";
    for part in Part::ALL {
        for (row, sample) in samples.split.range(part).zip(samples.part(part)) {
            let timeline = &samples.timelines[sample.user.at()];
            let own = dealt.range(sample.user, part, timeline.len());
            if !own.contains(&(sample.position as usize)) {
                let what = format!("is a {} sample, and its row is of another part", part.name());
                return Err(Error::input(format!("samples: row {row}"), what).next(again));
            }
            let known = if dealt.frozen && part != Part::Train {
                dealt.range(sample.user, Part::Train, timeline.len()).end
            } else {
                sample.position as usize
            };
            if samples.history(sample).len() > known {
                let what = "its history holds rows that are held out".to_owned();
                return Err(Error::input(format!("samples: row {row}"), what).next(again));
            }
        }
    }
    ordered(samples, |user, timeline| {
        if dealt.frozen { Part::ALL.map(|part| dealt.range(user, part, timeline.len())) } else { whole(timeline) }
    })?;
    let withheld = match dealt.by {
        By::Items => {
            let trained: HashSet<ItemIdx> = held_out(samples, Part::Train).map(|pair| pair.1).collect();
            let pairs = || held_out(samples, Part::Valid).chain(held_out(samples, Part::Test));
            pairs().find(|pair| trained.contains(&pair.1)).map(|pair| format!("item {}", pair.1.0))
        }
        By::Users => (0..).map(UserIdx).zip(&samples.timelines).find_map(|(user, timeline)| {
            let trained = dealt.range(user, Part::Train, timeline.len()).end;
            (trained > 0 && trained < timeline.len()).then(|| format!("user {}", user.0))
        }),
        _ => None,
    };
    match withheld {
        None => Ok(()),
        Some(what) => Err(Error::input("samples", format!("{what} is withheld and has training rows")).next(again)),
    }
}
