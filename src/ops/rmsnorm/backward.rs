//! The backward of RMSNorm: the forward kept `1 / rms` of each row (of each head, where `w` is
//! narrower than a row).
//!
//! `y = x rstd w`, `rstd = (mean(x^2) + eps)^-1/2`. With `g = dy w` and `xhat = x rstd`:
//! `dx = rstd (g - xhat mean(g xhat))`, `dw = sum over rows of dy xhat`.

use rayon::prelude::*;

use super::kernel;
use super::placed::{add_to, bf16_rows, f32_rows};
use crate::device::{DeviceRows, List, Rows, Storage, mixed};
use crate::error::{Error, Result};
use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::{fold2, vectorized};

/// The weight of a norm where it is: one row, or one head, which all heads share.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// In this process.
    Cpu(&'a [f32]),
    /// On a device with kernels, one row.
    Kernels(&'a DeviceRows<f32>),
}

impl<'a> Weight<'a> {
    /// One row of f32.
    ///
    /// # Errors
    /// Rows of bf16.
    pub fn of(row: &'a Rows) -> Result<Self> {
        match row {
            Rows::Cpu(row) => Ok(Weight::Cpu(row.as_slice())),
            Rows::F32(row) => Ok(Weight::Kernels(row)),
            Rows::Bf16(_) => Err(Error::failed("rmsnorm", "a weight in bf16; kernels take it in f32")),
        }
    }
}

/// What a forward read and kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// Its input (rows, heads x width).
    pub x: &'a Rows,
    /// `1 / rms` (rows x heads).
    pub rstd: &'a List<f32>,
}

fn wrong(kept: &Kept<'_>, what: &str, other: &Rows, width: usize) -> Error {
    let (x, rstd) = (kept.x, kept.rstd.len());
    let what = format!("{what} of {} x {} beside {} x {}", other.rows(), other.dim(), x.rows(), x.dim());
    Error::failed("rmsnorm backward", format!("{what}, {rstd} scales, width {width}"))
}

/// Whether rows of `dim` values are whole heads of `width`, with a scale each.
fn fits(rows: usize, dim: usize, width: usize, scales: usize) -> bool {
    width > 0 && dim.is_multiple_of(width) && scales == rows * (dim / width)
}

/// `dx += d norm(x)` from `dy`, or `dx =` without `accumulate`; `dy` is used up. With `dw`, which
/// the CPU alone takes, adds the weight's gradient. Cost: `8 rows dim` FLOP, three to four readings
/// of a row.
///
/// # Errors
/// Shapes that do not fit, operands in different places, a weight's gradient asked of kernels.
pub fn rmsnorm_backward(
    kept: Kept<'_>,
    w: Weight<'_>,
    dy: &mut Rows,
    (dx, accumulate): (&mut Rows, bool),
    dw: Option<&mut [f32]>,
) -> Result<Cost> {
    let places = [kept.x.place(), dy.place(), dx.place()];
    match (kept.x, w, &mut *dy, &mut *dx) {
        (Rows::Cpu(x), Weight::Cpu(w), Rows::Cpu(g), Rows::Cpu(to)) => {
            let rstd = kept.rstd.cpu("rmsnorm backward")?;
            let shape = |m: &crate::tensor::Matrix| (m.rows(), m.cols());
            if shape(x) != shape(g) || shape(x) != shape(to) || !fits(x.rows(), x.cols(), w.len(), rstd.len()) {
                let other = if shape(x) != shape(g) { dy } else { dx };
                return Err(wrong(&kept, "gradient", other, w.len()));
            }
            if let Some(dw) = dw.as_ref().filter(|dw| dw.len() != w.len()) {
                let what = format!("gradient of {} values for a weight of {}", dw.len(), w.len());
                return Err(Error::failed("rmsnorm backward", what));
            }
            backward((x.as_slice(), rstd), w, g.as_mut_slice(), (to.as_mut_slice(), accumulate), dw);
            Ok(super::cost(2 * rstd.len(), w.len()))
        }
        (Rows::F32(x), Weight::Kernels(w), Rows::F32(g), Rows::F32(to)) => {
            on_kernels((x, kept.rstd), w, g, (to, accumulate), dw)
        }
        (Rows::Bf16(x), Weight::Kernels(w), Rows::Bf16(g), Rows::Bf16(to)) => {
            on_kernels((x, kept.rstd), w, g, (to, accumulate), dw)
        }
        _ => Err(mixed("rmsnorm backward", &places)),
    }
}

