//! The numerical check: operators against their f64 oracle on random cases, on any device, with the distribution of the
//! error and a worst case that can be run again.

mod cases;
mod language;

use serde::Serialize;

use crate::device::KernelDevice;
use crate::error::{Error, Result};
use crate::ops::lora::wgmma;
use crate::rng::{Rng, Use};

pub use cases::OPERATORS;

/// Where an operator runs.
#[derive(Debug, Clone)]
pub enum Target {
    /// The CPU backend.
    Cpu,
    /// Kernels, on the host build or a GPU.
    Kernels(KernelDevice),
}

/// Sizes of a case; what each means is the operator's business.
pub type Shape = [usize; 3];

/// An operator with its sorts of shapes.
#[derive(Clone, Copy)]
pub struct Operator {
    /// As on the command line.
    pub name: &'static str,
    /// What the three sizes are.
    pub sizes: [&'static str; 3],
    /// Name and inclusive ranges of the sizes.
    pub classes: &'static [(&'static str, [(usize, usize); 3])],
    /// Whether it also runs on bf16 storage.
    pub bf16: bool,
    /// Errors of every value in units of the tolerance.
    pub run: Run,
}

/// A case: shape, whether storage is bf16, seed.
#[derive(Clone, Copy)]
pub enum Run {
    /// On any target.
    Anywhere(fn(&Target, Shape, bool, u64) -> Result<Vec<f64>>),
    /// On the CPU alone: there is no kernel of it.
    Cpu(fn(Shape, u64) -> Result<Vec<f64>>),
    /// On GPUs of compute capability 9.0, and the host build.
    Hopper(fn(&KernelDevice, Shape, u64) -> Result<Vec<f64>>),
    /// Of kernels alone; the CPU backend has nothing to show.
    Kernels(fn(&KernelDevice, Shape, bool, u64) -> Result<Vec<f64>>),
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A case that can be run again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Sizes.
    pub shape: Shape,
    /// Of values and, on the host build, of the order of threads.
    pub seed: u64,
    /// Number of the worst value.
    pub at: usize,
    /// Its error in units of the tolerance.
    pub error: f64,
}

/// What an operator did on one sort of shapes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Operator.
    pub op: &'static str,
    /// `f32` or `bf16`.
    pub dtype: &'static str,
    /// Sort of shapes.
    pub class: &'static str,
    /// Cases run.
    pub cases: usize,
    /// Values compared.
    pub values: usize,
    /// Median error in units of the tolerance.
    pub median: f64,
    /// That of 99 % of the values.
    pub p99: f64,
    /// The worst case; smaller, if a smaller one fails as well.
    pub worst: Case,
    /// Every value within its tolerance.
    pub pass: bool,
}

/// The operators of these names; all for none.
pub fn select(names: &[String]) -> Result<Vec<&'static Operator>> {
    let find = |name: &String| {
        OPERATORS.iter().find(|o| o.name == name).ok_or_else(|| {
            let known: Vec<&str> = OPERATORS.iter().map(|o| o.name).collect();
            Error::usage("OP", format!("{name} is not checked")).next(format!("choose from {}", known.join(", ")))
        })
    };
    if names.is_empty() { Ok(OPERATORS.iter().collect()) } else { names.iter().map(find).collect() }
}

/// Worst value and its place; a NaN is worse than all.
fn worst_of(errors: &[f64]) -> (usize, f64) {
    let grade = |e: f64| if e.is_nan() { f64::INFINITY } else { e };
    errors.iter().map(|&e| grade(e)).enumerate().fold((0, 0.0), |w, (i, e)| if e > w.1 { (i, e) } else { w })
}

fn run_case(op: &Operator, target: &Target, bf16: bool, shape: Shape, seed: u64) -> Result<(Vec<f64>, Case)> {
    let errors = match (op.run, target) {
        (Run::Anywhere(run), _) => run(target, shape, bf16, seed)?,
        (Run::Kernels(run), Target::Kernels(device)) => run(device, shape, bf16, seed)?,
        (Run::Cpu(run), Target::Cpu) => run(shape, seed)?,
        (Run::Hopper(run), Target::Kernels(device)) if wgmma::is_there(device) => run(device, shape, seed)?,
        _ => Vec::new(),
    };
    let (at, error) = worst_of(&errors);
    Ok((errors, Case { shape, seed, at, error }))
}

