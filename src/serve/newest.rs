//! Ratings that came after a run was made: histories that have grown, and people who are new.
//! Nothing is fitted for them. Histories and counts take them in; the weights of EASE and the
//! vectors of implicit ALS and LightGCN stay, and serve a history of any kind.

use std::collections::{BTreeMap, HashMap};

use super::ids::Ids;
use crate::data::{Dataset, Rated, Samples, UserIdx};
use crate::pipeline::newer::difference;

/// The ratings of a log as it is now, by people.
pub(super) struct Newest {
    /// Of each user of the run: the history, where it is another than the run's.
    changed: HashMap<UserIdx, Vec<Rated>>,
    /// People whom the run does not know, by their ids.
    people: BTreeMap<String, Vec<Rated>>,
    pub(super) taken: Taken,
}

/// What was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Ratings that are new.
    pub new: usize,
    /// Ratings of the run that are gone.
    pub gone: usize,
    /// People whom the run does not know.
    pub people: usize,
    /// Ratings of items that the run does not know; they are left out.
    pub unknown: usize,
}

impl Newest {
    /// Of the log as it is now, beside what a run knows.
    pub(super) fn of(now: &Dataset, ids: &Ids, then: &Dataset, samples: &Samples) -> Self {
        let (new, gone) = difference(then, now);
        let mut taken = Taken { new, gone, ..Taken::default() };
        let item: Vec<_> = now.items.iter().map(|item| ids.find_item(&item.raw.0)).collect();
        let user: Vec<_> = now.users.iter().map(|user| ids.find_user(&user.raw.0)).collect();
        let mut histories: Vec<Vec<Rated>> = vec![Vec::new(); now.users.len()];
        // In the order of the log, which is that of the times.
        for row in &now.interactions {
            match item[row.item.at()] {
                Some(item) => histories[row.user.at()].push(Rated { item, rating: row.rating, time: row.time }),
                None => taken.unknown += 1,
            }
        }
        let (mut changed, mut people) = (HashMap::new(), BTreeMap::new());
        let mut met = vec![false; then.users.len()];
        for ((history, user), own) in histories.into_iter().zip(user).zip(&now.users) {
            match user {
                None if history.is_empty() => {}
                None => {
                    people.insert(own.raw.0.clone(), history);
                }
                Some(user) => {
                    met[user.at()] = true;
                    if !same(&history, &samples.of_user(user)) {
                        changed.insert(user, history);
                    }
                }
            }
        }
        // Whoever is gone from the log has no history any more.
        let gone = (0..).map(UserIdx).zip(met).filter(|(user, met)| !met && !samples.of_user(*user).is_empty());
        changed.extend(gone.map(|(user, _)| (user, Vec::new())));
        taken.people = people.len();
        Self { changed, people, taken }
    }

    /// The history of a user of the run, where it is another by now.
    pub(super) fn of_user(&self, user: UserIdx) -> Option<&[Rated]> {
        self.changed.get(&user).map(Vec::as_slice)
    }

    /// The history of somebody whom the run does not know.
    pub(super) fn of_person(&self, id: &str) -> Option<&[Rated]> {
        self.people.get(id).map(Vec::as_slice)
    }

    /// People whom the run does not know, by their ids.
    pub(super) fn people(&self) -> impl Iterator<Item = (&str, &[Rated])> {
        self.people.iter().map(|(id, history)| (id.as_str(), history.as_slice()))
    }
}

/// Whether two histories hold the same rows, in whatever order: a log without times has none.
fn same(a: &[Rated], b: &[Rated]) -> bool {
    let sorted = |rows: &[Rated]| {
        let mut rows: Vec<_> = rows.iter().map(|row| (row.item, row.time, row.rating.to_bits())).collect();
        rows.sort_unstable();
        rows
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}
