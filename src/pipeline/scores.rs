//! `scores.jsonl`: what each model of the tables says of each test row. Two runs are compared by
//! it, on the rows that both have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::artifact::Artifact;
use super::rows::read_rows;
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::paired::{self, Compared};
use crate::eval::seeds::{OfSeed, OverSeeds};
use crate::eval::{EvalRows, EvalSettings};

/// The file's name, in the artifact of `evaluate` and in the run folder.
pub const FILE: &str = "scores.jsonl";

/// A test row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowScores {
    /// The user's id in the data.
    pub user: String,
    /// The item's id in the data.
    pub item: String,
    /// When the item was rated.
    pub time: i64,
    /// The user likes it.
    pub label: bool,
    /// Probability of that, by the model's name in the tables.
    pub p: BTreeMap<String, f64>,
}

/// Writes the file.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(folder: &Path, rows: &[RowScores]) -> Result<()> {
    let path = folder.join(FILE);
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).map_err(|e| Error::failed(path.display(), e))?;
        text.push(b'\n');
    }
    durable::write(&path, &text)
}

/// Copies the file out of the artifact of `evaluate` into the run folder, beside the results.
///
/// # Errors
/// An artifact without the file, a folder that cannot be written.
pub fn copy(evaluated: &Artifact, run: &Path) -> Result<()> {
    let path = evaluated.file(FILE);
    let bytes = std::fs::read(&path)
        .map_err(|e| Error::io(&path, "read the file", &e).next("run the stage again: --from evaluate"))?;
    durable::write(&run.join(FILE), &bytes)
}

/// The rows of a finished run.
///
/// # Errors
/// A run without the file, or a damaged one.
pub fn read(run: &Path) -> Result<Vec<RowScores>> {
    let path = run.join(FILE);
    if !path.exists() {
        return Err(Error::input(path.display(), "there is no such file")
            .next("run the recipe to its end again: finished stages are reused"));
    }
    read_rows(&path).map_err(|e| e.next("run the recipe again with --from evaluate"))
}

/// What two runs differ by, on the test rows that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differences {
    /// Rows that both have.
    pub rows: usize,
    /// Users they are of.
    pub users: usize,
    /// Rows of the first and of the second run that the other lacks.
    pub alone: [usize; 2],
    /// Intervals and tests go by user and item, not by user alone.
    pub by_item: bool,
    /// Every model that both have, in the order of their names.
    pub models: Vec<ModelDifferences>,
}

/// What a model differs by between two runs, on the rows that it has scored in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelDifferences {
    /// The tables' name of the model.
    pub name: String,
    /// Its rows.
    pub rows: usize,
    /// Users they are of.
    pub users: usize,
    /// Second run minus first.
    pub metrics: Vec<Compared>,
}

/// Compares the models that both runs have, each paired over the rows that it has scored in both,
/// clustered by user, or by user and item (`by_item`); p values are adjusted by Holm for the
/// models.
///
/// # Errors
/// Rows of one user, item and time with unlike labels: the runs are of other data.
pub fn differences(
    first: &[RowScores],
    second: &[RowScores],
    by_item: bool,
    settings: &EvalSettings,
) -> Result<Differences> {
    let name = |row: &RowScores| (row.user.clone(), row.item.clone(), row.time);
    let of_second: BTreeMap<_, &RowScores> = second.iter().map(|row| (name(row), row)).collect();
    let pairs: Vec<(&RowScores, &RowScores)> =
        first.iter().filter_map(|row| Some((row, *of_second.get(&name(row))?))).collect();
    if let Some((row, _)) = pairs.iter().find(|(a, b)| a.label != b.label) {
        let what = format!("user {} likes item {} in one run and not in the other", row.user, row.item);
        return Err(Error::input("compare", what).next("compare runs of the same data and data.threshold"));
    }
    let users = numbered(pairs.iter().map(|(row, _)| row.user.as_str()));
    let items = numbered(pairs.iter().map(|(row, _)| row.item.as_str()));
    let names: BTreeSet<&String> =
        pairs.iter().flat_map(|(a, b)| a.p.keys().filter(|n| b.p.contains_key(*n))).collect();
    let mut models = Vec::new();
    for name in names {
        let of = |row: &RowScores| row.p.get(name).copied();
        let scored = pairs.iter().enumerate().filter_map(|(at, (a, b))| Some((at, (of(a)?, of(b)?))));
        let (own, (a, b)): (Vec<usize>, (Vec<f64>, Vec<f64>)) = scored.unzip();
        let labels: Vec<bool> = own.iter().map(|&at| pairs[at].0.label).collect();
        let users: Vec<u32> = own.iter().map(|&at| users[at]).collect();
        let items: Vec<u32> = own.iter().filter(|_| by_item).map(|&at| items[at]).collect();
        let rows = EvalRows { labels: &labels, users: &users, items: &items };
        models.push(ModelDifferences {
            name: name.clone(),
            rows: own.len(),
            users: distinct(&users),
            metrics: paired::compare(rows, &a, &b, settings)?,
        });
    }
    paired::adjust(models.iter_mut().map(|model| model.metrics.as_mut_slice()));
    let alone = [first.len() - pairs.len(), second.len().saturating_sub(pairs.len())];
    Ok(Differences { rows: pairs.len(), users: distinct(&users), alone, by_item, models })
}

