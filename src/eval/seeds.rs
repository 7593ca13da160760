//! One recipe with several seeds: each model's metrics as mean and spread over the seeds, and its
//! difference from a reference row, tested over seeds and users at once.
//!
//! Two things move a mean over seeds: other users, and other seeds. The variance of the first is
//! that of a bootstrap over users, in which a drawn user brings the rows of all seeds; that of the
//! second is the sample variance over seeds divided by their number. The test is Student's, with
//! the degrees of freedom by Satterthwaite: three seeds leave two, unless users move the mean far
//! more than seeds do.

use std::collections::BTreeMap;

use rallrec_events::metric::{self, Metric};
use serde::Serialize;

use super::metrics::{EvalRows, EvalSettings, Prepared, Statistic};
use super::render::{drawn, markdown_table, p_value};
use super::table::adjusted_by_holm;
use super::uauc::ByUser;
use super::{Clusters, bootstrap};
use crate::error::{Error, Result};

/// What one seed's run says.
#[derive(Debug, Clone, Default)]
pub struct OfSeed {
    /// The seed.
    pub seed: u64,
    /// What happened, row by row.
    pub labels: Vec<bool>,
    /// Whose row it is; one user has one number in all seeds.
    pub users: Vec<u32>,
    /// Probabilities by model.
    pub models: BTreeMap<String, Vec<f64>>,
}

/// A figure over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// One a seed.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub spread: f64,
    /// Ends of the mean's 95 % interval, over seeds and users.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Two-sided p value that the mean is zero.
    pub p: f64,
    /// The same, adjusted by Holm for the models.
    pub p_holm: Option<f64>,
}

/// One metric of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The model.
    pub model: String,
    /// `auc`, `log_loss`, ...
    pub metric: String,
    /// The metric itself; its p value says nothing.
    pub value: Figure,
    /// Less that of the reference, on the same rows of each seed.
    pub difference: Option<Figure>,
}

/// All models and metrics over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverSeeds {
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Rows of each.
    pub rows: Vec<usize>,
    /// Users of all.
    pub users: usize,
    /// The row that the others are tested against.
    pub reference: String,
    /// Model by model.
    pub lines: Vec<Line>,
}

/// Metrics that are followed over seeds.
const FOLLOWED: [&Metric; 4] = [&metric::AUC, &metric::LOG_LOSS, &metric::ACCURACY, &metric::UAUC];

impl OverSeeds {
    /// Of at least two seeds, for the models that all of them have.
    ///
    /// # Errors
    /// Fewer than two seeds, predictions that [`super::measure()`] refuses, no replicates.
    pub fn of(seeds: &[OfSeed], reference: &str, settings: &EvalSettings) -> Result<Self> {
        if seeds.len() < 2 {
            return Err(Error::usage("seeds", format!("{} of them", seeds.len())).next("name two or more"));
        }
        if settings.bootstrap < 2 {
            return Err(Error::usage("evaluate.bootstrap", "several seeds are compared by replicates")
                .next("set it to e.g. 1000"));
        }
        let users: Vec<u32> = seeds.iter().flat_map(|of| of.users.iter().copied()).collect();
        let clusters = Clusters::by_user(&users);
        let all = |model: &&String| seeds.iter().all(|of| of.models.contains_key(*model));
        let models: Vec<&String> = seeds[0].models.keys().filter(all).collect();
        let mut by_model = BTreeMap::new();
        for model in &models {
            let of = |of: &OfSeed| Followed::new(of, &of.models[*model], settings);
            let followed = seeds.iter().map(of).collect::<Result<Vec<_>>>()?;
            by_model.insert(*model, Moved::new(&followed, seeds, &clusters, settings));
        }
        let base = by_model.keys().find(|model| model.as_str() == reference).copied();
        let mut lines = Vec::new();
        for model in models {
            for (m, metric) in FOLLOWED.into_iter().enumerate() {
                let Some(value) = by_model[model].figure(m, None) else { continue };
                let other = base.filter(|base| *base != model).map(|base| &by_model[base]);
                let difference = other.and_then(|base| by_model[model].figure(m, Some(base)));
                lines.push(Line { model: model.clone(), metric: metric.name.into(), value, difference });
            }
        }
        for metric in FOLLOWED {
            let mut tested: Vec<&mut Figure> = lines
                .iter_mut()
                .filter(|line| line.metric == metric.name)
                .filter_map(|l| l.difference.as_mut())
                .collect();
            let p: Vec<f64> = tested.iter().map(|figure| figure.p).collect();
            tested.iter_mut().zip(adjusted_by_holm(&p)).for_each(|(figure, p)| figure.p_holm = Some(p));
        }
        Ok(Self {
            seeds: seeds.iter().map(|of| of.seed).collect(),
            rows: seeds.iter().map(|of| of.labels.len()).collect(),
            users: clusters.users().count(),
            reference: reference.into(),
            lines,
        })
    }

    fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = vec!["model".to_string()];
        let shown = [&metric::AUC, &metric::LOG_LOSS];
        for metric in shown {
            header.extend([
                format!("{} [95 %]", metric.title),
                "spread".into(),
                "difference [95 %]".into(),
                "p".into(),
            ]);
        }
        let mut models: Vec<&str> = self.lines.iter().map(|line| line.model.as_str()).collect();
        models.dedup();
        let ends = |f: &Figure, sign: bool| {
            if sign {
                format!("{:+.4} [{:+.4}, {:+.4}]", f.mean, f.low, f.high)
            } else {
                format!("{:.4} [{:.4}, {:.4}]", f.mean, f.low, f.high)
            }
        };
        let row = |model: &str| {
            let mut cells = vec![model.to_string()];
            for metric in shown {
                let line = self.lines.iter().find(|line| line.model == model && line.metric == metric.name);
                cells.push(line.map_or("n/a".into(), |l| ends(&l.value, false)));
                cells.push(line.map_or("n/a".into(), |l| format!("{:.4}", l.value.spread)));
                let difference = line.and_then(|l| l.difference.as_ref());
                cells.push(difference.map_or("-".into(), |f| ends(f, true)));
                cells.push(difference.map_or("-".into(), |f| p_value(f.p_holm.or(Some(f.p)))));
            }
            cells
        };
        (header, models.into_iter().map(row).collect())
    }

    fn caption(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let mut rows = self.rows.clone();
        rows.dedup();
        let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
        format!(
            "Means over the seeds {}, {} rows of {} users. Intervals and p: over seeds and users, against `{}`, adjusted \
             by Holm for the rows of the table; spread: standard deviation over the seeds.",
            seeds.join(", "),
            rows.join(", "),
            self.users,
            self.reference
        )
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n", drawn(self.cells(), None), self.caption())
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        format!("{}\n{}\n", markdown_table(&self.cells()), self.caption())
    }
}

/// The metrics of one seed's model as functions of how often each row is there.
struct Followed {
    area: ByUser,
    prepared: Prepared,
}

impl Followed {
    fn new(of: &OfSeed, p: &[f64], settings: &EvalSettings) -> Result<Self> {
        let rows = EvalRows { labels: &of.labels, users: &of.users, items: &[] };
        let prepared = Prepared::new(rows, p, settings).map_err(|e| e.within(format!("seed {}", of.seed)))?;
        // One user for all rows: the area over all of them.
        Ok(Self { area: ByUser::new(&of.labels, p, &vec![0; p.len()]), prepared })
    }

    fn under(&self, counts: &[u32]) -> [Option<f64>; FOLLOWED.len()] {
        FOLLOWED.map(|metric| {
            if *metric == metric::AUC {
                return self.area.under(counts);
            }
            self.prepared.statistic(metric).and_then(|statistic: &Statistic| statistic(counts))
        })
    }
}

/// A model's metrics by seed: as they are, and under each replicate.
struct Moved {
    values: Vec<[Option<f64>; FOLLOWED.len()]>,
    replicates: Vec<Vec<[Option<f64>; FOLLOWED.len()]>>,
}

impl Moved {
    fn new(followed: &[Followed], seeds: &[OfSeed], clusters: &Clusters, settings: &EvalSettings) -> Self {
        let under = |counts: &[u32]| {
            let mut at = 0;
            let of = |(one, of): (&Followed, &OfSeed)| {
                let own = &counts[at..at + of.labels.len()];
                at += of.labels.len();
                // A seed of which nobody is drawn says nothing.
                if own.iter().all(|c| *c == 0) { [None; FOLLOWED.len()] } else { one.under(own) }
            };
            followed.iter().zip(seeds).map(of).collect::<Vec<_>>()
        };
        let once = vec![1; clusters.users().of_rows().len()];
        let replicates = bootstrap::replicates(settings.seed, clusters, settings.bootstrap, under);
        Self { values: under(&once), replicates }
    }

