//! Which samples a run tunes on, chooses on and reports, and what is asked for each of them.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{MoreHistory, Recipe, RowChoice};
use crate::data::{Part, Samples};
use crate::error::{Error, Result};
use crate::eval::rows::HISTORIES;
use crate::retrieval::{Embedding, RetrievalSettings, Template};
use crate::rng::{Rng, Use};

/// Which set a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// Tuning.
    Tune,
    /// Validation.
    Valid,
    /// Test.
    Test,
}

impl Set {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Set::Tune => "tune",
            Set::Valid => "valid",
            Set::Test => "test",
        }
    }
}

/// A way of choosing the shown items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// The recipe's embedding and template: what is tuned, reported and merged.
    Main,
    /// The most recent items: no retrieval.
    NoRetrieval,
    /// By text only.
    Text,
    /// By LightGCN only.
    Collaborative,
    /// By text and LightGCN.
    Mix,
    /// By text, LightGCN and SSL.
    Mix3,
    /// As the recipe, but in order of similarity: no rerank.
    Unranked,
    /// As the recipe, but with what the authors' published retrieval does otherwise (D1, D6, D10).
    Published,
    /// By text and LightGCN, the two similarities averaged: the papers' row Hybrid-Score.
    HybridScore,
    /// By text, most similar first: the papers' row ReLLa.
    Rella,
    /// A rendering of tuning rows.
    Rendering(Template),
}

impl Variant {
    /// The rows of the ablation table, in the order of [`HISTORIES`]; the first [`Self::USUAL`] are
    /// always there.
    pub const ABLATION: [Variant; HISTORIES.len()] = [
        Variant::NoRetrieval,
        Variant::Text,
        Variant::Collaborative,
        Variant::Mix,
        Variant::Mix3,
        Variant::Unranked,
        Variant::Published,
        Variant::HybridScore,
        Variant::Rella,
    ];

    /// Rows of the ablation table that every recipe has.
    pub const USUAL: usize = 7;

    /// The rows of the ablation table of a recipe with `predict.more_histories`.
    pub fn ablation(more: &[MoreHistory]) -> Vec<Variant> {
        let wanted = |variant: &Variant| match variant {
            Variant::HybridScore => more.contains(&MoreHistory::HybridScore),
            Variant::Rella => more.contains(&MoreHistory::Rella),
            _ => true,
        };
        Self::ABLATION.into_iter().filter(wanted).collect()
    }

    /// For tables.
    pub fn title(self) -> &'static str {
        match Self::ABLATION.iter().position(|v| *v == self) {
            Some(at) => HISTORIES[at],
            None if self == Variant::Main => "recipe",
            None => "rendering",
        }
    }

    /// Which items in which order, where the recipe says `template`.
    pub fn template(self, template: Template) -> Template {
        match self {
            Variant::NoRetrieval => Template::Simple,
            Variant::Unranked | Variant::Rella => Template::High,
            Variant::Rendering(own) => own,
            _ => template,
        }
    }

    /// Retrieval settings, where the recipe has `base`. `raw_ids_are_rows`: raw item ids count from
    /// 1.
    pub fn settings(self, base: &RetrievalSettings, raw_ids_are_rows: bool) -> RetrievalSettings {
        let base = RetrievalSettings { template: self.template(base.template), ..base.clone() };
        let with = |embedding| RetrievalSettings { embedding, ..base.clone() };
        match self {
            Variant::Text | Variant::Rella => with(Embedding::Text),
            Variant::HybridScore => with(Embedding::Mix2),
            Variant::Collaborative => with(Embedding::Colla),
            Variant::Mix => with(Embedding::Mix),
            Variant::Mix3 => with(Embedding::Mix3),
            Variant::Published => base.faithful(raw_ids_are_rows),
            Variant::Main | Variant::NoRetrieval | Variant::Unranked | Variant::Rendering(_) => base,
        }
    }
}

