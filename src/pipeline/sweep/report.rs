//! A sweep as a table for people.

use rallrec_events::metric::{METRICS, Metric, Shown};

use super::{Swept, Tried, name};
use crate::eval::{Estimate, Metrics, Row, p_value};
use crate::pipeline::progress::clock;

fn shown(estimate: Option<Estimate>) -> String {
    let Some(e) = estimate else { return "n/a".into() };
    match (e.low, e.high) {
        (Some(low), Some(high)) => format!("{:.4} [{low:.4}, {high:.4}]", e.value),
        _ => format!("{:.4}", e.value),
    }
}

impl Swept {
    /// The table, what was chosen and by what.
    pub fn render(&self) -> String {
        let keys: Vec<&str> =
            self.trials.first().map_or_else(Vec::new, |t| t.values.iter().map(|(k, _)| k.as_str()).collect());
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        let metrics = self.columns();
        let mut header: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        header.extend(metrics.iter().map(|m| m.1.clone()));
        header.extend(self.is_tested().then(|| "p".to_owned()));
        header.extend(["done for it".into(), "time".into(), String::new()]);
        table.set_header(header);
        for (n, trial) in self.trials.iter().enumerate() {
            let mut cells: Vec<String> = trial.values.iter().map(|(_, value)| value.clone()).collect();
            match &trial.failed {
                Some(_) => cells.extend(metrics.iter().map(|_| "failed".to_owned())),
                None => cells.extend(metrics.iter().map(|(metric, _)| self.value(trial, metric))),
            }
            if self.is_tested() {
                cells.push(self.p(trial));
            }
            let done = if trial.done.is_empty() { "nothing".into() } else { trial.done.join(", ") };
            let chosen = if self.chosen == Some(n) { "chosen".to_owned() } else { String::new() };
            let fate = trial.left_at.as_ref().map_or(chosen, |budget| format!("left at {budget}"));
            cells.extend([done, clock(trial.seconds), fate]);
            table.add_row(cells);
        }
        let mut out = format!("{table}\n\n{}\n", self.told());
        for trial in self.trials.iter().filter(|t| t.failed.is_some()) {
            let why = trial.failed.as_deref().unwrap_or_default().replace('\n', " ");
            out.push_str(&format!("failed: {}: {why}\n", name(&trial.values)));
        }
        let values: Vec<f64> = self.trials.iter().filter_map(|t| t.value).collect();
        if values.len() > 1 && values.iter().all(|v| *v == values[0]) {
            out.push_str("Every trial says the same: look whether another key switches these off.\n");
        }
        if self.trials.iter().any(|t| t.left_at.is_some()) {
            out.push_str(
                "Trials that were left have the value of the budget they were left at, which chose nothing.\n",
            );
        }
        if self.left > 0 {
            out.push_str(&format!("{} trials were not begun: the budget was spent.\n", self.left));
        }
        out
    }

    /// What was chosen, by what.
    fn told(&self) -> String {
        let Some(chosen) = self.chosen else { return "Nothing is chosen yet.".into() };
        let rows = self.tables.first().map_or_else(
            || "the validation part".to_owned(),
            |table| match table.users {
                Some(users) => format!("{} validation rows of {users} users", table.n),
                None => format!("{} validation rows", table.n),
            },
        );
        let title = self.titled(&self.metric);
        let mut out = format!(
            "Chosen: {}, by the {title} of '{}' on {rows}; test rows choose nothing.",
            name(&self.trials[chosen].values),
            self.judge
        );
        if self.is_tested() {
            out.push_str(&format!(
                "\np: {title} against the chosen trial, over users, adjusted by Holm. The best of several trials looks \
                 better on the rows that chose it than it is."
            ));
        }
        out
    }

    fn titled(&self, name: &str) -> String {
        let list = name.split_once('@').map_or_else(String::new, |(_, n)| format!("@{n}"));
        Metric::named(name).map_or_else(|| name.to_owned(), |m| format!("{}{list}", m.title))
    }

    /// Name and title of the metrics shown: the one that decides first.
    fn columns(&self) -> Vec<(String, String)> {
        let mut names = vec![self.metric.clone()];
        if self.ranking.is_empty() {
            names.extend(METRICS.iter().filter(|m| m.shown < Shown::Wide).map(|m| m.name.to_owned()));
        } else {
            names.extend(["recall@10".to_owned(), "ndcg@10".to_owned()]);
        }
        let mut seen: Vec<(String, String)> = Vec::new();
        for name in names {
            if seen.iter().all(|(other, _)| *other != name) {
                let title = self.titled(&name);
                seen.push((name, title));
            }
        }
        seen
    }

    fn row(&self, trial: &Tried) -> Option<&Row> {
        let name = name(&trial.values);
        self.tables.iter().flat_map(|table| &table.rows).find(|row| row.name == name)
    }

    fn value(&self, trial: &Tried, metric: &str) -> String {
        let of_row = self.row(trial).map(|row| shown(Metrics::get(&row.metrics, metric)));
        let of_ranking = || {
            let name = name(&trial.values);
            let ranked = self.ranking.iter().find(|ranked| ranked.name == name)?;
            let (_, value, low, high) = ranked.metrics.iter().find(|m| m.0 == metric)?;
            Some(shown(Some(Estimate { value: *value, low: Some(*low), high: Some(*high) })))
        };
        // Before the tables are made there is the deciding value alone.
        let own = || trial.value.filter(|_| metric == self.metric).map(|v| format!("{v:.4}"));
        of_row.or_else(of_ranking).or_else(own).unwrap_or_default()
    }

    fn is_tested(&self) -> bool {
        matches!(&self.tables[..], [one] if one.reference.is_some() && one.rows.len() > 1)
    }

    fn p(&self, trial: &Tried) -> String {
        let Some(row) = self.row(trial) else { return String::new() };
        match row.p_vs.iter().find(|c| c.metric == self.metric) {
            None if row.p_vs.is_empty() => "-".into(),
            found => p_value(found.and_then(|c| c.p_holm.or(c.p))),
        }
    }
}