    /// A metric over the seeds, less that of `base`.
    fn figure(&self, m: usize, base: Option<&Moved>) -> Option<Figure> {
        let of = |own: &[[Option<f64>; FOLLOWED.len()]], base: Option<&Vec<[Option<f64>; FOLLOWED.len()]>>| {
            let one = |(s, values): (usize, &[Option<f64>; FOLLOWED.len()])| {
                Some(values[m]? - base.map_or(Some(0.0), |base| base[s][m])?)
            };
            own.iter().enumerate().map(one).collect::<Option<Vec<f64>>>()
        };
        let values = of(&self.values, base.map(|b| &b.values))?;
        let pairs = self.replicates.iter().enumerate();
        let drawn: Vec<f64> =
            pairs.filter_map(|(b, own)| of(own, base.map(|base| &base.replicates[b])).map(|v| mean(&v))).collect();
        if drawn.len() < 2 {
            return None;
        }
        let seeds = values.len() as f64;
        let (spread, of_seeds, of_users) = (variance(&values).sqrt(), variance(&values) / seeds, variance(&drawn));
        let (mean, total) = (mean(&values), of_seeds + of_users);
        let freedom =
            if of_seeds > 0.0 { total * total / (of_seeds * of_seeds / (seeds - 1.0)) } else { f64::INFINITY };
        let error = total.sqrt();
        let half = error * student_quantile(freedom);
        let p = if error > 0.0 { student_tails(mean / error, freedom) } else { f64::from(u8::from(mean == 0.0)) };
        Some(Figure { values, mean, spread, low: mean - half, high: mean + half, p, p_holm: None })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of a sample of at least two.
fn variance(values: &[f64]) -> f64 {
    let middle = mean(values);
    values.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// Beyond so many degrees of freedom Student's distribution is the normal one.
const NORMAL: f64 = 1e5;

/// Probability that Student's t strays from zero by at least as much, for 1 or more degrees of
/// freedom. By Simpson's rule on `t = sqrt(f) tan(a)`, where the density is a power of a cosine.
fn student_tails(t: f64, freedom: f64) -> f64 {
    if freedom > NORMAL {
        return libm::erfc(t.abs() / std::f64::consts::SQRT_2);
    }
    let scale = (libm::lgamma((freedom + 1.0) / 2.0) - libm::lgamma(freedom / 2.0)).exp() / std::f64::consts::PI.sqrt();
    // From the far end, so that small tails keep their digits.
    let (from, to) = ((t.abs() / freedom.sqrt()).atan(), std::f64::consts::FRAC_PI_2);
    let steps = 4000;
    let width = (to - from) / f64::from(steps);
    let density = |n: u32| (from + width * f64::from(n)).cos().max(0.0).powf(freedom - 1.0);
    let inner: f64 = (1..steps).map(|n| density(n) * if n % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (2.0 * scale * width / 3.0 * (density(0) + inner + density(steps))).min(1.0)
}

/// What t is beyond in 5 % of cases.
fn student_quantile(freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1000.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if student_tails(middle, freedom) > 0.05 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};

    #[test]
    fn students_distribution_is_that_of_the_tables() {
        // scipy.stats.t: 2 * sf(t, f), and isf(0.025, f).
        for (t, f, want) in [(2.0, 1.0, 0.295_167_235_3), (4.303, 2.0, 0.049_992_5), (1.0, 7.5, 0.348_476)] {
            let got = student_tails(t, f);
            assert!((got - want).abs() <= 2e-6, "t {t}, f {f}: {got}, not {want}");
        }
        for (f, want) in [(2.0, 4.302_653), (10.0, 2.228_139), (1e9, 1.959_964)] {
            let got = student_quantile(f);
            assert!((got - want).abs() <= 2e-6, "{f}: {got}, not {want}");
        }
    }

    /// Rows of 60 users; the model `good` sees a part of the label, and each seed its own noise.
    fn seed(seed: u64, skill: f64) -> OfSeed {
        let mut rng = Rng::new(seed, Use::Rows, 3, 3);
        let mut unit = || f64::from(rng.below(1 << 20)) / f64::from(1u32 << 20);
        let mut of = OfSeed { seed, ..OfSeed::default() };
        let (mut good, mut base) = (Vec::new(), Vec::new());
        for user in 0..60u32 {
            for k in 0..10u32 {
                let label = (user * 7 + k * 3) % 5 < 2;
                of.labels.push(label);
                of.users.push(user);
                let sign = if label { 1.0 } else { -1.0 };
                good.push((0.5 + 0.2 * skill * sign + 0.3 * (unit() - 0.5)).clamp(0.01, 0.99));
                base.push(0.2 + 0.6 * unit());
            }
        }
        of.models = [("good".to_string(), good), ("base".to_string(), base)].into();
        of
    }

    #[test]
    fn a_skill_that_every_seed_has_is_found_and_one_that_no_seed_has_is_not() {
        let settings = EvalSettings { bootstrap: 200, ..EvalSettings::default() };
        let line = |skill: f64| {
            let seeds: Vec<OfSeed> = (1..=3).map(|s| seed(s, skill)).collect();
            let found = OverSeeds::of(&seeds, "base", &settings).unwrap();
            assert_eq!((found.users, found.rows.as_slice()), (60, &[600, 600, 600][..]));
            assert!(found.to_markdown().contains("over the seeds 1, 2, 3"));
            found.lines.into_iter().find(|line| line.model == "good" && line.metric == "auc").unwrap()
        };
        let skilled = line(0.5);
        let difference = skilled.difference.unwrap();
        assert!(difference.mean > 0.3 && difference.p < 0.01 && difference.low > 0.0, "{difference:?}");
        let middle = skilled.value.values.iter().sum::<f64>() / 3.0;
        assert!((skilled.value.mean - middle).abs() <= 1e-12 && skilled.value.spread > 0.0);
        let none = line(0.0).difference.unwrap();
        assert!(none.p > 0.05 && none.low < 0.0 && none.high > 0.0, "{none:?}");
    }

    #[test]
    fn one_seed_is_too_few() {
        assert!(OverSeeds::of(&[seed(1, 1.0)], "base", &EvalSettings::default()).is_err());
    }
}
