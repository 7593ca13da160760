//! Which history items a prompt shows, and in which order: five template types, and five rules for
//! one of them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::history::{Retrieved, distinct};
use super::settings::RetrievalSettings;
use crate::data::{ItemIdx, Rated};

/// Template types.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// The last K of the history, oldest first (BookCrossing: newest first).
    Simple,
    /// The retrieved items, least similar first.
    Low,
    /// The retrieved items, most similar first.
    High,
    /// The retrieved items, oldest first.
    Sequential,
    /// Retrieved items and recent ones, by a [`RerankRule`].
    #[default]
    Rerank,
}

/// How retrieved and recent items are combined. With K1 = floor(2K/3) and K2 = K - K1:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RerankRule {
    /// The K1 newest of the retrieved, newest first; then the K2 newest others, oldest first.
    #[default]
    #[serde(rename = "ml_1m")]
    Ml1m,
    /// As `ml_1m` for histories longer than K, else as `high`.
    Amazon,
    /// For histories longer than K: the K1 most similar, most similar first, then the K2 newest
    /// others, newest first; else as `high`. Its `simple` lists are newest first too.
    BookCrossing,
    /// `gamma * rank-normalised similarity + (1 - gamma) * exp(-beta * age)`, the K best, best
    /// first; `age = (newest position - position) / |H|`. Needs the whole history in `retrieved`.
    Score,
    /// Equation 8 of RALLRec+: an item has two scores, `gamma / r^beta` with r its place in the
    /// order of similarity, and `(1 - gamma) / r^beta` with r its place counted from the newest.
    /// The larger counts; the K best are shown, best first. Needs the whole history in `retrieved`.
    Paper,
    /// Learnt on training rows: a weighted sum of similarities and places, fitted on pairs of
    /// history items of which one tells the answer and one does not. The K best, best first. Needs
    /// the whole history in `retrieved`, in the learnt order.
    Learned,
}

impl RerankRule {
    /// It weighs similarity against recency by gamma and beta.
    pub fn weighs(self) -> bool {
        matches!(self, RerankRule::Score | RerankRule::Paper)
    }
}

/// How many items [`order`] needs to be retrieved: K, or all for the rules that weigh.
pub fn needed(settings: &RetrievalSettings) -> usize {
    let whole = settings.rule.weighs() || settings.rule == RerankRule::Learned;
    if settings.template == Template::Rerank && whole { usize::MAX } else { settings.k }
}

/// Positions in `history` in the order in which a prompt shows them, at most K.
///
/// `retrieved` comes from [`Retriever::retrieve`](super::Retriever::retrieve) for the same history
/// and target with the limit [`needed`] gives, most similar first.
pub fn order(history: &[Rated], target: ItemIdx, retrieved: &[Retrieved], settings: &RetrievalSettings) -> Vec<u32> {
    let k = settings.k;
    let positions = distinct(history, (!settings.faithful_target_in_history).then_some(target));
    let high = || retrieved.iter().take(k).map(|r| r.position);
    let long = positions.len() > k;
    match settings.template {
        Template::High => high().collect(),
        Template::Low => high().rev().collect(),
        Template::Sequential => {
            let mut out: Vec<u32> = high().collect();
            out.sort_unstable();
            out
        }
        Template::Simple => {
            let all = if settings.faithful_walk_back { (0..history.len() as u32).collect() } else { positions };
            let mut out = all[all.len().saturating_sub(k)..].to_vec();
            if settings.rule == RerankRule::BookCrossing {
                out.reverse();
            }
            out
        }
        Template::Rerank => match settings.rule {
            RerankRule::Amazon | RerankRule::BookCrossing if !long => high().collect(),
            RerankRule::Ml1m | RerankRule::Amazon => {
                let mut first: Vec<u32> = high().collect();
                first.sort_unstable_by(|a, b| b.cmp(a));
                first.truncate(2 * k / 3);
                let mut recent = recent(history, &positions, &first, settings);
                recent.reverse();
                first.extend(recent);
                first
            }
            RerankRule::BookCrossing => {
                let mut first: Vec<u32> = high().take(2 * k / 3).collect();
                let recent = recent(history, &positions, &first, settings);
                first.extend(recent);
                first
            }
            RerankRule::Score => by_score(history, retrieved, settings),
            RerankRule::Paper => by_channels(retrieved, settings),
            RerankRule::Learned => high().collect(),
        },
    }
}

