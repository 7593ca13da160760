//! The numerical check: operators against their f64 oracle on random cases, on any device, with the
//! distribution of the error and a worst case that can be run again.

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::device::{Device, Kind};
use crate::error::{Error, Result};
use crate::ops::registry::{self, Check, Shape};
use crate::rng::{Rng, Use};

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

impl Finding {
    /// A finding as it was written to JSON; `None` where it is not one of this program's.
    pub fn read(json: &Value) -> Option<Self> {
        let op = registry::ALL.iter().flat_map(|o| o.checks).find(|c| json["op"] == c.name)?;
        let classes = op.classes.iter().map(|(class, _)| *class).chain(["given"]);
        let number = |of: &Value, what: &str| of[what].as_u64().map(|n| n as usize);
        let worst = &json["worst"];
        let shape: Vec<usize> = worst["shape"].as_array()?.iter().filter_map(|n| Some(n.as_u64()? as usize)).collect();
        Some(Self {
            op: op.name,
            dtype: ["f32", "bf16"].into_iter().find(|name| json["dtype"] == *name)?,
            class: classes.into_iter().find(|name| json["class"] == *name)?,
            cases: number(json, "cases")?,
            values: number(json, "values")?,
            median: json["median"].as_f64()?,
            p99: json["p99"].as_f64()?,
            worst: Case {
                shape: shape.try_into().ok()?,
                seed: worst["seed"].as_u64()?,
                at: number(worst, "at")?,
                error: worst["error"].as_f64()?,
            },
            pass: json["pass"].as_bool()?,
        })
    }
}

/// The checks of these names; all for none. A name is an operator's, its backward's or a kernel's
/// ([`registry::find`]); where it is a check's own, that one alone is meant.
///
/// # Errors
/// An unknown name, with the nearest one; an operator that is not checked by itself.
pub fn select(names: &[String]) -> Result<Vec<&'static Check>> {
    if names.is_empty() {
        return Ok(registry::ALL.iter().flat_map(|o| o.checks).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let operator = registry::named("check", name)?;
        let own = name.replace('-', "_");
        let exact = operator.checks.iter().any(|check| check.name == own && own != operator.name);
        let before = chosen.len();
        chosen.extend(operator.checks.iter().filter(|check| !exact || check.name == own));
        if chosen.len() == before {
            return Err(Error::usage("check", format!("'{name}' is not checked by itself"))
                .next("its property tests are in tests/kernels"));
        }
    }
    Ok(chosen)
}

/// Worst value and its place; a NaN is worse than all.
fn worst_of(errors: &[f64]) -> (usize, f64) {
    let grade = |e: f64| if e.is_nan() { f64::INFINITY } else { e };
    errors.iter().map(|&e| grade(e)).enumerate().fold((0, 0.0), |w, (i, e)| if e > w.1 { (i, e) } else { w })
}

fn run_case(op: &Check, device: &Device, bf16: bool, shape: Shape, seed: u64) -> Result<(Vec<f64>, Case)> {
    let errors = (op.run)(device, shape, bf16, seed)?;
    let (at, error) = worst_of(&errors);
    Ok((errors, Case { shape, seed, at, error }))
}

