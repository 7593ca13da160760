//! Several rankers at once: their scores, brought to one scale for each user, are added with
//! weights that validation users choose, apart for those of whom little is known and for the
//! others: what is popular serves the first, what they like serves the second.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Ranker, SILENT, Whom, best};
use crate::data::split::HeldOut;
use crate::data::{ItemIdx, Rated};
use crate::error::Result;
use crate::eval::ranking::ndcg_of;
use crate::eval::rows;
use crate::monitor::Monitor;

/// Weights that are tried for one ranker beside the others.
const STEPS: [f32; 11] = [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0];

/// Rounds over all rankers.
const ROUNDS: usize = 4;

/// A change has to bring this share at least: what is less is chance.
const GAIN: f64 = 0.002;

/// Best items of each ranker among which the search looks.
const POOL: usize = 50;

/// Length of the list that is judged.
const CUT: usize = 10;

/// Likes from which on much is known of somebody.
const MUCH: usize = 5;

/// Validation users of either kind that are needed for weights of their own.
const ENOUGH: usize = 50;

/// A ranker with its weight.
type Part = (Arc<dyn Ranker>, f32);

/// The weighted sum.
pub struct Blend {
    parts: Vec<Part>,
    few: Option<Few>,
}

/// Other weights for those of whom little is known.
struct Few {
    /// A rating above it is a like.
    threshold: f32,
    /// They hold for histories of fewer likes.
    below: usize,
    parts: Vec<Part>,
}

fn likes(history: &[Rated], threshold: f32) -> usize {
    history.iter().filter(|row| row.rating > threshold).count()
}

/// Brings scores to mean 0 and standard deviation 1 over the items that the ranker speaks of; of
/// the others it is as little convinced as of the worst of these.
pub fn normalise(scores: &mut [f32]) {
    let (mut n, mut sum, mut lowest) = (0.0f64, 0.0f64, f32::INFINITY);
    for &score in scores.iter().filter(|s| **s > SILENT) {
        (n, sum, lowest) = (n + 1.0, sum + f64::from(score), lowest.min(score));
    }
    if n == 0.0 {
        scores.fill(0.0);
        return;
    }
    let mean = sum / n;
    let squares: f64 = scores.iter().filter(|s| **s > SILENT).map(|&s| (f64::from(s) - mean).powi(2)).sum();
    let spread = (squares / n).sqrt();
    let scale = if spread > 0.0 { 1.0 / spread } else { 0.0 };
    for score in scores {
        *score = ((f64::from(if *score > SILENT { *score } else { lowest }) - mean) * scale) as f32;
    }
}

