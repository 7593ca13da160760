//! Properties that hold for any ratings.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use proptest::prelude::*;
use rallrec::Silent;
use rallrec::data::{
    self, Core, DataSettings, Dataset, GraphEdges, Interaction, Item, ItemIdx, Kind, Part, RawId, Repeats, User,
    UserIdx, leaks,
};

type Row = (u32, u32, u8, i64);

/// Ratings of 8 users and 12 items within few seconds, so that ties and repeats are common.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0..8u32, 0..12u32, 1..=5u8, 0..40i64), 30..200)
}

fn unordered_dataset(rows: &[Row]) -> Dataset {
    let raw = |n: u32| RawId((n + 1).to_string());
    Dataset {
        name: "test".into(),
        noun: "movie".into(),
        scale: (1.0, 5.0),
        has_times: true,
        items: (0..12)
            .map(|i| Item { raw: raw(i), title: format!("T{i}"), genres: Vec::new(), fields: Vec::new() })
            .collect(),
        users: (0..8).map(|u| User { raw: raw(u), fields: Vec::new() }).collect(),
        interactions: rows
            .iter()
            .map(|&(u, i, r, time)| Interaction {
                user: UserIdx(u),
                item: ItemIdx(i),
                rating: f32::from(r),
                time,
                part: None,
            })
            .collect(),
    }
}

fn dataset(rows: &[Row]) -> Dataset {
    let mut dataset = unordered_dataset(rows);
    data::sets::sort(&mut dataset.interactions);
    dataset
}

fn policy() -> impl Strategy<Value = Repeats> {
    prop_oneof![Just(Repeats::Drop), Just(Repeats::ExcludeTarget), Just(Repeats::Keep)]
}

fn settings(repeats: Repeats, min_history: usize) -> DataSettings {
    DataSettings { repeats, min_history, threshold: Some(3.0), ..DataSettings::default() }
}

