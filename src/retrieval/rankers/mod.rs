//! What ranks the whole catalogue for users, and how good the lists are. A new ranker is a file
//! here and a line of [`Fitted::fit`].

mod blend;
mod content;
mod ease;
mod factors;
mod fitted;
mod inverse;
mod lightgcn;
mod neighbours;
mod popularity;
mod ratings;
mod settings;

use rayon::prelude::*;

pub use blend::{Blend, normalise};
pub use content::ContentBased;
pub use ease::{Ease, bytes as ease_bytes};
pub use factors::Factors;
pub use fitted::{Fitted, Kept, Sides, Weights};
pub use lightgcn::LightGcn;
pub use neighbours::Neighbours;
pub use popularity::Popularity;
pub use ratings::{Ratings, Weight};
pub use settings::{FactorSettings, FinalFit, RecommendSettings};

use crate::data::split::HeldOut;
use crate::data::{ItemIdx, Part, Rated, UserIdx};
use crate::device::Device;
use crate::error::Result;
use crate::eval::ranking::{CUTS, Judged, RankingTable};
use crate::monitor::Monitor;

/// Users whose lists are held at a time.
const BLOCK: usize = 4096;

/// Of an item that a ranker says nothing of.
pub const SILENT: f32 = f32::NEG_INFINITY;

/// Whose list is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Whom<'a> {
    /// The user's place in the data set; `None` for somebody who is not in it.
    pub user: Option<UserIdx>,
    /// What the user is known to have met, oldest first.
    pub history: &'a [Rated],
}

/// Ranks items for users.
pub trait Ranker: Send + Sync {
    /// Name of its row, one of [`crate::eval::rows`].
    fn name(&self) -> &'static str;

    /// Writes one score an item, [`SILENT`] for items that it says nothing of. False where it says
    /// nothing of the user; `scores` then hold anything.
    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool;

    /// What each item of the history adds to the score of `item`; nothing where the score is no
    /// such sum.
    fn because(&self, whom: Whom<'_>, item: ItemIdx) -> Vec<(ItemIdx, f32)> {
        let _ = (whom, item);
        Vec::new()
    }

    /// For each user the `k` best items that are not among those seen, best first; fewer where it
    /// says nothing of more.
    ///
    /// # Errors
    /// Those of the operators.
    fn lists(&self, users: &[HeldOut<'_>], items: usize, k: usize, device: &Device) -> Result<Vec<Vec<u32>>> {
        let _ = device;
        let list = |scores: &mut Vec<f32>, user: &HeldOut<'_>| {
            let whom = Whom { user: Some(user.user), history: user.history };
            if self.scores(whom, scores) { best(scores, &user.seen, k) } else { Vec::new() }
        };
        Ok(users.par_iter().map_init(|| vec![SILENT; items], list).collect())
    }
}

/// The `k` items of the largest scores that are not in `seen` (rising), best first, ties to the
/// lower index. Items of the score [`SILENT`] are left out.
pub fn best(scores: &mut [f32], seen: &[u32], k: usize) -> Vec<u32> {
    for &item in seen {
        if let Some(score) = scores.get_mut(item as usize) {
            *score = SILENT;
        }
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|&item| scores[item as usize] > SILENT).collect();
    let rank = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if order.len() > k && k > 0 {
        order.select_nth_unstable_by(k - 1, rank);
    }
    order.truncate(k);
    order.sort_unstable_by(rank);
    order
}

/// A list of up to `k` items: the ranker's, and behind them what is popular.
pub fn filled(mut list: Vec<u32>, popularity: &Popularity, seen: &[u32], k: usize) -> Vec<u32> {
    if list.len() < k {
        let more = popularity.list(seen, k);
        let own = list.len();
        for item in more {
            if list.len() == k {
                break;
            }
            if !list[..own].contains(&item) {
                list.push(item);
            }
        }
    }
    list
}