impl Blend {
    /// Of rankers with their weights; a weight of 0 leaves one out.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Self { parts: parts.into_iter().filter(|part| part.1 > 0.0).collect(), few: None }
    }

    /// With other weights for histories of fewer than `below` likes.
    #[must_use]
    pub fn with_few(self, below: usize, threshold: f32, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts = parts.into_iter().filter(|part| part.1 > 0.0).collect();
        Self { few: Some(Few { threshold, below, parts }), ..self }
    }

    /// The weights, by name.
    pub fn weights(&self) -> Vec<(String, f32)> {
        named(&self.parts)
    }

    /// The weights for histories of few likes, where they are others, and how many likes are not
    /// few.
    pub fn few(&self) -> Option<(usize, Vec<(String, f32)>)> {
        self.few.as_ref().map(|few| (few.below, named(&few.parts)))
    }

    /// What serves this history.
    fn parts(&self, history: &[Rated]) -> &[Part] {
        match &self.few {
            Some(few) if likes(history, few.threshold) < few.below => &few.parts,
            _ => &self.parts,
        }
    }

    /// Chooses weights by NDCG@10 of these users, for those with few likes and for the others apart
    /// where there are enough of both. `threshold`: a rating above it is a like.
    ///
    /// # Errors
    /// A stop that was asked for.
    pub fn choose(
        rankers: &[Arc<dyn Ranker>],
        users: &[HeldOut<'_>],
        items: usize,
        threshold: f32,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let cases: Vec<Case> = users.par_iter().map(|user| Case::new(rankers, user, items)).collect();
        monitor.check()?;
        let (few, much): (Vec<_>, Vec<_>) =
            cases.into_iter().zip(users).partition(|(_, user)| likes(user.history, threshold) < MUCH);
        let cases = |of: Vec<(Case, &HeldOut<'_>)>| -> Vec<Case> { of.into_iter().map(|case| case.0).collect() };
        let (mut few, mut much) = (cases(few), cases(much));
        let parts = |weights: Vec<f32>| rankers.iter().cloned().zip(weights);
        if few.len() < ENOUGH || much.len() < ENOUGH {
            much.append(&mut few);
            return Ok(Self::new(parts(search(rankers.len(), &much, monitor)?)));
        }
        let own = Self::new(parts(search(rankers.len(), &much, monitor)?));
        Ok(own.with_few(MUCH, threshold, parts(search(rankers.len(), &few, monitor)?)))
    }
}

fn named(parts: &[Part]) -> Vec<(String, f32)> {
    parts.iter().map(|(ranker, weight)| (ranker.name().to_owned(), *weight)).collect()
}

/// The weights of `n` rankers. The search begins with the best ranker alone and changes one weight
/// after the other as long as that brings something.
fn search(n: usize, cases: &[Case], monitor: &dyn Monitor) -> Result<Vec<f32>> {
    let value = |weights: &[f32]| cases.par_iter().map(|case| case.ndcg(weights)).collect::<Vec<_>>();
    // Summed in order: the choice does not depend on the number of threads.
    let value = |weights: &[f32]| value(weights).iter().sum::<f64>() / cases.len().max(1) as f64;
    let alone = |own: usize| (0..n).map(|at| f32::from(u8::from(at == own))).collect::<Vec<f32>>();
    let mut weights = alone(0);
    let mut reached = value(&weights);
    for own in 1..n {
        let this = value(&alone(own));
        if this > reached {
            (weights, reached) = (alone(own), this);
        }
    }
    for _ in 0..ROUNDS {
        let before = reached;
        for at in 0..n {
            monitor.check()?;
            let old = weights[at];
            let mut kept = old;
            for step in STEPS {
                weights[at] = step;
                if weights.iter().all(|weight| *weight == 0.0) {
                    continue;
                }
                let this = value(&weights);
                if this > reached * (1.0 + GAIN) {
                    (kept, reached) = (step, this);
                }
            }
            weights[at] = kept;
        }
        if reached <= before {
            break;
        }
    }
    Ok(weights)
}

/// A validation user: the items that may come into the list, with the scores of each ranker.
struct Case {
    /// By item, then by ranker.
    scores: Vec<f32>,
    items: Vec<u32>,
    relevant: Vec<u32>,
}

impl Case {
    fn new(rankers: &[Arc<dyn Ranker>], user: &HeldOut<'_>, items: usize) -> Self {
        let whom = Whom { user: Some(user.user), history: user.history };
        let mut all = Vec::with_capacity(rankers.len());
        let mut pool = Vec::new();
        for ranker in rankers {
            let mut scores = vec![SILENT; items];
            if !ranker.scores(whom, &mut scores) {
                scores.fill(SILENT);
            }
            pool.extend(best(&mut scores.clone(), &user.seen, POOL));
            normalise(&mut scores);
            all.push(scores);
        }
        pool.sort_unstable();
        pool.dedup();
        let scores = pool.iter().flat_map(|&item| all.iter().map(move |own| own[item as usize])).collect();
        Self { scores, items: pool, relevant: user.relevant.iter().map(|item| item.0).collect() }
    }

    fn ndcg(&self, weights: &[f32]) -> f64 {
        let sum = |own: &[f32]| own.iter().zip(weights).map(|(score, weight)| score * weight).sum();
        let mut sums: Vec<f32> = self.scores.chunks_exact(weights.len().max(1)).map(sum).collect();
        let list: Vec<u32> = best(&mut sums, &[], CUT).into_iter().map(|at| self.items[at as usize]).collect();
        ndcg_of(&list, &self.relevant, CUT)
    }
}

impl Ranker for Blend {
    fn name(&self) -> &'static str {
        rows::BLEND
    }

    fn scores(&self, whom: Whom<'_>, scores: &mut [f32]) -> bool {
        let mut own = vec![SILENT; scores.len()];
        let mut spoken = vec![false; scores.len()];
        let mut sums = vec![0.0f32; scores.len()];
        for (ranker, weight) in self.parts(whom.history) {
            if !ranker.scores(whom, &mut own) {
                continue;
            }
            spoken.iter_mut().zip(&own).for_each(|(spoken, own)| *spoken |= *own > SILENT);
            normalise(&mut own);
            sums.iter_mut().zip(&own).for_each(|(sum, own)| *sum += weight * own);
        }
        for ((score, sum), spoken) in scores.iter_mut().zip(sums).zip(&spoken) {
            *score = if *spoken { sum } else { SILENT };
        }
        spoken.contains(&true)
    }

    fn because(&self, whom: Whom<'_>, item: ItemIdx) -> Vec<(ItemIdx, f32)> {
        let mut sum: std::collections::BTreeMap<ItemIdx, f32> = std::collections::BTreeMap::new();
        for (ranker, weight) in self.parts(whom.history) {
            let own = ranker.because(whom, item);
            // Each ranker's reasons as shares: their scales differ.
            let all: f32 = own.iter().map(|part| part.1.abs()).sum();
            if all > 0.0 {
                own.into_iter().for_each(|(met, part)| *sum.entry(met).or_default() += weight * part / all);
            }
        }
        sum.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::UserIdx;
    use crate::monitor::Silent;

    /// Gives every user these scores.
    struct Given(&'static str, Vec<f32>);

    impl Ranker for Given {
        fn name(&self) -> &'static str {
            self.0
        }
        fn scores(&self, _: Whom<'_>, scores: &mut [f32]) -> bool {
            scores.copy_from_slice(&self.1);
            true
        }
    }

    fn users(relevant: &[u32]) -> Vec<HeldOut<'static>> {
        let relevant: Vec<ItemIdx> = relevant.iter().map(|&item| ItemIdx(item)).collect();
        (0..3).map(|u| HeldOut { user: UserIdx(u), history: &[], seen: vec![0], relevant: relevant.clone() }).collect()
    }

    #[test]
    fn scores_have_one_scale() {
        let mut scores = [1.0, 3.0, SILENT];
        normalise(&mut scores);
        assert!(scores.iter().zip([-1.0, 1.0, -1.0]).all(|(a, b)| (a - b).abs() <= 1e-6), "{scores:?}");
        let mut flat = [2.0, 2.0, SILENT];
        normalise(&mut flat);
        assert_eq!(flat, [0.0; 3]);
    }

    #[test]
    fn the_best_ranker_is_kept_where_nothing_adds_to_it() {
        let mut good = vec![0.0; 30];
        good[7] = 5.0;
        let rankers: Vec<Arc<dyn Ranker>> =
            vec![Arc::new(Given("bad", (0..30).map(|i| i as f32).collect())), Arc::new(Given("good", good))];
        let blend = Blend::choose(&rankers, &users(&[7]), 30, 3.0, &Silent).unwrap();
        assert_eq!(blend.weights(), [("good".to_string(), 1.0)]);
    }

    /// The same users twice over: without a history the popular item is right, with one another.
    #[test]
    fn those_of_whom_little_is_known_have_weights_of_their_own() {
        let liked: Vec<Rated> =
            (0..MUCH as u32).map(|n| Rated { item: ItemIdx(20 + n), rating: 5.0, time: 0 }).collect();
        let one = |item: usize| -> Vec<f32> { (0..30).map(|at| f32::from(u8::from(at == item))).collect() };
        let rankers: Vec<Arc<dyn Ranker>> = vec![Arc::new(Given("popular", one(1))), Arc::new(Given("taste", one(2)))];
        let case = |user: u32, much: bool| HeldOut {
            user: UserIdx(user),
            history: if much { &liked } else { &liked[..1] },
            seen: vec![0],
            relevant: vec![ItemIdx(if much { 2 } else { 1 })],
        };
        let all: Vec<_> = (0..2 * ENOUGH as u32).map(|user| case(user, user % 2 == 0)).collect();
        let blend = Blend::choose(&rankers, &all, 30, 3.0, &Silent).unwrap();
        assert_eq!(blend.weights(), [("taste".to_string(), 1.0)]);
        assert_eq!(blend.few(), Some((MUCH, vec![("popular".to_string(), 1.0)])));
        let first = |history: &[Rated]| {
            let mut scores = vec![0.0; 30];
            assert!(blend.scores(Whom { user: None, history }, &mut scores));
            best(&mut scores, &[], 1)
        };
        assert_eq!((first(&liked), first(&liked[..1])), (vec![2], vec![1]));
        // Too few of a kind: all choose together.
        let most: Vec<_> = (0..2 * ENOUGH as u32).map(|user| case(user, user >= 9)).collect();
        assert_eq!(Blend::choose(&rankers, &most, 30, 3.0, &Silent).unwrap().few(), None);
    }

    #[test]
    fn two_halves_of_the_truth_are_joined() {
        // Each ranks its own relevant item first and the other's below ten others.
        let half = |own: usize, from: usize| {
            let mut scores = vec![0.0; 40];
            scores[own] = 9.0;
            (from..from + 12).for_each(|item| scores[item] = 3.0);
            scores
        };
        let rankers: Vec<Arc<dyn Ranker>> =
            vec![Arc::new(Given("one", half(1, 10))), Arc::new(Given("two", half(2, 25)))];
        let blend = Blend::choose(&rankers, &users(&[1, 2]), 40, 3.0, &Silent).unwrap();
        assert_eq!(blend.weights().len(), 2);
        let mut scores = vec![0.0; 40];
        assert!(blend.scores(Whom { user: None, history: &[] }, &mut scores));
        let mut two = best(&mut scores, &[0], 2);
        two.sort_unstable();
        assert_eq!(two, [1, 2]);
    }
}
