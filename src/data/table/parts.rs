//! Where the parts of a split lie that a table brings: files of their own, or a column.

use super::files::{self, File, Role, find};
use crate::data::split::By;
use crate::data::{DataSettings, Part, source};
use crate::error::Result;
use crate::monitor::Monitor;

/// The files of ratings, each with its part; without parts, all of them.
///
/// Files are named by the recipe (`data.table.ratings`, `valid`, `test`), or they lie beside a file
/// of ratings that has `train` in its name: `M.train.csv`, `M.valid.csv`, `M.test.csv`.
///
/// # Errors
/// A file that is not there.
pub fn files(settings: &DataSettings, monitor: &dyn Monitor) -> Result<Vec<(Option<Part>, File)>> {
    let (folder, table) = (settings.path.as_path(), &settings.table);
    let mut all = Vec::new();
    let mut add = |part: Option<Part>, named: &str, key: &str| -> Result<()> {
        all.extend(find(folder, named, key)?.into_iter().map(|file| (part, file)));
        Ok(())
    };
    let beside = |part: Part| sibling(settings, part);
    if !table.query.is_empty() {
        // Rows of a query may have their parts in a column.
        all.extend(files::of(settings, Role::Ratings, monitor)?.into_iter().map(|file| (None, file)));
    } else if !table.test.is_empty() {
        add(Some(Part::Train), &table.ratings, "ratings")?;
        add(Some(Part::Test), &table.test, "test")?;
        if !table.valid.is_empty() {
            add(Some(Part::Valid), &table.valid, "valid")?;
        }
    } else if let (true, Some(test)) = (matches!(settings.split.by, By::Auto | By::Given), beside(Part::Test)) {
        let valid = beside(Part::Valid);
        add(Some(Part::Train), &table.ratings, "ratings")?;
        add(Some(Part::Test), &test, "test")?;
        let mut names = test;
        if let Some(valid) = valid {
            add(Some(Part::Valid), &valid, "valid")?;
            names = format!("{valid} and {names}");
        }
        monitor.warn(
            &format!("{names} beside {}: they are taken for the parts of the split", table.ratings),
            "if they are not, set data.split.by, e.g. to \"time\"; data.table.test and data.table.valid name such files",
        );
    } else {
        add(None, &table.ratings, "ratings")?;
    }
    Ok(all)
}

/// The name of a part's file beside one that has `train` in its name, if it is there.
fn sibling(settings: &DataSettings, part: Part) -> Option<String> {
    let (folder, table) = (settings.path.as_path(), &settings.table);
    if !table.part.is_empty() || !source::is_folder(folder) {
        return None;
    }
    let (before, word, after) = around_train(&table.ratings)?;
    // Written as `train` is: Train and Test, TRAIN and TEST.
    let written = |part: &str| match word.as_bytes() {
        [first, ..] if first.is_ascii_lowercase() => part.to_owned(),
        [_, second, ..] if second.is_ascii_uppercase() => part.to_uppercase(),
        _ => part[..1].to_uppercase() + &part[1..],
    };
    let words: &[&str] = match part {
        Part::Train => &[],
        Part::Valid => &["valid", "validation", "val", "dev"],
        Part::Test => &["test"],
    };
    words.iter().map(|word| format!("{before}{}{after}", written(word))).find(|name| {
        let there = source::locate(folder, name);
        there.is_file() || source::exists(&there)
    })
}

/// What stands before the word `train` in a name, the word, and what stands behind it.
pub fn around_train(name: &str) -> Option<(&str, &str, &str)> {
    const WORD: &str = "train";
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let lower = name.to_ascii_lowercase();
    let places: Vec<usize> = lower.match_indices(WORD).map(|(at, _)| at).collect();
    let parts = |at: usize| (&name[..at], &name[at..at + WORD.len()], &name[at + WORD.len()..]);
    let alone =
        |(before, _, after): &(&str, &str, &str)| !inside(before.chars().next_back()) && !inside(after.chars().next());
    places.into_iter().rev().map(parts).find(alone)
}

#[cfg(test)]
mod tests {
    use super::around_train;

    #[test]
    fn train_is_a_word_of_a_name() {
        assert_eq!(around_train("M.train.csv"), Some(("M.", "train", ".csv")));
        assert_eq!(around_train("ratings_train.parquet"), Some(("ratings_", "train", ".parquet")));
        assert_eq!(around_train("é Train.csv"), Some(("é ", "Train", ".csv")));
        assert_eq!(around_train("train.csv.gz"), Some(("", "train", ".csv.gz")));
        assert_eq!(around_train("train/part-0.csv"), Some(("", "train", "/part-0.csv")));
        assert_eq!((around_train("trains.csv"), around_train("ratings.csv")), (None, None));
    }
}
