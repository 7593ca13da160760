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
    /// Every model that both have, in the order of their names: second run minus first.
    pub models: Vec<(String, Vec<Compared>)>,
}

/// Compares the models that both runs have, paired over rows, clustered by user; p values are
/// adjusted by Holm for the models.
///
/// # Errors
/// Rows of one user, item and time with unlike labels: the runs are of other data.
pub fn differences(first: &[RowScores], second: &[RowScores], settings: &EvalSettings) -> Result<Differences> {
    let name = |row: &RowScores| (row.user.clone(), row.item.clone(), row.time);
    let of_second: BTreeMap<_, &RowScores> = second.iter().map(|row| (name(row), row)).collect();
    let pairs: Vec<(&RowScores, &RowScores)> =
        first.iter().filter_map(|row| Some((row, *of_second.get(&name(row))?))).collect();
    if let Some((row, _)) = pairs.iter().find(|(a, b)| a.label != b.label) {
        let what = format!("user {} likes item {} in one run and not in the other", row.user, row.item);
        return Err(Error::input("compare", what).next("compare runs of the same data and data.threshold"));
    }
    let labels: Vec<bool> = pairs.iter().map(|(row, _)| row.label).collect();
    let mut numbers = BTreeMap::new();
    let users: Vec<u32> = pairs
        .iter()
        .map(|(row, _)| {
            let next = numbers.len() as u32;
            *numbers.entry(row.user.as_str()).or_insert(next)
        })
        .collect();
    let rows = EvalRows { labels: &labels, users: &users };
    let names: BTreeSet<&String> =
        pairs.iter().flat_map(|(a, b)| a.p.keys().filter(|n| b.p.contains_key(*n))).collect();
    let mut models = Vec::new();
    for name in names {
        let of = |row: &RowScores| row.p.get(name).copied();
        let both: Option<(Vec<f64>, Vec<f64>)> = pairs.iter().map(|(a, b)| of(a).zip(of(b))).collect();
        // A model that has not scored all of these rows in both runs is left out.
        let Some((a, b)) = both else { continue };
        models.push((name.clone(), paired::compare(rows, &a, &b, settings)?));
    }
    paired::adjust(models.iter_mut().map(|(_, compared)| compared.as_mut_slice()));
    let alone = [first.len() - pairs.len(), second.len().saturating_sub(pairs.len())];
    Ok(Differences { rows: pairs.len(), users: numbers.len(), alone, models })
}

/// What runs of several seeds say together, for the models that are on all of their test rows.
///
/// # Errors
/// Those of [`OverSeeds::of`].
pub fn over_seeds(runs: &[(u64, Vec<RowScores>)], settings: &EvalSettings) -> Result<OverSeeds> {
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
        let found = differences(&first, &second, &EvalSettings::default()).unwrap();
        assert_eq!((found.rows, found.users, found.alone), (70, 18, [10, 0]));
        let of = |name: &str| &found.models.iter().find(|m| m.0 == name).unwrap().1;
        let auc = |name: &str| of(name).iter().find(|c| c.metric == "auc").unwrap();
        assert!(auc("merged").difference < -0.3 && auc("merged").p_holm.unwrap() < 0.001, "{:?}", of("merged"));
        assert!(auc("global mean").difference.abs() <= 1e-12);
        assert!((auc("global mean").p.unwrap() - 1.0).abs() <= 1e-12);
    }

    #[test]
    fn runs_of_other_data_are_refused() {
        let mut second = rows(|_| 0.5);
        second[3].label = !second[3].label;
        assert!(differences(&rows(|_| 0.5), &second, &EvalSettings::default()).is_err());
        let none = differences(&rows(|_| 0.5), &[], &EvalSettings::default()).unwrap();
        assert_eq!((none.rows, none.models.len()), (0, 0));
    }
}
