//! RMSNorm on the CPU: two passes over a row that stays in the first cache; rows in parallel when
//! there are many.

use rayon::prelude::*;

use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Level, Simd, Task};

/// Values below which threads cost more than they save.
const SERIAL: usize = 32 * 1024;

struct Rows<'a> {
    x: *const f32,
    y: *mut f32,
    rows: usize,
    w: &'a [f32],
    eps: f32,
}

impl Task for Rows<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.w.len();
        let whole = width / S::N * S::N;
        // SAFETY: x and y hold rows * width values each (they may be the same memory: reads of a
        // lane come before its write).
        unsafe {
            for r in 0..self.rows {
                let (x, y) = (self.x.add(r * width), self.y.add(r * width));
                let mut acc = S::splat(0.0);
                for i in (0..whole).step_by(S::N) {
                    let v = S::load(x.add(i));
                    acc = S::fma(v, v, acc);
                }
                let mut square = S::sum(acc);
                for i in whole..width {
                    square += *x.add(i) * *x.add(i);
                }
                let inverse = 1.0 / (square / width as f32 + self.eps).sqrt();
                let factor = S::splat(inverse);
                for i in (0..whole).step_by(S::N) {
                    let v = S::mul(S::mul(S::load(x.add(i)), factor), S::load(self.w.as_ptr().add(i)));
                    S::store(y.add(i), v);
                }
                for i in whole..width {
                    *y.add(i) = *x.add(i) * inverse * self.w[i];
                }
            }
        }
    }
}

/// `y = rmsnorm(x)`. Panics when the lengths do not fit.
pub fn rmsnorm(x: &[f32], w: &[f32], eps: f64, y: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(x.len() / w.len().max(1), w.len()));
    rmsnorm_at(simd::level(), x, w, eps, y);
}

pub(super) fn rmsnorm_at(level: Level, x: &[f32], w: &[f32], eps: f64, y: &mut [f32]) {
    let width = w.len();
    assert!(
        width > 0 && x.len() == y.len() && x.len().is_multiple_of(width),
        "rmsnorm: {} values, width {width}",
        x.len()
    );
    let eps = eps as f32;
    let one = |x: &[f32], y: &mut [f32]| {
        simd::run(level, Rows { x: x.as_ptr(), y: y.as_mut_ptr(), rows: x.len() / width, w, eps });
    };
    if x.len() <= SERIAL {
        return one(x, y);
    }
    let chunk = 16 * width;
    x.par_chunks(chunk).zip(y.par_chunks_mut(chunk)).for_each(|(x, y)| one(x, y));
}

/// `x = rmsnorm(x)`; the head norms of Qwen3 with `w` of one head's width.
pub fn rmsnorm_in_place(x: &mut [f32], w: &[f32], eps: f64) {
    let _timed = timed("rmsnorm", || super::cost(x.len() / w.len().max(1), w.len()));
    let width = w.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "rmsnorm: {} values, width {width}", x.len());
    let (level, eps) = (simd::level(), eps as f32);
    let one = |x: &mut [f32]| {
        let p = x.as_mut_ptr();
        simd::run(level, Rows { x: p, y: p, rows: x.len() / width, w, eps });
    };
    if x.len() <= SERIAL {
        return one(x);
    }
    x.par_chunks_mut(16 * width).for_each(one);
}
