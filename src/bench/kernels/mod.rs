//! How fast the kernels are on a device, launch by launch, against what its memory and its matrix instruction give.
//!
//! The two ceilings are measured first: rows copied within the device's memory, and bf16 products of `mma.sync` in registers
//! (`kernels/peak.cu`; on sm_90 `wgmma` gives more). Each case is then run several times on rotated inputs with every launch timed by
//! events on the device's stream; what is told of a kernel is the median over its launches of one grid.
//!
//! No GPU has run this yet; on the host build, where tests run it, times mean nothing.

mod cases;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use half::bf16;
use serde::Serialize;

pub use cases::{CASES, Case, Scale};

use super::{Bound, against, median};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Kind, Launch};
use crate::error::{Error, Result};
use crate::ops::Cost;
use crate::ops::copy::{Places, gather};
use crate::ops::profile::{self, Place, trace};

/// What a device gives at best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Rows copied within its memory, gigabytes read plus written a second.
    pub copy_gb_s: f64,
    /// bf16 products of `mma.sync` with sums in f32, GFLOP a second.
    pub mma_gflop_s: f64,
}

/// A kernel in a case.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Operator.
    pub op: &'static str,
    /// Shapes in words.
    pub shape: &'static str,
    /// Kernel.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Launches that were timed.
    pub launches: usize,
    /// Median seconds of a launch.
    pub seconds: f64,
    /// Gigabytes a second by the launch's cost.
    pub gb_s: f64,
    /// GFLOP a second by the launch's cost.
    pub gflop_s: f64,
    /// The nearer ceiling.
    pub bound: Bound,
    /// Time that the nearer ceiling allows, in per cent of the time taken.
    pub percent: f64,
}

/// Input sets and a way to run one.
pub struct Prepared {
    /// Number of input sets.
    pub sets: usize,
    /// Runs input set number `i`.
    pub run: Box<dyn FnMut(usize) -> Result<()>>,
}

/// Least runs of a case.
const RUNS: usize = 5;

/// As [`super::select`], of the kernels' cases.
///
/// # Errors
/// A name that is none of theirs.
pub fn select(names: &[String]) -> Result<Vec<&'static Case>> {
    super::named(CASES, |case| case.op, names)
}

/// The device's size of cases.
pub fn scale(device: &KernelDevice) -> Scale {
    if device.kind() == Kind::Host { Scale::Tiny } else { Scale::Full }
}

/// By kernel and grid: seconds of each launch, and the cost of one.
type Launches = BTreeMap<(&'static str, [u32; 3]), (Vec<f64>, Cost)>;

/// The launches of `runs` by kernel and grid. Nothing else may be profiled meanwhile.
fn launches(mut runs: impl FnMut() -> Result<()>) -> Result<Launches> {
    profile::switch(true);
    trace::switch(true);
    let done = runs();
    trace::switch(false);
    profile::switch(false);
    profile::take();
    let spans = trace::take();
    done?;
    let mut all = Launches::new();
    for (_, span) in spans {
        if let Place::Kernel { grid, .. } = span.place {
            let entry = all.entry((span.name, grid)).or_default();
            entry.0.push(span.seconds);
            entry.1 = span.cost;
        }
    }
    Ok(all)
}

/// The best of a kernel's launches, as an amount a second.
fn best(kernel: &str, amount: fn(Cost) -> f64, runs: impl FnMut() -> Result<()>) -> Result<f64> {
    let all = launches(runs)?;
    let of = all.iter().filter(|((name, _), _)| *name == kernel);
    let rate = of.flat_map(|(_, (seconds, cost))| seconds.iter().map(|s| amount(*cost) / s)).fold(0.0, f64::max);
    if rate > 0.0 { Ok(rate) } else { Err(Error::failed("bench", format!("{kernel} was not timed"))) }
}

/// `kernels/peak.cu`: `steps` times eight products of every warp. Every value of `out`, one a block, becomes 128 `steps`.
fn peak(device: &KernelDevice, steps: u32, out: &mut Buffer<f32>) -> Result<Cost> {
    let blocks = out.len() as f64;
    let flops = blocks * 8.0 * f64::from(steps) * 8.0 * 4096.0;
    let launch = Launch::new("mma_peak", out.len(), 256, Cost { bytes: 4.0 * blocks, flops });
    // SAFETY: a value a block.
    unsafe { device.launch(&launch, &[Arg::U32(steps), out.arg()]) }
}

/// Measures the ceilings.
///
/// # Errors
/// Out of memory; a device that fails.
pub fn ceilings(device: &KernelDevice) -> Result<Ceilings> {
    let (rows, blocks, steps) = match scale(device) {
        Scale::Full => (1 << 16, 4096, 4096),
        Scale::Tiny => (16, 2, 2),
    };
    const WIDTH: usize = 2048;
    let from = DeviceRows::<bf16>::zeros(device, rows, WIDTH, "copied from")?;
    let mut to = DeviceRows::<bf16>::zeros(device, rows, WIDTH, "copied to")?;
    let places = Places::upload(device, &(0..rows as u32).collect::<Vec<_>>())?;
    let name = "copy_rows";
    let copy = best(name, |c| c.bytes, || (0..RUNS).try_for_each(|_| gather(&from, &places, &mut to).map(drop)))?;
    let mut out = device.zeros(blocks, "sums")?;
    let mma = best("mma_peak", |c| c.flops, || (0..RUNS).try_for_each(|_| peak(device, steps, &mut out).map(drop)))?;
    if device.download(&out)?.iter().any(|sum| *sum != 128.0 * steps as f32) {
        return Err(Error::failed("bench", "the products of the ceiling are wrong"));
    }
    Ok(Ceilings { copy_gb_s: copy / 1e9, mma_gflop_s: mma / 1e9 })
}

/// Runs one case for about `seconds`: a line for each kernel that it launches, in the order of their names.
///
/// # Errors
/// Those of the operator.
pub fn time(device: &KernelDevice, case: &Case, ceilings: &Ceilings, seconds: f64) -> Result<Vec<Measured>> {
    let mut prepared = (case.make)(device, scale(device))?;
    // Modules are loaded and memory is taken before anything is timed.
    (prepared.run)(0)?;
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let all = launches(|| {
        let mut run = 0;
        while run < RUNS || begun.elapsed() < limit {
            run += 1;
            (prepared.run)(run % prepared.sets.max(1))?;
        }
        Ok(())
    })?;
    Ok(all
        .into_iter()
        .map(|((kernel, grid), (times, cost))| {
            let (launches, seconds) = (times.len(), median(times));
            let least = (cost.bytes / (ceilings.copy_gb_s * 1e9), cost.flops / (ceilings.mma_gflop_s * 1e9));
            let (bound, percent) = against(least, seconds);
            Measured {
                op: case.op,
                shape: case.shape,
                kernel,
                grid,
                launches,
                seconds,
                gb_s: cost.bytes / seconds / 1e9,
                gflop_s: cost.flops / seconds / 1e9,
                bound,
                percent,
            }
        })
        .collect())
}
