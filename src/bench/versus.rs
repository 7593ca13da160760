//! One case by two versions of its kernels, in turns: what a change of a kernel brings.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::measure::{Spread, prepare};
use crate::device::{Device, KernelDevice};
use crate::error::{Error, Result};
use crate::ops::registry::Case;

/// A case by the program's kernels and by edited ones.
#[derive(Debug, Clone, Serialize)]
pub struct Versus {
    /// Operator.
    pub op: &'static str,
    /// Which work of it.
    pub work: &'static str,
    /// How values are stored.
    pub storage: &'static str,
    /// Turns: each is a run by either.
    pub turns: usize,
    /// Median seconds of the program's kernels.
    pub built_in: f64,
    /// Median seconds of the edited ones.
    pub edited: f64,
    /// Median over the turns of the first over the second: above 1 the edited ones are faster.
    pub faster: f64,
    /// A tenth of the turns had no more.
    pub p10: f64,
    /// Nine tenths of the turns had no more.
    pub p90: f64,
}

/// Seconds of a run's launches.
fn seconds(device: &KernelDevice, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    Ok(device.time_launches(run)?.iter().map(|launch| launch.seconds).sum())
}

/// Runs a case on both devices in turns, for about `limit` seconds. Which of the two comes first
/// changes with each turn.
///
/// # Errors
/// Those of the operator; a device without kernels.
pub fn versus(built_in: &Device, edited: &Device, case: &Case, limit: f64) -> Result<Versus> {
    let (Device::Kernels(own), Device::Kernels(new)) = (built_in, edited) else {
        return Err(Error::failed("bench", "two versions of kernels on a device without kernels"));
    };
    let (mut ours, _, (least, most), _) = prepare(built_in, case)?;
    let (mut theirs, ..) = prepare(edited, case)?;
    let sets = ours.sets;
    // Modules are loaded and memory is taken before anything is timed.
    (ours.run)(0)?;
    (theirs.run)(0)?;
    let (began, limit) = (Instant::now(), Duration::from_secs_f64(limit));
    let (mut of_own, mut of_new) = (Vec::new(), Vec::new());
    while of_own.len() < least || (began.elapsed() < limit && of_own.len() < most) {
        let set = (of_own.len() + 1) % sets;
        let first = of_own.len() % 2 == 0;
        for own_turn in [first, !first] {
            if own_turn {
                of_own.push(seconds(own, &mut || (ours.run)(set))?);
            } else {
                of_new.push(seconds(new, &mut || (theirs.run)(set))?);
            }
        }
    }
    let ratios = of_own.iter().zip(&of_new).map(|(own, new)| own / new).collect();
    let (turns, ratio) = (of_own.len(), Spread::of(ratios));
    Ok(Versus {
        op: case.op,
        work: case.work,
        storage: ours.storage,
        turns,
        built_in: Spread::of(of_own).seconds,
        edited: Spread::of(of_new).seconds,
        faster: ratio.seconds,
        p10: ratio.p10,
        p90: ratio.p90,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_kernels_twice_are_timed_in_turns() {
        let host = |seed| Device::Kernels(KernelDevice::host(seed));
        let case = super::super::select(&["spmm".into()], &host(0)).unwrap()[0];
        let seen = versus(&host(1), &host(2), case, 1e-3).unwrap();
        assert!(seen.turns >= 2 && seen.built_in > 0.0 && seen.edited > 0.0, "{seen:?}");
        assert!(seen.p10 <= seen.faster && seen.faster <= seen.p90, "{seen:?}");
        assert!(versus(&Device::Cpu, &host(0), case, 1e-3).is_err());
    }
}
