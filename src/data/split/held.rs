//! What is held out of each user, as a question for rankers: which items come next?

use std::collections::BTreeMap;

use crate::data::dataset::{Part, Rated, Samples};
use crate::data::split::By;
use crate::data::{ItemIdx, UserIdx};

/// A user with held-out likes.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut<'a> {
    /// Who.
    pub user: UserIdx,
    /// What the user is known to have met before, in the order of the timeline.
    pub history: &'a [Rated],
    /// Items that the user is known to have met, rising: no ranking shows them.
    pub seen: Vec<u32>,
    /// The held-out items that the user likes, each once; at least one.
    pub relevant: Vec<ItemIdx>,
}

/// Every user with a liked item in `part` that was not seen before. Liked is a rating above
/// `threshold`.
///
/// Known of a user are the rows before the part: by the split in time and for withheld users those
/// before the user's first sample of the part, elsewhere the rows of the earlier parts. So the
/// question about the test part knows the validation rows.
pub fn held_out(samples: &Samples, part: Part, threshold: f32) -> Vec<HeldOut<'_>> {
    // For each user, the first sample's place and the liked targets.
    let mut first: BTreeMap<UserIdx, (usize, Vec<ItemIdx>)> = BTreeMap::new();
    for sample in samples.part(part) {
        let of_user = first.entry(sample.user).or_insert((usize::MAX, Vec::new()));
        of_user.0 = of_user.0.min(sample.position as usize);
        if sample.rating > threshold {
            of_user.1.push(sample.item);
        }
    }
    let by_sample = |(user, (begin, liked)): (UserIdx, (usize, Vec<ItemIdx>))| {
        let seen = &samples.timelines[user.at()][..begin];
        asked(user, seen, liked.into_iter())
    };
    match &samples.dealt {
        None => first.into_iter().filter_map(by_sample).collect(),
        Some(dealt) if dealt.by == By::Users => first.into_iter().filter_map(by_sample).collect(),
        Some(dealt) => (0..)
            .map(UserIdx)
            .zip(&samples.timelines)
            .filter_map(|(user, timeline)| {
                let rows = dealt.range(user, part, timeline.len());
                let liked = timeline[rows.clone()].iter().filter(|row| row.rating > threshold).map(|row| row.item);
                asked(user, &timeline[..rows.start], liked)
            })
            .collect(),
    }
}

fn asked(user: UserIdx, history: &[Rated], liked: impl Iterator<Item = ItemIdx>) -> Option<HeldOut<'_>> {
    let mut relevant: Vec<ItemIdx> = liked.collect();
    if relevant.is_empty() {
        return None;
    }
    let mut seen: Vec<u32> = history.iter().map(|row| row.item.0).collect();
    seen.sort_unstable();
    seen.dedup();
    relevant.sort_unstable();
    relevant.dedup();
    relevant.retain(|item| seen.binary_search(&item.0).is_err());
    (!relevant.is_empty()).then_some(HeldOut { user, history, seen, relevant })
}
