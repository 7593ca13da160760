//! The k-core filter: users and items with too few or too many interactions go, until nothing changes.

use serde::{Deserialize, Serialize};

use super::{Dataset, Interaction, ItemIdx, UserIdx};
use crate::error::{Error, Result};

/// Bounds on the interactions of a user and of an item; 0 means no bound. All bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Core {
    /// Fewest interactions of a user. Default 0.
    pub user_min: u32,
    /// Most interactions of a user. Default 0: no bound.
    pub user_max: u32,
    /// Fewest interactions of an item. Default 0.
    pub item_min: u32,
    /// Most interactions of an item. Default 0: no bound.
    pub item_max: u32,
}

impl Core {
    /// The plain k-core: users and items with at least `k` interactions.
    pub fn k(k: u32) -> Self {
        Self { user_min: k, item_min: k, ..Self::default() }
    }

    /// True when nothing is bounded.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses bounds that nothing can meet.
    pub fn check(&self) -> Result<()> {
        for (what, min, max) in [("user", self.user_min, self.user_max), ("item", self.item_min, self.item_max)] {
            if max > 0 && min > max {
                return Err(Error::usage(
                    format!("data.core.{what}_min"),
                    format!("{min} is above {what}_max = {max}"),
                )
                .next("lower the one or raise the other; 0 means no bound"));
            }
        }
        Ok(())
    }

    /// The interactions that stay, in their order: in turn, users and then items out of bounds are dropped until none
    /// is left. Without upper bounds this is the unique largest core, whatever the order of dropping; upper bounds
    /// look at users first, as the authors do. The result is a fixed point and does not depend on the row order.
    pub fn filter(&self, interactions: &[Interaction]) -> Vec<Interaction> {
        let mut rows = interactions.to_vec();
        if self.is_off() {
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

    /// The data set's core with tables that hold only what is left; order is kept. Without bounds the data set is
    /// returned as it is, unrated items included.
    pub fn apply(&self, mut dataset: Dataset) -> Result<Dataset> {
        if self.is_off() {
            return Ok(dataset);
        }
        let mut rows = self.filter(&dataset.interactions);
        if rows.is_empty() {
            return Err(
                Error::usage("data.core", "no interaction meets the bounds").next("lower user_min and item_min")
            );
        }
        let users = keep(&mut dataset.users, rows.iter().map(|r| r.user.at()));
        let items = keep(&mut dataset.items, rows.iter().map(|r| r.item.at()));
        for row in &mut rows {
            row.user = UserIdx(users[row.user.at()]);
            row.item = ItemIdx(items[row.item.at()]);
        }
        dataset.interactions = rows;
        Ok(dataset)
    }
}

fn retain(rows: &mut Vec<Interaction>, id: impl Fn(&Interaction) -> usize, min: u32, max: u32) {
    let mut counts = vec![0u32; rows.iter().map(|r| id(r) + 1).max().unwrap_or(0)];
    for row in rows.iter() {
        counts[id(row)] += 1;
    }
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