/// The largest k-core by the plainest means: drop one offending row at a time.
fn slow_core(rows: &[Interaction], k: usize) -> Vec<Interaction> {
    let mut rows = rows.to_vec();
    loop {
        let bad = rows.iter().position(|r| {
            rows.iter().filter(|o| o.user == r.user).count() < k || rows.iter().filter(|o| o.item == r.item).count() < k
        });
        match bad {
            Some(at) => drop(rows.remove(at)),
            None => return rows,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_core_is_a_fixed_point_and_the_largest(rows in rows(), k in 1..8u32) {
        let all = dataset(&rows).interactions;
        let core = Core::k(k).filter(&all);
        prop_assert_eq!(Core::k(k).filter(&core), core.clone());
        prop_assert_eq!(core, slow_core(&all, k as usize));
    }

    #[test]
    fn a_bounded_core_is_a_fixed_point_whatever_the_row_order(
        rows in rows(), shuffled in any::<prop::sample::Index>(), bounds in (0..6u32, 10..30u32, 0..6u32, 8..30u32)
    ) {
        let core = Core { user_min: bounds.0, user_max: bounds.1, item_min: bounds.2, item_max: bounds.3, ..Core::default() };
        let all = dataset(&rows).interactions;
        let kept = core.filter(&all);
        prop_assert_eq!(core.filter(&kept), kept.clone());
        let mut turned = all;
        let by = shuffled.index(turned.len());
        turned.rotate_left(by);
        let mut other = core.filter(&turned);
        data::sets::sort(&mut other);
        prop_assert_eq!(other, kept);
    }

    #[test]
    fn splits_are_disjoint_ordered_and_counted_down(rows in rows(), repeats in policy(), min in 1..4usize) {
        let Ok(samples) = data::build_samples(&dataset(&rows), &settings(repeats, min)) else { return Ok(()) };
        let n = samples.samples.len();
        let (train, valid) = (n * 8 / 10, n / 10);
        prop_assert_eq!(samples.split.train.clone(), 0..train);
        prop_assert_eq!(samples.split.valid.clone(), train..train + valid);
        prop_assert_eq!(samples.split.test.clone(), train + valid..n);
        prop_assert!(samples.samples.windows(2).all(|p| (p[0].time, p[0].user, p[0].item) <= (p[1].time, p[1].user, p[1].item)));
    }

    #[test]
    fn a_history_is_exactly_what_came_before_the_target(rows in rows(), repeats in policy(), min in 1..4usize) {
        let dataset = dataset(&rows);
        let Ok(samples) = data::build_samples(&dataset, &settings(repeats, min)) else { return Ok(()) };
        // The plainest way: walk the ordered rows and look back.
        let mut expected = Vec::new();
        let mut met: HashSet<(UserIdx, ItemIdx)> = HashSet::new();
        let mut kept: Vec<Interaction> = Vec::new();
        for row in &dataset.interactions {
            if repeats == Repeats::Drop && !met.insert((row.user, row.item)) {
                continue;
            }
            let before: Vec<_> = kept
                .iter()
                .filter(|r| r.user == row.user && (repeats != Repeats::ExcludeTarget || r.item != row.item))
                .map(|r| (r.item, r.rating, r.time))
                .collect();
            if before.len() >= min {
                expected.push((*row, before));
            }
            kept.push(*row);
        }
        prop_assert_eq!(samples.samples.len(), expected.len());
        for (sample, (row, before)) in samples.samples.iter().zip(expected) {
            prop_assert_eq!((sample.user, sample.item, sample.time), (row.user, row.item, row.time));
            prop_assert_eq!(sample.label, row.rating > 3.0);
            let history: Vec<_> = samples.history(sample).iter().map(|r| (r.item, r.rating, r.time)).collect();
            prop_assert!(history.iter().all(|h| (h.2, h.0) <= (sample.time, sample.item)));
            prop_assert_eq!(history, before);
        }
        let allowed = leaks::Allowed { target_in_history: repeats == Repeats::Keep, ..Default::default() };
        let edges = data::graph_edges(&dataset, &samples, GraphEdges::TrainSplit);
        let inputs = leaks::Inputs { samples: &samples, edges: Some(&edges), selection: Some(Part::Valid), allowed };
        prop_assert!(leaks::check(inputs, &Silent).is_ok());
        // Edges: each training target unless it returns later, and nothing later than the last of
        // them.
        let last = samples.part(Part::Train).last().expect("not empty");
        let later: HashSet<_> = samples.samples[samples.split.train.end..].iter().map(|s| (s.user, s.item)).collect();
        let mut want: Vec<_> = kept
            .iter()
            .filter(|r| (r.time, r.user, r.item) <= (last.time, last.user, last.item))
            .map(|r| (r.user, r.item))
            .filter(|pair| !later.contains(pair))
            .collect();
        want.sort();
        want.dedup();
        prop_assert_eq!(edges, want);
    }

    #[test]
    fn leave_one_out_holds_out_the_last(rows in rows()) {
        let dataset = dataset(&rows);
        let Ok(samples) = data::build_samples(&dataset, &settings(Repeats::Drop, 1)) else { return Ok(()) };
        let edges: HashSet<_> = data::graph_edges(&dataset, &samples, GraphEdges::LeaveOneOut).into_iter().collect();
        let mut count: HashMap<ItemIdx, usize> = HashMap::new();
        samples.timelines.iter().flatten().for_each(|r| *count.entry(r.item).or_default() += 1);
        for (u, timeline) in samples.timelines.iter().enumerate() {
            for (at, row) in timeline.iter().enumerate() {
                let held_out = at + 1 == timeline.len() && count[&row.item] >= 2;
                let expected = timeline.len() > 5 && !held_out;
                prop_assert_eq!(edges.contains(&(UserIdx(u as u32), row.item)), expected);
            }
        }
    }

    #[test]
    fn shuffled_files_give_identical_samples(
        rows in rows(), order in prop::collection::vec(any::<u64>(), 200), ids in prop::collection::vec(any::<u64>(), 12)
    ) {
        let write = |shuffled: bool| {
            let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            tables.insert("ratings.dat", rows.iter().map(|(u, i, r, t)| format!("{}::{}::{r}::{t}", u + 5, i * 3 + 2)).collect());
            tables.insert("movies.dat", (0..12).map(|i| format!("{}::M{i}::Drama", i * 3 + 2)).collect());
            tables.insert("users.dat", (0..8).map(|u| format!("{}::F::25::1::1", u + 5)).collect());
            let dir = tempfile::tempdir().expect("folder");
            for (name, lines) in tables {
                let keys = if name == "ratings.dat" { &order } else { &ids };
                let mut keyed: Vec<_> = lines.into_iter().zip(keys).collect();
                if shuffled {
                    keyed.sort_by_key(|(_, key)| **key);
                }
                let text: Vec<_> = keyed.into_iter().map(|(line, _)| line).collect();
                fs::write(dir.path().join(name), text.join("\n")).expect("writes");
            }
            data::load(Kind::ML_1M, dir.path(), &Silent).expect("loads")
        };
        let (a, b) = (write(false), write(true));
        prop_assert_eq!(&a, &b);
        // Ids are ordered as numbers: 11 comes after 5 and 8.
        prop_assert!(a.items.windows(2).all(|p| p[0].raw.number() < p[1].raw.number()));
        let settings = settings(Repeats::Drop, 1);
        prop_assert_eq!(data::build_samples(&a, &settings).ok(), data::build_samples(&b, &settings).ok());
    }

    #[test]
    fn stored_samples_read_back(rows in rows(), repeats in policy()) {
        let dataset = dataset(&rows);
        let Ok(samples) = data::build_samples(&dataset, &settings(repeats, 1)) else { return Ok(()) };
        let dir = tempfile::tempdir().expect("folder");
        samples.write(&dir.path().join("s")).expect("writes");
        dataset.write(&dir.path().join("d")).expect("writes");
        prop_assert!(data::Samples::read(&dir.path().join("s")).expect("reads") == samples);
        prop_assert!(Dataset::read(&dir.path().join("d")).expect("reads") == dataset);
    }
}