/// Halves sizes as long as the case still fails.
fn shrink(op: &Check, device: &Device, bf16: bool, mut case: Case) -> Result<Case> {
    loop {
        let mut smaller = None;
        for d in 0..3 {
            for to in [case.shape[d] / 2, case.shape[d].saturating_sub(1)] {
                if to == 0 || to == case.shape[d] || smaller.is_some() {
                    continue;
                }
                let mut shape = case.shape;
                shape[d] = to;
                let (_, tried) = run_case(op, device, bf16, shape, case.seed)?;
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

/// Runs `cases` cases a sort of shapes with seeds `seed`, `seed + 1`, ...; with `shape` only that
/// one. Adds to `findings` as it goes.
///
/// # Errors
/// Those of the operator; what was found before stays in `findings`.
pub fn check(
    op: &Check,
    device: &Device,
    cases: usize,
    seed: u64,
    shape: Option<Shape>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if !op.runs_on(device) {
        return Ok(());
    }
    let narrow = op.bf16 && matches!(device, Device::Kernels(_));
    for (dtype, bf16) in [("f32", false), ("bf16", true)] {
        if bf16 && !narrow {
            continue;
        }
        for &(class, ranges) in op.classes {
            let class = if shape.is_some() { "given" } else { class };
            let mut all = Vec::new();
            let mut worst = Case { shape: [0; 3], seed, at: 0, error: 0.0 };
            let one = |case: u64| {
                let seed = seed.wrapping_add(case);
                let mut rng = Rng::new(seed, Use::Synthetic, 0, u32::MAX);
                let drawn = ranges.map(|(low, high)| low + rng.below((high - low + 1) as u32) as usize);
                run_case(op, device, bf16, shape.unwrap_or(drawn), seed)
            };
            // The host build runs a launch on the thread that asks for it.
            let by_cores = matches!(device, Device::Kernels(device) if device.kind() == Kind::Host);
            let found: Vec<_> = match by_cores {
                true => (0..cases as u64).into_par_iter().map(one).collect(),
                false => {
                    // Behind an error nothing can be asked of the device any more.
                    let mut done = Vec::new();
                    for case in 0..cases as u64 {
                        done.push(one(case));
                        if done.last().is_some_and(Result::is_err) {
                            break;
                        }
                    }
                    done
                }
            };
            for each in found {
                let (errors, found) = each?;
                if found.error >= worst.error {
                    worst = found;
                }
                all.extend(errors);
            }
            if worst.error > 1.0 {
                worst = shrink(op, device, bf16, worst)?;
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::KernelDevice;

    #[test]
    fn every_operator_passes_on_cpu_and_host() {
        for device in [Device::Cpu, Device::Kernels(KernelDevice::host(1))] {
            for op in select(&[]).unwrap() {
                let mut findings = Vec::new();
                check(op, &device, 2, 1, None, &mut findings).unwrap();
                for finding in findings {
                    assert!(finding.pass && finding.values > 0, "{device:?}: {finding:?}");
                }
            }
        }
    }

    #[test]
    fn a_finding_is_read_as_it_was_written() {
        let mut findings = Vec::new();
        let op = select(&["rmsnorm".into()]).unwrap()[0];
        check(op, &Device::Cpu, 2, 1, None, &mut findings).unwrap();
        let json = serde_json::to_value(&findings).unwrap();
        let read: Vec<Finding> = json.as_array().unwrap().iter().filter_map(Finding::read).collect();
        assert_eq!(read, findings);
        assert!(Finding::read(&serde_json::json!({ "op": "rmsnorm", "dtype": "f8" })).is_none());
    }

    #[test]
    fn names_that_a_profile_shows_are_checked() {
        let of = |name: &str| select(&[name.into()]).unwrap().iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(of("spmm_layer_f32_16"), ["spmm"]);
        assert_eq!(of("attention"), ["attention", "attention_backward"]);
        assert_eq!(of("attention-backward"), ["attention_backward"]);
        assert_eq!(of("wgmma"), ["lora_sm90a"], "the name of the version before");
        assert!(select(&["spmn".into()]).unwrap_err().next_step().contains("'spmm'"));
    }

    #[test]
    fn a_wrong_operator_fails_with_a_small_case() {
        fn run(_: &Device, shape: Shape, _: bool, _: u64) -> Result<Vec<f64>> {
            // Wrong from the 17th value on, and NaN there.
            Ok((0..shape[0]).map(|i| if i > 16 { f64::NAN } else { 0.1 }).collect())
        }
        let classes = &[("any", [(40, 90), (1, 1), (1, 1)])];
        let op = Check::new("wrong", ["n", "-", "-"], run).one_storage().shapes(classes);
        let mut findings = Vec::new();
        check(&op, &Device::Cpu, 5, 0, None, &mut findings).unwrap();
        assert_eq!((findings[0].pass, findings[0].worst.shape[0], findings[0].worst.at), (false, 18, 17));
    }

    #[test]
    fn an_error_of_the_device_leaves_what_was_found_before() {
        fn run(_: &Device, shape: Shape, _: bool, _: u64) -> Result<Vec<f64>> {
            if shape[0] > 1 { Err(Error::failed("GPU", "illegal address")) } else { Ok(vec![0.5]) }
        }
        let classes = &[("one", [(1, 1), (1, 1), (1, 1)]), ("two", [(2, 2), (1, 1), (1, 1)])];
        let op = Check::new("fault", ["n", "-", "-"], run).one_storage().shapes(classes);
        let mut findings = Vec::new();
        assert!(check(&op, &Device::Cpu, 2, 0, None, &mut findings).is_err());
        assert_eq!(findings.iter().map(|f| (f.class, f.pass)).collect::<Vec<_>>(), [("one", true)]);
    }
}
