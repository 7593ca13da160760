//! What the length and the agreement of reasoning samples say of their answers: the paper's groups
//! by length, its windows by variance, and a comparison that the paper lacks, of short and long
//! samples of the same row. Easy rows may have short answers; within a row the row is the same.

use serde::{Deserialize, Serialize};

use super::bootstrap;
use super::clusters::Clusters;
use super::metrics::{Estimate, EvalSettings};
use super::render::{markdown_table, value};

/// Groups by length.
const GROUPS: usize = 5;

/// A row with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Thoughts {
    /// Whose row it is.
    pub user: u32,
    /// What happened.
    pub label: bool,
    /// The tuned model's probability.
    pub tuned: f64,
    /// Length in tokens and P(Yes) of each sample; at least one.
    pub samples: Vec<(u32, f64)>,
}

impl Thoughts {
    fn is_right(&self, p: f64) -> f64 {
        f64::from(u8::from((p > 0.5) == self.label))
    }

    fn mean(&self) -> f64 {
        self.samples.iter().map(|s| s.1).sum::<f64>() / self.samples.len() as f64
    }

    fn variance(&self) -> f64 {
        let mean = self.mean();
        self.samples.iter().map(|s| (s.1 - mean).powi(2)).sum::<f64>() / self.samples.len() as f64
    }
}

/// Samples of like length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthGroup {
    /// Shortest, tokens.
    pub from: u32,
    /// Longest.
    pub to: u32,
    /// Samples.
    pub n: usize,
    /// Share of samples that are right.
    pub accuracy: Estimate,
    /// The same of the tuned model on the rows of these samples: how easy they are.
    pub tuned: Estimate,
}

/// Rows of like variance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarianceWindow {
    /// Rows.
    pub n: usize,
    /// Mean variance over the samples of a row.
    pub variance: f64,
    /// Share of rows on which the mean of the samples is right.
    pub accuracy: Estimate,
    /// The same of the tuned model.
    pub tuned: Estimate,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ThoughtTables {
    /// Shortest first; one only where all samples are of one length.
    pub lengths: Vec<LengthGroup>,
    /// Accuracy of a row's shorter samples less that of its longer ones, over rows that have both.
    pub shorter_within_rows: Option<Estimate>,
    /// Rows that have both.
    pub rows_with_both: usize,
    /// Most agreed first; empty where there are not two windows' worth of rows.
    pub windows: Vec<VarianceWindow>,
}

/// Mean with the interval of a bootstrap over users.
fn mean(values: &[f64], users: &[u32], settings: &EvalSettings) -> Estimate {
    let clusters = Clusters::by_user(users);
    let drawn =
        bootstrap::replicates(settings.seed, &clusters, settings.bootstrap, |counts| bootstrap::mean(counts, values));
    Estimate {
        value: values.iter().sum::<f64>() / values.len().max(1) as f64,
        low: bootstrap::quantile(&drawn, 0.025),
        high: bootstrap::quantile(&drawn, 0.975),
    }
}

/// The tables over rows that have samples. `window`: rows of a window by variance.
pub fn tables(rows: &[Thoughts], window: usize, settings: &EvalSettings) -> ThoughtTables {
    let both = shorter_less_longer(rows);
    let (differences, users): (Vec<f64>, Vec<u32>) = both.into_iter().unzip();
    ThoughtTables {
        lengths: by_length(rows, settings),
        rows_with_both: users.len(),
        shorter_within_rows: (!users.is_empty()).then(|| mean(&differences, &users, settings)),
        windows: by_variance(rows, window, settings),
    }
}

fn by_length(rows: &[Thoughts], settings: &EvalSettings) -> Vec<LengthGroup> {
    let all = rows.iter().flat_map(|row| row.samples.iter().map(move |&(tokens, p)| (tokens, p, row)));
    let mut all: Vec<(u32, f64, &Thoughts)> = all.collect();
    all.sort_by_key(|sample| sample.0);
    // Samples of one length stay together.
    let first = |tokens: u32| all.partition_point(|sample| sample.0 < tokens);
    let group = |sample: &(u32, f64, &Thoughts)| GROUPS * first(sample.0) / all.len().max(1);
    let of = |own: &[(u32, f64, &Thoughts)]| {
        let users: Vec<u32> = own.iter().map(|(_, _, row)| row.user).collect();
        let right: Vec<f64> = own.iter().map(|(_, p, row)| row.is_right(*p)).collect();
        let tuned: Vec<f64> = own.iter().map(|(_, _, row)| row.is_right(row.tuned)).collect();
        LengthGroup {
            from: own[0].0,
            to: own[own.len() - 1].0,
            n: own.len(),
            accuracy: mean(&right, &users, settings),
            tuned: mean(&tuned, &users, settings),
        }
    };
    all.chunk_by(|a, b| group(a) == group(b)).map(of).collect()
}

