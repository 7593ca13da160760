use std::collections::HashSet;

use proptest::prelude::*;

use super::{By, HeldOut, SplitSettings, held_out};
use crate::Silent;
use crate::data::dataset::{Dataset, Interaction, Item, Part, Samples, User};
use crate::data::leaks::{self, Allowed};
use crate::data::{DataSettings, GraphEdges, ItemIdx, RawId, Repeats, Targets, UserIdx, build_samples, graph_edges};

const DEALT: [By; 7] = [By::UserTime, By::Last, By::Chance, By::UserChance, By::Items, By::Users, By::Given];

/// A log of rows (user, item, rating, time).
fn dataset(rows: &[(u32, u32, u8, i64)], has_times: bool, parts: bool) -> Dataset {
    let (users, items) = rows.iter().fold((0, 0), |(u, i), row| (u.max(row.0 + 1), i.max(row.1 + 1)));
    let id = |n: u32| RawId(n.to_string());
    let mut interactions: Vec<Interaction> = rows
        .iter()
        .map(|&(user, item, rating, time)| Interaction {
            user: UserIdx(user),
            item: ItemIdx(item),
            rating: f32::from(rating),
            time: if has_times { time } else { 0 },
            part: parts.then(|| Part::ALL[(user + item) as usize % 3]),
        })
        .collect();
    interactions.sort_by(crate::data::sets::order);
    Dataset {
        name: "table".into(),
        noun: "item".into(),
        scale: (1.0, 5.0),
        has_times,
        items: (0..items)
            .map(|n| Item { raw: id(n), title: format!("{n}"), genres: Vec::new(), fields: Vec::new() })
            .collect(),
        users: (0..users).map(|n| User { raw: id(n), fields: Vec::new() }).collect(),
        interactions,
    }
}

fn settings(by: By) -> DataSettings {
    let split = SplitSettings { by, train: 0.6, valid: (by != By::Given).then_some(0.2), ..SplitSettings::default() };
    DataSettings { min_history: 1, split, threshold: Some(3.0), ..DataSettings::default() }
}

/// A dense log, so that every part has rows by every rule.
fn dense(has_times: bool) -> Dataset {
    let rows: Vec<_> = (0..30u32)
        .flat_map(|u| {
            (0..20u32).map(move |n| (u, (u * 7 + n * 3) % 40, (1 + (u + n) % 5) as u8, i64::from(n * 31 + u)))
        })
        .collect();
    dataset(&rows, has_times, true)
}

fn checked(samples: &Samples, edges: &[(UserIdx, ItemIdx)]) {
    let inputs = leaks::Inputs { samples, edges: Some(edges), selection: None, allowed: Allowed::default() };
    let report = leaks::check(inputs, &Silent).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((report.target_in_history, report.valid_edges, report.test_edges), (0, 0, 0));
}

/// All rows of a part as pairs.
fn pairs(samples: &Samples, part: Part) -> HashSet<(u32, u32)> {
    let dealt = samples.dealt.as_ref().unwrap();
    let of = |(user, timeline): (usize, &Vec<_>)| {
        let rows: &[crate::data::Rated] = &timeline[dealt.range(UserIdx(user as u32), part, timeline.len())];
        rows.iter().map(|row| (user as u32, row.item.0)).collect::<Vec<_>>()
    };
    samples.timelines.iter().enumerate().flat_map(of).collect()
}

