//! The tables at the end.

use serde::Serialize;

use super::bounded::{Footprint, NAME, cut};
use crate::event::Event;
use crate::metric::{COVERAGE, METRICS, Metric, NDCG, RANKING};
use crate::parts::Difference;

/// Most tables, and most rows of one.
const MOST: usize = 64;

/// A model's row of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the predictor.
    pub name: String,
    /// Scored rows.
    pub n: Option<u64>,
    /// (name, value, low, high).
    pub metrics: Vec<(String, f64, f64, f64)>,
    /// Against the reference of the table.
    pub against: Vec<Difference>,
}

impl Row {
    /// (value, low, high) of a metric.
    pub fn metric(&self, name: &str) -> Option<(f64, f64, f64)> {
        self.metrics.iter().find(|m| m.0 == name).map(|m| (m.1, m.2, m.3))
    }
}

/// A table of results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Title.
    pub title: String,
    /// `test`.
    pub split: String,
    /// The row that the others are compared with.
    pub reference: Option<String>,
    /// Rows in order.
    pub rows: Vec<Row>,
}

/// A metric that some row of a table has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column<'a> {
    /// As the rows name it: `auc`, `ndcg@10`.
    pub name: &'a str,
    /// The metric.
    pub metric: &'static Metric,
}

impl Column<'_> {
    /// For people: `AUC`, `NDCG@10`.
    pub fn title(&self) -> String {
        match self.cut() {
            Some(cut) => format!("{}@{cut}", self.metric.title),
            None => self.metric.title.to_string(),
        }
    }

    /// Length of the lists that it judges.
    pub fn cut(&self) -> Option<u64> {
        self.name.split_once('@')?.1.parse().ok()
    }
}

impl Table {
    /// The metrics that some row has: those of predictions in their order, then those of lists, the
    /// shortest lists first and NDCG before the others.
    pub fn columns(&self) -> Vec<Column<'_>> {
        let mut found: Vec<Column> = Vec::new();
        for (name, ..) in self.rows.iter().flat_map(|row| &row.metrics) {
            if let Some(metric) = Metric::named(name)
                && found.iter().all(|known| known.name != name)
            {
                found.push(Column { name, metric });
            }
        }
        let order: Vec<&str> =
            METRICS.into_iter().chain([&NDCG]).chain(RANKING).chain([&COVERAGE]).map(|metric| metric.name).collect();
        found.sort_by_key(|c| (c.cut(), order.iter().position(|name| *name == c.metric.name)));
        found
    }

    /// It has figures that others published.
    pub fn is_published(&self) -> bool {
        self.split == "published"
    }

    /// It is about lists and the users that they are for.
    pub fn is_ranking(&self) -> bool {
        self.columns().first().is_some_and(|column| column.cut().is_some())
    }
}

/// All tables, the main one first.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Results {
    /// The rows in the order of the table.
    pub tables: Vec<Table>,
}

impl Results {
    /// The row that stands for the run: the merged one of the main table, else its last.
    pub fn main_row(&self) -> Option<&Row> {
        let rows = &self.tables.first()?.rows;
        rows.iter().find(|r| r.name == "merged").or(rows.last())
    }

    /// What others published of the data set, where `shown` is one of our tables of predictions.
    pub fn beside(&self, shown: &Table) -> Option<&Table> {
        let ours = !shown.is_published() && !shown.is_ranking();
        self.tables.iter().find(|table| table.is_published()).filter(|_| ours)
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let Event::ResultRow { row, split, metrics, table, n, reference, against } = event else { return };
        let title = cut(table.as_deref().unwrap_or("Test rows"), NAME);
        let at = match self.tables.iter().position(|t| t.title == title) {
            Some(at) => at,
            None if self.tables.len() < MOST => {
                let reference = reference.as_ref().map(|r| cut(r, NAME));
                self.tables.push(Table { title, split: cut(split, NAME), reference, rows: Vec::new() });
                self.tables.len() - 1
            }
            None => return,
        };
        let new = Row {
            name: cut(row, NAME),
            n: *n,
            metrics: metrics.iter().take(16).map(|m| (cut(&m.0, NAME), m.1, m.2, m.3)).collect(),
            against: against
                .iter()
                .take(16)
                .map(|d| Difference { metric: cut(&d.metric, NAME), ..d.clone() })
                .collect(),
        };
        let rows = &mut self.tables[at].rows;
        let full = rows.len() >= MOST;
        match rows.iter_mut().find(|r| r.name == new.name) {
            Some(known) => *known = new,
            None if !full => rows.push(new),
            None => {}
        }
    }
}

impl Footprint for Row {
    fn held(&self) -> usize {
        self.name.held()
            + self.metrics.iter().map(|m| size_of_val(m) + m.0.held()).sum::<usize>()
            + self.against.iter().map(|d| size_of_val(d) + d.metric.held()).sum::<usize>()
    }
}

impl Footprint for Table {
    fn held(&self) -> usize {
        self.title.held() + self.split.held() + self.reference.held() + self.rows.held()
    }
}

impl Footprint for Results {
    fn held(&self) -> usize {
        self.tables.held()
    }
}
