//! The items of a user's own history that are nearest to the target item.
//!
//! Only `|H|` inner products a sample are made. Ties go to the lower item index. For an item that
//! occurs several times its last position and rating count.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::mixture::{Embedding, Mixture, Part};
use super::settings::{RetrievalSettings, SimilarUser, SoftmaxOver};
use crate::data::{Item, ItemIdx, Rated};
use crate::error::{Error, Result};
use crate::settings::Checked;

/// Similarity by each block; `None` where the embedding type has no such block.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Parts {
    /// By text.
    pub text: Option<f32>,
    /// By LightGCN.
    pub colla: Option<f32>,
    /// By aligned text.
    pub ssl: Option<f32>,
}

/// One retrieved item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retrieved {
    /// What.
    pub item: ItemIdx,
    /// Its (last) position in the history it came from.
    pub position: u32,
    /// What it was ordered by.
    pub similarity: f32,
    /// By each block, for display.
    pub parts: Parts,
}

/// Positions of the distinct items of a history, ascending, each item's last; without `leave_out`.
pub fn distinct(history: &[Rated], leave_out: Option<ItemIdx>) -> Vec<u32> {
    let mut seen: HashSet<ItemIdx> = leave_out.into_iter().collect();
    let mut out: Vec<u32> =
        (0..history.len()).rev().filter(|&p| seen.insert(history[p].item)).map(|p| p as u32).collect();
    out.reverse();
    out
}

/// Retrieval over a mixture.
#[derive(Debug, Clone)]
pub struct Retriever<'a> {
    mixture: &'a Mixture,
    settings: &'a RetrievalSettings,
    /// Defect D1: the row that stands for an item.
    shifted: Option<Vec<Option<ItemIdx>>>,
}

impl<'a> Retriever<'a> {
    /// `items` is the catalogue whose rows the mixture holds; its raw ids matter only for
    /// `faithful_off_by_one`.
    pub fn new(mixture: &'a Mixture, settings: &'a RetrievalSettings, items: &[Item]) -> Result<Self> {
        settings.check()?;
        if mixture.items() != items.len() {
            let what = format!("{} rows for a catalogue of {} items", mixture.items(), items.len());
            return Err(Error::failed("retrieval", what).next("make the embeddings of this data set again"));
        }
        let shifted = if settings.faithful_off_by_one { Some(shift(items)?) } else { None };
        Ok(Self { mixture, settings, shifted })
    }

    /// Similarity of a history item to the target, by all blocks or one.
    pub fn similarity(&self, target: ItemIdx, item: ItemIdx, part: Option<Part>) -> f32 {
        match &self.shifted {
            None => self.mixture.similarity(target, item, part),
            Some(rows) => rows[item.at()].map_or(0.0, |row| self.mixture.similarity(target, row, part)),
        }
    }

    /// The first `limit` distinct items of `history` by similarity to `target`, most similar first.
    /// With `limit` = `usize::MAX` the whole history in order.
    pub fn retrieve(&self, history: &[Rated], target: ItemIdx, limit: usize) -> Result<Vec<Retrieved>> {
        if let Some(bad) = history.iter().map(|r| r.item).chain([target]).find(|i| i.at() >= self.mixture.items()) {
            return Err(Error::failed("retrieval", format!("item {} is outside the catalogue", bad.0)));
        }
        let leave_out = (!self.settings.faithful_target_in_history).then_some(target);
        let mut all: Vec<Retrieved> = distinct(history, leave_out)
            .into_iter()
            .map(|position| {
                let item = history[position as usize].item;
                let part = |p| self.mixture.has(p).then(|| self.similarity(target, item, Some(p)));
                let parts = Parts { text: part(Part::Text), colla: part(Part::Colla), ssl: part(Part::Ssl) };
                Retrieved { item, position, similarity: 0.0, parts }
            })
            .collect();
        match self.mixture.embedding() {
            Embedding::Hybrid => Ok(hybrid(all, limit)),
            Embedding::Mix2 => {
                let (text, colla) = (self.log_sum(&all, target, Part::Text), self.log_sum(&all, target, Part::Colla));
                for r in &mut all {
                    let share = |s: Option<f32>, log_sum: f64| (f64::from(s.unwrap_or(0.0)) - log_sum).exp();
                    r.similarity = (0.5 * share(r.parts.text, text) + 0.5 * share(r.parts.colla, colla)) as f32;
                }
                Ok(best(all, limit))
            }
            _ => {
                for r in &mut all {
                    r.similarity = self.similarity(target, r.item, None);
                }
                Ok(best(all, limit))
            }
        }
    }

