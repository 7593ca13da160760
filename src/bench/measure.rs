//! One case: its runs, launch by launch.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::goal::{Verdict, judge};
use super::{Ceilings, scale};
use crate::device::{Device, KernelDevice, TimedLaunch};
use crate::error::{Error, Result};
use crate::ops::registry::{Case, Make, Prepared, Run, Scale};
use crate::tensor::Cost;

/// Which ceiling is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Moving the bytes takes longer than the arithmetic.
    Memory,
    /// The arithmetic takes longer.
    Compute,
}

/// Which of the two is nearer, for the least seconds that a work takes of the memory and of the
/// arithmetic units; and the share of it, in per cent of the time taken. Above 100 means that
/// operands came from cache, which is faster than the memory's ceiling.
fn against((memory, compute): (f64, f64), seconds: f64) -> (Bound, f64) {
    let bound = if memory >= compute { Bound::Memory } else { Bound::Compute };
    (bound, 100.0 * memory.max(compute) / seconds)
}

/// Least and most runs of a case.
pub(super) type Limits = (usize, usize);

/// Median, tenth and ninetieth of a hundred of times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) seconds: f64,
    pub(super) p10: f64,
    pub(super) p90: f64,
}

impl Spread {
    pub(super) fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1);
        let at = |hundredth: usize| times.get(last * hundredth / 100).copied().unwrap_or(f64::NAN);
        Self { seconds: at(50), p10: at(10), p90: at(90) }
    }
}

/// A kernel of a case, by grid and cost.
#[derive(Debug, Clone, Serialize)]
pub struct Launched {
    /// Kernel.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Launches that were timed.
    pub launches: usize,
    /// Median seconds of a launch.
    pub seconds: f64,
    /// A tenth of the launches took no longer.
    pub p10: f64,
    /// Nine tenths of the launches took no longer.
    pub p90: f64,
    /// Gigabytes a second by the launch's cost.
    pub gb_s: f64,
    /// GFLOP a second by the launch's cost.
    pub gflop_s: f64,
    /// The nearer ceiling.
    pub bound: Bound,
    /// Time that the nearer ceiling allows for the launch's cost, in per cent of the time taken.
    pub percent: f64,
}

/// The work beside a case.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// What it is.
    pub what: &'static str,
    /// Its median seconds.
    pub seconds: f64,
    /// Whether the case cannot be faster.
    pub floor: bool,
}

/// A case as it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Operator.
    pub op: &'static str,
    /// Which work of it.
    pub work: &'static str,
    /// How values are stored.
    pub storage: &'static str,
    /// Sizes by name.
    #[serde(serialize_with = "by_name")]
    pub sizes: Vec<(&'static str, usize)>,
    /// Sets of inputs that were rotated through.
    pub sets: usize,
    /// Runs that were timed.
    pub runs: usize,
    /// Median seconds of a run: its launches, without the gaps between them.
    pub seconds: f64,
    /// A tenth of the runs took no longer.
    pub p10: f64,
    /// Nine tenths of the runs took no longer.
    pub p90: f64,
    /// What the work must move and compute.
    pub floor: Cost,
    /// Seconds that the ceilings, or the work beside it, allow for that.
    pub floor_seconds: f64,
    /// The nearer ceiling.
    pub bound: Bound,
    /// The floor in per cent of the time taken.
    pub percent: f64,
    /// The work beside it.
    pub beside: Option<Beside>,
    /// Its goal.
    pub goal: Option<Verdict>,
    /// Its launches, in their order.
    pub launches: Vec<Launched>,
}

impl Measured {
    /// Sizes in words.
    pub fn shape(&self) -> String {
        let words: Vec<String> = self.sizes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        words.join(", ")
    }
}

