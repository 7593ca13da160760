//! SwiGLU on the CPU.

use rayon::prelude::*;

use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Level, Simd, Task};

/// Values of one job.
const CHUNK: usize = 16 * 1024;

struct Glu {
    gate: *const f32,
    up: *const f32,
    y: *mut f32,
    n: usize,
}

/// silu(g) u as g / (1 + e^-g) u. For g below -88 the exponential is clamped at e^88, so the result
/// is g / e^88, which is 0 to f32 for every g that a network makes.
#[inline(always)]
unsafe fn glu<S: Simd>(g: S::F, u: S::F) -> S::F {
    // SAFETY: as the caller's.
    unsafe {
        let e = S::exp(S::sub(S::splat(0.0), g));
        S::mul(S::div(g, S::add(S::splat(1.0), e)), u)
    }
}

impl Task for Glu {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.n / S::N * S::N;
        // SAFETY: all three hold n values; y may be gate, whose lanes are read before they are
        // written.
        unsafe {
            for i in (0..whole).step_by(S::N) {
                S::store(self.y.add(i), glu::<S>(S::load(self.gate.add(i)), S::load(self.up.add(i))));
            }
            if whole < self.n {
                let (mut g, mut u) = ([0.0f32; 16], [0.0f32; 16]);
                for i in whole..self.n {
                    (g[i - whole], u[i - whole]) = (*self.gate.add(i), *self.up.add(i));
                }
                let v = glu::<S>(S::load(g.as_ptr()), S::load(u.as_ptr()));
                S::store(g.as_mut_ptr(), v);
                for i in whole..self.n {
                    *self.y.add(i) = g[i - whole];
                }
            }
        }
    }
}

/// `y = silu(gate) * up`. Panics when the lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let _timed = timed("swiglu", || super::cost(y.len()));
    assert!(gate.len() == up.len() && up.len() == y.len(), "swiglu: {} {} {}", gate.len(), up.len(), y.len());
    let level = simd::level();
    gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(y.par_chunks_mut(CHUNK)).for_each(|((g, u), y)| {
        simd::run(level, Glu { gate: g.as_ptr(), up: u.as_ptr(), y: y.as_mut_ptr(), n: g.len() });
    });
}

/// `gate = silu(gate) * up`. Panics when the lengths differ.
pub fn swiglu_in_place(gate: &mut [f32], up: &[f32]) {
    let _timed = timed("swiglu", || super::cost(up.len()));
    in_place_at(simd::level(), gate, up);
}

pub(super) fn in_place_at(level: Level, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "swiglu");
    let one = |g: &mut [f32], u: &[f32]| {
        let p = g.as_mut_ptr();
        simd::run(level, Glu { gate: p, up: u.as_ptr(), y: p, n: u.len() });
    };
    if up.len() <= CHUNK {
        return one(gate, up);
    }
    gate.par_chunks_mut(CHUNK).zip(up.par_chunks(CHUNK)).for_each(|(g, u)| one(g, u));
}
