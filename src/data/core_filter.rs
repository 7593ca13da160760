//! Which interactions stay: items of which something is known, the k-core (users and items with too
//! few or too many interactions go, until nothing changes), the most rated items.

use serde::{Deserialize, Serialize};

use super::{Dataset, Interaction, Item, ItemIdx, UserIdx};
use crate::error::{Error, Result};
use crate::settings::{Checked, Faults};

/// What must be known of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Nothing.
    #[default]
    Any,
    /// Its title.
    Title,
    /// Its title and a genre.
    TitleAndGenre,
}

impl Known {
    fn of(self, item: &Item) -> bool {
        match self {
            Self::Any => true,
            Self::Title => !item.title.trim().is_empty(),
            Self::TitleAndGenre => !item.title.trim().is_empty() && !item.genres.is_empty(),
        }
    }
}

/// Filters, applied in the order of the keys. Bounds are on the interactions of a user and of an
/// item; 0 means no bound; all are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Core {
    /// What must be known of an item.
    pub known: Known,
    /// Look at that after the bounds instead of before them.
    pub known_after: bool,
    /// Fewest interactions of a user.
    pub user_min: u32,
    /// Most interactions of a user; 0 means no bound.
    pub user_max: u32,
    /// Fewest interactions of an item.
    pub item_min: u32,
    /// Most interactions of an item; 0 means no bound.
    pub item_max: u32,
    /// The bounds choose items only: all interactions with these items come back, whoever they are
    /// of.
    pub items_only: bool,
    /// Only so many items, those with the most interactions (ties: the one that comes first by id);
    /// 0 means all.
    pub top_items: u32,
    /// After all that, once: fewest interactions of a user.
    pub last_user_min: u32,
}

/// What one filter left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The filter, by its key.
    pub filter: String,
    /// Interactions left.
    pub ratings: usize,
    /// Users left.
    pub users: usize,
    /// Items left.
    pub items: usize,
}

impl Step {
    /// What is there after `filter`.
    pub fn new(filter: impl Into<String>, rows: &[Interaction]) -> Self {
        let distinct = |id: &dyn Fn(&Interaction) -> usize| counts(rows, id).iter().filter(|&&n| n > 0).count();
        Self {
            filter: filter.into(),
            ratings: rows.len(),
            users: distinct(&|r| r.user.at()),
            items: distinct(&|r| r.item.at()),
        }
    }
}

impl Checked for Core {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        for (key, min, max) in [("user_min", self.user_min, self.user_max), ("item_min", self.item_min, self.item_max)]
        {
            let what = format!("{min} is above {} = {max}", key.replace("min", "max"));
            faults.unless(max == 0 || min <= max, key, what, "lower the one or raise the other; 0 means no bound");
        }
        faults
    }
}

impl Core {
    /// Nothing is dropped.
    pub const OFF: Self = Self {
        known: Known::Any,
        known_after: false,
        user_min: 0,
        user_max: 0,
        item_min: 0,
        item_max: 0,
        items_only: false,
        top_items: 0,
        last_user_min: 0,
    };

    /// The plain k-core: users and items with at least `k` interactions.
    pub fn k(k: u32) -> Self {
        Self { user_min: k, item_min: k, ..Self::default() }
    }

    /// True when nothing is filtered.
    pub fn is_off(&self) -> bool {
        *self == Self { known_after: self.known_after, items_only: self.items_only, ..Self::default() }
    }

    fn is_bounded(&self) -> bool {
        self.user_min > 0 || self.user_max > 0 || self.item_min > 0 || self.item_max > 0
    }

    /// The interactions within the four bounds, in their order: in turn, users and then items out
    /// of bounds are dropped until none is left. Without upper bounds this is the unique largest
    /// core, whatever the order of dropping; upper bounds look at users first, as the authors do.
    /// The result is a fixed point and does not depend on the row order.
    pub fn filter(&self, interactions: &[Interaction]) -> Vec<Interaction> {
        let mut rows = interactions.to_vec();
        if !self.is_bounded() {
            return rows;
        }
        loop {
            let before = rows.len();
            retain(&mut rows, |r| r.user.at(), self.user_min, self.user_max);
            retain(&mut rows, |r| r.item.at(), self.item_min, self.item_max);
            if rows.len() == before {
                return rows;
            }
        }
    }

