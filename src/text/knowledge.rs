//! Collaborative knowledge in words: what other users thought of the target and how this user rates, as one or two
//! sentences of the prompt. An option beyond the papers.
//!
//! Nothing leaks: a training row is described by the *other folds of users* only, so its own rating (and every other
//! rating of its user) has no part in what is said of the item; validation and test rows are described by training
//! rows only; the user's own mean covers earlier ratings only, never the target.

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, ItemIdx, Rated, Sample, UserIdx};
use crate::error::{Error, Result};
use crate::eval::yardsticks::{Logistic, log_odds, sigmoid};
use crate::models::taste::{self, Usual};
use crate::rng::{Rng, Use};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Nothing, as in the papers. The default.
    #[default]
    None,
    /// Nothing either, but the estimate is made, for the tables and the merge.
    Silent,
    /// How others rated the target.
    Item,
    /// That, and how this user rated so far.
    ItemUser,
    /// A verdict drawn from both, without the numbers behind it.
    Verdict,
    /// Everything.
    All,
}

/// How the facts are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `none`, `silent`, `item`, `item_user`, `verdict` or `all`. Default `none`.
    pub knowledge: Knowledge,
    /// Folds of users for training rows, 2 to 100. Default 5.
    pub folds: u32,
    /// Pseudo-ratings at the global mean added to each item, > 0. Default 20.
    pub item_shrinkage: f64,
    /// Pseudo-ratings at the global mean added to a user's history, > 0. Default 10.
    pub history_shrinkage: f64,
    /// Say how the target ranks by LightGCN, where the caller gives it. Default false.
    pub affinity: bool,
    /// Which of the user's earlier ratings speak for the target: taken into the estimate behind the verdict.
    pub taste: taste::Settings,
    /// Seed of the folds. Default 42.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            knowledge: Knowledge::None,
            folds: 5,
            item_shrinkage: 20.0,
            history_shrinkage: 10.0,
            affinity: false,
            taste: taste::Settings::default(),
            seed: 42,
        }
    }
}

/// Likes, stars and number of some ratings.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
struct Sum {
    likes: u32,
    count: u32,
    stars: f64,
}

impl Sum {
    fn add(&mut self, liked: bool, stars: f32) {
        self.likes += u32::from(liked);
        self.count += 1;
        self.stars += f64::from(stars);
    }

    fn plus(self, other: Self) -> Self {
        Self { likes: self.likes + other.likes, count: self.count + other.count, stars: self.stars + other.stars }
    }

    /// Shrunk towards `global` by `k` pseudo-ratings.
    fn opinion(self, global: Opinion, k: f64) -> Opinion {
        let n = f64::from(self.count) + k;
        Opinion {
            liked: (f64::from(self.likes) + k * global.liked) / n,
            stars: (self.stars + k * global.stars) / n,
            count: self.count,
        }
    }
}

/// What some ratings say, shrunk towards the global mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Opinion {
    /// Share of likes, in (0, 1).
    pub liked: f64,
    /// Mean rating in the data set's scale.
    pub stars: f64,
    /// Ratings behind it.
    pub count: u32,
}

/// The facts of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Facts {
    /// What is said of them.
    pub knowledge: Knowledge,
    /// Other users on the target.
    pub item: Opinion,
    /// This user so far.
    pub user: Opinion,
    /// Share of likes over all items.
    pub global: f64,
    /// Share of the items that suit the user less than the target, by LightGCN; set by the caller.
    pub affinity: Option<f64>,
    /// Estimates of [`taste`], in the order of the sources; 0 where there is none.
    pub taste: [f64; 2],
    /// Probability of liking that follows from the above; the verdict's base.
    pub p: f64,
}

/// Length of [`Facts::features`].
pub const FEATURES: usize = 5;

/// The statistics behind the facts, fitted on training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct KnowledgeBase {
    settings: Settings,
    threshold: f32,
    /// `folds[f][item]`: ratings by the users of fold f.
    folds: Vec<Vec<Sum>>,
    /// Sum over the items of each fold.
    totals: Vec<Sum>,
}

/// The fold of a user: a pure function of the seed.
fn fold(settings: &Settings, user: UserIdx) -> usize {
    Rng::new(settings.seed, Use::Rows, user.0, 0x666f_6c64).below(settings.folds) as usize
}

