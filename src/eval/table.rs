//! The table of results: one row a model, all on the same samples, each compared with a reference
//! row.

use rallrec_events::{Difference, Event};
use serde::{Deserialize, Serialize};

use super::metrics::{EvalRows, EvalSettings, Metrics, Prepared};
use super::paired::{self, Compared};
use super::published::Published;
use crate::error::{Error, Result};

/// p values adjusted by Holm (1979), in their order: the k-th smallest of m is multiplied by
/// m - k + 1, and none is smaller than the one before it.
pub fn adjusted_by_holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut before) = (vec![0.0; p.len()], 0.0f64);
    for (k, &at) in order.iter().enumerate() {
        before = before.max((p[at] * (p.len() - k) as f64).min(1.0));
        adjusted[at] = before;
    }
    adjusted
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Shown name, one of [`super::rows`].
    #[serde(deserialize_with = "super::rows::read")]
    pub name: String,
    /// Samples scored.
    pub n: usize,
    /// Values and intervals.
    pub metrics: Metrics,
    /// Against the reference; empty for the reference itself and where there is none.
    pub p_vs: Vec<Compared>,
}

impl Row {
    /// The row of the table `title` as an event.
    pub fn event(&self, title: &str, table: &Table) -> Event {
        let against =
            self.p_vs.iter().map(|c| Difference { metric: c.metric.clone(), difference: c.difference, p: c.p_holm });
        Event::ResultRow {
            row: self.name.clone(),
            split: table.split.clone(),
            metrics: self.metrics.told(),
            table: Some(title.into()),
            n: Some(self.n as u64),
            reference: table.reference.clone(),
            against: against.collect(),
        }
    }
}

/// All rows of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// `test`, `valid`.
    pub split: String,
    /// Samples; the same in every row.
    pub n: usize,
    /// Users they are of; `None` where that is not known.
    #[serde(default)]
    pub users: Option<usize>,
    /// Items they are about, where intervals and tests go by user and by item: in a table of items
    /// without training ratings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
    /// Of which the label is 1.
    pub positives: usize,
    /// Name of the row that the others are compared with.
    #[serde(default, deserialize_with = "super::rows::read_some")]
    pub reference: Option<String>,
    /// How the numbers were made.
    pub settings: EvalSettings,
    /// The models in the order given.
    pub rows: Vec<Row>,
}

/// Named predictions, one a sample.
pub type Predictions<'a> = (&'a str, &'a [f64]);

impl Table {
    /// Evaluates every set of predictions on the same `rows` and compares each with `reference`.
    ///
    /// # Errors
    /// No model, two of the same name, an unknown reference, or predictions that
    /// [`super::measure()`] refuses.
    pub fn build<'a>(
        split: &str,
        rows: impl Into<EvalRows<'a>>,
        models: &[Predictions],
        reference: Option<&str>,
        settings: &EvalSettings,
    ) -> Result<Self> {
        let from = rows.into();
        let (labels, clusters) = (from.labels, from.clusters());
        if models.is_empty() {
            return Err(Error::input("results", "no predictions to evaluate").next("run a scoring stage first"));
        }
        if let Some((i, m)) = models.iter().enumerate().find(|(i, m)| models[..*i].iter().any(|o| o.0 == m.0)) {
            return Err(Error::input("results", format!("row {i} repeats the name `{}`", m.0))
                .next("give each set of predictions its own name"));
        }
        let chosen = match reference {
            None => None,
            Some(name) => Some(models.iter().position(|m| m.0 == name).ok_or_else(|| {
                let known = models.iter().map(|m| m.0).collect::<Vec<_>>().join(", ");
                Error::usage("evaluate.reference", format!("no row is called `{name}`"))
                    .next(format!("choose one of: {known}"))
            })?),
        };
        let mut evaluated = Vec::with_capacity(models.len());
        for &(name, p) in models {
            let prepared = Prepared::new(from, p, settings).map_err(|e| e.within(format!("predictions `{name}`")))?;
            let replicates = prepared.replicates(settings);
            evaluated.push((prepared, replicates));
        }
        let mut rows = Vec::with_capacity(models.len());
        for (i, (&(name, p), (prepared, replicates))) in models.iter().zip(&evaluated).enumerate() {
            let p_vs = match chosen.filter(|&r| r != i) {
                Some(r) => {
                    let (base, of_base) = &evaluated[r];
                    paired::both((labels, &clusters), (models[r].1, base, of_base), (p, prepared, replicates))?
                }
                None => Vec::new(),
            };
            let metrics = prepared.metrics(labels, p, replicates)?;
            rows.push(Row { name: name.into(), n: labels.len(), metrics, p_vs });
        }
        paired::adjust(rows.iter_mut().map(|row| row.p_vs.as_mut_slice()));
        Ok(Self {
            split: split.into(),
            n: labels.len(),
            users: (!from.users.is_empty()).then_some(clusters.users().count()),
            items: clusters.crossed().map(|crossed| crossed.items.count()),
            positives: labels.iter().filter(|&&y| y).count(),
            reference: reference.map(Into::into),
            settings: settings.clone(),
            rows,
        })
    }

    /// For a terminal of `width` columns (`None`: as wide as needed). Never uses colour.
    pub fn to_text(&self, width: Option<u16>) -> String {
        self.to_text_beside(width, None)
    }

    /// The same with what others published.
    pub fn to_text_beside(&self, width: Option<u16>, published: Option<&Published>) -> String {
        super::render::text(self, published, width)
    }

    /// As a Markdown table with a line on how it was made.
    pub fn to_markdown(&self) -> String {
        self.to_markdown_beside(None)
    }

    /// The same with what others published.
    pub fn to_markdown_beside(&self, published: Option<&Published>) -> String {
        super::render::markdown(self, published)
    }

    /// As indented JSON.
    ///
    /// # Errors
    /// Never in practice; a failure of the serialiser is passed on.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::failed("results", e))
    }
}
