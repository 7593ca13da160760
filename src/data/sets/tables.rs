//! What all loaders share: id tables, the collector of ratings, and the final order.

use std::collections::HashMap;

use rayon::slice::ParallelSliceMut;

use super::fields::shown;
use crate::data::lines::Lines;
use crate::data::set::DataSet;
use crate::data::{Dataset, Interaction, Item, ItemIdx, RawId, User, UserIdx};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Something with an id in the data set.
pub trait Row {
    /// The id.
    fn raw(&self) -> &RawId;
}

impl Row for Item {
    fn raw(&self) -> &RawId {
        &self.raw
    }
}

impl Row for User {
    fn raw(&self) -> &RawId {
        &self.raw
    }
}

/// From ids in a file to rows of a table. Small numbers go through an array, everything else
/// through a map.
pub struct Ids {
    dense: Vec<u32>,
    sparse: HashMap<Box<[u8]>, u32>,
}

/// Numbers below this use the array.
const DENSE: u64 = 1 << 22;
const NONE: u32 = u32::MAX;

impl Ids {
    /// The table of ids in order; ids are unique.
    fn new<'a>(ids: impl Iterator<Item = &'a RawId>) -> Self {
        let mut table = Self { dense: Vec::new(), sparse: HashMap::new() };
        for (at, id) in (0u32..).zip(ids) {
            match id.number().filter(|&n| n < DENSE && n.to_string() == id.0) {
                Some(n) => {
                    let n = n as usize;
                    if table.dense.len() <= n {
                        table.dense.resize(n + 1, NONE);
                    }
                    table.dense[n] = at;
                }
                None => {
                    table.sparse.insert(id.0.as_bytes().into(), at);
                }
            }
        }
        table
    }

    /// The row of an id as written in the file.
    pub fn get(&self, id: &[u8]) -> Option<u32> {
        if let Some(n) = super::fields::unsigned(id)
            && let Some(&at) = self.dense.get(n as usize)
            && at != NONE
            && (id[0] != b'0' || id.len() == 1)
        {
            return Some(at);
        }
        if self.sparse.is_empty() { None } else { self.sparse.get(id).copied() }
    }
}

/// Catalogue and users, sorted by id so that the order of lines in the files does not matter.
pub struct Tables {
    /// The catalogue.
    pub items: Vec<Item>,
    /// The users.
    pub users: Vec<User>,
}

impl Tables {
    /// Sorts both tables by id.
    pub fn new(mut items: Vec<Item>, mut users: Vec<User>) -> Self {
        items.sort_by(|a, b| a.raw.natural_cmp(&b.raw));
        users.sort_by(|a, b| a.raw.natural_cmp(&b.raw));
        Self { items, users }
    }

    /// Starts collecting ratings.
    pub fn ratings(&self, expected: usize) -> Ratings {
        Ratings {
            items: Ids::new(self.items.iter().map(Row::raw)),
            users: Ids::new(self.users.iter().map(Row::raw)),
            rows: Vec::with_capacity(expected),
        }
    }

    /// Sorts the ratings and puts the data set together. `source` names the ratings file in
    /// messages.
    pub fn finish(self, set: &DataSet, ratings: Ratings, source: &Lines, monitor: &dyn Monitor) -> Result<Dataset> {
        let mut interactions = ratings.rows;
        if interactions.is_empty() {
            return Err(Error::input(source.path().display(), "holds no ratings")
                .next("the file is empty: copy or download it again"));
        }
        sort(&mut interactions);
        warn_of_repeats(&interactions, source.path(), monitor);
        Ok(Dataset {
            name: set.name.into(),
            noun: set.noun.into(),
            scale: set.scale,
            has_times: set.has_times,
            items: self.items,
            users: self.users,
            interactions,
        })
    }
}

/// Collects ratings and checks their ids.
pub struct Ratings {
    items: Ids,
    users: Ids,
    rows: Vec<Interaction>,
}

impl Ratings {
    /// Adds one rating of the current line.
    ///
    /// # Errors
    /// An id that is in neither table: with complete files that means a wrong column or a mix of
    /// two data sets.
    pub fn add(&mut self, lines: &Lines, user: &[u8], item: &[u8], rating: f32, time: i64) -> Result<()> {
        let unknown = |what: &str, id: &[u8], file: &str| {
            lines
                .error(format!("{what} {} is not in {file}", shown(id)))
                .next("check the order of the columns, and that all files are of the same data set")
        };
        let user = self.users.get(user).ok_or_else(|| unknown("user", user, "the table of users"))?;
        let item = self.items.get(item).ok_or_else(|| unknown("item", item, "the catalogue"))?;
        self.rows.push(Interaction { user: UserIdx(user), item: ItemIdx(item), rating, time, part: None });
        Ok(())
    }

    /// How many so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Sorts by (time, user, item, rating). The rating decides between repeats at the same second, so
/// that the result depends on the set of rows only.
pub fn sort(interactions: &mut [Interaction]) {
    interactions.par_sort_unstable_by(order);
}

/// The order of [`sort`].
pub fn order(a: &Interaction, b: &Interaction) -> std::cmp::Ordering {
    (a.time, a.user, a.item)
        .cmp(&(b.time, b.user, b.item))
        .then_with(|| a.rating.total_cmp(&b.rating))
        .then_with(|| a.part.cmp(&b.part))
}

/// How many rows repeat an earlier (user, item) pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepeatCount {
    /// Rows beyond the first of their pair.
    pub rows: usize,
    /// Of these, rows that equal their predecessor in rating and time too.
    pub exact: usize,
}

/// Counts repeated (user, item) pairs.
pub fn repeats(interactions: &[Interaction]) -> RepeatCount {
    let mut keys: Vec<(u64, i64, u32)> = interactions
        .iter()
        .map(|r| (u64::from(r.user.0) << 32 | u64::from(r.item.0), r.time, r.rating.to_bits()))
        .collect();
    keys.par_sort_unstable();
    keys.windows(2).fold(RepeatCount::default(), |count, pair| RepeatCount {
        rows: count.rows + usize::from(pair[0].0 == pair[1].0),
        exact: count.exact + usize::from(pair[0] == pair[1]),
    })
}

/// Says how many rows repeat a pair.
pub(super) fn warn_of_repeats(interactions: &[Interaction], file: &std::path::Path, monitor: &dyn Monitor) {
    let repeated = repeats(interactions);
    if repeated.rows > 0 {
        monitor.warn(
            &format!(
                "{}: {} rows repeat a (user, item) pair, {} of them word for word",
                file.display(),
                repeated.rows,
                repeated.exact
            ),
            "data.repeats says what becomes of them: drop (default), exclude_target or keep",
        );
    }
}

/// Refuses a second row with the same id.
#[derive(Default)]
pub struct Unique(HashMap<RawId, u64>);

impl Unique {
    /// Notes the id of the current line.
    pub fn see(&mut self, lines: &Lines, id: &RawId) -> Result<()> {
        match self.0.insert(id.clone(), lines.number()) {
            None => Ok(()),
            Some(first) => Err(lines
                .error(format!("id {} stands on line {first} already", shown(id.0.as_bytes())))
                .next("remove one of the two lines")),
        }
    }
}
