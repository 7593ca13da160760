//! Items that the same users like: cosine of the columns of likes, the nearest of each item alone.

use rayon::prelude::*;

use super::ratings::{Ratings, Weight};
use super::{Ranker, SILENT, Whom};
use crate::data::ItemIdx;
use crate::eval::rows;

/// The nearest items of each item.
pub struct Neighbours {
    likes: Weight,
    /// (item, cosine) of each item, the nearest first.
    near: Vec<Vec<(u32, f32)>>,
}

impl Neighbours {
    /// Of the `most` nearest items of each one. FLOP: the sum over users of their likes squared.
    pub fn fit(ratings: &Ratings, most: usize) -> Self {
        let weight = Weight::Like(ratings.threshold);
        let likes = ratings.weighed(weight);
        let count = |item: usize| likes.by_item[item].len() as f64;
        let nearest = |(common, touched): &mut (Vec<u32>, Vec<u32>), item: usize| {
            touched.clear();
            for &(user, _) in &likes.by_item[item] {
                for &(other, _) in &likes.by_user[user as usize] {
                    let both = &mut common[other as usize];
                    if *both == 0 {
                        touched.push(other);
                    }
                    *both += 1;
                }
            }
            let mut near: Vec<(u32, f32)> = Vec::with_capacity(touched.len());
            for &other in touched.iter() {
                let both = std::mem::take(&mut common[other as usize]);
                if other as usize != item {
                    let cosine = f64::from(both) / (count(item) * count(other as usize)).sqrt();
                    near.push((other, cosine as f32));
                }
            }
            let rank = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if near.len() > most && most > 0 {
                near.select_nth_unstable_by(most - 1, rank);
            }
            near.truncate(most);
            near.sort_unstable_by(rank);
            near
        };
        let none = || (vec![0; ratings.items], Vec::new());
        let near = (0..ratings.items).into_par_iter().map_init(none, nearest).collect();
        Self { likes: weight, near }
    }
}

impl Ranker for Neighbours {
    fn name(&self) -> &'static str {
        rows::NEIGHBOURS
    }

    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        scores.fill(SILENT);
        let mut any = false;
        for (item, _) in self.likes.of(whom.history) {
            for &(other, cosine) in self.near.get(item as usize).into_iter().flatten() {
                let score = &mut scores[other as usize];
                *score = if *score == SILENT { cosine } else { *score + cosine };
                any = true;
            }
        }
        any
    }

    fn because(&self, whom: Whom<'_>, item: ItemIdx) -> Vec<(ItemIdx, f32)> {
        let speaks = |(own, _): (u32, f32)| {
            let near = self.near.get(own as usize)?.iter().find(|near| near.0 == item.0)?;
            Some((ItemIdx(own), near.1))
        };
        self.likes.of(whom.history).into_iter().filter_map(speaks).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_ratings, history, ratings};
    use super::*;

    proptest! {
        /// Against plain loops in f64.
        #[test]
        fn scores_are_those_of_the_definition(rows in any_ratings(), most in 1usize..6, user in 0usize..12) {
            let own = history(&rows, user);
            let neighbours = Neighbours::fit(&rows, most);
            let likes = |u: usize, i: usize| rows.by_user[u].iter().any(|r| r.item.at() == i && r.rating > 3.0);
            let users = rows.by_user.len();
            let cosine = |a: usize, b: usize| -> f64 {
                let of = |i: usize| (0..users).filter(|&u| likes(u, i)).count() as f64;
                let both = (0..users).filter(|&u| likes(u, a) && likes(u, b)).count() as f64;
                if a == b || both == 0.0 { 0.0 } else { both / (of(a) * of(b)).sqrt() }
            };
            let mut want = vec![0.0f64; rows.items];
            for i in (0..rows.items).filter(|&i| likes(user, i)) {
                let mut near: Vec<(f64, usize)> = (0..rows.items).map(|j| (cosine(i, j), j)).collect();
                near.sort_by(|a, b| (b.0 as f32).total_cmp(&(a.0 as f32)).then(a.1.cmp(&b.1)));
                near.iter().take(most).for_each(|&(cosine, j)| want[j] += cosine);
            }
            let mut got = vec![0.0; rows.items];
            let any = neighbours.scores(Whom { user: None, history: &own }, &mut got);
            prop_assert_eq!(any, want.iter().any(|&w| w > 0.0));
            for (item, (&got, &want)) in got.iter().zip(&want).enumerate() {
                // Single precision over at most a dozen terms below 1 each.
                let got = if got == SILENT { 0.0 } else { f64::from(got) };
                prop_assert!((got - want).abs() <= 1e-5, "item {}: {} is not {}", item, got, want);
                let parts = neighbours.because(Whom { user: None, history: &own }, ItemIdx(item as u32));
                let sum: f64 = parts.iter().map(|p| f64::from(p.1)).sum();
                prop_assert!((sum - want).abs() <= 1e-5, "the reasons of item {}: {} is not {}", item, sum, want);
            }
        }
    }

    #[test]
    fn who_likes_nothing_has_no_neighbours() {
        let rows = ratings(3, &[(0, 0, 5), (0, 1, 5), (1, 0, 1)]);
        let neighbours = Neighbours::fit(&rows, 9);
        let mut scores = [0.0; 3];
        assert!(!neighbours.scores(Whom { user: None, history: &history(&rows, 1) }, &mut scores));
        assert!(neighbours.scores(Whom { user: None, history: &history(&rows, 0) }, &mut scores));
    }
}