    /// All filters, and what each of them left.
    pub fn steps(&self, dataset: &Dataset) -> (Vec<Interaction>, Vec<Step>) {
        let all = &dataset.interactions;
        let (mut rows, mut steps) = (all.clone(), Vec::new());
        let mut done = |filter: String, rows: &[Interaction]| steps.push(Step::new(filter, rows));
        let named = |rows: &mut Vec<Interaction>| rows.retain(|r| self.known.of(&dataset.items[r.item.at()]));
        let known = match self.known {
            Known::Any => None,
            Known::Title => Some("title"),
            Known::TitleAndGenre => Some("title_and_genre"),
        };
        if let Some(known) = known.filter(|_| !self.known_after) {
            named(&mut rows);
            done(format!("data.core.known = {known}"), &rows);
        }
        if self.is_bounded() {
            let core = self.filter(&rows);
            if self.items_only {
                let keep = counts(&core, |r| r.item.at());
                rows.retain(|r| keep.get(r.item.at()).is_some_and(|&n| n > 0));
            } else {
                rows = core;
            }
            done(format!("data.core: {}", self.bounds()), &rows);
        }
        if let Some(known) = known.filter(|_| self.known_after) {
            named(&mut rows);
            done(format!("data.core.known = {known}"), &rows);
        }
        if self.top_items > 0 {
            let counts = counts(&rows, |r| r.item.at());
            let mut order: Vec<usize> = (0..counts.len()).collect();
            order.sort_by_key(|&at| (std::cmp::Reverse(counts[at]), at));
            let mut keep = vec![false; counts.len()];
            order.into_iter().take(self.top_items as usize).for_each(|at| keep[at] = true);
            rows.retain(|r| keep[r.item.at()]);
            done(format!("data.core.top_items = {}", self.top_items), &rows);
        }
        if self.last_user_min > 0 {
            retain(&mut rows, |r| r.user.at(), self.last_user_min, 0);
            done(format!("data.core.last_user_min = {}", self.last_user_min), &rows);
        }
        (rows, steps)
    }

    fn bounds(&self) -> String {
        let keys = [
            ("user_min", self.user_min),
            ("user_max", self.user_max),
            ("item_min", self.item_min),
            ("item_max", self.item_max),
        ];
        let set: Vec<String> = keys.iter().filter(|k| k.1 > 0).map(|(name, n)| format!("{name} = {n}")).collect();
        format!("{}{}", set.join(" "), if self.items_only { " items_only" } else { "" })
    }

    /// The data set with what the filters leave, tables included; order is kept. Without a filter
    /// the data set is returned as it is, unrated items included.
    ///
    /// # Errors
    /// Nothing is left: says what each filter left.
    pub fn apply(&self, dataset: Dataset) -> Result<Dataset> {
        self.traced(dataset).map(|(dataset, _)| dataset)
    }

    /// As [`Self::apply`], with what each filter left.
    pub fn traced(&self, mut dataset: Dataset) -> Result<(Dataset, Vec<Step>)> {
        let mut trace = vec![Step::new("all", &dataset.interactions)];
        if self.is_off() {
            return Ok((dataset, trace));
        }
        let (mut rows, steps) = self.steps(&dataset);
        trace.extend(steps);
        if rows.is_empty() {
            let told: Vec<String> = trace.iter().map(|s| format!("{}: {} ratings left", s.filter, s.ratings)).collect();
            return Err(Error::usage("data.core", format!("nothing is left. {}", told.join("; ")))
                .next("lower user_min and item_min, or ask for less to be known of items"));
        }
        let users = keep(&mut dataset.users, rows.iter().map(|r| r.user.at()));
        let items = keep(&mut dataset.items, rows.iter().map(|r| r.item.at()));
        for row in &mut rows {
            row.user = UserIdx(users[row.user.at()]);
            row.item = ItemIdx(items[row.item.at()]);
        }
        dataset.interactions = rows;
        Ok((dataset, trace))
    }
}

fn counts(rows: &[Interaction], id: impl Fn(&Interaction) -> usize) -> Vec<u32> {
    let mut counts = vec![0u32; rows.iter().map(|r| id(r) + 1).max().unwrap_or(0)];
    for row in rows {
        counts[id(row)] += 1;
    }
    counts
}

fn retain(rows: &mut Vec<Interaction>, id: impl Fn(&Interaction) -> usize, min: u32, max: u32) {
    let counts = counts(rows, &id);
    rows.retain(|row| counts[id(row)] >= min && (max == 0 || counts[id(row)] <= max));
}

/// Keeps the table rows that are used and returns old position -> new position.
fn keep<T>(table: &mut Vec<T>, used: impl Iterator<Item = usize>) -> Vec<u32> {
    let mut new = vec![u32::MAX; table.len()];
    used.for_each(|at| new[at] = 0);
    let mut next = 0;
    for place in &mut new {
        if *place == 0 {
            *place = next;
            next += 1;
        }
    }
    let mut at = 0;
    table.retain(|_| {
        at += 1;
        new[at - 1] != u32::MAX
    });
    new
}