/// The newest `K - floor(2K/3)` positions whose items are not among `taken`, newest first.
fn recent(history: &[Rated], positions: &[u32], taken: &[u32], settings: &RetrievalSettings) -> Vec<u32> {
    let count = settings.k - 2 * settings.k / 3;
    let mut seen: HashSet<ItemIdx> = taken.iter().map(|&p| history[p as usize].item).collect();
    let mut fresh = |p: &u32| seen.insert(history[*p as usize].item);
    if settings.faithful_walk_back {
        // The authors count distinct items but index the full list; an item's last position stands
        // for it.
        let last = |p: u32| {
            let item = history[p as usize].item;
            history.iter().rposition(|r| r.item == item).map_or(p, |p| p as u32)
        };
        return (0..positions.len() as u32).rev().filter(fresh).map(last).take(count).collect();
    }
    positions.iter().rev().copied().filter(|p| fresh(p)).take(count).collect()
}

fn by_score(history: &[Rated], retrieved: &[Retrieved], settings: &RetrievalSettings) -> Vec<u32> {
    let (Some(newest), n) = (retrieved.iter().map(|r| r.position).max(), retrieved.len()) else { return Vec::new() };
    let mut scored: Vec<(f64, usize)> = retrieved
        .iter()
        .enumerate()
        .map(|(rank, r)| {
            let similarity = if n > 1 { (n - 1 - rank) as f64 / (n - 1) as f64 } else { 1.0 };
            let age = f64::from(newest - r.position) / history.len() as f64;
            (settings.gamma * similarity + (1.0 - settings.gamma) * (-settings.beta * age).exp(), rank)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(settings.k).map(|(_, rank)| retrieved[rank].position).collect()
}

/// Equation 8. Of equal scores the more similar item stands first: at gamma = 2/3 every second
/// place in the order of similarity has the score of a place in that of time, which rounding must
/// not decide.
fn by_channels(retrieved: &[Retrieved], settings: &RetrievalSettings) -> Vec<u32> {
    let score = |channel: f64, place: usize| channel / (place as f64).powf(settings.beta);
    let mut newest: Vec<usize> = (0..retrieved.len()).collect();
    newest.sort_by_key(|&rank| std::cmp::Reverse(retrieved[rank].position));
    let mut scored: Vec<(f32, usize)> = newest
        .iter()
        .enumerate()
        .map(|(place, &rank)| {
            let (similar, recent) = (score(settings.gamma, rank + 1), score(1.0 - settings.gamma, place + 1));
            (similar.max(recent) as f32, rank)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(settings.k).map(|(_, rank)| retrieved[rank].position).collect()
}

#[cfg(test)]
mod tests {
    use super::super::history::Parts;
    use super::*;
    use proptest::prelude::*;

    const TARGET: ItemIdx = ItemIdx(99);

    fn rated(items: &[u32]) -> Vec<Rated> {
        items.iter().enumerate().map(|(t, &i)| Rated { item: ItemIdx(i), rating: 3.0, time: t as i64 }).collect()
    }

    /// Retrieved items at these positions, most similar first.
    fn retrieved(history: &[Rated], positions: &[u32]) -> Vec<Retrieved> {
        let one = |(n, &position): (usize, &u32)| Retrieved {
            item: history[position as usize].item,
            position,
            similarity: 1.0 - n as f32 / 100.0,
            parts: Parts::default(),
        };
        positions.iter().enumerate().map(one).collect()
    }

    fn run(items: &[u32], by_similarity: &[u32], settings: &RetrievalSettings) -> Vec<u32> {
        let history = rated(items);
        order(&history, TARGET, &retrieved(&history, by_similarity), settings)
    }

    fn settings(template: Template, rule: RerankRule, k: usize) -> RetrievalSettings {
        RetrievalSettings { template, rule, k, ..RetrievalSettings::default() }
    }

    const SEVEN: [u32; 7] = [10, 11, 12, 13, 14, 15, 16];

    #[test]
    fn seven_items_and_k_six_by_each_rule() {
        use RerankRule::{Amazon, BookCrossing, Ml1m};
        let similar = [2, 6, 0, 5, 3, 1];
        let rerank = |rule| run(&SEVEN, &similar, &settings(Template::Rerank, rule, 6));
        // Newest four of the retrieved: 6 5 3 2; the newest others: 4 and 1, oldest first.
        assert_eq!(rerank(Ml1m), [6, 5, 3, 2, 1, 4]);
        assert_eq!(rerank(Amazon), [6, 5, 3, 2, 1, 4]);
        // The four most similar: 2 6 0 5; the newest others: 4 and 3, newest first.
        assert_eq!(rerank(BookCrossing), [2, 6, 0, 5, 4, 3]);
    }

    #[test]
    fn a_history_of_k_or_fewer() {
        use RerankRule::{Amazon, BookCrossing, Ml1m};
        let similar = [2, 5, 0, 4, 3, 1];
        let rerank = |rule| run(&SEVEN[..6], &similar, &settings(Template::Rerank, rule, 6));
        assert_eq!(rerank(Ml1m), [5, 4, 3, 2, 0, 1], "every item is shown");
        assert_eq!(rerank(Amazon), similar);
        assert_eq!(rerank(BookCrossing), similar);
    }

    #[test]
    fn a_repeated_item_stands_at_its_last_position() {
        // Item 10 at 0 and 6; distinct: 11 12 13 14 15 10 (positions 1 to 6) and 17 (7).
        let items = [10, 11, 12, 13, 14, 15, 10, 17];
        let similar = [2, 6, 1, 5, 3, 4];
        let s = settings(Template::Rerank, RerankRule::Ml1m, 6);
        assert_eq!(run(&items, &similar, &s), [6, 5, 4, 3, 2, 7]);
        // Defect D10: the walk starts at raw position 6 (7 distinct items), so the newest item is
        // never seen.
        let faithful = RetrievalSettings { faithful_walk_back: true, ..s };
        assert_eq!(run(&items, &similar, &faithful), [6, 5, 4, 3, 1, 2]);
    }

    #[test]
    fn the_other_templates() {
        use RerankRule::{BookCrossing, Ml1m};
        let similar = [2, 6, 0];
        let of = |template, rule| run(&SEVEN, &similar, &settings(template, rule, 3));
        assert_eq!(of(Template::High, Ml1m), [2, 6, 0]);
        assert_eq!(of(Template::Low, Ml1m), [0, 6, 2]);
        assert_eq!(of(Template::Sequential, Ml1m), [0, 2, 6]);
        assert_eq!(of(Template::Simple, Ml1m), [4, 5, 6]);
        assert_eq!(of(Template::Simple, BookCrossing), [6, 5, 4]);
    }

    #[test]
    fn the_score_rule_runs_from_recency_to_similarity() {
        let similar = [2, 6, 0, 5, 3, 1, 4];
        let score = |gamma, beta| {
            let s = RetrievalSettings { gamma, beta, ..settings(Template::Rerank, RerankRule::Score, 3) };
            assert_eq!(needed(&s), usize::MAX);
            run(&SEVEN, &similar, &s)
        };
        assert_eq!(score(1.0, 1.0), [2, 6, 0]);
        assert_eq!(score(0.0, 1.0), [6, 5, 4]);
        // 2: 0.5 + 0.5 e^(-4/7) = 0.782; 6: 5/12 + 0.5 = 0.917; 0: 1/3 + 0.5 e^(-6/7) = 0.546; 5:
        // 1/4 + 0.5 e^(-1/7) = 0.683.
        assert_eq!(score(0.5, 1.0), [6, 2, 5]);
    }

    #[test]
    fn the_paper_rule_is_channel_times_place() {
        let similar = [2, 6, 0, 5, 3, 1, 4];
        let paper = |gamma, beta, k| {
            let s = RetrievalSettings { gamma, beta, ..settings(Template::Rerank, RerankRule::Paper, k) };
            assert_eq!(needed(&s), usize::MAX);
            run(&SEVEN, &similar, &s)
        };
        // Similarity: 2 .6667, 6 .3333, 0 .2222, 5 .1667, 3 .1333. Time: 6 .3333, 5 .1667, 4 .1111,
        // 3 .0833. Position 4 is last by similarity (.0952) and third by time.
        assert_eq!(paper(2.0 / 3.0, 1.0, 7), [2, 6, 0, 5, 3, 1, 4]);
        assert_eq!(paper(0.5, 1.0, 4), [2, 6, 5, 0], "5 is second by time, 0 third by similarity");
        // Places count for less with a small beta: the channel decides.
        assert_eq!(paper(0.2, 0.0, 3), [2, 6, 0], "with beta = 0 all places are alike");
        assert_eq!(paper(0.2, 1.0, 3), [6, 5, 4]);
    }

    #[test]
    fn the_paper_rule_at_two_thirds_takes_two_similar_items_for_each_recent_one() {
        let history = rated(&(0..200).collect::<Vec<u32>>());
        // The oldest are the most similar, so the two orders do not meet within K.
        let similar: Vec<u32> = (0..200).collect();
        let s = RetrievalSettings { gamma: 2.0 / 3.0, beta: 1.0, ..settings(Template::Rerank, RerankRule::Paper, 30) };
        let shown = order(&history, TARGET, &retrieved(&history, &similar), &s);
        assert_eq!((shown.iter().filter(|p| **p < 100).count(), shown.len()), (20, 30), "{shown:?}");
    }

    proptest! {
        #[test]
        fn the_paper_rule_shows_the_k_best_of_both_channels(
            items in prop::collection::vec(0u32..40, 1..80), k in 1usize..35, seed in 0u64..500, gamma in 0.0f64..=1.0,
            beta in 0.0f64..3.0,
        ) {
            let history = rated(&items);
            let all = distinct(&history, Some(TARGET));
            let mut by_similarity = all.clone();
            crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0).shuffle(&mut by_similarity);
            let mut by_time = all.clone();
            by_time.sort_unstable_by(|a, b| b.cmp(a));
            let s = RetrievalSettings { gamma, beta, ..settings(Template::Rerank, RerankRule::Paper, k) };
            let got = order(&history, TARGET, &retrieved(&history, &by_similarity), &s);
            // The definition, item by item.
            let place = |order: &[u32], p: u32| 1.0 + order.iter().position(|q| *q == p).unwrap() as f64;
            let score = |p: u32| {
                let similar = gamma * place(&by_similarity, p).powf(-beta);
                similar.max((1.0 - gamma) * place(&by_time, p).powf(-beta))
            };
            // Scores of at most 1 that 32 bits take for equal.
            let close = 1e-7;
            prop_assert_eq!(got.len(), k.min(all.len()));
            prop_assert!(got.windows(2).all(|w| score(w[0]) >= score(w[1]) - close), "not best first");
            let worst = got.iter().map(|p| score(*p)).fold(f64::INFINITY, f64::min);
            let left: Vec<u32> = all.iter().copied().filter(|p| !got.contains(p)).collect();
            prop_assert!(left.iter().all(|p| score(*p) <= worst + close), "a better item is left out");
            let one_channel = |gamma| {
                order(&history, TARGET, &retrieved(&history, &by_similarity), &RetrievalSettings { gamma, beta: 1.0, ..s.clone() })
            };
            prop_assert_eq!(one_channel(1.0), &by_similarity[..k.min(all.len())]);
            prop_assert_eq!(one_channel(0.0), &by_time[..k.min(all.len())]);
        }

        #[test]
        fn invariants(
            items in prop::collection::vec(0u32..25, 0..60), k in 1usize..35, seed in 0u64..500, faithful in any::<bool>(),
            template in prop::sample::select(
                vec![Template::Simple, Template::Low, Template::High, Template::Sequential, Template::Rerank]),
            rule in prop::sample::select(
                vec![RerankRule::Ml1m, RerankRule::Amazon, RerankRule::BookCrossing, RerankRule::Score, RerankRule::Paper]),
        ) {
            let history = rated(&items);
            let all = distinct(&history, Some(TARGET));
            let mut by_similarity = all.clone();
            crate::rng::Rng::new(seed, crate::rng::Use::Synthetic, 0, 0).shuffle(&mut by_similarity);
            let mut s = settings(template, rule, k);
            by_similarity.truncate(needed(&s));
            let got = order(&history, TARGET, &retrieved(&history, &by_similarity), &s);
            let shown: HashSet<ItemIdx> = got.iter().map(|&p| history[p as usize].item).collect();
            prop_assert_eq!(shown.len(), got.len(), "an item is shown twice");
            prop_assert_eq!(got.len(), k.min(all.len()), "not min(K, distinct)");
            prop_assert!(got.iter().all(|p| all.contains(p)), "not a last position");
            // The faithful walk back may show fewer, but never an item twice.
            s.faithful_walk_back = faithful && template == Template::Rerank;
            let got = order(&history, TARGET, &retrieved(&history, &by_similarity), &s);
            let shown: HashSet<ItemIdx> = got.iter().map(|&p| history[p as usize].item).collect();
            prop_assert!(shown.len() == got.len() && got.len() <= k);
        }
    }
}