/// Halves sizes as long as the case still fails.
fn shrink(op: &Operator, target: &Target, bf16: bool, mut case: Case) -> Result<Case> {
    loop {
        let mut smaller = None;
        for d in 0..3 {
            for to in [case.shape[d] / 2, case.shape[d].saturating_sub(1)] {
                if to == 0 || to == case.shape[d] || smaller.is_some() {
                    continue;
                }
                let mut shape = case.shape;
                shape[d] = to;
                let (_, tried) = run_case(op, target, bf16, shape, case.seed)?;
                if tried.error > 1.0 {
                    smaller = Some(tried);
                }
            }
        }
        match smaller {
            Some(found) => case = found,
            None => return Ok(case),
        }
    }
}

/// Runs `cases` cases a sort of shapes with seeds `seed`, `seed + 1`, ...; with `shape` only that one.
pub fn check(op: &Operator, target: &Target, cases: usize, seed: u64, shape: Option<Shape>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let there = match (op.run, target) {
        (Run::Anywhere(_), _) | (Run::Cpu(_), Target::Cpu) | (Run::Kernels(_), Target::Kernels(_)) => true,
        (Run::Hopper(_), Target::Kernels(device)) => wgmma::is_there(device),
        _ => false,
    };
    if !there {
        return Ok(findings);
    }
    let narrow = op.bf16 && matches!(target, Target::Kernels(_));
    for (dtype, bf16) in [("f32", false), ("bf16", true)] {
        if bf16 && !narrow {
            continue;
        }
        for &(class, ranges) in op.classes {
            let class = if shape.is_some() { "given" } else { class };
            let mut all = Vec::new();
            let mut worst = Case { shape: [0; 3], seed, at: 0, error: 0.0 };
            for case in 0..cases as u64 {
                let seed = seed.wrapping_add(case);
                let mut rng = Rng::new(seed, Use::Synthetic, 0, u32::MAX);
                let drawn = ranges.map(|(low, high)| low + rng.below((high - low + 1) as u32) as usize);
                let (errors, found) = run_case(op, target, bf16, shape.unwrap_or(drawn), seed)?;
                if found.error >= worst.error {
                    worst = found;
                }
                all.extend(errors);
            }
            if worst.error > 1.0 {
                worst = shrink(op, target, bf16, worst)?;
            }
            all.sort_unstable_by(f64::total_cmp);
            let quantile =
                |q: f64| all.get(((all.len() as f64 * q) as usize).min(all.len().max(1) - 1)).copied().unwrap_or(0.0);
            findings.push(Finding {
                op: op.name,
                dtype,
                class,
                cases,
                values: all.len(),
                median: quantile(0.5),
                p99: quantile(0.99),
                pass: worst.error <= 1.0,
                worst,
            });
            if shape.is_some() {
                break;
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_passes_on_cpu_and_host() {
        for target in [Target::Cpu, Target::Kernels(KernelDevice::host(1))] {
            for op in OPERATORS {
                for finding in check(op, &target, 2, 1, None).unwrap() {
                    assert!(finding.pass && finding.values > 0, "{target:?}: {finding:?}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_operator_fails_with_a_small_case() {
        fn run(_: &Target, shape: Shape, _: bool, _: u64) -> Result<Vec<f64>> {
            // Wrong from the 17th value on, and NaN there.
            Ok((0..shape[0]).map(|i| if i > 16 { f64::NAN } else { 0.1 }).collect())
        }
        let classes = &[("any", [(40, 90), (1, 1), (1, 1)])];
        let op = Operator { name: "wrong", sizes: ["n", "-", "-"], classes, bf16: false, run: Run::Anywhere(run) };
        let findings = check(&op, &Target::Cpu, 5, 0, None).unwrap();
        assert_eq!((findings[0].pass, findings[0].worst.shape[0], findings[0].worst.at), (false, 18, 17));
    }
}