    /// Log of the softmax's denominator.
    fn log_sum(&self, history: &[Retrieved], target: ItemIdx, part: Part) -> f64 {
        let of = |item| f64::from(self.similarity(target, item, Some(part)));
        let values: Vec<f64> = match self.settings.softmax_over {
            SoftmaxOver::History => history.iter().map(|r| of(r.item)).collect(),
            SoftmaxOver::Catalogue => (0..self.mixture.items() as u32).map(|i| of(ItemIdx(i))).collect(),
        };
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
    }

    /// What the similar user lends: items of `other` (that user's history), nearest the target
    /// first, that are nearer than `own` (the retrieved list) has any. Empty when the option is off
    /// or does not apply. The prompt shows them before its list; with `replace` as many entries at
    /// the front of `own` make room.
    pub fn borrow_from(
        &self,
        other: &[Rated],
        own: &[Retrieved],
        history: &[Rated],
        target: ItemIdx,
    ) -> Result<Vec<Retrieved>> {
        let s = self.settings;
        let applies = match s.similar_user {
            SimilarUser::Off => false,
            SimilarUser::Add => distinct(history, Some(target)).len() + s.similar_items <= s.k,
            SimilarUser::Replace => true,
        };
        if !applies {
            return Ok(Vec::new());
        }
        let known: HashSet<ItemIdx> = history.iter().map(|r| r.item).chain([target]).collect();
        let nearest = own.iter().map(|r| r.similarity).fold(f32::NEG_INFINITY, f32::max);
        let mut lent = self.retrieve(other, target, usize::MAX)?;
        lent.retain(|r| r.similarity > nearest && !known.contains(&r.item));
        lent.truncate(s.similar_items);
        Ok(lent)
    }
}

/// Defect D1: in the authors' code the row of raw id n + 1 stands for raw id n.
fn shift(items: &[Item]) -> Result<Vec<Option<ItemIdx>>> {
    let mut by_raw = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        let raw: u64 = item.raw.0.parse().map_err(|_| {
            Error::usage("retrieval.faithful_off_by_one", format!("the item id {} is not a number", item.raw))
                .next("this defect exists only for data sets with numeric item ids, such as ml-1m")
        })?;
        by_raw.insert(raw, ItemIdx(i as u32));
    }
    let next = |item: &Item| item.raw.0.parse::<u64>().ok().and_then(|raw| by_raw.get(&raw.checked_add(1)?).copied());
    Ok(items.iter().map(next).collect())
}

/// Descending similarity, ties by the lower item index.
fn sort(list: &mut [Retrieved], by: impl Fn(&Retrieved) -> f32) {
    list.sort_by(|a, b| (by(b) + 0.0).total_cmp(&(by(a) + 0.0)).then(a.item.cmp(&b.item)));
}

fn best(mut all: Vec<Retrieved>, limit: usize) -> Vec<Retrieved> {
    sort(&mut all, |r| r.similarity);
    all.truncate(limit);
    all
}