/// A row and how its history is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRequest {
    /// Whether the row is tuned on, chosen on or tested on.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// Index of the sample whose position the history is frozen at (the row itself, but for groups
    /// of targets).
    pub at: usize,
    /// How the history is chosen.
    pub variant: Variant,
}

/// A key that asks for more rows than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fewer {
    key: &'static str,
    asked: usize,
    there: usize,
}

impl fmt::Display for Fewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} asks for more rows than there are: {} are used", self.key, self.asked, self.there)
    }
}

/// Indices into [`Samples::samples`].
#[derive(Debug, Clone)]
pub struct ChosenRows {
    /// Targets that share a history, one entry a history; the first target's position is the
    /// history's length.
    pub tune: Vec<Vec<usize>>,
    /// Validation rows.
    pub valid: Vec<usize>,
    /// Test rows.
    pub test: Vec<usize>,
}

impl ChosenRows {
    /// Draws the rows; a pure function of samples and settings.
    ///
    /// # Errors
    /// A part of the split that is empty.
    pub fn of(samples: &Samples, recipe: &Recipe) -> Result<Self> {
        let part = |part: Part, count: usize, key: &str| -> Result<Vec<usize>> {
            let range = samples.split.range(part);
            if range.is_empty() {
                let what = format!("the {} part of the split is empty", part.name());
                return Err(match part {
                    Part::Valid => Error::input("data", format!("{what}, and tuning and merge choose by it")).next(
                        "set data.split.valid, e.g. to 0.1 (of a given split, a share of each user's training rows)",
                    ),
                    _ => Error::input("data", what)
                        .next("use more data, a smaller data.min_history, or another data.split"),
                });
            }
            let pool = if recipe.rows.pool == 0 { range.len() } else { recipe.rows.pool.min(range.len()) };
            let mut rows: Vec<usize> = (range.start..range.start + pool).collect();
            if recipe.rows.choice == RowChoice::Random {
                Rng::new(recipe.rows.seed, Use::Rows, part as u32, 0).shuffle(&mut rows);
            }
            rows.truncate(count);
            rows.sort_unstable();
            if rows.is_empty() {
                return Err(Error::usage(format!("rows.{key}"), "no rows"));
            }
            Ok(rows)
        };
        Ok(Self {
            tune: groups(samples, recipe)?,
            valid: part(Part::Valid, recipe.rows.valid, "valid")?,
            test: part(Part::Test, recipe.rows.test, "test")?,
        })
    }

    /// None at all.
    pub fn none() -> Self {
        Self { tune: Vec::new(), valid: Vec::new(), test: Vec::new() }
    }

    /// The keys that ask for more rows than there are: the key, what it asks for, what there is.
    pub fn fewer(&self, recipe: &Recipe) -> Vec<Fewer> {
        let (tune, valid, test) = (self.tune.len(), self.valid.len(), self.test.len());
        let watched = if recipe.tune.select_on_test { test } else { valid };
        let all = [
            ("rows.tune", recipe.rows.tune, tune),
            ("rows.valid", recipe.rows.valid, valid),
            ("rows.test", recipe.rows.test, test),
            ("tune.valid_rows", recipe.tune.valid_rows, watched),
            ("predict.ablation_rows", recipe.predict.ablation_rows, test),
            ("predict.zero_shot_rows", recipe.predict.zero_shot_rows, test),
            ("reason.valid_rows", recipe.reason.valid_rows, valid),
            ("reason.test_rows", recipe.reason.test_rows, test),
        ];
        let all = all.into_iter().map(|(key, asked, there)| Fewer { key, asked, there });
        all.filter(|fewer| fewer.there < fewer.asked).collect()
    }

