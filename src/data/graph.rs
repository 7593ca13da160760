//! The interactions that form LightGCN's graph.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::set::{DataSet, LeaveOneOut};
use super::{Dataset, Dealt, ItemIdx, Part, Samples, UserIdx};

/// Which interactions become edges. Ratings do not matter: a disliked item is an edge too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GraphEdges {
    /// Everything up to the end of the training split.
    #[default]
    TrainSplit,
    /// Each user's last interaction held out, as in the authors' notebooks. It contains most test
    /// interactions (defect D5); for comparing only.
    LeaveOneOut,
}

/// The edges in order of (user, item), each once.
///
/// * [`GraphEdges::TrainSplit`]: every training row whose pair is not held out. By the split in
///   time these are the interactions that are not later than the last training sample in the
///   order (time, user, item): the training targets and the first interactions of users before
///   that moment, which are too early to be samples. By other splits they are what was dealt out
///   to training.
/// * [`GraphEdges::LeaveOneOut`]: users with more than 10 interactions on MovieLens 1M and more
///   than 5 elsewhere; all their interactions but the last, which is held out when its item occurs
///   at least twice in the data (five times in Book-Crossing) and is an edge otherwise.
///
/// Interactions that the core filter or the repeats policy dropped are never edges.
pub fn graph_edges(dataset: &Dataset, samples: &Samples, which: GraphEdges) -> Vec<(UserIdx, ItemIdx)> {
    let mut edges = match which {
        GraphEdges::TrainSplit => train_split(dataset, samples),
        GraphEdges::LeaveOneOut => leave_one_out(dataset, samples),
    };
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn train_split(dataset: &Dataset, samples: &Samples) -> Vec<(UserIdx, ItemIdx)> {
    if let Some(dealt) = &samples.dealt {
        return dealt_to_training(samples, dealt);
    }
    let Some(last) = samples.samples[samples.split.train.clone()].last() else { return Vec::new() };
    let boundary = (last.time, last.user, last.item);
    let later: HashSet<_> =
        samples.samples[samples.split.valid.start..samples.split.test.end].iter().map(|s| (s.user, s.item)).collect();
    let mut edges = Vec::with_capacity(samples.split.train.len());
    for (user, timeline) in (0..).map(UserIdx).zip(&samples.timelines) {
        for row in timeline {
            if (!dataset.has_times || (row.time, user, row.item) <= boundary) && !later.contains(&(user, row.item)) {
                edges.push((user, row.item));
            }
        }
    }
    edges
}

fn dealt_to_training(samples: &Samples, dealt: &Dealt) -> Vec<(UserIdx, ItemIdx)> {
    let mut edges = Vec::new();
    let mut held = HashSet::new();
    for (user, timeline) in (0..).map(UserIdx).zip(&samples.timelines) {
        let end = dealt.range(user, Part::Train, timeline.len()).end;
        held.clear();
        held.extend(timeline[end..].iter().map(|row| row.item));
        edges.extend(timeline[..end].iter().filter(|row| !held.contains(&row.item)).map(|row| (user, row.item)));
    }
    edges
}

fn leave_one_out(dataset: &Dataset, samples: &Samples) -> Vec<(UserIdx, ItemIdx)> {
    let LeaveOneOut { more_than, often } = dataset.set().unwrap_or(&DataSet::PLAIN).leave_one_out;
    let mut count = vec![0u32; dataset.items.len()];
    samples.timelines.iter().flatten().for_each(|r| count[r.item.at()] += 1);
    let mut edges = Vec::with_capacity(dataset.interactions.len());
    for (user, timeline) in (0..).map(UserIdx).zip(&samples.timelines) {
        if timeline.len() <= more_than {
            continue;
        }
        if let Some((last, earlier)) = timeline.split_last() {
            edges.extend(earlier.iter().map(|r| (user, r.item)));
            if count[last.item.at()] < often {
                edges.push((user, last.item));
            }
        }
    }
    edges
}
