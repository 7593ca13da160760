//! CSV files for FuxiCTR: a file a part, lists joined by `^`, a configuration of the data set.

use super::folder::{Folder, Labelled, word};
use crate::data::Part;
use crate::error::Result;

/// What joins the entries of a list.
const JOINS: char = '^';

/// Writes the files; returns the number of rows.
pub fn write(all: &Labelled<'_>, folder: &Folder) -> Result<u64> {
    let mut rows = 0;
    for part in Part::ALL {
        let line = |(row, sample): (usize, &crate::data::Sample)| {
            let own = |id: &str| word(id, &[JOINS, ',', '"']);
            let list = |words: Vec<String>| words.join(&JOINS.to_string());
            format!(
                "{row},{},{},{},{},{},{}",
                own(all.user(sample)),
                own(all.item(sample.item)),
                list(all.dataset.items[sample.item.at()].genres.iter().map(|genre| own(genre)).collect()),
                list(all.history(sample).iter().map(|rated| own(all.item(rated.item))).collect()),
                list(all.history(sample).iter().map(|rated| rated.rating.to_string()).collect()),
                all.label(row)
            )
        };
        let head = "row,user_id,item_id,genres,history,history_ratings,label".to_string();
        rows +=
            folder.lines(&format!("{}.csv", part.name()), std::iter::once(head).chain(all.part(part).map(line)))? - 1;
    }
    folder.lines("dataset_config.yaml", [configuration(all, folder)])?;
    Ok(rows)
}

fn configuration(all: &Labelled<'_>, folder: &Folder) -> String {
    format!(
        r#"# The rows of the run {run} for FuxiCTR, in the parts that the run has. {about}
{name}:
    data_root: "{parent}"
    data_format: csv
    train_data: "{target}/train.csv"
    valid_data: "{target}/valid.csv"
    test_data: "{target}/test.csv"
    min_categr_count: 1
    feature_cols:
        - {{name: [user_id, item_id], active: true, dtype: str, type: categorical}}
        - {{name: genres, active: true, dtype: str, type: sequence, splitter: "^", max_len: 10}}
        - {{name: history, active: true, dtype: str, type: sequence, splitter: "^", max_len: {most},
           share_embedding: item_id}}
    label_col: {{name: label, dtype: float}}"#,
        run = all.name,
        name = folder.name(),
        parent = folder.parent().display(),
        target = folder.target().display(),
        about = all.about_labels(),
        most = all.most,
    )
}