/// Of each row that has samples of different lengths: accuracy of those shorter than the row's mean
/// less that of the others.
fn shorter_less_longer(rows: &[Thoughts]) -> Vec<(f64, u32)> {
    let of = |row: &Thoughts| {
        let length = row.samples.iter().map(|s| f64::from(s.0)).sum::<f64>() / row.samples.len() as f64;
        let part = |shorter: bool| {
            let own = row.samples.iter().filter(|s| (f64::from(s.0) < length) == shorter).map(|s| row.is_right(s.1));
            let own: Vec<f64> = own.collect();
            (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
        };
        Some((part(true)? - part(false)?, row.user))
    };
    rows.iter().filter_map(of).collect()
}

fn by_variance(rows: &[Thoughts], window: usize, settings: &EvalSettings) -> Vec<VarianceWindow> {
    if window == 0 || rows.len() < 2 * window {
        return Vec::new();
    }
    let mut order: Vec<&Thoughts> = rows.iter().collect();
    order.sort_by(|a, b| a.variance().total_cmp(&b.variance()));
    let of = |own: &[&Thoughts]| {
        let users: Vec<u32> = own.iter().map(|row| row.user).collect();
        let right: Vec<f64> = own.iter().map(|row| row.is_right(row.mean())).collect();
        let tuned: Vec<f64> = own.iter().map(|row| row.is_right(row.tuned)).collect();
        VarianceWindow {
            n: own.len(),
            variance: own.iter().map(|row| row.variance()).sum::<f64>() / own.len() as f64,
            accuracy: mean(&right, &users, settings),
            tuned: mean(&tuned, &users, settings),
        }
    };
    order.windows(window).step_by((window / 2).max(1)).map(of).collect()
}

impl ThoughtTables {
    /// As Markdown; empty without samples.
    pub fn markdown(&self) -> String {
        if self.lengths.is_empty() {
            return String::new();
        }
        let titled = |titles: &[&str]| titles.iter().map(ToString::to_string).collect::<Vec<_>>();
        let lengths = self.lengths.iter().map(|g| {
            let range = if g.from == g.to { g.from.to_string() } else { format!("{} to {}", g.from, g.to) };
            vec![range, g.n.to_string(), value(Some(g.accuracy), true), value(Some(g.tuned), true)]
        });
        let header = titled(&["tokens of a sample", "samples", "accuracy", "tuned model, same rows"]);
        let mut out = markdown_table(&(header, lengths.collect()));
        if let Some(difference) = self.shorter_within_rows {
            out += &format!(
                "\nWithin a row, accuracy of the shorter samples less that of the longer ones: {} ({} rows have both).\n",
                value(Some(difference), true),
                self.rows_with_both
            );
        }
        if !self.windows.is_empty() {
            let windows = self.windows.iter().map(|w| {
                let [own, tuned] = [w.accuracy, w.tuned].map(|e| value(Some(e), true));
                vec![format!("{:.5}", w.variance), w.n.to_string(), own, tuned]
            });
            let header = titled(&["mean variance in the window", "rows", "accuracy", "tuned model, same rows"]);
            out += &format!("\n{}", markdown_table(&(header, windows.collect())));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: fn() -> EvalSettings = || EvalSettings { bootstrap: 200, ..EvalSettings::default() };

    /// Easy rows have short samples; within a row length says nothing.
    fn easy_rows_are_short() -> Vec<Thoughts> {
        let row = |n: u32| {
            let easy = n.is_multiple_of(2);
            let right = |s: u32| easy || (s / 2 + n / 2).is_multiple_of(2);
            let length = |s: u32| if easy { 10 + s } else { 100 + s };
            let samples = (0..4).map(|s| (length(s), if right(s) { 0.9 } else { 0.1 })).collect();
            Thoughts { user: n / 4, label: true, tuned: if easy { 0.8 } else { 0.4 }, samples }
        };
        (0..80).map(row).collect()
    }

    #[test]
    fn groups_by_length_show_what_easy_rows_do_and_the_comparison_within_rows_does_not() {
        let rows = easy_rows_are_short();
        let found = tables(&rows, 10, &SETTINGS());
        assert_eq!(found.lengths.iter().map(|g| g.n).sum::<usize>(), 320);
        let (short, long) = (&found.lengths[0], &found.lengths[found.lengths.len() - 1]);
        assert!((short.accuracy.value - 1.0).abs() <= 1e-12 && (long.accuracy.value - 0.5).abs() <= 0.05);
        // The tuned model finds the same rows easy.
        assert!((short.tuned.value - 1.0).abs() <= 1e-12 && long.tuned.value.abs() <= 1e-12);
        let within = found.shorter_within_rows.unwrap();
        assert_eq!(found.rows_with_both, 80);
        assert!(within.low.unwrap() <= 0.0 && within.high.unwrap() >= 0.0, "{within:?}");
        // Samples agree on the easy rows: these come first.
        assert_eq!(found.windows.len(), 15);
        assert!(found.windows[0].variance <= 1e-12 && found.windows[14].variance > 0.1);
        assert!((found.windows[0].accuracy.value - 1.0).abs() <= 1e-12);
        let text = found.markdown();
        for words in ["tokens of a sample", "Within a row", "80 rows have both", "mean variance"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn shorter_samples_that_are_better_are_told_within_rows() {
        let row = |n: u32| Thoughts {
            user: n,
            label: n.is_multiple_of(2),
            tuned: 0.5,
            samples: vec![(5, if n.is_multiple_of(2) { 0.9 } else { 0.1 }), (50, 0.5001)],
        };
        let rows: Vec<Thoughts> = (0..40).map(row).collect();
        let within = tables(&rows, 1000, &SETTINGS()).shorter_within_rows.unwrap();
        assert!((within.value - 0.5).abs() <= 1e-12 && within.low.unwrap() > 0.2, "{within:?}");
    }

    #[test]
    fn samples_of_one_length_are_one_group_and_few_rows_have_no_window() {
        let rows = vec![Thoughts { user: 1, label: false, tuned: 0.2, samples: vec![(32, 0.4), (32, 0.6), (32, 0.1)] }];
        let found = tables(&rows, 1, &SETTINGS());
        assert_eq!((found.lengths.len(), found.lengths[0].n, found.rows_with_both), (1, 3, 0));
        assert!((found.lengths[0].accuracy.value - 2.0 / 3.0).abs() <= 1e-12);
        assert!(found.windows.is_empty() && found.shorter_within_rows.is_none());
        assert!(tables(&[], 1, &SETTINGS()).markdown().is_empty());
    }
}