proptest! {
    #![proptest_config(crate::testing::cases(64))]

    #[test]
    fn parts_are_disjoint_whole_and_free_of_leaks(
        rows in prop::collection::vec((0u32..9, 0u32..12, 1u8..6, 0i64..40), 60..200),
        which in 0usize..DEALT.len(),
        times in any::<bool>(),
        seed in 0u64..5,
    ) {
        let by = DEALT[which];
        let times = times || by.needs_times();
        let dataset = dataset(&rows, times, true);
        let settings = DataSettings { seed, ..settings(by) };
        // A part may come out empty where there are few rows.
        let Ok(samples) = build_samples(&dataset, &settings) else { return Ok(()) };
        checked(&samples, &graph_edges(&dataset, &samples, GraphEdges::TrainSplit));
        let [train, valid, test] = Part::ALL.map(|part| pairs(&samples, part));
        let all: HashSet<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        prop_assert!(train.is_disjoint(&valid) && train.is_disjoint(&test) && valid.is_disjoint(&test));
        prop_assert_eq!(train.len() + valid.len() + test.len(), all.len(), "every pair has one part");
        prop_assert_eq!(&build_samples(&dataset, &settings).unwrap(), &samples, "a draw repeats");
        for part in [Part::Valid, Part::Test] {
            for sample in samples.part(part) {
                let history: HashSet<_> = samples.history(sample).iter().map(|row| (sample.user.0, row.item.0)).collect();
                prop_assert!(!samples.dealt.as_ref().unwrap().frozen || history.is_subset(&train), "{by:?}: histories are training rows");
            }
            for HeldOut { user, history, seen, relevant } in held_out(&samples, part, 3.0) {
                let met: std::collections::BTreeSet<_> = history.iter().map(|row| row.item.0).collect();
                prop_assert!(met.into_iter().eq(seen.iter().copied()));
                prop_assert!(seen.is_sorted_by(|a, b| a < b) && !relevant.is_empty());
                let own = if part == Part::Valid { &valid } else { &test };
                for item in relevant {
                    prop_assert!(own.contains(&(user.0, item.0)) && !seen.contains(&item.0));
                }
            }
        }
        let of = |pairs: &HashSet<(u32, u32)>, n: usize| pairs.iter().map(|p| [p.0, p.1][n]).collect::<HashSet<_>>();
        match by {
            By::Items => prop_assert!(of(&train, 1).is_disjoint(&of(&test, 1)) && of(&train, 1).is_disjoint(&of(&valid, 1))),
            By::Users => prop_assert!(of(&train, 0).is_disjoint(&of(&test, 0)) && of(&train, 0).is_disjoint(&of(&valid, 0))),
            _ => {}
        }
    }
}

#[test]
fn sizes_are_the_shares() {
    for (by, times) in [(By::Chance, false), (By::UserChance, false), (By::UserTime, true), (By::UserChance, true)] {
        let samples = build_samples(&dense(times), &settings(by)).unwrap();
        let sizes = Part::ALL.map(|part| pairs(&samples, part).len());
        assert_eq!(sizes, [360, 120, 120], "{by:?}");
    }
    let samples = build_samples(&dense(true), &settings(By::Last)).unwrap();
    assert_eq!(Part::ALL.map(|part| pairs(&samples, part).len()), [540, 30, 30]);
    for (by, n, want) in [(By::Items, 1, [24, 8, 8]), (By::Users, 0, [18, 6, 6])] {
        let samples = build_samples(&dense(false), &settings(by)).unwrap();
        let of = |part| pairs(&samples, part).iter().map(|p| [p.0, p.1][n]).collect::<HashSet<_>>().len();
        assert_eq!(Part::ALL.map(of), want, "{by:?}");
    }
}

#[test]
fn seeds_draw_other_rows_and_rows_of_a_user_by_time_are_the_latest() {
    let with = |by, seed| build_samples(&dense(true), &DataSettings { seed, ..settings(by) }).unwrap();
    for by in [By::Chance, By::UserChance, By::Items, By::Users] {
        assert_ne!(pairs(&with(by, 1), Part::Test), pairs(&with(by, 2), Part::Test), "{by:?}");
    }
    let samples = with(By::UserTime, 1);
    for (user, timeline) in samples.timelines.iter().enumerate() {
        let range = samples.dealt.as_ref().unwrap().range(UserIdx(user as u32), Part::Test, timeline.len());
        assert!(timeline[..range.start].iter().all(|row| row.time <= timeline[range.start].time));
    }
    // A history by the order of rows holds what came before, the rows of validation too.
    let last = samples.part(Part::Test).iter().max_by_key(|s| s.position).unwrap();
    assert_eq!(samples.history(last).len(), last.position as usize);
}

