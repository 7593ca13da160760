//! `y += s B^T` with a narrow s: the second half of a LoRA product.

use rayon::prelude::*;

use crate::tensor::profile::timed;
use crate::tensor::simd::{self, Simd, Task};

struct Rows<'a> {
    s: &'a [f32],
    rank: usize,
    b_t: &'a [f32],
    y: &'a mut [f32],
    out: usize,
}

impl Task for Rows<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (out, whole) = (self.out, self.out / S::N * S::N);
        for (s, y) in self.s.chunks_exact(self.rank).zip(self.y.chunks_exact_mut(out)) {
            // SAFETY: lanes stay below out; b_t holds rank * out values.
            unsafe {
                for o in (0..whole).step_by(S::N) {
                    let mut acc = S::load(y.as_ptr().add(o));
                    for (r, &x) in s.iter().enumerate() {
                        acc = S::fma(S::splat(x), S::load(self.b_t.as_ptr().add(r * out + o)), acc);
                    }
                    S::store(y.as_mut_ptr().add(o), acc);
                }
            }
            for (o, y) in y.iter_mut().enumerate().skip(whole) {
                for (r, &x) in s.iter().enumerate() {
                    *y += x * self.b_t[r * out + o];
                }
            }
        }
    }
}

fn cost(rows: usize, rank: usize, out: usize) -> crate::tensor::Cost {
    let (m, r, out) = (rows as f64, rank as f64, out as f64);
    crate::tensor::Cost { bytes: 4.0 * (m * r + r * out + 2.0 * m * out), flops: 2.0 * m * r * out }
}

/// `y (M, out) += s (M, rank) b_t`, with `b_t` (rank, out) the transposed B: lanes run along the
/// output, so a narrow rank costs no horizontal sums. Each row's bits are its own. Panics when the
/// shapes do not fit.
pub fn add_low_rank(s: &[f32], rank: usize, b_t: &[f32], y: &mut [f32]) {
    let _timed = timed("lora", || cost(s.len() / rank.max(1), rank, y.len() / (s.len() / rank.max(1)).max(1)));
    if rank == 0 || s.is_empty() || b_t.is_empty() {
        return;
    }
    let out = b_t.len() / rank;
    assert!(b_t.len() == out * rank && s.len() / rank * out == y.len(), "low rank: {} x {rank}, out {out}", s.len());
    let level = simd::level();
    if y.len() <= 64 * 1024 {
        return simd::run(level, Rows { s, rank, b_t, y, out });
    }
    s.par_chunks(16 * rank).zip(y.par_chunks_mut(16 * out)).for_each(|(s, y)| {
        simd::run(level, Rows { s, rank, b_t, y, out });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_product_and_zero_b_changes_no_bit() {
        for (m, rank, out) in [(1, 1, 1), (3, 8, 37), (200, 4, 400)] {
            let s: Vec<f32> = (0..m * rank).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..rank * out).map(|i| (i % 11) as f32 / 4.0 - 1.0).collect();
            let before: Vec<f32> = (0..m * out).map(|i| i as f32 * 0.01).collect();
            let mut y = before.clone();
            add_low_rank(&s, rank, &b, &mut y);
            for i in 0..m * out {
                let sum: f32 = (0..rank).map(|r| s[i / out * rank + r] * b[r * out + i % out]).sum();
                assert!((y[i] - before[i] - sum).abs() <= 1e-3 * (1.0 + before[i].abs()) * 0.1, "{i}");
            }
            let mut y = before.clone();
            add_low_rank(&s, rank, &vec![0.0; rank * out], &mut y);
            assert_eq!(y, before);
        }
    }
}
