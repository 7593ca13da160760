//! Two baselines that ask which earlier ratings are of items like the target: item-kNN on ratings
//! (Sarwar et al., WWW 2001), where items are alike that the same users rate alike, and TF-IDF,
//! where their words are.

use std::collections::HashMap;

use rayon::prelude::*;

use super::fold_in::ItemMeans;
use crate::data::{ItemIdx, Rated, Sample};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::retrieval::Words;

/// Nearest items that speak.
const NEAREST: usize = 40;
/// Sum of similarities that holds an estimate near zero.
const HOLD: f64 = 1.0;
/// Of a user with more training ratings, the latest so many are looked at: the work grows with
/// their square.
const MOST: usize = 2000;

/// The mean of residuals weighed by similarity, held near zero; only what is alike speaks.
pub(super) fn weighed(mut near: Vec<(f64, f64)>) -> f64 {
    near.retain(|n| n.0 > 0.0);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.truncate(NEAREST);
    let (sum, weight) = near.iter().fold((0.0, 0.0), |(s, w), (like, rest)| (s + like * rest, w + like));
    sum / (weight + HOLD)
}

/// A target with the ratings before it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The item asked about.
    pub target: ItemIdx,
    /// What its user has rated before.
    pub history: &'a [Rated],
}

/// Estimates of item-kNN in the rating's scale: how far above the item's mean and the user's
/// leaning. Similarity: the cosine of two items' residuals over `train`.
///
/// FLOP: the sum over users of their ratings squared.
///
/// # Errors
/// A stop that was asked for.
pub fn neighbours(train: &[Sample], means: &ItemMeans, asked: &[Asked<'_>], monitor: &dyn Monitor) -> Result<Vec<f64>> {
    let items = means.stars.len();
    let mut by_user: HashMap<u32, Vec<Rated>> = HashMap::new();
    for s in train.iter().filter(|s| s.item.at() < items) {
        by_user.entry(s.user.0).or_default().push(Rated { item: s.item, rating: s.rating, time: s.time });
    }
    let mut users: Vec<(u32, Vec<Rated>)> = by_user.into_iter().collect();
    users.sort_unstable_by_key(|user| user.0);
    let rests: Vec<Vec<(usize, f64)>> =
        users.iter().map(|(_, own)| means.residuals(&own[own.len().saturating_sub(MOST)..], None)).collect();
    let mut of_item: Vec<Vec<(u32, f64)>> = vec![Vec::new(); items];
    for (user, own) in rests.iter().enumerate() {
        own.iter().for_each(|&(item, rest)| of_item[item].push((user as u32, rest)));
    }
    let length: Vec<f64> = of_item.iter().map(|of| of.iter().map(|r| r.1 * r.1).sum::<f64>().sqrt()).collect();
    let mut by_target: Vec<usize> = (0..asked.len()).collect();
    by_target.sort_by_key(|&n| asked[n].target.0);
    let groups: Vec<&[usize]> = by_target.chunk_by(|a, b| asked[*a].target == asked[*b].target).collect();
    let estimates = |group: &&[usize]| -> Result<Vec<(usize, f64)>> {
        monitor.check()?;
        let target = asked[group[0]].target.at();
        let mut dots = vec![0.0f64; items];
        for &(user, rest) in of_item.get(target).into_iter().flatten() {
            rests[user as usize].iter().for_each(|&(other, own)| dots[other] += rest * own);
        }
        let cosine = |other: usize| {
            let both = length[target] * length[other];
            if both > 0.0 { dots[other] / both } else { 0.0 }
        };
        let one = |&n: &usize| {
            let rests = means.residuals(asked[n].history, Some(asked[n].target));
            let known = target < items;
            (n, if known { weighed(rests.into_iter().map(|(j, rest)| (cosine(j), rest)).collect()) } else { 0.0 })
        };
        Ok(group.iter().map(one).collect())
    };
    let mut found = vec![0.0; asked.len()];
    for (n, estimate) in groups.par_iter().map(estimates).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        found[n] = estimate;
    }
    Ok(found)
}

/// What a user's ratings of items with like words say of the target: how far above the user's
/// own mean, and that mean less `middle`, held near zero.
pub fn by_words(words: &Words, asked: Asked<'_>, middle: f64) -> [f64; 2] {
    let own: Vec<&Rated> = asked.history.iter().filter(|r| r.item != asked.target).collect();
    let leaning = own.iter().map(|r| f64::from(r.rating) - middle).sum::<f64>() / (own.len() as f64 + 10.0 * HOLD);
    let near =
        own.iter().map(|r| (words.cosine(asked.target.at(), r.item.at()), f64::from(r.rating) - middle - leaning));
    [weighed(near.collect()), leaning]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::UserIdx;
    use crate::monitor::Silent;

    fn rated(item: u32, rating: f32) -> Rated {
        Rated { item: ItemIdx(item), rating, time: 0 }
    }

    #[test]
    fn items_that_the_same_users_rate_alike_speak_for_each_other() {
        // Users agree on 0 and 1, and rate 2 the other way round.
        let mut train = Vec::new();
        for user in 0..20u32 {
            let good = user % 2 == 0;
            for (item, likes) in [(0, good), (1, good), (2, !good)] {
                let rating = if likes { 5.0 } else { 1.0 };
                let (user, item) = (UserIdx(user), ItemIdx(item));
                train.push(Sample { user, item, rating, label: likes, time: 0, position: 0 });
            }
        }
        let means = ItemMeans { stars: vec![3.0; 4], shrinkage: 10.0 };
        let (liked, not) = ([rated(0, 5.0)], [rated(0, 1.0)]);
        let ask = |target: u32, history| Asked { target: ItemIdx(target), history };
        let own = [rated(0, 5.0), rated(1, 5.0)];
        let asked = [ask(1, &liked[..]), ask(1, &not), ask(2, &liked), ask(3, &liked), ask(0, &own[..1])];
        let found = neighbours(&train, &means, &asked, &Silent).unwrap();
        assert!(found[0] > 0.5 && found[1] < -0.5, "{found:?}");
        // What is unlike, what nobody rated, and the target itself say nothing.
        assert!(found[2..].iter().all(|e| e.abs() <= 1e-12), "{found:?}");
    }

    #[test]
    fn ratings_of_items_with_like_words_speak() {
        let words = Words::of(["a film of space whales", "a film of space dragons", "a film of kitchens", ""]);
        let history = [rated(1, 5.0), rated(2, 1.0)];
        let [likes, leaning] = by_words(&words, Asked { target: ItemIdx(0), history: &history }, 3.0);
        assert!(likes > 0.0 && leaning.abs() <= 1e-12, "{likes} {leaning}");
        // The target's own rating has no part in it.
        let with = [rated(0, 1.0), rated(1, 5.0), rated(2, 1.0)];
        assert_eq!(by_words(&words, Asked { target: ItemIdx(0), history: &with }, 3.0), [likes, leaning]);
    }
}
