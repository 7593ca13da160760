//! What finished runs differ by from the first of them.

use std::path::Path;

use serde::Serialize;

use crate::eval::{Compared, p_value};
use crate::pipeline::results::Results;
use crate::pipeline::scores::{self, Differences};

/// A run against the first one.
#[derive(Debug, Serialize)]
pub struct Against {
    /// Run folder of the first.
    first: String,
    /// Run folder of the other.
    second: String,
    /// What they differ by; an explanation where they cannot be compared.
    found: std::result::Result<Differences, String>,
}

/// Every later run against the first. What keeps two from being compared is told in its place.
pub fn of(finished: &[(String, &Results)]) -> Vec<Against> {
    let Some(((first, base), others)) = finished.split_first() else { return Vec::new() };
    // The tables were made with these; those of the first run hold for all.
    let settings = base.tables.first().map(|s| s.table.settings.clone()).unwrap_or_default();
    let cold = |results: &Results| results.tables.first().is_some_and(|section| section.table.items.is_some());
    let rows = scores::read(Path::new(first));
    let compared = others.iter().map(|(second, results)| {
        let by_item = cold(base) && cold(results);
        let found = match (&rows, scores::read(Path::new(second))) {
            (Ok(rows), Ok(others)) => scores::differences(rows, &others, by_item, &settings).map_err(|e| e.to_string()),
            (Err(e), _) => Err(e.to_string()),
            (_, Err(e)) => Err(e.to_string()),
        };
        Against { first: first.clone(), second: second.clone(), found }
    });
    compared.collect()
}

impl Against {
    /// For people.
    pub fn text(&self) -> String {
        let head = format!("{} minus {}", self.second, self.first);
        let found = match &self.found {
            Ok(found) => found,
            Err(why) => return format!("{head}: {why}"),
        };
        if found.rows == 0 {
            return format!("{head}: no test row is in both");
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["model", "rows", "AUC", "p", "log loss", "p"]);
        let of = |compared: &[Compared], metric: &str| {
            let found = compared.iter().find(|c| c.metric == metric);
            let difference = found.map_or("n/a".into(), |c| match (c.low, c.high) {
                (Some(low), Some(high)) => format!("{:+.4} [{low:+.4}, {high:+.4}]", c.difference),
                _ => format!("{:+.4}", c.difference),
            });
            [difference, p_value(found.and_then(|c| c.p_holm))]
        };
        for model in &found.models {
            let [[auc, auc_p], [loss, loss_p]] = [of(&model.metrics, "auc"), of(&model.metrics, "log_loss")];
            table.add_row([model.name.clone(), model.rows.to_string(), auc, auc_p, loss, loss_p]);
        }
        let [first, second] = found.alone;
        let alone = match (first, second) {
            (0, 0) => String::new(),
            _ => format!(" {first} rows of the first and {second} of the second stand alone and are left out."),
        };
        let fewer = if found.models.iter().any(|model| model.rows < found.rows) {
            " A model that is on fewer of them is compared on those."
        } else {
            ""
        };
        let by = if found.by_item { "user and item" } else { "user" };
        format!(
            "{head}\n{table}\n{} rows of {} users that both have.{fewer} 95 % intervals and two-sided p clustered by \
             {by}, p adjusted by Holm for the models.{alone}",
            found.rows, found.users
        )
    }
}
