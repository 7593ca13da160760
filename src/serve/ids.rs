//! Ids as the data set writes them, looked up.

use std::collections::HashMap;

use super::Met;
use crate::data::{Dataset, ItemIdx, Rated, RawId, UserIdx};
use crate::error::{Error, Result};

/// The index of every id of a run.
pub(super) struct Ids {
    users: HashMap<String, UserIdx>,
    items: HashMap<String, ItemIdx>,
}

impl Ids {
    pub(super) fn new(dataset: &Dataset) -> Self {
        Self {
            users: (0..).zip(&dataset.users).map(|(at, user)| (user.raw.0.clone(), UserIdx(at))).collect(),
            items: (0..).zip(&dataset.items).map(|(at, item)| (item.raw.0.clone(), ItemIdx(at))).collect(),
        }
    }

    /// The user of an id, if there is one.
    pub(super) fn find_user(&self, id: &str) -> Option<UserIdx> {
        self.users.get(id).copied()
    }

    /// The item of an id, if there is one.
    pub(super) fn find_item(&self, id: &str) -> Option<ItemIdx> {
        self.items.get(id).copied()
    }

    /// The user of an id, or an error with the ids that look most like it.
    pub(super) fn user(&self, id: &str) -> Result<UserIdx> {
        self.users.get(id).copied().ok_or_else(|| {
            let what = format!("there is no user '{id}' among the {} of this run", self.users.len());
            Error::usage("--user", what).next(format!(
                "the nearest ids are: {}; or give what the user has rated instead (--history)",
                nearest(id, self.users.keys())
            ))
        })
    }

    /// The item of an id; `place` is where the id was given.
    pub(super) fn item(&self, place: &str, id: &str) -> Result<ItemIdx> {
        self.items.get(id).copied().ok_or_else(|| {
            let what = format!("there is no item '{id}' among the {} of this run", self.items.len());
            Error::usage(place, what).next(format!("the nearest ids are: {}", nearest(id, self.items.keys())))
        })
    }

    /// A history that is given by ids. A row without a rating counts as `liked`.
    pub(super) fn history(&self, given: &[Met], liked: f32) -> Result<Vec<Rated>> {
        (0..)
            .zip(given)
            .map(|(time, met)| {
                let rating = met.rating.unwrap_or(liked);
                if !rating.is_finite() {
                    return Err(Error::usage("--history", format!("item '{}' has the rating {rating}", met.item))
                        .next("give a number, or leave the rating out"));
                }
                Ok(Rated { item: self.item("--history", &met.item)?, rating, time })
            })
            .collect()
    }
}

/// Five ids that look most like `id`.
fn nearest<'a>(id: &str, all: impl Iterator<Item = &'a String>) -> String {
    let number = |text: &str| text.parse::<u64>().ok();
    let mut near: Vec<(usize, u64, RawId)> = all
        .map(|raw| {
            let away = match (number(id), number(raw)) {
                (Some(a), Some(b)) => a.abs_diff(b),
                _ => 0,
            };
            (strsim::damerau_levenshtein(id, raw), away, RawId(raw.clone()))
        })
        .collect();
    near.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| a.2.natural_cmp(&b.2)));
    near.iter().take(5).map(|n| n.2.0.as_str()).collect::<Vec<_>>().join(", ")
}
