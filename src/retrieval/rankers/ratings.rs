//! The rows that rankers are fitted on.

use crate::data::{Dataset, GraphEdges, ItemIdx, Rated, Samples, UserIdx, graph_edges};

/// Ratings by user, each item once.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    /// Size of the catalogue.
    pub items: usize,
    /// For each user, in the order of the timeline.
    pub by_user: Vec<Vec<Rated>>,
    /// A rating above it is a like.
    pub threshold: f32,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// False where times mean nothing.
    pub has_times: bool,
}

impl Ratings {
    /// The training rows: nothing that is held out has a part in them.
    pub fn training(dataset: &Dataset, samples: &Samples, threshold: f32) -> Self {
        let pairs = graph_edges(dataset, samples, GraphEdges::TrainSplit);
        Self::of(dataset, samples, threshold, |user, item| pairs.binary_search(&(user, item)).is_ok())
    }

    /// Every row, those of validation and test too.
    pub fn all(dataset: &Dataset, samples: &Samples, threshold: f32) -> Self {
        Self::of(dataset, samples, threshold, |_, _| true)
    }

    fn of(dataset: &Dataset, samples: &Samples, threshold: f32, keep: impl Fn(UserIdx, ItemIdx) -> bool) -> Self {
        let items = dataset.items.len();
        let rows = samples.timelines.iter().map(|timeline| timeline.iter().copied());
        Self {
            items,
            by_user: once_each(items, rows, keep),
            threshold,
            scale: dataset.scale,
            has_times: dataset.has_times,
        }
    }

    /// The same with other rows, by user.
    #[must_use]
    pub fn with_rows<'a>(self, rows: impl Iterator<Item = &'a [Rated]>) -> Self {
        let by_user = once_each(self.items, rows.map(|rows| rows.iter().copied()), |_, _| true);
        Self { by_user, ..self }
    }

    /// The pairs, whatever their ratings.
    pub fn pairs(&self) -> Vec<(UserIdx, ItemIdx)> {
        (0..).map(UserIdx).zip(&self.by_user).flat_map(|(u, rows)| rows.iter().map(move |r| (u, r.item))).collect()
    }

    /// Likes and all ratings of each item.
    pub fn tallies(&self) -> Vec<(u32, u32)> {
        let mut tallies = vec![(0, 0); self.items];
        for row in self.by_user.iter().flatten() {
            let tally = &mut tallies[row.item.at()];
            *tally = (tally.0 + u32::from(row.rating > self.threshold), tally.1 + 1);
        }
        tallies
    }

    /// What the rows weigh, by user.
    pub fn weighed(&self, weight: Weight) -> Table {
        Table::new(self.items, self.by_user.iter().map(|rows| weight.of(rows)).collect())
    }
}

/// The rows of each user that are to be kept, each item once.
fn once_each<R: Iterator<Item = Rated>>(
    items: usize,
    rows: impl Iterator<Item = R>,
    keep: impl Fn(UserIdx, ItemIdx) -> bool,
) -> Vec<Vec<Rated>> {
    // The last user who met an item, plus 1.
    let mut met = vec![0u32; items];
    let own = |(user, timeline): (u32, R)| -> Vec<Rated> {
        // Of an item that was met twice, the first row: the later one may be held out.
        let mut first = |row: &Rated| std::mem::replace(&mut met[row.item.at()], user + 1) != user + 1;
        timeline.filter(|row| keep(UserIdx(user), row.item) && first(row)).collect()
    };
    (0..).zip(rows).map(own).collect()
}

/// What a row of a history weighs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// A rating above the threshold counts 1, others do not count.
    Like(f32),
    /// From 0 for the smallest rating of the scale to 1 for the largest.
    Scale(f32, f32),
}

impl Weight {
    /// The items of a history with what they weigh, by item; the last row of an item counts.
    pub fn of(self, history: &[Rated]) -> Vec<(u32, f32)> {
        let weigh = |rating: f32| match self {
            Self::Like(threshold) => f32::from(u8::from(rating > threshold)),
            Self::Scale(low, high) if high > low => ((rating - low) / (high - low)).clamp(0.0, 1.0),
            Self::Scale(..) => 1.0,
        };
        let mut rows: Vec<(u32, f32)> = history.iter().map(|row| (row.item.0, weigh(row.rating))).collect();
        // Stable, so that the last row of an item stands last among its own.
        rows.sort_by_key(|row| row.0);
        let mut out: Vec<(u32, f32)> = Vec::with_capacity(rows.len());
        for row in rows {
            match out.last_mut().filter(|last| last.0 == row.0) {
                Some(last) => *last = row,
                None => out.push(row),
            }
        }
        out.retain(|row| row.1 > 0.0);
        out
    }
}