fn by_name<S: serde::Serializer>(sizes: &[(&'static str, usize)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(sizes.iter().copied())
}

/// What the runs of a work took, together and by launch.
struct Runs {
    totals: Vec<f64>,
    kinds: Vec<(TimedLaunch, Vec<f64>)>,
}

/// The same kernel over the same blocks for the same cost.
fn alike(a: &TimedLaunch, b: &TimedLaunch) -> bool {
    (a.kernel, a.grid) == (b.kernel, b.grid) && a.cost == b.cost
}

fn repeat(by: By<'_>, (least, most): Limits, seconds: f64, sets: usize, run: &mut Run) -> Result<Runs> {
    // Modules are loaded and memory is taken before anything is timed.
    run(0)?;
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut all = Runs { totals: Vec::new(), kinds: Vec::new() };
    while all.totals.len() < least || (begun.elapsed() < limit && all.totals.len() < most) {
        let set = (all.totals.len() + 1) % sets;
        let By::Launches(device) = by else {
            let start = Instant::now();
            run(set)?;
            all.totals.push(start.elapsed().as_secs_f64());
            continue;
        };
        let done = device.time_launches(&mut || run(set))?;
        all.totals.push(done.iter().map(|l| l.seconds).sum());
        for launch in done {
            let seconds = launch.seconds;
            match all.kinds.iter_mut().find(|(known, _)| alike(known, &launch)) {
                Some((_, times)) => times.push(seconds),
                None => all.kinds.push((launch, vec![seconds])),
            }
        }
    }
    Ok(all)
}

/// How runs are timed.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    Clock,
    Launches(&'a KernelDevice),
}

/// Inputs of a case on `device`, how its runs are timed, least and most of them, and whether the
/// times mean anything.
pub(super) fn prepare<'a>(device: &'a Device, case: &Case) -> Result<(Prepared, By<'a>, Limits, bool)> {
    match (device, case.make) {
        (Device::Cpu, Make::Cpu(make)) => Ok((make()?, By::Clock, (5, 2001), true)),
        (Device::Kernels(device), Make::Kernels(make) | Make::Hopper(make)) => match scale(device) {
            Scale::Full => Ok((make(device, Scale::Full)?, By::Launches(device), (21, 2001), true)),
            Scale::Tiny => Ok((make(device, Scale::Tiny)?, By::Launches(device), (2, 2), false)),
        },
        _ => Err(Error::failed("bench", format!("{} {} is a case of another device", case.op, case.work))),
    }
}

/// Runs one case for about `seconds`.
///
/// # Errors
/// Those of the operator.
pub fn time(device: &Device, case: &Case, ceilings: &Ceilings, seconds: f64) -> Result<Measured> {
    let (mut prepared, by, limits, meant) = prepare(device, case)?;
    let sets = prepared.sets;
    let mut beside = None;
    if let Some(compared) = &mut prepared.beside {
        let took = Spread::of(repeat(by, limits, seconds, sets, &mut compared.run)?.totals);
        beside = Some(Beside { what: compared.what, seconds: took.seconds, floor: compared.floor });
    }
    let Runs { totals, kinds } = repeat(by, limits, seconds, sets, &mut prepared.run)?;
    if matches!(by, By::Launches(_)) && kinds.is_empty() {
        return Err(Error::failed("bench", format!("{} {} launches nothing", case.op, case.work)));
    }
    let runs = totals.len();
    let took = Spread::of(totals);
    let floor = prepared.floor.unwrap_or_else(|| {
        kinds.iter().fold(Cost::default(), |mut sum, (launch, times)| {
            let each = times.len() as f64 / runs as f64;
            sum += Cost { bytes: launch.cost.bytes * each, flops: launch.cost.flops * each };
            sum
        })
    });
    let (memory, compute) = ceilings.each_by(prepared.units, floor);
    // What cannot be faster than the work beside it is held against that, where that is the nearer
    // limit.
    let memory = beside.iter().filter(|b| b.floor).fold(memory, |least, b| least.max(b.seconds));
    let (bound, percent) = against((memory, compute), took.seconds);
    let floor_seconds = memory.max(compute);
    let meant = meant.then_some(took.seconds);
    let goal =
        prepared.goal.map(|goal| judge(goal, meant, floor_seconds, beside.as_ref().map(|b| (b.what, b.seconds))));
    let launched = |(launch, times): (TimedLaunch, Vec<f64>)| {
        let (launches, took) = (times.len(), Spread::of(times));
        let (bound, percent) = against(ceilings.each(launch.cost), took.seconds);
        Launched {
            kernel: launch.kernel,
            grid: launch.grid,
            launches,
            seconds: took.seconds,
            p10: took.p10,
            p90: took.p90,
            gb_s: launch.cost.bytes / took.seconds / 1e9,
            gflop_s: launch.cost.flops / took.seconds / 1e9,
            bound,
            percent,
        }
    };
    Ok(Measured {
        op: case.op,
        work: case.work,
        storage: prepared.storage,
        sizes: prepared.sizes,
        sets,
        runs,
        seconds: took.seconds,
        p10: took.p10,
        p90: took.p90,
        floor,
        floor_seconds,
        bound,
        percent,
        beside,
        goal,
        launches: kinds.into_iter().map(launched).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::registry::Units;
    use crate::tensor::Cost;

    #[test]
    fn the_nearer_ceiling_is_the_one_that_takes_longer() {
        let ceilings = Ceilings {
            copy_gb_s: 10.0,
            driver_copy_gb_s: None,
            read_gb_s: Some(20.0),
            cache_gb_s: None,
            gflop_s: 100.0,
            core_gflop_s: None,
            bf16_gflop_s: None,
            int8_gop_s: None,
        };
        let (bound, percent) = against(ceilings.each(Cost { bytes: 20e9, flops: 50e9 }), 2.0);
        assert_eq!(bound, Bound::Memory);
        assert!((percent - 50.0).abs() <= 1e-9);
        let (bound, percent) = against(ceilings.each(Cost { bytes: 2e9, flops: 100e9 }), 4.0);
        assert_eq!(bound, Bound::Compute);
        assert!((percent - 25.0).abs() <= 1e-9);
        let narrow = Ceilings { bf16_gflop_s: Some(1000.0), ..ceilings };
        assert_eq!(narrow.each_by(Units::Bf16, Cost { bytes: 0.0, flops: 1e12 }).1, 1.0);
        assert_eq!(narrow.each_by(Units::Int8, Cost { bytes: 0.0, flops: 1e12 }).1, 10.0);
    }
}