#[test]
fn a_given_split_keeps_its_parts_and_a_pair_that_is_there_twice_trains() {
    let mut log = dense(false);
    let doubled = *log.interactions.iter().find(|row| row.part == Some(Part::Train)).unwrap();
    log.interactions.push(Interaction { part: Some(Part::Test), ..doubled });
    let samples = build_samples(&log, &settings(By::Given)).unwrap();
    let auto = DataSettings { split: SplitSettings::default(), ..settings(By::Given) };
    assert_eq!(build_samples(&log, &auto).unwrap(), samples, "what brings its parts keeps them");
    assert!(pairs(&samples, Part::Train).contains(&(doubled.user.0, doubled.item.0)));
    let own = |part| log.interactions.iter().filter(move |row| row.part == Some(part)).count();
    assert_eq!(
        Part::ALL.map(|part| pairs(&samples, part).len()),
        [own(Part::Train), own(Part::Valid), own(Part::Test) - 1]
    );
    // A share for validation is taken from training rows, where none is given.
    log.interactions.retain(|row| row.part != Some(Part::Valid));
    let asked = SplitSettings { by: By::Given, ..SplitSettings::shares(0.8, 0.25) };
    let samples = build_samples(&log, &DataSettings { split: asked, ..settings(By::Given) }).unwrap();
    assert!(!pairs(&samples, Part::Valid).is_empty());
    checked(&samples, &graph_edges(&log, &samples, GraphEdges::TrainSplit));
}

#[test]
fn a_rule_that_the_data_cannot_follow_is_refused_by_its_key() {
    let refused =
        |dataset: &Dataset, settings: &DataSettings| build_samples(dataset, settings).unwrap_err().to_string();
    assert!(refused(&dense(false), &settings(By::Last)).contains("data.split.by"));
    let mut log = dense(true);
    log.interactions.iter_mut().for_each(|row| row.part = None);
    assert!(refused(&log, &settings(By::Given)).contains("data.table.part"));
    let last = DataSettings { targets: Targets::Last, ..settings(By::Chance) };
    assert!(refused(&log, &last).contains("data.targets"));
    let valid = SplitSettings { by: By::Given, ..SplitSettings::shares(0.8, 0.1) };
    assert!(refused(&dense(true), &DataSettings { split: valid, ..settings(By::Given) }).contains("data.split.valid"));
}

#[test]
fn what_is_not_dealt_out_as_it_says_is_a_leak() {
    let broken = |by: By, spoil: fn(&mut Samples)| {
        let mut samples = build_samples(&dense(true), &settings(by)).unwrap();
        spoil(&mut samples);
        let inputs = leaks::Inputs { samples: &samples, edges: None, selection: None, allowed: Allowed::default() };
        leaks::check(inputs, &Silent).map(|_| ()).map_err(|e| e.to_string())
    };
    for by in [By::UserTime, By::Chance, By::Items, By::Users] {
        assert_eq!(broken(by, |_| {}), Ok(()));
    }
    let later = |samples: &mut Samples| samples.dealt.as_mut().unwrap().ends[3][0] += 1;
    assert!(broken(By::UserTime, later).unwrap_err().contains("of another part"));
    let trained = |samples: &mut Samples| samples.timelines[0][0].item = samples.part(Part::Test)[0].item;
    assert!(broken(By::Items, trained).is_err());
    let edges = |samples: &Samples, part| {
        pairs(samples, part).iter().map(|&(u, i)| (UserIdx(u), ItemIdx(i))).collect::<Vec<_>>()
    };
    let samples = build_samples(&dense(true), &settings(By::UserChance)).unwrap();
    for part in [Part::Valid, Part::Test] {
        let held = edges(&samples, part);
        let inputs =
            leaks::Inputs { samples: &samples, edges: Some(&held), selection: None, allowed: Allowed::default() };
        assert!(leaks::check(inputs, &Silent).unwrap_err().to_string().contains("graph.edges"));
    }
}

#[test]
fn repeats_of_a_drawn_split_keep_targets_out_of_histories() {
    let mut log = dense(true);
    let more: Vec<Interaction> =
        log.interactions.iter().step_by(3).map(|row| Interaction { time: row.time + 500, ..*row }).collect();
    log.interactions.extend(more);
    log.interactions.sort_by(crate::data::sets::order);
    log.interactions.iter_mut().for_each(|row| row.part = None);
    for by in [By::Chance, By::UserChance, By::UserTime] {
        for repeats in [Repeats::Drop, Repeats::ExcludeTarget] {
            let samples = build_samples(&log, &DataSettings { repeats, ..settings(by) }).unwrap();
            checked(&samples, &graph_edges(&log, &samples, GraphEdges::TrainSplit));
        }
    }
}