/// A sparse table of users and items, from both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// (item, weight) of each user, by item.
    pub by_user: Vec<Vec<(u32, f32)>>,
    /// (user, weight) of each item, by user.
    pub by_item: Vec<Vec<(u32, f32)>>,
}

impl Table {
    fn new(items: usize, by_user: Vec<Vec<(u32, f32)>>) -> Self {
        let mut by_item = vec![Vec::new(); items];
        for (user, rows) in (0..).zip(&by_user) {
            rows.iter().for_each(|&(item, weight)| by_item[item as usize].push((user, weight)));
        }
        Self { by_user, by_item }
    }

    /// Items that somebody has, rising.
    pub fn present(&self) -> Vec<u32> {
        (0..self.by_item.len() as u32).filter(|&item| !self.by_item[item as usize].is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        By, DataSettings, Interaction, Item, Part, RawId, SplitSettings, User, build_samples, dataset::Sample,
    };

    fn log() -> Dataset {
        let id = |n: u32| RawId(n.to_string());
        let row = |user: u32, n: u32| Interaction {
            user: UserIdx(user),
            item: ItemIdx((user * 7 + n * 3) % 40),
            rating: (1 + (user + n) % 5) as f32,
            time: i64::from(n * 31 + user),
            part: None,
        };
        let mut interactions: Vec<Interaction> =
            (0..30u32).flat_map(|user| (0..20u32).map(move |n| row(user, n))).collect();
        interactions.sort_by(crate::data::sets::order);
        Dataset {
            name: "table".into(),
            noun: "item".into(),
            scale: (1.0, 5.0),
            has_times: true,
            items: (0..40)
                .map(|n| Item { raw: id(n), title: String::new(), genres: Vec::new(), fields: Vec::new() })
                .collect(),
            users: (0..30).map(|n| User { raw: id(n), fields: Vec::new() }).collect(),
            interactions,
        }
    }

    /// What is held out may say anything: training rows, of which all rankers are made, stay the
    /// same. Where everything is to be learnt from, it does count.
    #[test]
    fn held_out_rows_have_no_part_in_training() {
        for by in [By::Time, By::UserTime, By::Last, By::Chance, By::UserChance, By::Items, By::Users] {
            let split = SplitSettings { by, train: 0.6, valid: Some(0.2), ..SplitSettings::default() };
            let settings = DataSettings { min_history: 1, split, threshold: Some(3.0), ..DataSettings::default() };
            let dataset = log();
            let samples = build_samples(&dataset, &settings).unwrap();
            let mut other = samples.clone();
            let held: Vec<Sample> = [Part::Valid, Part::Test].iter().flat_map(|p| samples.part(*p)).copied().collect();
            assert!(held.len() > 50, "{by:?}");
            for sample in held {
                let timeline = &mut other.timelines[sample.user.at()];
                for row in timeline.iter_mut().filter(|row| row.item == sample.item) {
                    row.rating = 6.0 - row.rating;
                }
            }
            let fit = |samples: &Samples| Ratings::training(&dataset, samples, 3.0);
            assert_eq!(fit(&samples), fit(&other), "{by:?}");
            assert!(fit(&samples).pairs().len() > 100, "{by:?}");
            assert_ne!(Ratings::all(&dataset, &samples, 3.0), Ratings::all(&dataset, &other, 3.0), "{by:?}");
        }
    }

    #[test]
    fn the_last_row_of_an_item_counts_and_what_weighs_nothing_is_left_out() {
        let row = |item, rating| Rated { item: ItemIdx(item), rating, time: 0 };
        let history = [row(3, 5.0), row(1, 2.0), row(2, 4.0), row(3, 1.0)];
        assert_eq!(Weight::Like(3.0).of(&history), [(2, 1.0)]);
        assert_eq!(Weight::Scale(1.0, 5.0).of(&history), [(1, 0.25), (2, 0.75)]);
        assert_eq!(Weight::Scale(1.0, 1.0).of(&history).len(), 3, "a log without ratings weighs all the same");
    }
}