/// Judges the lists of all rankers, the reference first, for users with held-out likes. A list that
/// is too short ends with what is popular.
///
/// # Errors
/// Those of the rankers; a stop that was asked for.
pub fn judge(
    rankers: &[&dyn Ranker],
    popularity: &Popularity,
    users: &[HeldOut<'_>],
    part: Part,
    items: usize,
    device: &Device,
    monitor: &dyn Monitor,
) -> Result<RankingTable> {
    let longest = CUTS.into_iter().max().unwrap_or(1);
    let mut judged: Vec<Judged> = rankers.iter().map(|ranker| Judged::new(ranker.name(), items)).collect();
    let mut relevant: Vec<u32> = Vec::new();
    let mut likes = 0;
    for block in users.chunks(BLOCK) {
        likes += block.iter().map(|user| user.relevant.len()).sum::<usize>();
        for (ranker, judged) in rankers.iter().zip(&mut judged) {
            monitor.check()?;
            for (list, user) in ranker.lists(block, items, longest, device)?.into_iter().zip(block) {
                relevant.clear();
                relevant.extend(user.relevant.iter().map(|item: &ItemIdx| item.0));
                judged.add(&filled(list, popularity, &user.seen, longest), &relevant);
            }
        }
    }
    Ok(RankingTable::new(part.name(), items, likes, &judged))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::Matrix;

    /// Ratings of 1 to 5 as (user, item, rating), each pair once.
    pub(super) fn ratings(items: usize, given: &[(u32, u32, u8)]) -> Ratings {
        let users = given.iter().map(|row| row.0 as usize + 1).max().unwrap_or(0);
        let mut by_user: Vec<Vec<Rated>> = vec![Vec::new(); users];
        for (time, &(user, item, rating)) in given.iter().enumerate() {
            if !by_user[user as usize].iter().any(|row| row.item.0 == item) {
                by_user[user as usize].push(Rated {
                    item: ItemIdx(item),
                    rating: f32::from(rating),
                    time: time as i64,
                });
            }
        }
        Ratings { items, by_user, threshold: 3.0, scale: (1.0, 5.0), has_times: true }
    }

    /// Twelve users, ten items.
    pub(super) fn any_ratings() -> impl Strategy<Value = Ratings> {
        proptest::collection::vec((0u32..12, 0u32..10, 1u8..=5), 0..90).prop_map(|mut rows| {
            rows.push((11, 0, 1));
            ratings(10, &rows)
        })
    }

    pub(super) fn history(ratings: &Ratings, user: usize) -> Vec<Rated> {
        ratings.by_user[user].clone()
    }

    fn user(user: u32, seen: &[u32], relevant: &[u32]) -> HeldOut<'static> {
        HeldOut {
            user: UserIdx(user),
            history: &[],
            seen: seen.to_vec(),
            relevant: relevant.iter().map(|&item| ItemIdx(item)).collect(),
        }
    }

    #[test]
    fn popularity_counts_pairs_and_leaves_out_what_was_seen_and_what_nobody_met() {
        let pairs = [(0, 2), (1, 2), (2, 2), (0, 1), (1, 1), (0, 3), (2, 0)];
        let popularity = Popularity::new(5, &pairs.map(|(u, i)| (UserIdx(u), ItemIdx(i))));
        let users = [user(0, &[1, 2], &[0]), user(1, &[], &[0])];
        let lists = popularity.lists(&users, 5, 3, &Device::Cpu).unwrap();
        assert_eq!(lists, [vec![0, 3], vec![2, 1, 0]]);
    }

    #[test]
    fn lightgcn_ranks_known_items_and_falls_back_for_unknown_users() {
        let popularity = Popularity::new(4, &[(UserIdx(0), ItemIdx(2))]);
        let users = Matrix::from_vec(2, 1, vec![1.0, 0.0]).unwrap();
        // Item 1 is outside of the graph, item 3 is disliked.
        let items = Matrix::from_vec(4, 1, vec![0.5, 0.0, 2.0, -1.0]).unwrap();
        let pairs = [(0, 0), (0, 2), (2, 2), (3, 2), (4, 2)].map(|(u, i)| (UserIdx(u), ItemIdx(i)));
        let lightgcn = LightGcn::new(users, &items, &pairs).unwrap();
        let asked = [user(0, &[2], &[0]), user(1, &[], &[0]), user(0, &[0, 1, 3], &[2])];
        let own = lightgcn.lists(&asked, 4, 4, &Device::Cpu).unwrap();
        let lists: Vec<_> = own.into_iter().zip(&asked).map(|(l, u)| filled(l, &popularity, &u.seen, 4)).collect();
        assert_eq!(lists, [vec![0, 3], vec![2], vec![2]]);
        assert_eq!(lightgcn.unknown(&[user(0, &[], &[0]), user(1, &[], &[0])]), 1);
        // The scores of one user say the same as the lists of many.
        let mut scores = [0.0; 4];
        assert!(lightgcn.scores(Whom { user: Some(UserIdx(0)), history: &[] }, &mut scores));
        assert_eq!(best(&mut scores, &[2], 4), [0, 3]);
        assert!(!lightgcn.scores(Whom { user: Some(UserIdx(1)), history: &[] }, &mut scores));
        // Who is outside of the graph has the vectors of what was met, those of popular items less.
        let met = [0, 2, 1].map(|item| Rated { item: ItemIdx(item), rating: 5.0, time: 0 });
        assert!(lightgcn.scores(Whom { user: None, history: &met }, &mut scores));
        let own = 0.5 + 2.0 / 2.0;
        assert!(scores.iter().zip([0.5 * own, SILENT, 2.0 * own, -own]).all(|(a, b)| *a == b || (a - b).abs() <= 1e-6));
    }

    #[test]
    fn the_best_are_those_of_the_largest_scores() {
        let mut scores = [0.5, SILENT, 2.0, 0.5, -1.0, 3.0];
        assert_eq!(best(&mut scores, &[5], 3), [2, 0, 3]);
        assert_eq!(best(&mut scores, &[], 9), [2, 0, 3, 4]);
        assert_eq!(best(&mut scores, &[], 0), [0; 0]);
    }
}
