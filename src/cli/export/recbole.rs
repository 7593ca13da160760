//! RecBole's atomic files: interactions of the three parts as they are, items, a configuration.

use super::folder::{Folder, Labelled, word};
use crate::data::Part;
use crate::error::Result;

/// Writes the files; returns the number of rows.
pub fn write(all: &Labelled<'_>, folder: &Folder) -> Result<u64> {
    let name = folder.name();
    let mut rows = 0;
    for part in Part::ALL {
        let head = "row_id:float\tuser_id:token\titem_id:token\tlabel:float\ttimestamp:float\titem_id_list:token_seq\t\
                    rating_list:float_seq\titem_length:float";
        let line = |(row, sample)| {
            let sample: &crate::data::Sample = sample;
            let shown = all.history(sample);
            let items: Vec<String> = shown.iter().map(|rated| word(all.item(rated.item), &[])).collect();
            let ratings: Vec<String> = shown.iter().map(|rated| rated.rating.to_string()).collect();
            format!(
                "{row}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                word(all.user(sample), &[]),
                word(all.item(sample.item), &[]),
                all.label(row),
                sample.time,
                items.join(" "),
                ratings.join(" "),
                shown.len()
            )
        };
        let lines = std::iter::once(head.to_string()).chain(all.part(part).map(line));
        rows += folder.lines(&format!("{name}.{}.inter", part.name()), lines)? - 1;
    }
    let item = |item: &crate::data::Item| {
        let genres: Vec<String> = item.genres.iter().map(|genre| word(genre, &[])).collect();
        format!("{}\t{}", word(&item.raw.0, &[]), genres.join(" "))
    };
    let head = "item_id:token\tgenres:token_seq".to_string();
    folder.lines(&format!("{name}.item"), std::iter::once(head).chain(all.dataset.items.iter().map(item)))?;
    folder.lines("recbole.yaml", [configuration(all, folder)])?;
    Ok(rows)
}

fn configuration(all: &Labelled<'_>, folder: &Folder) -> String {
    format!(
        r#"# The rows of the run {run} for RecBole 1.2, in the parts that the run has. {about}
#
#   from recbole.quick_start import run_recbole
#   run_recbole(model="DIN", dataset="{name}", config_file_list=["{target}/recbole.yaml"])
#
# `row_id` passes through to the predictions: write `row,p` of validation and test rows, and name the
# file in a recipe as experts.NAME.file.
data_path: "{parent}"
benchmark_filename: [train, valid, test]
field_separator: "\t"
seq_separator: " "
USER_ID_FIELD: user_id
ITEM_ID_FIELD: item_id
LABEL_FIELD: label
TIME_FIELD: timestamp
ITEM_LIST_LENGTH_FIELD: item_length
MAX_ITEM_LIST_LENGTH: {most}
alias_of_item_id: [item_id_list]
load_col:
  inter: [row_id, user_id, item_id, label, timestamp, item_id_list, item_length]
  item: [item_id, genres]
numerical_features: []
eval_args: {{split: null, order: TO, group_by: null, mode: labeled}}
train_neg_sample_args: null
metrics: [AUC, LogLoss]
valid_metric: AUC"#,
        run = all.name,
        parent = folder.parent().display(),
        name = folder.name(),
        target = folder.target().display(),
        about = all.about_labels(),
        most = all.most,
    )
}
