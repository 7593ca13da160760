//! How fast the operators are on a device, against what its memory and its arithmetic units allow.
//!
//! The ceilings are measured first ([`ceilings`]). Each case then runs many times on rotated inputs
//! (many sets, so that a small operand is not found in cache from the run before). On the CPU the
//! time of a run is taken by the clock; with kernels every launch is timed by events on the
//! device's stream, and what an operator took is the sum of its launches: gaps between launches,
//! buffers set to zero and copies to and from the CPU are not in it. Times are medians over the
//! runs, beside the tenth and the ninetieth per cent. A case's floor is what it must move and
//! compute, whatever was done; a goal is a share of that floor, of another work timed beside it, or
//! a time.
//!
//! No GPU has run the kernels yet; on the host build, where tests run them, times mean nothing and
//! goals are not judged.

mod about;
mod ceilings;
pub mod count;
mod goal;
mod measure;
mod step;
mod versus;

pub use about::About;
pub use ceilings::{Ceilings, measure as ceilings};
pub use goal::Verdict;
pub use measure::{Beside, Bound, Launched, Measured, time};
pub use versus::{Versus, versus};

use crate::device::{Device, KernelDevice, Kind};
use crate::error::{Error, Result};
use crate::ops::registry::{self, Case, Make, Scale};

/// Works of several operators, by a name of their own.
const TOGETHER: &[(&str, &[Case])] = &[("decode_step", step::CASES)];

/// All cases, those of one operator together.
pub fn all() -> impl Iterator<Item = &'static Case> {
    registry::ALL.iter().flat_map(|o| o.cases).chain(TOGETHER.iter().flat_map(|(_, cases)| cases.iter()))
}

/// Whether a case is one for the device's sort, there or not.
fn meant_for(case: &Case, device: &Device) -> bool {
    matches!(case.make, Make::Cpu(_)) == matches!(device, Device::Cpu)
}

/// The cases for `device` of the operators named, by any of their names ([`registry::find`]); of
/// all when none is named.
///
/// # Errors
/// An unknown name, with the nearest one; an operator that has no case for the device.
pub fn select(names: &[String], device: &Device) -> Result<Vec<&'static Case>> {
    let mut chosen = Vec::new();
    for name in names {
        let together = TOGETHER.iter().find(|(known, _)| *known == name.replace('-', "_"));
        let cases: Vec<&Case> = match together {
            Some((_, cases)) => cases.iter().collect(),
            None => registry::named("bench", name)?.cases.iter().collect(),
        };
        let before = chosen.len();
        chosen.extend(cases.into_iter().filter(|case| meant_for(case, device)));
        if chosen.len() == before {
            let other = if matches!(device, Device::Cpu) { "cuda" } else { "cpu" };
            return Err(Error::usage("bench", format!("'{name}' has nothing to measure on this device"))
                .next(format!("try --device {other}")));
        }
    }
    if names.is_empty() {
        chosen.extend(all().filter(|case| meant_for(case, device)));
    }
    Ok(chosen)
}

/// Why the device cannot run a case that is meant for its sort, if it cannot.
pub fn left_out(case: &Case, device: &Device) -> Option<String> {
    let needs = match (&case.make, device) {
        (Make::Hopper(_), Device::Kernels(device)) => device.capability() != Some((9, 0)),
        _ => false,
    };
    needs.then(|| "needs a GPU of compute capability 9.0".to_owned())
}

/// The size of a device's cases.
fn scale(device: &KernelDevice) -> Scale {
    if device.kind() == Kind::Host { Scale::Tiny } else { Scale::Full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_profile_shows_are_benched_and_unknown_ones_get_the_nearest() {
        let cpu = |name: &str| select(&[name.into()], &Device::Cpu);
        let all = select(&[], &Device::Cpu).unwrap();
        assert!(all.len() > 30, "{} cases of the CPU", all.len());
        assert!(cpu("topk").unwrap().iter().all(|c| c.op == "topk"));
        assert_eq!(cpu("topk_scan_bf16").unwrap().len(), cpu("topk").unwrap().len(), "a kernel's name");
        let error = cpu("spmn").unwrap_err();
        assert!(error.next_step().contains("'spmm'"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let host = Device::Kernels(KernelDevice::host(0));
        assert!(!select(&["decode-step".into()], &host).unwrap().is_empty());
        assert!(cpu("decode_step").unwrap_err().next_step().contains("cuda"));
    }

    #[test]
    fn every_operator_is_measured_somewhere() {
        for operator in registry::ALL.iter().filter(|o| o.name != "peak") {
            assert!(!operator.cases.is_empty(), "{} has no case", operator.name);
            for case in operator.cases {
                assert!(operator.has(case.op), "{} in the list of {}", case.op, operator.name);
            }
        }
    }

    #[test]
    fn every_case_of_the_cpu_runs_on_all_its_inputs_and_has_a_cost() {
        for case in all().filter(|c| !c.work.contains("49152")) {
            let Make::Cpu(make) = case.make else { continue };
            let mut prepared = make().unwrap();
            let floor = prepared.floor.unwrap();
            assert!(prepared.sets > 0 && floor.bytes > 0.0 && floor.flops > 0.0, "{}", case.op);
            (prepared.run)(0).unwrap();
            (prepared.run)(prepared.sets - 1).unwrap();
        }
    }
}
