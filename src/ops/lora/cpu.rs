//! CPU version: blocks of rows in parallel, partial sums of the gradients added in block order.

use std::cell::RefCell;

use rayon::prelude::*;

use super::Dropout;
use crate::ops::linear::gemm::{View, product};
use crate::tensor::profile::timed;
use crate::tensor::simd::{Shared, vectorized};

/// Rows a task takes; fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 128;

/// The pair of matrices with what applies to both.
#[derive(Clone, Copy)]
pub struct Low<'a> {
    /// (r x in).
    pub a: &'a [f32],
    /// (out x r).
    pub b: &'a [f32],
    /// Rank.
    pub rank: usize,
    /// `alpha / r`.
    pub scale: f32,
    /// The mask, if any, with the name of each row.
    pub dropout: Option<(Dropout, &'a [u64])>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

vectorized! {
    fn multiply(x: &[f32], by: &[f32], out: &mut [f32]) {
        for ((o, x), b) in out.iter_mut().zip(x).zip(by) {
            *o = x * b;
        }
    }

    fn add_product(x: &[f32], by: &[f32], out: &mut [f32]) {
        for ((o, x), b) in out.iter_mut().zip(x).zip(by) {
            *o += x * b;
        }
    }
}

impl Low<'_> {
    pub(super) fn inp(&self) -> usize {
        self.a.len() / self.rank
    }

    pub(super) fn out(&self) -> usize {
        self.b.len() / self.rank
    }

    /// Of `values` inputs; the backward does the same work `times` over.
    pub fn cost(&self, values: usize, times: f64) -> crate::tensor::Cost {
        let (inp, out, r) = (self.inp() as f64, self.out() as f64, self.rank as f64);
        let m = values as f64 / inp.max(1.0);
        let bytes = 4.0 * (r * (inp + out) + m * (inp + r + 2.0 * out));
        crate::tensor::Cost { bytes: times * bytes, flops: times * 2.0 * m * r * (inp + out) }
    }

    pub(super) fn check(&self, m: usize, x: &[f32], y: &[f32], z: &[f32]) {
        assert_eq!((x.len(), y.len(), z.len()), (m * self.inp(), m * self.out(), m * self.rank), "lora: shapes");
        assert!(self.dropout.is_none_or(|(_, names)| names.len() == m), "lora: row names");
    }
}

/// `y += scale drop(x) A^T B^T`; keeps `z = drop(x) A^T` (M x r).
pub fn forward(low: Low<'_>, x: &[f32], y: &mut [f32], z: &mut [f32]) {
    let _timed = timed("lora", || low.cost(x.len(), 1.0));
    let (inp, out, r) = (low.inp(), low.out(), low.rank);
    let m = x.len() / inp;
    low.check(m, x, y, z);
    let blocks = y.par_chunks_mut(ROWS * out).zip(x.par_chunks(ROWS * inp)).zip(z.par_chunks_mut(ROWS * r));
    blocks.enumerate().for_each(|(block, ((y, x), z))| {
        let n = x.len() / inp;
        SCRATCH.with_borrow_mut(|scratch| {
            let x = match low.dropout {
                None => x,
                Some((mask, names)) => {
                    scratch.resize((ROWS + 1) * inp, 0.0);
                    let (factors, dropped) = scratch.split_at_mut(inp);
                    let lines = x.chunks_exact(inp).zip(dropped.chunks_exact_mut(inp)).zip(&names[block * ROWS..]);
                    for ((x, d), &name) in lines {
                        mask.factors(name, factors);
                        multiply(x, factors, d);
                    }
                    &dropped[..n * inp]
                }
            };
            // SAFETY: the block's slices have the shapes named here (checked above).
            unsafe {
                product(
                    (n, r, inp),
                    z.as_mut_ptr(),
                    r,
                    false,
                    View(x.as_ptr(), inp, 1),
                    View(low.a.as_ptr(), 1, inp),
                    1.0,
                    false,
                );
                let (z, b) = (View(z.as_ptr(), r, 1), View(low.b.as_ptr(), 1, r));
                product((n, out, r), y.as_mut_ptr(), out, true, z, b, low.scale, false);
            }
        });
    });
}

