//! The consistency merge of any number of experts: `w_e = alpha_e / (var_e / tau_e + epsilon)`,
//! with the alphas chosen on validation rows. An option beyond the papers, which merge two.

use serde::{Deserialize, Serialize};

use super::{Metric, Samples, Trust, in_range};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::ops::merge as op;

/// Whose opinions take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Expert {
    /// The tuned model.
    Tuned,
    /// The reasoning model, where it has samples.
    Reasoning,
    /// What the causal features alone say (`collab`).
    Collaborative,
    /// What a file says: the recipe's `experts.NAME`.
    Outside(String),
}

impl Expert {
    /// Those that every recipe knows.
    pub const OWN: [Expert; 3] = [Expert::Tuned, Expert::Reasoning, Expert::Collaborative];

    /// As it is written.
    pub fn name(&self) -> &str {
        match self {
            Expert::Tuned => "tuned",
            Expert::Reasoning => "reasoning",
            Expert::Collaborative => "collaborative",
            Expert::Outside(name) => name,
        }
    }
}

impl From<String> for Expert {
    fn from(name: String) -> Self {
        Self::OWN.into_iter().find(|own| own.name() == name).unwrap_or(Self::Outside(name))
    }
}

impl From<Expert> for String {
    fn from(expert: Expert) -> Self {
        expert.name().to_owned()
    }
}

/// What one expert says of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinions {
    name: String,
    mean: Vec<f64>,
    /// Infinity where the expert is silent: then it has no weight.
    var: Vec<f64>,
}

impl Opinions {
    /// Of each row the mean and variance of the expert's samples; `None` where it is silent.
    ///
    /// # Errors
    /// A mean that is no probability, a negative variance.
    pub fn new(name: &str, rows: impl IntoIterator<Item = Option<(f64, f64)>>) -> Result<Self> {
        let (mean, var) = rows.into_iter().map(|r| r.unwrap_or((0.5, f64::INFINITY))).unzip();
        let opinions = Self { name: name.into(), mean, var };
        for (row, (m, v)) in opinions.mean.iter().zip(&opinions.var).enumerate() {
            if !(0.0..=1.0).contains(m) || v.is_nan() || *v < 0.0 {
                let what = format!("mean {m} and variance {v} cannot be merged");
                return Err(Error::input(format!("merge, {name} expert, row {row}"), what)
                    .next("a mean lies in 0..=1, a variance is not negative"));
            }
        }
        Ok(opinions)
    }

    /// Of rows that all have samples.
    pub fn of_samples(name: &str, samples: &Samples) -> Result<Self> {
        let (mean, var) = samples.moments(usize::MAX)?;
        Self::new(name, mean.into_iter().zip(var).map(Some))
    }
}

/// The merged probability of every row, and the first expert's share of the weight. `trust` is one
/// an expert.
///
/// # Errors
/// No expert, different numbers of rows, parameters out of range, a row of which nobody with any
/// trust says anything.
pub fn merge_all(opinions: &[Opinions], trust: &[Trust], epsilon: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    in_range("epsilon", epsilon, false)?;
    let rows = opinions.first().map_or(0, |o| o.mean.len());
    if opinions.is_empty() || trust.len() != opinions.len() || opinions.iter().any(|o| o.mean.len() != rows) {
        let sizes: Vec<String> = opinions.iter().map(|o| format!("{} {}", o.name, o.mean.len())).collect();
        let what = format!("{} weights for experts with rows: {}", trust.len(), sizes.join(", "));
        return Err(Error::usage("merge", what).next("give each expert a weight, and opinions of the same rows"));
    }
    for (o, t) in opinions.iter().zip(trust) {
        in_range(&format!("experts.{}.alpha", o.name), t.alpha, true)?;
        in_range(&format!("experts.{}.tau", o.name), t.tau, false)?;
    }
    let has_opinion = |row: usize| opinions.iter().zip(trust).any(|(o, t)| t.alpha > 0.0 && o.var[row].is_finite());
    if let Some(row) = (0..rows).find(|&row| !has_opinion(row)) {
        return Err(Error::usage(format!("merge, row {row}"), "no expert has any weight")
            .next("give at least one expert that speaks of every row an alpha above 0"));
    }
    let means: Vec<&[f64]> = opinions.iter().map(|o| o.mean.as_slice()).collect();
    let vars: Vec<&[f64]> = opinions.iter().map(|o| o.var.as_slice()).collect();
    let (mut p, mut share) = (vec![0.0; rows], vec![0.0; rows]);
    let experts = op::Experts { means: &means, vars: &vars, trust };
    op::merge(&Device::Cpu, experts, epsilon, &mut p, &mut share)?;
    Ok((p, share))
}

/// Rounds over the experts; each round can only improve, and a dozen is more than any search here
/// has taken.
const ROUNDS: usize = 50;

/// An alpha for every expert: coordinate search over `grid` on *validation* rows, from all experts
/// at 1, the first held there. Only ratios matter, so nothing is lost by that. Ties keep the
/// smaller alpha. `taus` is one an expert.
///
/// # Errors
/// As [`merge_all`]; a grid without a number above 0; one-class labels under AUC; a stop that was
/// asked for.
pub fn weigh(
    opinions: &[Opinions],
    taus: &[f64],
    labels: &[bool],
    grid: &[f64],
    epsilon: f64,
    metric: Metric,
    monitor: &dyn Monitor,
) -> Result<Vec<Trust>> {
    grid.iter().try_for_each(|&a| in_range("weights", a, true))?;
    let mut grid = grid.to_vec();
    grid.sort_by(f64::total_cmp);
    if !grid.iter().any(|a| *a > 0.0) {
        return Err(Error::usage("merge.weights", "no weight above 0").next("give values such as 0.1, 1, 10"));
    }
    let value = |trust: &[Trust]| -> Result<f64> {
        let (p, _) = merge_all(opinions, trust, epsilon)?;
        metric.value("merge.experts", labels, &p)
    };
    let mut trust: Vec<Trust> = taus.iter().map(|&tau| Trust { alpha: 1.0, tau }).collect();
    let mut best = value(&trust)?;
    for _ in 0..ROUNDS {
        let before = best;
        for e in 1..trust.len() {
            for &alpha in &grid {
                monitor.check()?;
                let mut tried = trust.clone();
                tried[e].alpha = alpha;
                let v = value(&tried)?;
                if metric.better(v, best) || (v == best && alpha < trust[e].alpha) {
                    (trust, best) = (tried, v);
                }
            }
        }
        if !metric.better(best, before) {
            break;
        }
    }
    Ok(trust)
}
