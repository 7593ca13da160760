//! How fast the operators are on this machine, against what its memory and its arithmetic units allow.
//!
//! Two ceilings are measured first: bytes a second that all threads read or copy, and FLOP a second of a large f32
//! product. Each case then runs on rotated inputs (many sets, so that a small operand is not found in cache from the
//! run before); its median time is compared with the time that the nearer ceiling allows for its [`Cost`].

mod cases;
mod ceilings;
pub mod kernels;

use std::time::{Duration, Instant};

use serde::Serialize;

pub use cases::{CASES, Case};
pub use ceilings::{Ceilings, measure as ceilings};

use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Input sets and a way to run one.
pub struct Prepared {
    /// Of one run.
    pub cost: Cost,
    /// Number of input sets.
    pub sets: usize,
    /// Runs input set number `i`.
    pub run: Box<dyn FnMut(usize)>,
}

/// Which ceiling is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Moving the bytes takes longer than the arithmetic.
    Memory,
    /// The arithmetic takes longer.
    Compute,
}

/// The result of one case.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Operator.
    pub op: &'static str,
    /// Shapes in words.
    pub shape: &'static str,
    /// Timed runs.
    pub runs: usize,
    /// Median seconds of a run.
    pub seconds: f64,
    /// Gigabytes a second by the operator's cost.
    pub gb_s: f64,
    /// GFLOP a second by the operator's cost.
    pub gflop_s: f64,
    /// The nearer ceiling.
    pub bound: Bound,
    /// Time that the nearer ceiling allows, in per cent of the time taken. Above 100 means that operands came from
    /// cache, which is faster than the memory ceiling.
    pub percent: f64,
}

/// Least and most timed runs of a case.
const RUNS: (usize, usize) = (5, 2001);

/// The cases of the operators named; of all when none is named. An unknown name gets the nearest one.
pub fn select(names: &[String]) -> Result<Vec<&'static Case>> {
    named(CASES, |case| case.op, names)
}

fn named<C>(cases: &'static [C], op: fn(&C) -> &'static str, names: &[String]) -> Result<Vec<&'static C>> {
    let mut known: Vec<&str> = cases.iter().map(op).collect();
    known.dedup();
    for name in names {
        if !known.contains(&name.as_str()) {
            let near = known.iter().min_by_key(|k| (strsim::damerau_levenshtein(name, k), **k)).copied().unwrap_or("");
            return Err(Error::usage("bench", format!("there is no operator '{name}'"))
                .next(format!("did you mean '{near}'? The operators are: {}", known.join(", "))));
        }
    }
    Ok(cases.iter().filter(|c| names.is_empty() || names.iter().any(|n| n == op(c))).collect())
}

/// Runs one case for about `seconds`.
pub fn time(case: &Case, ceilings: &Ceilings, seconds: f64) -> Result<Measured> {
    let mut prepared = (case.make)()?;
    (prepared.run)(0);
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut times = Vec::new();
    while times.len() < RUNS.0 || (begun.elapsed() < limit && times.len() < RUNS.1) {
        let set = (times.len() + 1) % prepared.sets;
        let start = Instant::now();
        (prepared.run)(set);
        times.push(start.elapsed().as_secs_f64());
    }
    let runs = times.len();
    let seconds = median(times);
    let (bound, percent) = against(ceilings.each(prepared.cost), seconds);
    let rate = |amount: f64| amount / seconds / 1e9;
    Ok(Measured {
        op: case.op,
        shape: case.shape,
        runs,
        seconds,
        gb_s: rate(prepared.cost.bytes),
        gflop_s: rate(prepared.cost.flops),
        bound,
        percent,
    })
}

/// Which of the two is nearer, for the least seconds that a work takes of the memory and of the arithmetic units; and the share of it.
fn against((memory, compute): (f64, f64), seconds: f64) -> (Bound, f64) {
    let bound = if memory >= compute { Bound::Memory } else { Bound::Compute };
    (bound, 100.0 * memory.max(compute) / seconds)
}

/// The middle of the times, the lower one of two.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_operators_get_the_nearest_name() {
        assert_eq!(select(&[]).unwrap().len(), CASES.len());
        assert!(select(&["topk".into()]).unwrap().iter().all(|c| c.op == "topk"));
        let error = select(&["spmn".into()]).unwrap_err();
        assert!(error.next_step().contains("'spmm'"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_nearer_ceiling_is_the_one_that_takes_longer() {
        let ceilings = Ceilings { copy_gb_s: 10.0, read_gb_s: 20.0, gflop_s: 100.0 };
        let (bound, percent) = against(ceilings.each(Cost { bytes: 20e9, flops: 50e9 }), 2.0);
        assert_eq!(bound, Bound::Memory);
        assert!((percent - 50.0).abs() <= 1e-9);
        let (bound, percent) = against(ceilings.each(Cost { bytes: 2e9, flops: 100e9 }), 4.0);
        assert_eq!(bound, Bound::Compute);
        assert!((percent - 25.0).abs() <= 1e-9);
    }

    #[test]
    fn every_case_runs_on_all_its_inputs_and_has_a_cost() {
        for case in CASES.iter().filter(|c| !c.shape.contains("49152")) {
            let mut prepared = (case.make)().unwrap();
            assert!(prepared.sets > 0 && prepared.cost.bytes > 0.0 && prepared.cost.flops > 0.0, "{}", case.op);
            (prepared.run)(0);
            (prepared.run)(prepared.sets - 1);
        }
    }
}