impl KnowledgeBase {
    /// Sums up the training rows over a catalogue of `items` entries. `threshold`: a rating above it is a like.
    ///
    /// # Errors
    /// No rows, an item outside the catalogue, a rating that is not finite, settings out of range.
    pub fn fit(items: usize, threshold: f32, train: &[Sample], settings: &Settings) -> Result<Self> {
        if !(2..=100).contains(&settings.folds) {
            return Err(Error::usage("knowledge.folds", format!("{} folds", settings.folds)).next("choose 2 to 100"));
        }
        for (key, k) in [("item", settings.item_shrinkage), ("history", settings.history_shrinkage)] {
            if !(k > 0.0 && k.is_finite()) {
                return Err(Error::usage(format!("knowledge.{key}_shrinkage"), format!("{k} is out of range"))
                    .next("choose a number above 0"));
            }
        }
        settings.taste.check()?;
        if train.is_empty() {
            return Err(Error::input("knowledge", "no training rows").next("check the split and the filters"));
        }
        let mut folds = vec![vec![Sum::default(); items]; settings.folds as usize];
        for (row, s) in train.iter().enumerate() {
            let slot = folds[fold(settings, s.user)].get_mut(s.item.at()).filter(|_| s.rating.is_finite());
            let slot = slot.ok_or_else(|| {
                let what = format!("item {} of {items}, rating {}", s.item.0, s.rating);
                Error::input(format!("knowledge, training row {row}"), what)
                    .next("load items and samples from the same data set")
            })?;
            slot.add(s.rating > threshold, s.rating);
        }
        let totals = folds.iter().map(|sums| sums.iter().fold(Sum::default(), |a, s| a.plus(*s))).collect();
        Ok(Self { settings: settings.clone(), threshold, folds, totals })
    }

    /// Facts of a *training* row: from the folds that its user is not in, and from `history`, the user's earlier
    /// ratings.
    pub fn of_training_row(&self, user: UserIdx, target: ItemIdx, history: &[Rated]) -> Facts {
        self.facts(target, history, Some(fold(&self.settings, user)))
    }

    /// Facts of a validation or test row, or of a new request: from all training rows.
    pub fn of_new_row(&self, target: ItemIdx, history: &[Rated]) -> Facts {
        self.facts(target, history, None)
    }

    /// The fold of a user: its training rows are described without it.
    pub fn fold_of(&self, user: UserIdx) -> usize {
        fold(&self.settings, user)
    }

    /// What is usual for every item, by all folds but `without`.
    pub fn usual(&self, without: Option<usize>) -> Usual {
        let (global, k) = (self.global(without), self.settings.item_shrinkage);
        let items = self.folds.first().map_or(0, Vec::len);
        let stars = (0..items).map(|i| self.item(i, without).opinion(global, k).stars).collect();
        Usual { stars, shrinkage: self.settings.history_shrinkage }
    }

    fn others(&self, without: Option<usize>) -> impl Iterator<Item = usize> {
        (0..self.folds.len()).filter(move |f| Some(*f) != without)
    }

    fn item(&self, item: usize, without: Option<usize>) -> Sum {
        let sums = self.others(without).filter_map(|f| self.folds[f].get(item));
        sums.fold(Sum::default(), |all, s| all.plus(*s))
    }

    fn global(&self, without: Option<usize>) -> Opinion {
        let all = self.others(without).fold(Sum::default(), |all, f| all.plus(self.totals[f]));
        match all.count {
            0 => Opinion { liked: 0.5, stars: f64::from(self.threshold), count: 0 },
            n => Opinion {
                // Held off 0 and 1, where log odds end.
                liked: (f64::from(all.likes) / f64::from(n)).clamp(1e-3, 1.0 - 1e-3),
                stars: all.stars / f64::from(n),
                count: n,
            },
        }
    }

    fn facts(&self, target: ItemIdx, history: &[Rated], without: Option<usize>) -> Facts {
        let global = self.global(without);
        let item = self.item(target.at(), without).opinion(global, self.settings.item_shrinkage);
        let mut user = Sum::default();
        // A repeated target must not be described by its own rating (defect D6).
        for r in history.iter().filter(|r| r.item != target) {
            user.add(r.rating > self.threshold, r.rating);
        }
        let user = user.opinion(global, self.settings.history_shrinkage);
        let p = sigmoid(log_odds(item.liked) + log_odds(user.liked) - log_odds(global.liked));
        Facts {
            knowledge: self.settings.knowledge,
            item,
            user,
            global: global.liked,
            affinity: None,
            taste: [0.0; 2],
            p,
        }
    }
}

