//! A log of ratings whose users and items are met as it is read: for data sets without complete
//! tables of both. Ids are kept once, in one block of memory, so that a log of tens of millions of
//! rows stays small.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use rayon::slice::ParallelSliceMut;

use super::fields::{At, shown, unsigned};
use super::tables::sort;
use crate::data::time::Time;
use crate::data::{Damaged, DataSettings, Dataset, Field, Interaction, Item, ItemIdx, Part, RawId, User, UserIdx};
use crate::error::{Error, Result};
use crate::monitor::Monitor;

/// Longest id that is accepted, in bytes.
const LONGEST_ID: usize = 1024;
/// Numbers below this go through an array.
const DENSE: u64 = 1 << 22;
const NONE: u32 = u32::MAX;

/// Ids in the order in which they were met.
#[derive(Default)]
pub struct Names {
    dense: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The id at a place.
    pub fn name(&self, at: u32) -> &[u8] {
        name(&self.bytes, &self.ends, at)
    }

    /// The place of a number that is written without leading zeros.
    fn small(id: &[u8]) -> Option<usize> {
        let number = unsigned(id).filter(|&n| n < DENSE && (id[0] != b'0' || id.len() == 1))?;
        usize::try_from(number).ok()
    }

    /// The place of an id that was met.
    pub fn get(&self, id: &[u8]) -> Option<u32> {
        if let Some(number) = Self::small(id) {
            return self.dense.get(number).copied().filter(|&at| at != NONE);
        }
        let hash = self.hasher.hash_one(id);
        self.table.find(hash, |&at| self.name(at) == id).copied()
    }

    /// The place of an id, a new one if it was not met yet; `None` when there are too many.
    pub fn place(&mut self, id: &[u8]) -> Option<u32> {
        if let Some(at) = self.get(id) {
            return Some(at);
        }
        let at = u32::try_from(self.ends.len()).ok().filter(|&at| at != NONE)?;
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len());
        if let Some(number) = Self::small(id) {
            if self.dense.len() <= number {
                // Twice as long each time, so that rising ids do not copy it again and again.
                self.dense.resize((number + 1).next_power_of_two(), NONE);
            }
            self.dense[number] = at;
        } else {
            let hash = self.hasher.hash_one(id);
            let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
            self.table.insert_unique(hash, at, |&at| hasher.hash_one(name(bytes, ends, at)));
        }
        Some(at)
    }

    /// Each id's place in the order of tables, and the ids in that order.
    fn ranked(&self) -> (Vec<u32>, Vec<RawId>) {
        let mut order: Vec<(RawId, u32)> =
            (0..self.len() as u32).map(|at| (RawId(super::fields::decoded(self.name(at))), at)).collect();
        order.sort_by(|a, b| a.0.natural_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut rank = vec![0; order.len()];
        let mut ids = Vec::with_capacity(order.len());
        for (new, (id, old)) in (0..).zip(order) {
            rank[old as usize] = new;
            ids.push(id);
        }
        (rank, ids)
    }
}

fn name<'a>(bytes: &'a [u8], ends: &[usize], at: u32) -> &'a [u8] {
    let at = at as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &bytes[start..ends[at]]
}

/// What is said of an item beside its id.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Title.
    pub title: String,
    /// Genres, the first one first.
    pub genres: Vec<String>,
    /// Further fields.
    pub fields: Vec<Field>,
}

/// The log.
#[derive(Default)]
pub struct Log {
    /// Users met.
    pub users: Names,
    /// Items met.
    pub items: Names,
    /// The part of the split that the rows to come belong to, where the data says it.
    pub part: Option<Part>,
    rows: Vec<Interaction>,
    /// Nanoseconds of each row's time; empty as long as all are 0.
    nanos: Vec<u32>,
}

/// What a data set is, beside its tables.
#[derive(Debug, Clone)]
pub struct Nature<'a> {
    /// Name of the data set.
    pub name: &'a str,
    /// What an item is called.
    pub noun: &'a str,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// Whether there are times.
    pub has_times: bool,
}

