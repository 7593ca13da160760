//! Items whose words are like those of what was liked. The one ranker that speaks of items that
//! nobody has met.

use std::sync::Arc;

use super::ratings::Weight;
use super::{Ranker, SILENT, Whom};
use crate::data::ItemIdx;
use crate::eval::rows;
use crate::retrieval::Words;

/// The sum over a user's likes of the cosine of their words and an item's.
pub struct ContentBased {
    likes: Weight,
    words: Arc<Words>,
    /// (item, weight) of each word, by item.
    items: Vec<Vec<(u32, f32)>>,
}

impl ContentBased {
    /// `threshold`: a rating above it is a like. `None` where no two items share a word that tells
    /// them from a third.
    pub fn new(words: Arc<Words>, threshold: f32) -> Option<Self> {
        let mut items: Vec<Vec<(u32, f32)>> = Vec::new();
        for item in 0..words.len() {
            for &(word, weight) in words.of_item(item).iter().filter(|word| word.1 > 0.0) {
                let word = word as usize;
                items.resize_with(items.len().max(word + 1), Vec::new);
                items[word].push((item as u32, weight));
            }
        }
        let shared = items.iter().any(|of| of.len() > 1);
        shared.then_some(Self { likes: Weight::Like(threshold), words, items })
    }
}

impl Ranker for ContentBased {
    fn name(&self) -> &'static str {
        rows::CONTENT
    }

    /// FLOP: twice the sum, over the words of the likes, of the items that have the word.
    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        scores.fill(SILENT);
        let likes = self.likes.of(whom.history);
        let mut profile: Vec<(u32, f32)> =
            likes.iter().flat_map(|like| self.words.of_item(like.0 as usize)).copied().collect();
        // Stable: what a word weighs is summed in the order of the items.
        profile.sort_by_key(|word| word.0);
        let mut any = false;
        for same in profile.chunk_by(|a, b| a.0 == b.0) {
            let weight: f32 = same.iter().map(|word| word.1).sum();
            for &(item, own) in self.items.get(same[0].0 as usize).into_iter().flatten() {
                let score = &mut scores[item as usize];
                *score = if *score == SILENT { weight * own } else { *score + weight * own };
                any = true;
            }
        }
        any
    }

    fn because(&self, whom: Whom<'_>, item: ItemIdx) -> Vec<(ItemIdx, f32)> {
        let speaks = |(own, _): (u32, f32)| {
            let cosine = self.words.cosine(own as usize, item.at());
            (cosine > 0.0).then_some((ItemIdx(own), cosine as f32))
        };
        self.likes.of(whom.history).into_iter().filter_map(speaks).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_ratings, history};
    use super::*;

    fn ranker(texts: &[&str]) -> Option<ContentBased> {
        ContentBased::new(Arc::new(Words::of(texts.iter().copied())), 3.0)
    }

    #[test]
    fn an_item_that_nobody_met_is_ranked_by_its_words() {
        use crate::data::Rated;
        let own = ranker(&["space whales", "space dragons", "kitchens", "dragons of space", ""]).unwrap();
        let mut scores = [0.0; 5];
        let rated = |item, rating| Rated { item: ItemIdx(item), rating, time: 0 };
        let met = [rated(1, 5.0), rated(2, 1.0)];
        assert!(own.scores(Whom { user: None, history: &met }, &mut scores));
        assert_eq!(super::super::best(&mut scores.clone(), &[1, 2], 9), [3, 0]);
        // What was not liked, and what has no words, says nothing.
        assert!(scores[2] == SILENT && scores[4] == SILENT, "{scores:?}");
        assert!(!own.scores(Whom { user: None, history: &met[1..] }, &mut scores));
    }

    #[test]
    fn it_is_left_out_where_words_join_no_items() {
        assert!(ranker(&["item 1", "item 2", "item 3"]).is_none());
        assert!(ranker(&["", ""]).is_none() && ranker(&[]).is_none());
        assert!(ranker(&["item red", "item red", "item 3"]).is_some());
    }

    proptest! {
        /// Against the definition, in f64: scores are sums of cosines, and reasons are their parts.
        #[test]
        fn scores_are_those_of_the_definition(rows in any_ratings(), user in 0usize..12) {
            let texts = ["a b", "b c c", "c", "a d e", "e", "f", "b e f", "", "a a b", "g a"];
            let own = ranker(&texts).unwrap();
            let met = history(&rows, user);
            let whom = Whom { user: None, history: &met };
            let mut scores = vec![0.0; texts.len()];
            let any = own.scores(whom, &mut scores);
            for (item, &score) in scores.iter().enumerate() {
                let likes = met.iter().filter(|row| row.rating > 3.0);
                let sum: f64 = likes.map(|row| own.words.cosine(row.item.at(), item)).sum();
                let score = if any && score > SILENT { f64::from(score) } else { 0.0 };
                prop_assert!((score - sum).abs() <= 1e-5 * (1.0 + sum), "{} {} {}", item, score, sum);
                let parts: f64 = own.because(whom, ItemIdx(item as u32)).iter().map(|part| f64::from(part.1)).sum();
                prop_assert!((parts - sum).abs() <= 1e-5 * (1.0 + sum), "{} {} {}", item, parts, sum);
            }
        }
    }
}
