//! Two sets of predictions of the same rows against each other: the difference of every metric with
//! its 95 % interval and p value, over the rows' clusters.

use serde::{Deserialize, Serialize};

use super::auc::{Z95, delong_test};
use super::bootstrap;
use super::clusters::Clusters;
use super::metrics::{EvalRows, EvalSettings, Prepared};
use super::table::adjusted_by_holm;
use crate::error::Result;

/// One metric of two sets of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// `auc`, `log_loss`, ...
    pub metric: String,
    /// Second minus first.
    pub difference: f64,
    /// Lower end of the difference's 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Two-sided p value: DeLong's test for AUC, a paired bootstrap for the others, both over
    /// clusters. `None` where it is undefined.
    pub p: Option<f64>,
    /// The same, adjusted by Holm for all that it is shown with.
    #[serde(default)]
    pub p_holm: Option<f64>,
}

/// Every metric that is defined for both, `second` minus `first`.
///
/// # Errors
/// Those of [`super::measure()`].
pub fn compare(rows: EvalRows<'_>, first: &[f64], second: &[f64], settings: &EvalSettings) -> Result<Vec<Compared>> {
    let (a, b) = (Prepared::new(rows, first, settings)?, Prepared::new(rows, second, settings)?);
    let (of_a, of_b) = (a.replicates(settings), b.replicates(settings));
    both((rows.labels, &rows.clusters()), (first, &a, &of_a), (second, &b, &of_b))
}

/// Predictions, prepared, with the values of the resampled metrics under each replicate.
type Side<'a> = (&'a [f64], &'a Prepared, &'a [Vec<Option<f64>>]);

/// [`compare`] of predictions that are prepared already.
pub(super) fn both(
    (labels, clusters): (&[bool], &Clusters),
    (first, a, of_a): Side<'_>,
    (second, b, of_b): Side<'_>,
) -> Result<Vec<Compared>> {
    let mut found = Vec::new();
    if let Some(t) = delong_test(labels, second, first, clusters)? {
        let half = Z95 * t.standard_error;
        let (low, high) = (Some(t.difference - half), Some(t.difference + half));
        found.push(Compared { metric: "auc".into(), difference: t.difference, low, high, p: Some(t.p), p_holm: None });
    }
    for (k, ((metric, a), (_, b))) in a.values().zip(b.values()).enumerate() {
        let Some((a, b)) = a.zip(b) else { continue };
        let pairs = of_a.iter().zip(of_b).filter_map(|(a, b)| Some(b[k]? - a[k]?));
        let (difference, pairs) = (b - a, pairs.collect::<Vec<f64>>());
        found.push(Compared {
            metric: metric.name.into(),
            difference,
            low: bootstrap::quantile(&pairs, 0.025),
            high: bootstrap::quantile(&pairs, 0.975),
            p: (!pairs.is_empty()).then(|| bootstrap::p_value(difference, &pairs)),
            p_holm: None,
        });
    }
    Ok(found)
}

/// Adjusts the p values of each metric by Holm, over all sets of predictions that are shown
/// together.
pub fn adjust<'a>(all: impl IntoIterator<Item = &'a mut [Compared]>) {
    let mut tested: Vec<(f64, &mut Compared)> =
        all.into_iter().flatten().filter_map(|compared| Some((compared.p?, compared))).collect();
    tested.sort_by(|a, b| a.1.metric.cmp(&b.1.metric));
    for of_metric in tested.chunk_by_mut(|a, b| a.1.metric == b.1.metric) {
        let p: Vec<f64> = of_metric.iter().map(|t| t.0).collect();
        of_metric.iter_mut().zip(adjusted_by_holm(&p)).for_each(|(t, p)| t.1.p_holm = Some(p));
    }
}