fn on_kernels<T: Storage>(
    (x, rstd): (&DeviceRows<T>, &List<f32>),
    w: &DeviceRows<f32>,
    dy: &DeviceRows<T>,
    (dx, accumulate): (&mut DeviceRows<T>, bool),
    dw: Option<&mut [f32]>,
) -> Result<Cost> {
    if dw.is_some() {
        return Err(Error::failed("rmsnorm backward", "the weight's gradient is added on the CPU alone"));
    }
    kernel::backward(x, w, rstd.kernels("rmsnorm backward")?, dy, accumulate, dx)
}

/// `y = rmsnorm(x)`, after `x += add` where that is given, and `rstd`, the `1 / rms` of each row or
/// head, which the backward wants.
///
/// # Errors
/// Shapes that do not fit, operands in different places.
pub fn rmsnorm_kept(
    x: &mut Rows,
    add: Option<&Rows>,
    w: Weight<'_>,
    eps: f32,
    y: &mut Rows,
    rstd: &mut List<f32>,
) -> Result<Cost> {
    let places = [x.place(), y.place()];
    match (x, w, y) {
        (Rows::Cpu(x), Weight::Cpu(w), Rows::Cpu(y)) => {
            let rstd = rstd.cpu_mut("rmsnorm")?;
            add_to(x, add)?;
            let same = (x.rows(), x.cols()) == (y.rows(), y.cols());
            if !same || !fits(x.rows(), x.cols(), w.len(), rstd.len()) {
                let what = format!("{} x {} to {} x {}", x.rows(), x.cols(), y.rows(), y.cols());
                return Err(Error::failed("rmsnorm", format!("{what}, {} scales, width {}", rstd.len(), w.len())));
            }
            forward(x.as_slice(), w, eps, y.as_mut_slice(), rstd);
            Ok(super::cost(rstd.len(), w.len()))
        }
        (Rows::F32(x), Weight::Kernels(w), Rows::F32(y)) => {
            kernel::forward(x, f32_rows(add)?, w, eps, y, Some(rstd.kernels_mut("rmsnorm")?))
        }
        (Rows::Bf16(x), Weight::Kernels(w), Rows::Bf16(y)) => {
            kernel::forward(x, bf16_rows(add)?, w, eps, y, Some(rstd.kernels_mut("rmsnorm")?))
        }
        _ => Err(mixed("rmsnorm", &places)),
    }
}

/// The forward's result `y` once more: from the scales that it kept on the CPU, with `eps` on
/// kernels, to the same bits.
///
/// # Errors
/// Shapes that do not fit, operands in different places.
pub fn rmsnorm_again(x: &mut Rows, rstd: &List<f32>, w: Weight<'_>, eps: f32, y: &mut Rows) -> Result<Cost> {
    let places = [x.place(), y.place()];
    match (x, w, y) {
        (Rows::Cpu(x), Weight::Cpu(w), Rows::Cpu(y)) => {
            let rstd = rstd.cpu("rmsnorm")?;
            let same = (x.rows(), x.cols()) == (y.rows(), y.cols());
            if !same || !fits(x.rows(), x.cols(), w.len(), rstd.len()) {
                let what = format!("{} x {} to {} x {}", x.rows(), x.cols(), y.rows(), y.cols());
                return Err(Error::failed("rmsnorm", format!("{what}, {} scales, width {}", rstd.len(), w.len())));
            }
            again(x.as_slice(), w, rstd, y.as_mut_slice());
            Ok(super::cost(rstd.len(), w.len()))
        }
        (Rows::F32(x), Weight::Kernels(w), Rows::F32(y)) => kernel::forward(x, None, w, eps, y, None),
        (Rows::Bf16(x), Weight::Kernels(w), Rows::Bf16(y)) => kernel::forward(x, None, w, eps, y, None),
        _ => Err(mixed("rmsnorm", &places)),
    }
}

