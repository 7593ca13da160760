//! The tables of the report, from `results.json` where it is there, else from the events.

use rallrec_events::RunView;
use rallrec_events::metric::{METRICS, Metric, Shown};
use rallrec_events::view::{Column, Row, State, Table};
use serde::Serialize;
use serde_json::Value;

use crate::plot::short;

/// A number with its interval.
#[derive(Debug, Serialize)]
pub struct CellView {
    /// Value, or "n/a".
    pub value: String,
    /// Interval, or empty.
    pub interval: String,
    /// p-value against the reference, or empty.
    pub p: String,
    /// It is the best of its column.
    pub best: bool,
}

/// One row.
#[derive(Debug, Serialize)]
pub struct RowView {
    /// Predictor.
    pub name: String,
    /// Scored rows.
    pub n: String,
    /// One a metric.
    pub cells: Vec<CellView>,
    #[serde(skip)]
    values: Vec<Option<f64>>,
}

/// One table.
#[derive(Debug, Serialize)]
pub struct TableView {
    /// Title.
    pub title: String,
    /// What the p-values compare with.
    pub reference: String,
    /// Column names.
    pub metrics: Vec<String>,
    /// Rows.
    pub rows: Vec<RowView>,
}

fn cell(value: Option<f64>, interval: Option<(f64, f64)>, p: Option<f64>) -> CellView {
    let interval = interval.filter(|(a, b)| a.is_finite() && b.is_finite() && a != b);
    CellView {
        value: value.filter(|v| v.is_finite()).map_or("n/a".into(), |v| format!("{v:.4}")),
        interval: interval.map_or(String::new(), |(a, b)| format!("{a:.3} to {b:.3}")),
        p: match p {
            Some(p) if p < 0.001 => "p < 0.001".into(),
            Some(p) => format!("p = {p:.3}"),
            None => String::new(),
        },
        best: false,
    }
}

/// Marks the best value of each column, and takes out the columns of unusual metrics that no row
/// has.
fn mark(mut table: TableView, metrics: &[&Metric]) -> TableView {
    for (column, metric) in metrics.iter().enumerate().rev() {
        if metric.shown == Shown::Wide && table.rows.iter().all(|r| r.values[column].is_none()) {
            table.metrics.remove(column);
            for row in &mut table.rows {
                row.cells.remove(column);
                row.values.remove(column);
            }
            continue;
        }
        let best = metric.best(table.rows.iter().filter_map(|r| r.values[column]));
        for row in &mut table.rows {
            let same = row.values[column] == best && best.is_some();
            if let Some(cell) = row.cells.get_mut(column) {
                cell.best = same && table.reference != row.name;
            }
        }
    }
    table
}

fn from_json(section: &Value) -> Option<TableView> {
    let table = section.get("table")?;
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let rows = table.get("rows")?.as_array()?.iter().map(|row| {
        let (mut cells, mut values) = (Vec::new(), Vec::new());
        for name in METRICS.map(|m| m.name) {
            let estimate = row.get("metrics").and_then(|m| m.get(name));
            let number = |key: &str| estimate.and_then(|e| e.get(key)).and_then(Value::as_f64);
            let against = row.get("p_vs").and_then(Value::as_array).into_iter().flatten();
            let p = against
                .filter(|c| c.get("metric").and_then(Value::as_str) == Some(name))
                .find_map(|c| c.get("p_holm").and_then(Value::as_f64).or_else(|| c.get("p").and_then(Value::as_f64)));
            cells.push(cell(number("value"), number("low").zip(number("high")), p));
            values.push(number("value"));
        }
        let n = row.get("n").and_then(Value::as_u64).map_or(String::new(), |n| n.to_string());
        RowView { name: text(row, "name"), n, cells, values }
    });
    Some(mark(
        TableView {
            title: text(section, "title"),
            reference: text(table, "reference"),
            metrics: METRICS.iter().map(|m| m.title.to_string()).collect(),
            rows: rows.collect(),
        },
        &METRICS,
    ))
}

fn from_event(table: &Table) -> TableView {
    let columns = table.columns();
    let row = |row: &Row| {
        let (mut cells, mut values) = (Vec::new(), Vec::new());
        for column in &columns {
            let found = row.metric(column.name);
            let p = row.against.iter().find(|d| d.metric == column.name).and_then(|d| d.p);
            cells.push(cell(found.map(|f| f.0), found.map(|f| (f.1, f.2)), p));
            values.push(found.map(|f| f.0));
        }
        RowView { name: row.name.clone(), n: row.n.map_or(String::new(), |n| n.to_string()), cells, values }
    };
    let view = TableView {
        title: table.title.clone(),
        reference: table.reference.clone().unwrap_or_default(),
        metrics: columns.iter().map(Column::title).collect(),
        rows: table.rows.iter().map(row).collect(),
    };
    mark(view, &columns.iter().map(|column| column.metric).collect::<Vec<_>>())
}

