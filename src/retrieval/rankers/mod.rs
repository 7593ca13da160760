//! What ranks the whole catalogue for users, and how good the lists are. A new ranker is a file
//! here and a line in [`crate::pipeline::stages::rank`].

mod lightgcn;
mod popularity;

pub use lightgcn::LightGcn;
pub use popularity::Popularity;

use crate::data::split::HeldOut;
use crate::data::{ItemIdx, Part};
use crate::error::Result;
use crate::eval::ranking::{CUTS, Judged, RankingTable};
use crate::monitor::Monitor;

/// Users whose lists are held at a time.
const BLOCK: usize = 4096;

/// Ranks items for users.
pub trait Ranker {
    /// Name of its row, one of [`crate::eval::rows`].
    fn name(&self) -> &'static str;

    /// For each user the `k` best items that are not among those seen, best first; fewer where
    /// there are no more.
    ///
    /// # Errors
    /// Those of the operators.
    fn lists(&self, users: &[HeldOut], k: usize) -> Result<Vec<Vec<u32>>>;
}

/// Judges the lists of all rankers, the reference first, for users with held-out likes.
///
/// # Errors
/// Those of the rankers; a stop that was asked for.
pub fn judge(
    rankers: &[&dyn Ranker],
    users: &[HeldOut],
    part: Part,
    items: usize,
    monitor: &dyn Monitor,
) -> Result<RankingTable> {
    let longest = CUTS.into_iter().max().unwrap_or(1);
    let mut judged: Vec<Judged> = rankers.iter().map(|ranker| Judged::new(ranker.name(), items)).collect();
    let mut relevant: Vec<u32> = Vec::new();
    let mut likes = 0;
    for block in users.chunks(BLOCK) {
        monitor.check()?;
        likes += block.iter().map(|user| user.relevant.len()).sum::<usize>();
        for (ranker, judged) in rankers.iter().zip(&mut judged) {
            for (list, user) in ranker.lists(block, longest)?.iter().zip(block) {
                relevant.clear();
                relevant.extend(user.relevant.iter().map(|item: &ItemIdx| item.0));
                judged.add(list, &relevant);
            }
        }
    }
    Ok(RankingTable::new(part.name(), items, likes, &judged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::UserIdx;
    use crate::device::Device;
    use crate::tensor::Matrix;

    fn user(user: u32, seen: &[u32], relevant: &[u32]) -> HeldOut {
        HeldOut {
            user: UserIdx(user),
            seen: seen.to_vec(),
            relevant: relevant.iter().map(|&item| ItemIdx(item)).collect(),
        }
    }

    #[test]
    fn popularity_counts_pairs_and_leaves_out_what_was_seen_and_what_nobody_met() {
        let pairs = [(0, 2), (1, 2), (2, 2), (0, 1), (1, 1), (0, 3), (2, 0)];
        let popularity = Popularity::new(5, &pairs.map(|(u, i)| (UserIdx(u), ItemIdx(i))));
        let lists = popularity.lists(&[user(0, &[1, 2], &[0]), user(1, &[], &[0])], 3).unwrap();
        assert_eq!(lists, [vec![0, 3], vec![2, 1, 0]]);
    }

    #[test]
    fn lightgcn_ranks_known_items_and_falls_back_for_unknown_users() {
        let popularity = Popularity::new(4, &[(UserIdx(0), ItemIdx(2))]);
        let users = Matrix::from_vec(2, 1, vec![1.0, 0.0]).unwrap();
        // Item 1 is outside of the graph, item 3 is disliked.
        let items = Matrix::from_vec(4, 1, vec![0.5, 0.0, 2.0, -1.0]).unwrap();
        let lightgcn = LightGcn::new(&Device::Cpu, &users, &items, &popularity).unwrap();
        let lists = lightgcn.lists(&[user(0, &[2], &[0]), user(1, &[], &[0]), user(0, &[0, 1, 3], &[2])], 4).unwrap();
        assert_eq!(lists, [vec![0, 3], vec![2], vec![2]]);
        assert_eq!(lightgcn.unknown(&[user(0, &[], &[0]), user(1, &[], &[0])]), 1);
    }
}
