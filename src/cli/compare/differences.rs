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
    let rows = scores::read(Path::new(first));
    let compared = others.iter().map(|(second, _)| {
        let found = match (&rows, scores::read(Path::new(second))) {
            (Ok(rows), Ok(others)) => scores::differences(rows, &others, &settings).map_err(|e| e.to_string()),
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
        table.set_header(["model", "AUC", "p", "log loss", "p"]);
        let of = |compared: &[Compared], metric: &str| {
            let found = compared.iter().find(|c| c.metric == metric);
            let difference = found.map_or("n/a".into(), |c| match (c.low, c.high) {
                (Some(low), Some(high)) => format!("{:+.4} [{low:+.4}, {high:+.4}]", c.difference),
                _ => format!("{:+.4}", c.difference),
            });
            [difference, p_value(found.and_then(|c| c.p_holm))]
        };
        for (name, compared) in &found.models {
            let [[auc, auc_p], [loss, loss_p]] = [of(compared, "auc"), of(compared, "log_loss")];
            table.add_row([name.clone(), auc, auc_p, loss, loss_p]);
        }
        let [first, second] = found.alone;
        let alone = match (first, second) {
            (0, 0) => String::new(),
            _ => format!(" {first} rows of the first and {second} of the second stand alone and are left out."),
        };
        format!(
            "{head}\n{table}\n{} rows of {} users that both have. 95 % intervals and two-sided p clustered by user, p \
             adjusted by Holm for the models.{alone}",
            found.rows, found.users
        )
    }
}