impl Facts {
    /// Features for a logistic fit on training rows: log odds of item and user relative to the global share, the
    /// affinity (0.5 where there is none), the tastes.
    pub fn features(&self) -> [f64; FEATURES] {
        let g = log_odds(self.global);
        let [a, b] = self.taste;
        [log_odds(self.item.liked) - g, log_odds(self.user.liked) - g, self.affinity.unwrap_or(0.5), a, b]
    }

    /// Bases the verdict on a logistic fit of [`Self::features`].
    #[must_use]
    pub fn calibrated(mut self, fit: &Logistic) -> Self {
        self.p = fit.predict(&self.features());
        self
    }

    /// Adds how the target ranks by LightGCN, 0..=1; values outside are held to the ends, NaN is left out.
    #[must_use]
    pub fn with_affinity(mut self, share_below: f64) -> Self {
        self.affinity = (!share_below.is_nan()).then(|| share_below.clamp(0.0, 1.0));
        self
    }

    /// Adds what the user's taste says of the target.
    #[must_use]
    pub fn with_taste(mut self, taste: [f64; 2]) -> Self {
        self.taste = taste;
        self
    }

    /// The verdict in words.
    pub fn verdict(&self) -> &'static str {
        match self.p {
            p if p >= 0.85 => "very likely yes",
            p if p >= 0.7 => "likely yes",
            p if p >= 0.55 => "perhaps yes",
            p if p >= 0.45 => "undecided",
            p if p >= 0.3 => "perhaps no",
            p if p >= 0.15 => "likely no",
            _ => "very likely no",
        }
    }

    /// One or two short sentences on one line, without line break at the end; empty when nothing is to be said.
    pub fn sentences(&self, dataset: &Dataset) -> String {
        let noun = if dataset.noun.is_empty() { "item" } else { &dataset.noun };
        let percent = |x: f64| format!("{:.0}%", 100.0 * x);
        let mut out = Vec::new();
        if matches!(self.knowledge, Knowledge::Item | Knowledge::ItemUser | Knowledge::All) {
            out.push(match self.item.count {
                0 => format!("No other user has rated this {noun} yet."),
                n => format!(
                    "Others rated this {noun} {:.1} of {} on average ({} liked it, {n} ratings).",
                    self.item.stars,
                    dataset.scale.1,
                    percent(self.item.liked)
                ),
            });
        }
        if matches!(self.knowledge, Knowledge::ItemUser | Knowledge::All) && self.user.count > 0 {
            out.push(format!(
                "The user liked {} of earlier ones (mean {:.1}).",
                percent(self.user.liked),
                self.user.stars
            ));
        }
        if let Some(a) = self.affinity.filter(|_| !matches!(self.knowledge, Knowledge::None | Knowledge::Silent)) {
            out.push(format!("It suits the user better than {} of all.", percent(a)));
        }
        if matches!(self.knowledge, Knowledge::Verdict | Knowledge::All) {
            out.push(format!("Ratings alone suggest: {} ({}).", self.verdict(), percent(self.p)));
        }
        out.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(user: u32, item: u32, rating: u8) -> Sample {
        let rating = f32::from(rating);
        Sample { user: UserIdx(user), item: ItemIdx(item), rating, label: rating > 3.0, time: 0, position: 0 }
    }

    fn on(knowledge: Knowledge) -> Settings {
        Settings { knowledge, ..Settings::default() }
    }

    /// Earlier ratings of row k's user, in order of rows.
    fn history(rows: &[Sample], k: usize) -> Vec<Rated> {
        let own = rows[..k].iter().filter(|s| s.user == rows[k].user);
        own.map(|s| Rated { item: s.item, rating: s.rating, time: 0 }).collect()
    }

    proptest! {
        #[test]
        fn a_rows_own_rating_changes_nothing_that_is_said_of_it(
            raw in proptest::collection::vec((0u32..8, 0u32..6, 1u8..=5), 1..60), pick in any::<prop::sample::Index>(),
            other in 1u8..=5, folds in 2u32..6
        ) {
            let rows: Vec<Sample> = raw.iter().map(|&(u, i, r)| sample(u, i, r)).collect();
            let k = pick.index(rows.len());
            let settings = Settings { folds, ..on(Knowledge::All) };
            let facts = |rows: &[Sample]| {
                let base = KnowledgeBase::fit(6, 3.0, rows, &settings).unwrap();
                base.of_training_row(rows[k].user, rows[k].item, &history(rows, k))
            };
            let mut changed = rows.clone();
            changed[k] = sample(rows[k].user.0, rows[k].item.0, other);
            prop_assert_eq!(facts(&rows), facts(&changed));
            // Nor do later ratings of the same user.
            for s in changed[k + 1..].iter_mut().filter(|s| s.user == rows[k].user) {
                *s = sample(s.user.0, s.item.0, other);
            }
            prop_assert_eq!(facts(&rows), facts(&changed));
        }

        #[test]
        fn new_rows_use_every_training_row(raw in proptest::collection::vec((0u32..8, 0u32..6, 1u8..=5), 1..60)) {
            let rows: Vec<Sample> = raw.iter().map(|&(u, i, r)| sample(u, i, r)).collect();
            let base = KnowledgeBase::fit(6, 3.0, &rows, &on(Knowledge::Item)).unwrap();
            for item in 0..6 {
                let want = rows.iter().filter(|s| s.item.0 == item).count() as u32;
                let facts = base.of_new_row(ItemIdx(item), &[]);
                prop_assert_eq!(facts.item.count, want);
                prop_assert!(facts.p > 0.0 && facts.p < 1.0);
                prop_assert!((facts.user.liked - facts.global).abs() <= 1e-12);
            }
        }
    }

    #[test]
    fn a_repeated_target_does_not_speak_for_itself() {
        let rows = [sample(0, 0, 5), sample(1, 1, 1)];
        let base = KnowledgeBase::fit(2, 3.0, &rows, &on(Knowledge::ItemUser)).unwrap();
        let own = [Rated { item: ItemIdx(0), rating: 5.0, time: 0 }];
        assert_eq!(base.of_new_row(ItemIdx(0), &own).user.count, 0);
        assert_eq!(base.of_new_row(ItemIdx(1), &own).user.count, 1);
    }

    fn dataset() -> Dataset {
        Dataset {
            name: "test".into(),
            noun: "movie".into(),
            scale: (1.0, 5.0),
            has_times: true,
            items: vec![],
            users: vec![],
            interactions: vec![],
        }
    }

    #[test]
    fn the_sentences() {
        let opinion = |liked, stars, count| Opinion { liked, stars, count };
        let mut facts = Facts {
            knowledge: Knowledge::All,
            item: opinion(0.784, 4.04, 312),
            user: opinion(0.6, 3.6, 40),
            global: 0.575,
            affinity: None,
            taste: [0.0; 2],
            p: 0.8,
        };
        let data = dataset();
        assert_eq!(
            facts.sentences(&data),
            "Others rated this movie 4.0 of 5 on average (78% liked it, 312 ratings). The user liked 60% of earlier \
             ones (mean 3.6). Ratings alone suggest: likely yes (80%)."
        );
        facts.knowledge = Knowledge::Item;
        facts.item.count = 0;
        assert_eq!(facts.sentences(&data), "No other user has rated this movie yet.");
        facts.knowledge = Knowledge::Verdict;
        let facts = facts.with_affinity(0.93);
        assert_eq!(
            facts.sentences(&data),
            "It suits the user better than 93% of all. Ratings alone suggest: likely yes (80%)."
        );
        for silent in [Knowledge::None, Knowledge::Silent] {
            assert_eq!(Facts { knowledge: silent, ..facts }.sentences(&data), "");
        }
        assert_eq!(facts.with_affinity(f64::NAN).affinity, None);
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = [sample(0, 0, 5)];
        for bad in
            [Settings { folds: 1, ..Settings::default() }, Settings { item_shrinkage: 0.0, ..Settings::default() }]
        {
            assert!(KnowledgeBase::fit(1, 3.0, &rows, &bad).unwrap_err().place().starts_with("knowledge."));
        }
        assert!(KnowledgeBase::fit(0, 3.0, &rows, &Settings::default()).unwrap_err().place().contains("row 0"));
        assert!(KnowledgeBase::fit(1, 3.0, &[], &Settings::default()).is_err());
    }
}