/// The result tables: those of predictions, which are whole in `results.json`, then those of lists.
pub fn results(view: &RunView, json: Option<&Value>) -> Vec<TableView> {
    let sections = json.and_then(|j| j.get("tables")).and_then(Value::as_array);
    let found: Vec<TableView> = sections.into_iter().flatten().filter_map(from_json).collect();
    let told = view.results.tables.iter().filter(|table| found.is_empty() || table.is_ranking()).map(from_event);
    let told: Vec<TableView> = told.collect();
    found.into_iter().chain(told).collect()
}

/// Seconds for people.
pub fn clock(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "n/a".into(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{}:{:02} min", s as u64 / 60, s as u64 % 60),
        s => format!("{}:{:02} h", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    match n as f64 {
        n if n < 1024.0 => format!("{n} B"),
        n if n < 1048576.0 => format!("{:.0} KiB", n / 1024.0),
        n if n < 1073741824.0 => format!("{:.1} MiB", n / 1048576.0),
        n => format!("{:.2} GiB", n / 1073741824.0),
    }
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct StageRow {
    name: String,
    state: &'static str,
    seconds: String,
    bytes: String,
    key: String,
    /// Share of the longest stage, for a bar, 0 to 100.
    bar: f64,
}

/// The stages; seconds of reused ones come from `results.json` or the artifacts.
pub fn stages(view: &RunView, folder: &rallrec_events::RunFolder) -> Vec<StageRow> {
    let artifacts = folder.artifacts();
    let seconds: Vec<Option<f64>> = view
        .stages
        .list
        .iter()
        .map(|s| {
            let made = artifacts.iter().find(|a| a.stage == s.name && a.key == s.key);
            s.seconds.or(made.and_then(|a| a.seconds))
        })
        .collect();
    let longest = seconds.iter().flatten().copied().fold(1e-9, f64::max);
    view.stages
        .list
        .iter()
        .zip(seconds)
        .map(|(s, seconds)| StageRow {
            name: s.name.clone(),
            state: match s.state {
                State::Waiting => "not begun",
                State::Running => "at work",
                State::Done => "done",
                State::Reused => "reused",
                State::Failed => "failed",
                State::Stopped => "stopped",
            },
            seconds: seconds.map_or(String::new(), clock),
            bytes: s.bytes.map_or(String::new(), bytes),
            key: s.key.clone(),
            bar: seconds.map_or(0.0, |s| 100.0 * s / longest),
        })
        .collect()
}

/// One operator.
#[derive(Debug, Serialize)]
pub struct OperatorRow {
    name: String,
    device: String,
    share: String,
    calls: String,
    seconds: String,
    gb_s: String,
    gflop_s: String,
    ceiling: String,
}

/// Operators by time.
pub fn operators(view: &RunView) -> Vec<OperatorRow> {
    let all = view.operators.seconds().max(1e-12);
    let or_none = |x: Option<f64>| x.map_or("n/a".to_string(), short);
    view.operators
        .by_time()
        .into_iter()
        .map(|o| OperatorRow {
            name: o.name.clone(),
            device: o.device.clone(),
            share: format!("{:.1} %", 100.0 * o.seconds / all),
            calls: o.calls.to_string(),
            seconds: clock(o.seconds),
            gb_s: or_none(o.gb_s()),
            gflop_s: or_none(o.tflop_s().map(|t| t * 1e3)),
            ceiling: o.of_ceiling().map_or("n/a".into(), |c| format!("{:.0} %", 100.0 * c)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_column_is_marked_by_the_metric_s_own_sense() {
        let row = |name: &str, auc: f64, loss: f64| {
            serde_json::json!({"name": name, "n": 10, "metrics": {
                "auc": {"value": auc, "low": auc - 0.1, "high": auc + 0.1}, "log_loss": {"value": loss}},
                "p_vs": [{"metric": "auc", "difference": 0.1, "p": 0.0004}]})
        };
        let section = serde_json::json!({"title": "T", "table": {"reference": "base", "rows": [
            row("base", 0.5, 0.7), row("good", 0.8, 0.6), row("other", 0.7, 0.5)]}});
        let table = from_json(&section).unwrap();
        let best: Vec<_> = table.rows.iter().map(|r| (r.cells[0].best, r.cells[1].best)).collect();
        assert_eq!(best, [(false, false), (true, false), (false, true)]);
        assert_eq!(table.rows[1].cells[0].interval, "0.700 to 0.900");
        assert_eq!(table.rows[1].cells[0].p, "p < 0.001");
        assert_eq!((table.rows[1].cells[1].interval.as_str(), table.rows[1].cells[2].value.as_str()), ("", "n/a"));
    }

    #[test]
    fn sizes_and_times_read_naturally() {
        assert_eq!(
            (clock(4.25), clock(59.4), clock(185.0), clock(7384.0)),
            ("4.2 s".into(), "59 s".into(), "3:05 min".into(), "2:03 h".into())
        );
        assert_eq!((bytes(12), bytes(2048), bytes(3 << 20)), ("12 B".into(), "2 KiB".into(), "3.0 MiB".into()));
    }
}