/// The upper half of `limit` by text, then by LightGCN what is not in yet.
fn hybrid(mut all: Vec<Retrieved>, limit: usize) -> Vec<Retrieved> {
    let limit = limit.min(all.len());
    sort(&mut all, |r| r.parts.text.unwrap_or(0.0));
    let mut out: Vec<Retrieved> = all.iter().take(limit.div_ceil(2)).copied().collect();
    out.iter_mut().for_each(|r| r.similarity = r.parts.text.unwrap_or(0.0));
    let mut rest = all.split_off(out.len());
    sort(&mut rest, |r| r.parts.colla.unwrap_or(0.0));
    rest.truncate(limit - out.len());
    rest.iter_mut().for_each(|r| r.similarity = r.parts.colla.unwrap_or(0.0));
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::mixture::Sources;
    use super::*;
    use crate::data::RawId;
    use crate::ops::infonce::Similarity;
    use crate::tensor::Matrix;
    use proptest::prelude::*;

    fn rated(items: &[u32]) -> Vec<Rated> {
        items.iter().enumerate().map(|(t, &i)| Rated { item: ItemIdx(i), rating: 3.0, time: t as i64 }).collect()
    }

    fn catalogue(n: usize) -> Vec<Item> {
        let item = |i| Item { raw: RawId(format!("{}", i + 1)), title: String::new(), genres: vec![], fields: vec![] };
        (0..n).map(item).collect()
    }

    /// Item i has text value t[i] and collaborative value c[i]; the target is item 0 with 1 in
    /// both.
    fn mixture(t: &[f32], c: &[f32], embedding: Embedding) -> (Mixture, RetrievalSettings) {
        let text = Matrix::from_vec(t.len(), 1, t.to_vec()).unwrap();
        let colla = Matrix::from_vec(c.len(), 1, c.to_vec()).unwrap();
        let settings =
            RetrievalSettings { embedding, similarity: Similarity::InnerProduct, ..RetrievalSettings::default() };
        let sources = Sources { text: Some(&text), colla: Some(&colla), ..Default::default() };
        (Mixture::build(&sources, &settings).unwrap(), settings)
    }

    fn ids(list: &[Retrieved]) -> Vec<u32> {
        list.iter().map(|r| r.item.0).collect()
    }

    #[test]
    fn nearest_first_ties_to_the_lower_index_last_position_counts() {
        let (mixture, settings) = mixture(&[1.0, 0.5, 0.9, 0.5, 0.1], &[0.0; 5], Embedding::Text);
        let retriever = Retriever::new(&mixture, &settings, &catalogue(5)).unwrap();
        let history = rated(&[3, 4, 2, 1, 4, 0]);
        let got = retriever.retrieve(&history, ItemIdx(0), 10).unwrap();
        assert_eq!(ids(&got), [2, 1, 3, 4], "the target itself is left out");
        assert_eq!(got[3].position, 4);
        assert_eq!(got[0].parts, Parts { text: Some(0.9), colla: None, ssl: None });
        assert_eq!(ids(&retriever.retrieve(&history, ItemIdx(0), 2).unwrap()), [2, 1]);
        assert!(retriever.retrieve(&[], ItemIdx(0), 2).unwrap().is_empty());
        assert!(retriever.retrieve(&rated(&[9]), ItemIdx(0), 2).is_err());
    }

    #[test]
    fn hybrid_takes_half_of_each_and_mix2_averages_softmaxes() {
        let (t, c) = ([1.0, 0.9, 0.8, 0.7, 0.6, 0.0], [1.0, 0.0, 0.1, 0.9, 0.8, 0.95]);
        let (mix, settings) = mixture(&t, &c, Embedding::Hybrid);
        let retriever = Retriever::new(&mix, &settings, &catalogue(6)).unwrap();
        let history = rated(&[1, 2, 3, 4, 5]);
        assert_eq!(ids(&retriever.retrieve(&history, ItemIdx(0), 5).unwrap()), [1, 2, 3, 5, 4]);
        assert_eq!(ids(&retriever.retrieve(&history, ItemIdx(0), 3).unwrap()), [1, 2, 5]);
        for softmax_over in [SoftmaxOver::Catalogue, SoftmaxOver::History] {
            let (mix, settings) = mixture(&t, &c, Embedding::Mix2);
            let settings = RetrievalSettings { softmax_over, ..settings };
            let retriever = Retriever::new(&mix, &settings, &catalogue(6)).unwrap();
            let got = retriever.retrieve(&history, ItemIdx(0), 9).unwrap();
            let from = if softmax_over == SoftmaxOver::Catalogue { 0 } else { 1 };
            let sum = |v: &[f32]| v[from..].iter().map(|x| x.exp()).sum::<f32>();
            for r in &got {
                let i = r.item.at();
                let want = 0.5 * t[i].exp() / sum(&t) + 0.5 * c[i].exp() / sum(&c);
                assert!((r.similarity - want).abs() <= 1e-6, "{r:?} and not {want}");
            }
        }
    }

    #[test]
    fn defect_one_judges_by_the_next_id() {
        let (mixture, settings) = mixture(&[1.0, 0.2, 0.9, 0.1, 0.5], &[0.0; 5], Embedding::Text);
        let settings = RetrievalSettings { faithful_off_by_one: true, ..settings };
        let retriever = Retriever::new(&mixture, &settings, &catalogue(5)).unwrap();
        // Item 1 is judged by row 2 (0.9), item 3 by row 4 (0.5), item 2 by row 3 (0.1), item 4 by
        // none.
        assert_eq!(ids(&retriever.retrieve(&rated(&[1, 2, 3, 4]), ItemIdx(0), 9).unwrap()), [1, 3, 2, 4]);
        let mut items = catalogue(5);
        items[2].raw = RawId("B00X".into());
        assert!(Retriever::new(&mixture, &settings, &items).unwrap_err().to_string().contains("B00X"));
    }

    #[test]
    fn a_similar_user_lends_only_what_is_nearer() {
        let (mixture, settings) = mixture(&[1.0, 0.5, 0.9, 0.8, 0.7, 0.6, 0.1], &[0.0; 7], Embedding::Text);
        let history = rated(&[1, 6]);
        for (similar_user, k, want) in [
            (SimilarUser::Off, 9, vec![]),
            (SimilarUser::Add, 9, vec![2, 3, 4]),
            (SimilarUser::Add, 4, vec![]),
            (SimilarUser::Replace, 2, vec![2, 3, 4]),
        ] {
            let settings = RetrievalSettings { similar_user, k, ..settings.clone() };
            let retriever = Retriever::new(&mixture, &settings, &catalogue(7)).unwrap();
            let own = retriever.retrieve(&history, ItemIdx(0), k).unwrap();
            let lent = retriever.borrow_from(&rated(&[0, 6, 5, 4, 3, 2, 1]), &own, &history, ItemIdx(0)).unwrap();
            assert_eq!(ids(&lent), want, "{similar_user:?}, K {k}");
        }
    }

    proptest! {
        #[test]
        fn top_k_is_the_sorted_history(
            values in prop::collection::vec(0u8..4, 2..30), picks in prop::collection::vec(0usize..100, 0..60), k in 1usize..20,
        ) {
            let mut t: Vec<f32> = values.iter().map(|&v| f32::from(v) / 4.0).collect();
            t[0] = 1.0;
            let (mixture, settings) = mixture(&t, &vec![0.0; t.len()], Embedding::Text);
            let retriever = Retriever::new(&mixture, &settings, &catalogue(t.len())).unwrap();
            let history = rated(&picks.iter().map(|p| (p % t.len()) as u32).collect::<Vec<_>>());
            let got = retriever.retrieve(&history, ItemIdx(0), k).unwrap();
            let mut want: Vec<u32> = history.iter().map(|r| r.item.0).filter(|&i| i != 0).collect();
            want.sort_by(|&a, &b| t[b as usize].total_cmp(&t[a as usize]).then(a.cmp(&b)));
            want.dedup();
            want.truncate(k);
            prop_assert_eq!(ids(&got), want);
            for r in &got {
                prop_assert_eq!(history.iter().rposition(|h| h.item == r.item), Some(r.position as usize));
            }
        }
    }
}