    /// What tuning reads: its own rows in every rendering, and the rows that the early stop looks
    /// at.
    pub fn tuned(&self, recipe: &Recipe) -> Vec<RowRequest> {
        let mut out = Vec::new();
        for group in &self.tune {
            for &template in &recipe.tune.templates {
                let variant = Variant::Rendering(template);
                out.extend(group.iter().map(|&row| RowRequest { set: Set::Tune, row, at: group[0], variant }));
            }
        }
        let (set, rows) = if recipe.tune.select_on_test { (Set::Test, &self.test) } else { (Set::Valid, &self.valid) };
        let most = if recipe.tune.valid_rows == 0 { usize::MAX } else { recipe.tune.valid_rows };
        out.extend(rows.iter().take(most).map(|&row| whole(set, row, Variant::Main)));
        out
    }

    /// What is scored, merged and reported: validation rows, then test rows.
    pub fn scored(&self) -> Vec<RowRequest> {
        let valid = self.valid.iter().map(|&row| whole(Set::Valid, row, Variant::Main));
        valid.chain(self.test.iter().map(|&row| whole(Set::Test, row, Variant::Main))).collect()
    }

    /// What is scored, once more in each of these templates.
    pub fn rendered(&self, templates: &[Template]) -> Vec<RowRequest> {
        let variants = |row: RowRequest| {
            templates.iter().map(move |&template| RowRequest { variant: Variant::Rendering(template), ..row })
        };
        self.scored().into_iter().flat_map(variants).collect()
    }

    /// Test rows for the ablation table, each in all variants. `rows`: so many; 0 = all.
    pub fn ablation(&self, rows: usize, more: &[MoreHistory]) -> Vec<RowRequest> {
        let rows = self.test.iter().take(if rows == 0 { usize::MAX } else { rows });
        let variants = Variant::ablation(more);
        rows.flat_map(|&row| variants.iter().map(move |&variant| whole(Set::Test, row, variant))).collect()
    }
}

fn whole(set: Set, row: usize, variant: Variant) -> RowRequest {
    RowRequest { set, row, at: row, variant }
}

fn groups(samples: &Samples, recipe: &Recipe) -> Result<Vec<Vec<usize>>> {
    let train = samples.split.range(Part::Train);
    if train.is_empty() {
        return Err(Error::input("data", "the training part of the split is empty")
            .next("use more data, or a smaller data.min_history"));
    }
    // For each training sample the next one of the same user, so that a group is one walk.
    let mut next: HashMap<u32, usize> = HashMap::new();
    let mut after = vec![usize::MAX; train.len()];
    for row in train.clone().rev() {
        let user = samples.samples[row].user.0;
        if let Some(later) = next.insert(user, row) {
            after[row - train.start] = later;
        }
    }
    let mut order: Vec<usize> = train.clone().collect();
    Rng::new(recipe.rows.seed, Use::Rows, Part::Train as u32, 0).shuffle(&mut order);
    let mut taken = vec![false; train.len()];
    let mut tune = Vec::new();
    for first in order {
        if tune.len() == recipe.rows.tune {
            break;
        }
        let mut group = Vec::new();
        let mut row = first;
        while row != usize::MAX && group.len() < recipe.tune.targets_per_history && !taken[row - train.start] {
            taken[row - train.start] = true;
            group.push(row);
            row = after[row - train.start];
        }
        if !group.is_empty() {
            tune.push(group);
        }
    }
    Ok(tune)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_ask_for_more_rows_than_there_are_are_named() {
        let chosen = ChosenRows { tune: vec![vec![0]], valid: vec![1, 2], test: vec![3] };
        let mut recipe = Recipe::default();
        (recipe.rows.tune, recipe.rows.valid, recipe.rows.test) = (1, 2, 400);
        (recipe.reason.valid_rows, recipe.reason.test_rows) = (3, 1);
        let said: Vec<String> = chosen.fewer(&recipe).iter().map(Fewer::to_string).collect();
        assert_eq!(
            said,
            [
                "rows.test = 400 asks for more rows than there are: 1 are used",
                "reason.valid_rows = 3 asks for more rows than there are: 2 are used"
            ]
        );
        (recipe.rows.test, recipe.reason.valid_rows) = (1, 0);
        assert!(chosen.fewer(&recipe).is_empty(), "0 means all rows");
    }
}