impl Log {
    /// Adds one rating of the current line.
    ///
    /// # Errors
    /// An empty or absurdly long id, too many ids.
    pub fn add(&mut self, at: &impl At, user: &[u8], item: &[u8], rating: f32, time: i64) -> Result<()> {
        self.add_at(at, user, item, rating, Time { seconds: time, nanos: 0 })
    }

    /// As [`Self::add`], with the part of a second: it decides about the order of rows.
    pub fn add_at(&mut self, at: &impl At, user: &[u8], item: &[u8], rating: f32, time: Time) -> Result<()> {
        let bad = |what: &str, id: &[u8]| {
            at.error(if id.is_empty() {
                format!("the {what} id is empty")
            } else {
                format!("the {what} id {} has {} bytes, more than {LONGEST_ID}", shown(id), id.len())
            })
            .next("the line is damaged or the columns are in another order: mend or remove it")
        };
        for (what, id) in [("user", user), ("item", item)] {
            if id.is_empty() || id.len() > LONGEST_ID {
                return Err(bad(what, id));
            }
        }
        let many = || at.error("there are more than 4 billion ids".into()).next("take a part of the file");
        let user = UserIdx(self.users.place(user).ok_or_else(many)?);
        let item = ItemIdx(self.items.place(item).ok_or_else(many)?);
        if time.nanos != 0 || !self.nanos.is_empty() {
            self.nanos.resize(self.rows.len(), 0);
            self.nanos.push(time.nanos);
        }
        self.rows.push(Interaction { user, item, rating, time: time.seconds, part: self.part });
        Ok(())
    }

    /// How many rows so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts the data set together: `items` and `users` say, by place, what is known of each; what
    /// they lack stays empty. `source` names the ratings file in messages.
    ///
    /// # Errors
    /// A log without a rating.
    pub fn finish(
        self,
        nature: &Nature<'_>,
        mut items: Vec<About>,
        mut users: Vec<Vec<Field>>,
        source: &std::path::Path,
        monitor: &dyn Monitor,
    ) -> Result<Dataset> {
        let Self { users: user_names, items: item_names, mut rows, nanos, .. } = self;
        if rows.is_empty() {
            return Err(Error::input(source.display(), "holds no ratings")
                .next("the file is empty or all its lines were left out: look into it"));
        }
        rows.shrink_to_fit();
        let (user_rank, user_ids) = user_names.ranked();
        let (item_rank, item_ids) = item_names.ranked();
        drop((user_names, item_names));
        for row in &mut rows {
            *row = Interaction {
                user: UserIdx(user_rank[row.user.at()]),
                item: ItemIdx(item_rank[row.item.at()]),
                ..*row
            };
        }
        if nanos.is_empty() {
            sort(&mut rows);
        } else {
            rows = sorted_finely(&rows, &nanos);
        }
        super::tables::warn_of_repeats(&rows, source, monitor);
        items.resize_with(item_rank.len(), About::default);
        users.resize_with(user_rank.len(), Vec::new);
        let items = arrange(item_ids, &item_rank, items);
        let users = arrange(user_ids, &user_rank, users);
        Ok(Dataset {
            name: nature.name.into(),
            noun: nature.noun.into(),
            scale: nature.scale,
            has_times: nature.has_times,
            items: items
                .into_iter()
                .map(|(raw, About { title, genres, fields })| Item { raw, title, genres, fields })
                .collect(),
            users: users.into_iter().map(|(raw, fields)| User { raw, fields }).collect(),
            interactions: rows,
        })
    }
}

fn arrange<T: Default>(ids: Vec<RawId>, rank: &[u32], values: Vec<T>) -> Vec<(RawId, T)> {
    let mut out: Vec<(RawId, T)> = ids.into_iter().map(|id| (id, T::default())).collect();
    for (value, &to) in values.into_iter().zip(rank) {
        out[to as usize].1 = value;
    }
    out
}

/// As [`sort`], rows of one second by their nanoseconds.
fn sorted_finely(rows: &[Interaction], nanos: &[u32]) -> Vec<Interaction> {
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| {
        let key = |at: u32| (rows[at as usize].time, nanos.get(at as usize).copied().unwrap_or(0));
        key(a).cmp(&key(b)).then_with(|| super::tables::order(&rows[a as usize], &rows[b as usize]))
    });
    order.into_iter().map(|at| rows[at as usize]).collect()
}