/// Each name's number, in the order of their first places.
fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut known = BTreeMap::new();
    let number = names.map(|name| {
        let next = known.len() as u32;
        *known.entry(name).or_insert(next)
    });
    number.collect()
}

fn distinct(numbers: &[u32]) -> usize {
    numbers.iter().collect::<BTreeSet<_>>().len()
}

/// What runs of several seeds say together: of the models that are on all of their test rows; and
/// where some are on fewer, of all models that are on those, for each such set of rows that has
/// both labels.
///
/// # Errors
/// Those of [`OverSeeds::of`].
pub fn over_seeds(runs: &[(u64, Vec<RowScores>)], settings: &EvalSettings) -> Result<Vec<OverSeeds>> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|(_, rows)| rows).flat_map(|row| row.p.keys()).collect();
    // Of each seed the places of a model's rows.
    let places = |name: &&String| -> Vec<Vec<usize>> {
        let of = |rows: &[RowScores]| (0..rows.len()).filter(|&at| rows[at].p.contains_key(*name)).collect();
        runs.iter().map(|(_, rows)| of(rows)).collect()
    };
    let sets: BTreeSet<Vec<Vec<usize>>> = names.iter().map(places).collect();
    let whole = |set: &&Vec<Vec<usize>>| set.iter().zip(runs).all(|(own, (_, rows))| own.len() == rows.len());
    let mut found = vec![over_rows(runs, settings)?];
    for set in sets.iter().filter(|set| !whole(set)) {
        let of = |((seed, rows), own): (&(u64, Vec<RowScores>), &Vec<usize>)| {
            (*seed, own.iter().map(|&at| rows[at].clone()).collect::<Vec<_>>())
        };
        let fewer: Vec<(u64, Vec<RowScores>)> = runs.iter().zip(set).map(of).collect();
        let both = |rows: &[RowScores]| [true, false].iter().all(|label| rows.iter().any(|row| row.label == *label));
        if fewer.iter().all(|(_, rows)| both(rows)) {
            found.push(over_rows(&fewer, settings)?);
        }
    }
    Ok(found)
}

