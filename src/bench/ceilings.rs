//! What the memory and the arithmetic units of a device give at best.

use std::time::Instant;

use half::bf16;
use rayon::prelude::*;
use serde::Serialize;

use super::scale;
use crate::device::{Device, DeviceRows, KernelDevice, Kind};
use crate::error::{Error, Result};
use crate::ops::peak;
use crate::ops::registry::{Scale, Units};
use crate::ops::rows::kernel::{Places, gather};
use crate::tensor::Cost;
use crate::tensor::simd::cache;

/// Bytes of the buffers on the CPU: far beyond any cache.
const BUFFER: usize = 256 << 20;
/// Bytes of a core's first-level cache: of no processor with AVX2 are they fewer.
const FIRST: usize = 32 << 10;
/// Tries on the CPU, and of a kernel; the best counts.
const TRIES: (usize, usize) = (5, 10);

/// Of a CPU with all threads, or of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Copying a large buffer, gigabytes read plus written a second: on a GPU the better of a
    /// kernel that copies rows by number and of the driver's own copy.
    pub copy_gb_s: f64,
    /// Of the driver's own copy within a GPU's memory.
    pub driver_copy_gb_s: Option<f64>,
    /// Reading a large buffer, gigabytes a second; of a CPU.
    pub read_gb_s: Option<f64>,
    /// Reading half of a CPU's first-level cache, half of its second, and four times the second,
    /// again and again, by all threads; a second.
    pub cache_gb_s: Option<[f64; 3]>,
    /// GFLOP a second: of a CPU multiply-adds of f32 from registers on all threads, of a GPU bf16
    /// products of `mma.sync` with sums in f32 (on sm_90 `wgmma` gives more).
    pub gflop_s: f64,
    /// The same of one thread of a CPU.
    pub core_gflop_s: Option<f64>,
    /// Of products of bf16, pairs or tiles, from registers on all threads, where a CPU has them.
    pub bf16_gflop_s: Option<f64>,
    /// Billions of multiplications and additions of 8-bit codes a second, likewise.
    pub int8_gop_s: Option<f64>,
}

impl Ceilings {
    /// The better of reading and copying.
    pub fn memory_gb_s(&self) -> f64 {
        self.copy_gb_s.max(self.read_gb_s.unwrap_or(0.0))
    }

    /// Least seconds that this work takes of the memory, and of the units for f32.
    pub fn each(&self, cost: Cost) -> (f64, f64) {
        self.each_by(Units::F32, cost)
    }

    /// Least seconds that this work takes of the memory, and of the units that multiply so: those
    /// for f32 where a processor has no others.
    pub fn each_by(&self, units: Units, cost: Cost) -> (f64, f64) {
        let narrow = match units {
            Units::F32 => None,
            Units::Bf16 => self.bf16_gflop_s,
            Units::Int8 => self.int8_gop_s,
        };
        (cost.bytes / (self.memory_gb_s() * 1e9), cost.flops / (narrow.unwrap_or(self.gflop_s) * 1e9))
    }

    /// Least seconds for this work: the longer of the two.
    pub fn seconds(&self, cost: Cost) -> f64 {
        let (memory, compute) = self.each(cost);
        memory.max(compute)
    }
}

fn best(mut body: impl FnMut()) -> f64 {
    body();
    let once = |body: &mut dyn FnMut()| {
        let start = Instant::now();
        body();
        start.elapsed().as_secs_f64()
    };
    (0..TRIES.0).map(|_| once(&mut body)).fold(f64::INFINITY, f64::min)
}

/// Measures; takes about a second.
///
/// # Errors
/// Out of memory; a device that fails.
pub fn measure(device: &Device) -> Result<Ceilings> {
    match device {
        Device::Cpu => Ok(of_cpu()),
        Device::Kernels(device) => of_kernels(device),
    }
}

fn of_cpu() -> Ceilings {
    const PIECE: usize = 1 << 17;
    let from = vec![1u64; BUFFER / 8];
    let mut to = vec![0u64; BUFFER / 8];
    let copy = best(|| to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(t, f)| t.copy_from_slice(f)));
    let sum = || from.par_chunks(PIECE).map(|c| c.iter().fold(0u64, |a, b| a.wrapping_add(*b))).sum::<u64>();
    let read = best(|| {
        std::hint::black_box(sum());
    });
    drop((from, to));
    let second = cache::second_level();
    let caches = [FIRST / 2, second / 2, 4 * second].map(peak::cpu::read_again);
    let (all, one) = (peak::cpu::measure(true), peak::cpu::measure(false));
    Ceilings {
        copy_gb_s: 2.0 * BUFFER as f64 / copy / 1e9,
        driver_copy_gb_s: None,
        read_gb_s: Some(BUFFER as f64 / read / 1e9),
        cache_gb_s: Some(caches),
        gflop_s: all.f32,
        core_gflop_s: Some(one.f32),
        bf16_gflop_s: all.bf16,
        int8_gop_s: all.int8,
    }
}

/// The best of a kernel's launches, as an amount a second.
fn best_launch(
    device: &KernelDevice,
    kernel: &str,
    amount: fn(Cost) -> f64,
    mut run: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let mut rate = 0.0f64;
    for _ in 0..TRIES.1 {
        for launch in device.time_launches(&mut run)?.iter().filter(|l| l.kernel == kernel) {
            rate = rate.max(amount(launch.cost) / launch.seconds);
        }
    }
    if rate > 0.0 { Ok(rate) } else { Err(Error::failed("bench", format!("{kernel} was not timed"))) }
}

fn of_kernels(device: &KernelDevice) -> Result<Ceilings> {
    // Odd, so that what is left is one product of each chain.
    let (rows, blocks, steps) = match scale(device) {
        Scale::Full => (1 << 16, 4096, 4095),
        Scale::Tiny => (16, 2, 3),
    };
    const WIDTH: usize = 2048;
    let from = DeviceRows::<bf16>::zeros(device, rows, WIDTH, "copied from")?;
    let mut to = DeviceRows::<bf16>::zeros(device, rows, WIDTH, "copied to")?;
    let places = Places::upload(device, &(0..rows as u32).collect::<Vec<_>>())?;
    let by_rows = best_launch(device, "copy_rows", |c| c.bytes, || gather(&from, &places, &mut to).map(drop))?;
    drop((from, to));
    let words = rows * WIDTH / 2;
    let (from, mut to) = (device.zeros::<u32>(words, "copied from")?, device.zeros::<u32>(words, "copied to")?);
    let by_driver = match device.kind() {
        Kind::Host => None,
        Kind::Cuda => Some(best_launch(device, "copy", |c| c.bytes, || device.copy(&from, &mut to))?),
    };
    let mut out = device.zeros(blocks, "sums")?;
    let mma = best_launch(device, "mma_peak", |c| c.flops, || peak::multiply(device, steps, &mut out).map(drop))?;
    let want = peak::product();
    if let Some(wrong) = device.download(&out)?.iter().find(|sum| **sum != want) {
        return Err(Error::failed("bench", format!("the products of the ceiling are wrong: {wrong} and not {want}")));
    }
    Ok(Ceilings {
        copy_gb_s: by_rows.max(by_driver.unwrap_or(0.0)) / 1e9,
        driver_copy_gb_s: by_driver.map(|rate| rate / 1e9),
        read_gb_s: None,
        cache_gb_s: None,
        gflop_s: mma / 1e9,
        core_gflop_s: None,
        bf16_gflop_s: None,
        int8_gop_s: None,
    })
}