/// What becomes of damaged rows: the first one is an error, or they are counted and left out.
#[derive(Debug)]
pub struct LeftOut {
    skip: bool,
    limit: f64,
    count: u64,
    kept: u64,
    samples: Vec<Error>,
    /// Rows without a rating, a user or an item, and the first of them.
    incomplete: u64,
    first_incomplete: Option<Error>,
}

/// When none of so many rows is sound, no more are looked at.
const HOPELESS: u64 = 10_000;
/// Damaged rows that a warning names.
const SAMPLES: usize = 3;

impl LeftOut {
    /// As the recipe says; `by_default`: whether rows are left out where it says nothing.
    pub fn new(settings: &DataSettings, by_default: bool) -> Self {
        let skip = match settings.damaged {
            Damaged::Auto => by_default,
            Damaged::Refuse => false,
            Damaged::Skip => true,
        };
        Self {
            skip,
            limit: settings.damaged_limit,
            count: 0,
            kept: 0,
            samples: Vec::new(),
            incomplete: 0,
            first_incomplete: None,
        }
    }

    /// Takes a row without a rating, a user or an item, where damaged rows are left out: such rows
    /// are no damage, however many they are.
    pub fn incomplete(&mut self, error: Error) {
        self.incomplete += 1;
        self.first_incomplete.get_or_insert(error);
    }

    /// Whether damaged rows are left out.
    pub fn skips(&self) -> bool {
        self.skip
    }

    /// Rows that were kept so far.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Takes what became of a row.
    ///
    /// # Errors
    /// The row's, unless damaged rows are left out. What is no fault of the row is an error always.
    pub fn take(&mut self, row: Result<()>) -> Result<()> {
        match row {
            Ok(()) => self.kept += 1,
            Err(error) if self.skip && error.kind() == crate::Kind::Input => {
                self.count += 1;
                if self.kept == 0 && self.count == HOPELESS {
                    return Err(self.samples.swap_remove(0));
                }
                if self.samples.len() < SAMPLES {
                    self.samples.push(error);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Warns if rows were left out. When they are more than the limit, the file is not what it
    /// seems.
    ///
    /// # Errors
    /// The first row's, when more than `data.damaged_limit` of all rows are damaged.
    pub fn tell(self, file: &std::path::Path, monitor: &dyn Monitor) -> Result<()> {
        if let Some(first) = self.first_incomplete {
            if self.kept == 0 {
                return Err(first.next("check data.table.user, item and rating: no row has all three"));
            }
            monitor.warn(
                &format!(
                    "{}: {} rows without a rating, a user or an item were left out, the first: {}: {}",
                    file.display(),
                    self.incomplete,
                    first.place(),
                    first.what()
                ),
                "data.damaged = \"refuse\" makes the first one an error",
            );
        }
        let Some(first) = self.samples.first() else { return Ok(()) };
        let (count, total) = (self.count, self.kept + self.count);
        if count as f64 > self.limit * total as f64 {
            return Err(Error::input(first.place(), format!("{}; {count} of {total} rows are damaged", first.what()))
                .next(first.next_step()));
        }
        let told: Vec<String> = self.samples.iter().map(|e| format!("{}: {}", e.place(), e.what())).collect();
        let (first_ones, rows) = if count > 1 { ("the first: ", "damaged rows were") } else { ("", "damaged row was") };
        monitor.warn(
            &format!("{}: {count} {rows} left out, {first_ones}{}", file.display(), told.join("; ")),
            first.next_step(),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_is_written() {
        let mut names = Names::default();
        let ids: [&[u8]; 9] = [b"7", b"07", b"a b,c", b"\xff", b"4194304", b"0", b"00", b"x", b"4194303"];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(names.get(id), None);
            assert_eq!(names.place(id), Some(at as u32));
        }
        for (at, id) in ids.iter().enumerate() {
            assert_eq!((names.get(id), names.place(id)), (Some(at as u32), Some(at as u32)));
            assert_eq!(names.name(at as u32), *id);
        }
        assert_eq!(names.len(), 9);
    }
}