/// The same of the models that are on all of these rows.
fn over_rows(runs: &[(u64, Vec<RowScores>)], settings: &EvalSettings) -> Result<OverSeeds> {
    let mut users: BTreeMap<&str, u32> = BTreeMap::new();
    for row in runs.iter().flat_map(|(_, rows)| rows) {
        let next = users.len() as u32;
        users.entry(&row.user).or_insert(next);
    }
    let of = |(seed, rows): &(u64, Vec<RowScores>)| {
        let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.p.keys()).collect();
        let whole = |name: &&String| rows.iter().all(|row| row.p.contains_key(*name));
        let models = names.into_iter().filter(whole);
        let column = |name: &String| (name.clone(), rows.iter().filter_map(|row| row.p.get(name).copied()).collect());
        OfSeed {
            seed: *seed,
            labels: rows.iter().map(|row| row.label).collect(),
            users: rows.iter().map(|row| users[row.user.as_str()]).collect(),
            models: models.map(column).collect(),
        }
    };
    let seeds: Vec<OfSeed> = runs.iter().map(of).collect();
    OverSeeds::of(&seeds, &settings.reference, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(p: impl Fn(usize) -> f64) -> Vec<RowScores> {
        let of = |i: usize| RowScores {
            user: format!("u{}", i / 4),
            item: format!("i{i}"),
            time: i as i64,
            label: i.is_multiple_of(3),
            p: [("merged".to_string(), p(i)), ("global mean".to_string(), 0.5)].into(),
        };
        (0..80).map(of).collect()
    }

    #[test]
    fn runs_are_paired_by_user_item_and_time_not_by_place() {
        let first = rows(|i| if i % 3 == 0 { 0.6 } else { 0.4 } + (i % 7) as f64 / 50.0);
        let mut second = rows(|i| (i % 7) as f64 / 50.0 + 0.4);
        second.reverse();
        second.truncate(70);
        let found = differences(&first, &second, false, &EvalSettings::default()).unwrap();
        assert_eq!((found.rows, found.users, found.alone), (70, 18, [10, 0]));
        let of = |name: &str| &found.models.iter().find(|m| m.name == name).unwrap().metrics;
        let auc = |name: &str| of(name).iter().find(|c| c.metric == "auc").unwrap();
        assert!(auc("merged").difference < -0.3 && auc("merged").p_holm.unwrap() < 0.001, "{:?}", of("merged"));
        assert!(auc("global mean").difference.abs() <= 1e-12);
        assert!((auc("global mean").p.unwrap() - 1.0).abs() <= 1e-12);
    }

    #[test]
    fn runs_of_other_data_are_refused() {
        let mut second = rows(|_| 0.5);
        second[3].label = !second[3].label;
        assert!(differences(&rows(|_| 0.5), &second, false, &EvalSettings::default()).is_err());
        let none = differences(&rows(|_| 0.5), &[], false, &EvalSettings::default()).unwrap();
        assert_eq!((none.rows, none.models.len()), (0, 0));
    }

    /// Rows of which every fourth user's have a second model.
    fn partly(shift: f64) -> Vec<RowScores> {
        let mut all = rows(|i| if i % 3 == 0 { 0.6 } else { 0.4 } + (i % 7) as f64 / 50.0);
        for (i, row) in all.iter_mut().enumerate().filter(|(i, _)| i % 16 < 4) {
            let said = if row.label { 0.05 } else { 0.0 } + 0.03 * (i % 5) as f64;
            row.p.insert("reasoning".into(), 0.4 + shift * said);
        }
        all
    }

    #[test]
    fn a_model_on_fewer_rows_is_compared_on_those_and_the_number_is_said() {
        let (first, second) = (partly(1.0), partly(-1.0));
        let found = differences(&first, &second, false, &EvalSettings::default()).unwrap();
        let told: Vec<_> = found.models.iter().map(|m| (m.name.as_str(), m.rows, m.users)).collect();
        assert_eq!(told, [("global mean", 80, 20), ("merged", 80, 20), ("reasoning", 20, 5)]);
        // As if there were no other rows.
        let alone = |rows: &[RowScores]| rows.iter().filter(|r| r.p.len() == 3).cloned().collect::<Vec<_>>();
        let apart = differences(&alone(&first), &alone(&second), false, &EvalSettings::default()).unwrap();
        let own = |found: &Differences| found.models[2].metrics[0].clone();
        assert_eq!((own(&found).difference, own(&found).p), (own(&apart).difference, own(&apart).p));
        assert!(own(&found).difference.abs() > 0.01);
    }

    #[test]
    fn rows_of_one_item_belong_together_where_that_is_asked() {
        // Eight items; the second run is right about five of them.
        let second = |i: usize| {
            let likes = i.is_multiple_of(3) == (i % 8 < 5);
            (if likes { 0.7 } else { 0.3 }) + 0.002 * (i % 11) as f64
        };
        let (mut first, mut second) = (rows(|_| 0.5), rows(second));
        for all in [&mut first, &mut second] {
            all.iter_mut().enumerate().for_each(|(i, row)| row.item = format!("i{}", i % 8));
        }
        let error = |by_item: bool| {
            let found = differences(&first, &second, by_item, &EvalSettings::default()).unwrap();
            assert_eq!(found.by_item, by_item);
            let auc = found.models[1].metrics.iter().find(|c| c.metric == "auc").unwrap().clone();
            auc.high.unwrap() - auc.low.unwrap()
        };
        assert!(error(true) > 2.0 * error(false), "{} {}", error(true), error(false));
    }

    #[test]
    fn seeds_are_told_over_all_rows_and_over_those_of_models_on_fewer() {
        let settings = EvalSettings { bootstrap: 50, ..EvalSettings::default() };
        let (mut first, mut second) = (partly(1.0), partly(-1.0));
        // On a single row there is nothing to tell.
        first[0].p.insert("ablation".into(), 0.5);
        second[0].p.insert("ablation".into(), 0.5);
        let found = over_seeds(&[(1, first), (2, second)], &settings).unwrap();
        assert_eq!(found.iter().map(|over| over.rows.clone()).collect::<Vec<_>>(), [[80, 80], [20, 20]]);
        let has = |over: &OverSeeds| over.lines.iter().any(|line| line.model == "reasoning");
        assert_eq!(found.iter().map(has).collect::<Vec<_>>(), [false, true]);
        assert!(found[1].to_markdown().contains("20 rows of 5 users"), "{}", found[1].to_markdown());
        let same = over_seeds(&[(1, rows(|_| 0.5)), (2, rows(|_| 0.4))], &settings).unwrap();
        assert_eq!(same.len(), 1);
    }
}
