//! What memory and arithmetic units give at best.

use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use crate::ops::linear::gemm::{View, product};
use crate::tensor::Cost;

/// Bytes of the buffers: far beyond any cache.
const BUFFER: usize = 256 << 20;
/// Side of the square product.
const SIDE: usize = 1536;
/// Tries; the best counts.
const TRIES: usize = 5;

/// Measured with all threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Copying a large buffer, gigabytes read plus written a second.
    pub copy_gb_s: f64,
    /// Reading a large buffer, gigabytes a second.
    pub read_gb_s: f64,
    /// A large f32 product, GFLOP a second.
    pub gflop_s: f64,
}

impl Ceilings {
    /// The better of reading and copying.
    pub fn memory_gb_s(&self) -> f64 {
        self.copy_gb_s.max(self.read_gb_s)
    }

    /// Least seconds that this work takes of the memory, and of the arithmetic units.
    pub fn each(&self, cost: Cost) -> (f64, f64) {
        (cost.bytes / (self.memory_gb_s() * 1e9), cost.flops / (self.gflop_s * 1e9))
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
    (0..TRIES).map(|_| once(&mut body)).fold(f64::INFINITY, f64::min)
}

/// Measures; takes about a second.
pub fn measure() -> Ceilings {
    const PIECE: usize = 1 << 17;
    let from = vec![1u64; BUFFER / 8];
    let mut to = vec![0u64; BUFFER / 8];
    let copy = best(|| to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(t, f)| t.copy_from_slice(f)));
    let sum = || from.par_chunks(PIECE).map(|c| c.iter().fold(0u64, |a, b| a.wrapping_add(*b))).sum::<u64>();
    let read = best(|| {
        std::hint::black_box(sum());
    });
    drop((from, to));
    let n = SIDE;
    let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0.0f32; n * n]);
    let multiply = best(|| {
        // SAFETY: three row-major n x n matrices of n * n values each; c is not aliased.
        unsafe {
            let (lhs, rhs) = (View(a.as_ptr(), n, 1), View(b.as_ptr(), n, 1));
            product((n, n, n), c.as_mut_ptr(), n, false, lhs, rhs, 1.0, true);
        }
    });
    Ceilings {
        copy_gb_s: 2.0 * BUFFER as f64 / copy / 1e9,
        read_gb_s: BUFFER as f64 / read / 1e9,
        gflop_s: 2.0 * (n as f64).powi(3) / multiply / 1e9,
    }
}
