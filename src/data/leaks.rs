//! Checks that nothing of validation or test is seen before its time. Each leak is an error that
//! names the setting behind it; where a setting asks for the authors' behaviour it becomes a
//! warning.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::dataset::{Part, Samples};
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
    order(inputs.samples)?;
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
        let shared = |part| inputs.samples.part(part).iter().filter(|s| edges.contains(&(s.user, s.item))).count();
        (report.valid_edges, report.test_edges) = (shared(Part::Valid), shared(Part::Test));
        report.judge(
            report.valid_edges + report.test_edges > 0,
            inputs.allowed.later_edges,
            "graph.edges",
            format!(
                "the graph holds the targets of {} of {} validation and {} of {} test samples",
                report.valid_edges,
                inputs.samples.split.valid.len(),
                report.test_edges,
                inputs.samples.split.test.len()
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

/// Split parts follow each other in time, and each sample's target stands where its history ends.
fn order(samples: &Samples) -> Result<()> {
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
    if let Some(at) = samples.samples.windows(2).position(|pair| pair[0].time > pair[1].time) {
        return Err(Error::input(
            format!("samples: row {}", at + 1),
            format!(
                "is earlier than the row before it: {} after {}",
                samples.samples[at + 1].time,
                samples.samples[at].time
            ),
        )
        .next("a split in time needs samples in order of time: make the samples again"));
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
    for (user, timeline) in samples.timelines.iter().enumerate() {
        if timeline.windows(2).any(|pair| pair[0].time > pair[1].time) {
            return Err(Error::input(format!("samples: timeline of user {user}"), "is not in order of time")
                .next("make the samples again"));
        }
    }
    Ok(())
}
