//! What ranks the whole catalogue for users, and how good the lists are. A new ranker is a file
//! here and a line in [`crate::pipeline::stages::rank`].

mod lightgcn;
mod popularity;

use rayon::prelude::*;

pub use lightgcn::LightGcn;
pub use popularity::Popularity;

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
    use super::*;
    use crate::tensor::Matrix;

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
        let lightgcn = LightGcn::new(users, &items).unwrap();
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
    }

    #[test]
    fn the_best_are_those_of_the_largest_scores() {
        let mut scores = [0.5, SILENT, 2.0, 0.5, -1.0, 3.0];
        assert_eq!(best(&mut scores, &[5], 3), [2, 0, 3]);
        assert_eq!(best(&mut scores, &[], 9), [2, 0, 3, 4]);
        assert_eq!(best(&mut scores, &[], 0), [0; 0]);
    }
}
