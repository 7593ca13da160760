//! The table of results: one row a model, all on the same samples, each compared with a reference
//! row.

use rallrec_events::{Difference, Event};
use serde::{Deserialize, Serialize};

use super::auc::delong_test;
use super::bootstrap;
use super::metrics::{EvalRows, EvalSettings, Metrics, Prepared};
use crate::error::{Error, Result};

/// A row against the reference row, on the same samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `auc`, `log_loss`, ...
    pub metric: String,
    /// This row minus the reference.
    pub difference: f64,
    /// Two-sided p value: DeLong's test for AUC, a paired bootstrap for the others. `None` where it
    /// is undefined.
    pub p: Option<f64>,
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
    pub p_vs: Vec<Comparison>,
}

impl Row {
    /// The row of the table `title` as an event: (metric, value, low, high); a missing interval has
    /// both ends at the value.
    pub fn event(&self, title: &str, table: &Table) -> Event {
        let metrics = self.metrics.iter().filter_map(|(name, e)| {
            let e = e?;
            Some((name.to_string(), e.value, e.low.unwrap_or(e.value), e.high.unwrap_or(e.value)))
        });
        let against =
            self.p_vs.iter().map(|c| Difference { metric: c.metric.clone(), difference: c.difference, p: c.p });
        Event::ResultRow {
            row: self.name.clone(),
            split: table.split.clone(),
            metrics: metrics.collect(),
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
        let labels = from.labels;
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
            let mut p_vs = Vec::new();
            if let Some(r) = chosen.filter(|&r| r != i) {
                if let Some(t) = delong_test(labels, p, models[r].1)? {
                    p_vs.push(Comparison { metric: "auc".into(), difference: t.difference, p: Some(t.p) });
                }
                let (base, base_replicates) = &evaluated[r];
                for (k, ((metric, value), (_, base))) in prepared.values().zip(base.values()).enumerate() {
                    let (Some(value), Some(base)) = (value, base) else { continue };
                    let difference = value - base;
                    let both = replicates.iter().zip(base_replicates);
                    let pairs: Vec<f64> = both.filter_map(|(a, b)| Some(a[k]? - b[k]?)).collect();
                    let p = (!pairs.is_empty()).then(|| bootstrap::p_value(difference, &pairs));
                    p_vs.push(Comparison { metric: metric.name.into(), difference, p });
                }
            }
            let metrics = prepared.metrics(labels, p, replicates)?;
            rows.push(Row { name: name.into(), n: labels.len(), metrics, p_vs });
        }
        Ok(Self {
            split: split.into(),
            n: labels.len(),
            positives: labels.iter().filter(|&&y| y).count(),
            reference: reference.map(Into::into),
            settings: settings.clone(),
            rows,
        })
    }

    /// For a terminal of `width` columns (`None`: as wide as needed). Never uses colour.
    pub fn to_text(&self, width: Option<u16>) -> String {
        super::render::text(self, width)
    }

    /// As a Markdown table with a line on how it was made.
    pub fn to_markdown(&self) -> String {
        super::render::markdown(self)
    }

    /// As indented JSON.
    ///
    /// # Errors
    /// Never in practice; a failure of the serialiser is passed on.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::failed("results", e))
    }
}