/// What the gradients of A and B are made of, and where they are added.
pub(in crate::ops) struct Pairs<'a> {
    /// The layer's input, (M x in).
    pub x: &'a [f32],
    /// What the forward kept, (M x r).
    pub z: &'a [f32],
    /// (r x in).
    pub a: &'a mut [f32],
    /// (out x r).
    pub b: &'a mut [f32],
}

/// Adds the gradients of A and B, and with `dx` that of x, from `dy` (M x out).
pub(in crate::ops) fn backward(low: Low<'_>, dy: &[f32], dx: Option<&mut [f32]>, pairs: Option<Pairs<'_>>) {
    let (inp, out, r) = (low.inp(), low.out(), low.rank);
    let m = dy.len() / out;
    let _timed = timed("lora_backward", || low.cost(m * inp, 3.0));
    let names = low.dropout.map_or(&[][..], |(_, names)| names);
    let dx = dx.map(Shared::new);
    let (read, by) = match pairs {
        Some(Pairs { x, z, a, b }) => (Some((x, z)), Some((a, b))),
        None => (None, None),
    };
    let sizes = by.as_ref().map_or((0, 0), |(a, b)| (a.len(), b.len()));
    let blocks = dy.par_chunks(ROWS * out).enumerate();
    let partial: Vec<Vec<f32>> = blocks
        .map(|(block, dy)| {
            let n = dy.len() / out;
            let rows = block * ROWS..block * ROWS + n;
            let mut sums = vec![0.0f32; sizes.0 + sizes.1];
            let (pa, pb) = sums.split_at_mut(sizes.0);
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.resize(ROWS * (3 * inp + r), 0.0);
                let (factors, rest) = scratch.split_at_mut(ROWS * inp);
                let (dropped, rest) = rest.split_at_mut(ROWS * inp);
                let (low_dx, dz) = rest.split_at_mut(ROWS * inp);
                if let Some((mask, _)) = low.dropout {
                    for (f, &name) in factors.chunks_exact_mut(inp).zip(&names[rows.clone()]) {
                        mask.factors(name, f);
                    }
                }
                // SAFETY: the block's slices have the shapes named here; a block's rows of dx
                // belong to one task.
                unsafe {
                    let b = View(low.b.as_ptr(), r, 1);
                    product((n, r, out), dz.as_mut_ptr(), r, false, View(dy.as_ptr(), out, 1), b, low.scale, false);
                    if let Some((x, z)) = read {
                        let z = View(z[rows.start * r..].as_ptr(), r, 1);
                        let dy_t = View(dy.as_ptr(), 1, out);
                        product((out, r, n), pb.as_mut_ptr(), r, false, dy_t, z, low.scale, false);
                        let mut x = &x[rows.start * inp..rows.end * inp];
                        if low.dropout.is_some() {
                            multiply(x, &factors[..n * inp], &mut dropped[..n * inp]);
                            x = &dropped[..n * inp];
                        }
                        let (dz_t, x) = (View(dz.as_ptr(), 1, r), View(x.as_ptr(), inp, 1));
                        product((r, inp, n), pa.as_mut_ptr(), inp, false, dz_t, x, 1.0, false);
                    }
                    if let Some(dx) = dx {
                        let (dzv, a) = (View(dz.as_ptr(), r, 1), View(low.a.as_ptr(), inp, 1));
                        let to = dx.at(rows.start * inp);
                        if low.dropout.is_some() {
                            product((n, inp, r), low_dx.as_mut_ptr(), inp, false, dzv, a, 1.0, false);
                            let to = std::slice::from_raw_parts_mut(to, n * inp);
                            add_product(&low_dx[..n * inp], &factors[..n * inp], to);
                        } else {
                            product((n, inp, r), to, inp, true, dzv, a, 1.0, false);
                        }
                    }
                }
            });
            sums
        })
        .collect();
    let Some((da, db)) = by else { return };
    for sums in partial {
        let (pa, pb) = sums.split_at(da.len());
        da.iter_mut().zip(pa).for_each(|(d, p)| *d += p);
        db.iter_mut().zip(pb).for_each(|(d, p)| *d += p);
    }
}