/// Rows a task takes.
const ROWS: usize = 32;

vectorized! {
    fn forward_row(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let rstd = 1.0 / (fold2(x, x, |a, b| a * b) / x.len() as f32 + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * rstd * w;
        }
        rstd
    }

    fn apply_row(x: &[f32], w: &[f32], rstd: f32, y: &mut [f32]) {
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * rstd * w;
        }
    }

    /// `dy` is overwritten with `dy w`.
    fn backward_row(x: &[f32], w: &[f32], rstd: f32, dy: &mut [f32], dx: &mut [f32]) {
        for (g, w) in dy.iter_mut().zip(w) {
            *g *= w;
        }
        let mean = fold2(dy, x, |g, x| g * x) * rstd / x.len() as f32;
        for ((d, g), x) in dx.iter_mut().zip(&*dy).zip(x) {
            *d += rstd * (g - x * rstd * mean);
        }
    }

    fn weight_row(x: &[f32], rstd: f32, dy: &[f32], dw: &mut [f32]) {
        for ((d, g), x) in dw.iter_mut().zip(dy).zip(x) {
            *d += g * x * rstd;
        }
    }
}

/// `y = norm(x)` row by row; `rstd` gets one value a row. Shapes: x, y (M x w.len()), rstd (M).
pub(super) fn forward(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(rstd.len(), w.len()));
    let width = w.len();
    y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(rstd.par_chunks_mut(ROWS)).for_each(
        |((y, x), rstd)| {
            for ((y, x), r) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rstd) {
                *r = forward_row(x, w, eps, y);
            }
        },
    );
}

/// The forward again from a known `rstd`.
pub(super) fn again(x: &[f32], w: &[f32], rstd: &[f32], y: &mut [f32]) {
    let _timed = timed("rmsnorm", || super::cost(rstd.len(), w.len()));
    let width = w.len();
    y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(rstd.par_chunks(ROWS)).for_each(
        |((y, x), rstd)| {
            for ((y, x), r) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rstd) {
                apply_row(x, w, *r, y);
            }
        },
    );
}

/// `dx += d norm(x)`, or `dx =` without `accumulate`; `dy` is used up. With `dw`, adds the weight's
/// gradient, in an order that only the shape decides.
fn backward(
    (x, rstd): (&[f32], &[f32]),
    w: &[f32],
    dy: &mut [f32],
    (dx, accumulate): (&mut [f32], bool),
    dw: Option<&mut [f32]>,
) {
    let _timed = timed("rmsnorm_backward", || super::cost(2 * rstd.len(), w.len()));
    let width = w.len();
    if let Some(dw) = dw {
        let rows = ROWS * 8;
        let partial: Vec<Vec<f32>> = (x.par_chunks(rows * width), dy.par_chunks(rows * width), rstd.par_chunks(rows))
            .into_par_iter()
            .map(|(x, dy, rstd)| {
                let mut sum = vec![0.0f32; width];
                for ((x, dy), r) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(rstd) {
                    weight_row(x, *r, dy, &mut sum);
                }
                sum
            })
            .collect();
        for sum in partial {
            for (d, s) in dw.iter_mut().zip(sum) {
                *d += s;
            }
        }
    }
    let step = ROWS * width;
    (x.par_chunks(step), dy.par_chunks_mut(step), dx.par_chunks_mut(step), rstd.par_chunks(ROWS))
        .into_par_iter()
        .for_each(|(x, dy, dx, rstd)| {
            if !accumulate {
                dx.fill(0.0);
            }
            let rows = x.chunks_exact(width).zip(dy.chunks_exact_mut(width)).zip(dx.chunks_exact_mut(width));
            for (((x, dy), dx), r) in rows.zip(rstd) {
                backward_row(x, w, *r, dy, dx);
            }
        });
}
