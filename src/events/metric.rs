//! The metrics: what each is called, which way is better, where it is shown. Tables, events,
//! dashboard, comparison and report read this list; how a metric is computed stands beside its use
//! in the engine (`eval`).

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// The narrowest table that has a column for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// Every table, and the lines that sum up a run.
    Always,
    /// Tables of the usual width.
    Usual,
    /// Wide tables and files.
    Wide,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// In files and events; a metric of lists carries their length behind it: `recall@20`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Which way is better.
    pub better: Better,
    /// It lies in 0 to 1 and shares a chart with others that do.
    pub share: bool,
    /// Where it is shown.
    pub shown: Shown,
    /// The dashboard's table and the comparison of runs have a column for it.
    pub overview: bool,
    /// Tables show the p value against the reference row.
    pub tested: bool,
}

const METRIC: Metric = Metric {
    name: "",
    title: "",
    better: Better::Higher,
    share: true,
    shown: Shown::Usual,
    overview: true,
    tested: false,
};

/// Area under the ROC curve over all rows.
pub const AUC: Metric = Metric { name: "auc", title: "AUC", shown: Shown::Always, tested: true, ..METRIC };
/// Mean of `-ln p` of what happened, in nats.
pub const LOG_LOSS: Metric = Metric {
    name: "log_loss",
    title: "log loss",
    better: Better::Lower,
    share: false,
    shown: Shown::Always,
    tested: true,
    ..METRIC
};
/// Share of rows where `p > 0.5` is right.
pub const ACCURACY: Metric = Metric { name: "accuracy", title: "accuracy", shown: Shown::Always, ..METRIC };
/// Mean squared error of the probabilities.
pub const BRIER: Metric =
    Metric { name: "brier", title: "Brier", better: Better::Lower, share: false, overview: false, ..METRIC };
/// Expected calibration error.
pub const ECE: Metric = Metric { name: "ece", title: "ECE", better: Better::Lower, ..METRIC };
/// AUC inside each user's rows, averaged over users.
pub const UAUC: Metric = Metric { name: "uauc", title: "UAUC", shown: Shown::Wide, ..METRIC };

/// The metrics of predictions, in the order of the columns.
pub const METRICS: [&Metric; 6] = [&AUC, &LOG_LOSS, &ACCURACY, &BRIER, &ECE, &UAUC];

/// Share of the relevant items that the list holds.
pub const RECALL: Metric = Metric { name: "recall", title: "recall", ..METRIC };
/// Discounted gain of the hits, as a share of the best possible.
pub const NDCG: Metric = Metric { name: "ndcg", title: "NDCG", ..METRIC };
/// One over the place of the first hit.
pub const MRR: Metric = Metric { name: "mrr", title: "MRR", ..METRIC };
/// Share of the list that is relevant.
pub const PRECISION: Metric = Metric { name: "precision", title: "precision", ..METRIC };

/// Share of all items that stand in at least one list.
pub const COVERAGE: Metric = Metric { name: "coverage", title: "coverage", ..METRIC };

/// The metrics of one ranked list.
pub const RANKING: [&Metric; 4] = [&RECALL, &NDCG, &MRR, &PRECISION];

impl Metric {
    /// By its name in files and events, with or without the length of the lists (`recall@20`) or a
    /// split behind it (`log_loss (valid)`).
    pub fn named(name: &str) -> Option<&'static Metric> {
        let plain = name.split(['@', ' ']).next().unwrap_or_default();
        METRICS.into_iter().chain(RANKING).chain([&COVERAGE]).find(|m| m.name == plain)
    }

    /// May the curve of the metric `name` stand in one chart with others? A loss of a newer program
    /// stands alone.
    pub fn shares_a_chart(name: &str) -> bool {
        Metric::named(name).map_or_else(|| !name.contains("loss"), |m| m.share)
    }

    /// Is `a` better than `b`? False when either is no number.
    pub fn is_better(&self, a: f64, b: f64) -> bool {
        match self.better {
            Better::Higher => a > b,
            Better::Lower => a < b,
        }
    }

    /// The best of `values`; what is not finite does not count.
    pub fn best(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.filter(|v| v.is_finite()).reduce(|a, b| if self.is_better(b, a) { b } else { a })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_what_stands_behind_them() {
        assert_eq!(Metric::named("recall@20").map(|m| m.title), Some("recall"));
        assert_eq!(Metric::named("log_loss (valid)").map(|m| m.better), Some(Better::Lower));
        assert_eq!(Metric::named("perplexity"), None);
        let mut names: Vec<&str> = METRICS.into_iter().chain(RANKING).map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len() + RANKING.len());
    }

    #[test]
    fn the_best_follows_the_direction_and_passes_over_nan() {
        let values = [0.5, f64::NAN, 0.7, 0.6];
        assert_eq!(AUC.best(values.into_iter()), Some(0.7));
        assert_eq!(LOG_LOSS.best(values.into_iter()), Some(0.5));
        assert_eq!(AUC.best([f64::NAN].into_iter()), None);
        assert!(!AUC.is_better(f64::NAN, 0.5) && !AUC.is_better(0.5, f64::NAN));
    }
}
