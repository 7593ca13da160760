//! `Y = X W^T` in whole numbers: weights and rows of x as 8-bit codes with an f32 scale for every
//! [`GROUP`] values.
//!
//! ```text
//!   x row     | 32 codes | 32 codes | ...
//!   W output  | 32 codes | 32 codes | ...
//!   code    =  round(value / scale), scale = largest / 127 of the group
//!   y       =  sum over groups g, ascending, of
//!              scale_x[g] scale_w[g] (sum over the group of code_x code_w)
//! ```
//!
//! The inner sums are exact in i32. A value is off by at most half its scale, so that with `|x|`
//! and `|w|` the groups' largest values a product of K values is off by at most
//! `sum |x_k| s_w / 2 + |w_k| s_x / 2 + s_x s_w / 4`; in the mean by about 1 % of its terms' root
//! mean square. A row's codes depend on that row alone: its bits do not depend on what stands
//! beside it, on the threads or, where the processor fuses additions, on the instruction set.
//!
//! Weights that come in blocks of 4 or 8 bits with a scale for 16 or 32 values stay as they are, in
//! the memory that they have: only x is rounded then, and a group's sum has its minimum, times the
//! sum of x's codes, added. Others are turned into codes of 8 bits.
//!
//! This is the arithmetic that llama.cpp uses for quantised files: the 32 values and one scale of
//! Q8_0 are these groups. A processor with VNNI multiplies four pairs of codes a lane and
//! instruction: four times the products of f32.
//!
//! Cost of M rows: `2 M out in` operations on codes, `1.125 out in + 4 M (in + out)` bytes.

mod blocks;
mod kernel;
pub mod oracle;
mod rows;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Arc;

use rayon::prelude::*;

use self::kernel::Span;
pub use self::rows::{Group, Rows};
use super::jobs;
use super::quantised::Quantised;
use super::weight::Weight;
use crate::tensor::Cost;
use crate::tensor::profile::timed;
use crate::tensor::simd::bytes::{Level, level};

/// Values that share a scale.
pub const GROUP: usize = 32;
/// Outputs of a tile; a matrix is padded to whole tiles.
const TILE: usize = 16;
/// Largest code.
const LARGEST: f32 = 127.0;
/// Operations below which threads cost more than they save.
const SERIAL: usize = 800_000;

/// Weights (out, in) as codes.
///
/// ```text
///   tile of 16 outputs, 4 inner values: 64 bytes
///   | out 0: k k+1 k+2 k+3 | out 1: ... | ... | out 15 |
///   tile of 16 outputs, a group: 16 scales
/// ```
///
/// A code is kept with 128 added, as the instruction multiplies unsigned by signed bytes; the sums
/// of x's codes take it off again.
pub struct Codes {
    rows: usize,
    cols: usize,
    held: Held,
}

/// Where codes and scales are.
enum Held {
    /// Made from values.
    Own { codes: Vec<u8>, scales: Vec<f32> },
    /// Those of a weight in blocks, which are shared with it.
    Blocks(Arc<Quantised>),
}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codes({} x {})", self.rows, self.cols)
    }
}

impl Codes {
    /// The codes of `weight`: its own where it has some that fit, without a copy, and otherwise
    /// made from its values on all threads.
    pub fn new(weight: &Weight) -> Self {
        let (rows, cols) = (weight.rows(), weight.cols());
        if let Some(shared) = weight.blocks().filter(|q| blocks::fit(q)) {
            return Self { rows, cols, held: Held::Blocks(Arc::clone(shared)) };
        }
        let groups = cols.div_ceil(GROUP);
        let (tiles, depth) = (rows.div_ceil(TILE), groups * GROUP);
        // A code of 0 is a byte of 128: what pads adds nothing.
        let mut codes = vec![128u8; tiles * TILE * depth];
        let mut scales = vec![0.0f32; tiles * TILE * groups];
        if depth > 0 {
            codes.par_chunks_mut(TILE * depth).zip(scales.par_chunks_mut(TILE * groups)).enumerate().for_each(
                |(tile, (codes, scales))| {
                    let many = TILE.min(rows - tile * TILE);
                    let mut values = vec![0.0f32; many * cols];
                    weight.read_rows(tile * TILE, &mut values);
                    let of = Rows::new(&values, cols);
                    for r in 0..many {
                        for (g, group) in of.row(r).iter().enumerate() {
                            scales[g * TILE + r] = group.scale;
                            for (k, code) in (g * GROUP..).zip(group.codes) {
                                codes[(k / 4 * TILE + r) * 4 + k % 4] = (i16::from(code) + 128) as u8;
                            }
                        }
                    }
                },
            );
        }
        Self { rows, cols, held: Held::Own { codes, scales } }
    }

    /// Bytes of the codes that [`Codes::new`] would make of `weight`.
    pub fn copied(weight: &Weight) -> u64 {
        let fits = weight.blocks().is_some_and(|q| blocks::fit(q));
        if fits { 0 } else { (weight.rows() * weight.cols()) as u64 }
    }

    /// Output width.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Own { codes, scales } => codes.len() + 4 * scales.len(),
            Held::Blocks(blocks) => blocks.bytes(),
        }
    }

    /// Value `k` of output `row`, as the product sees it.
    pub fn get(&self, row: usize, k: usize) -> f32 {
        let (tile, r, groups) = (row / TILE, row % TILE, self.cols.div_ceil(GROUP));
        match &self.held {
            Held::Own { codes, scales } => {
                let code = codes[((tile * groups * GROUP + k) / 4 * TILE + r) * 4 + k % 4];
                scales[(tile * groups + k / GROUP) * TILE + r] * (f32::from(code) - 128.0)
            }
            Held::Blocks(blocks) => blocks.get(row, k),
        }
    }
}

/// One of several products with the same x.
pub type Product<'a> = super::Product<'a, Codes>;

/// Cost of `rows` rows through all of `weights`.
pub fn cost<'a>(weights: impl Iterator<Item = &'a Codes>, rows: usize) -> Cost {
    let m = rows as f64;
    weights.fold(Cost::default(), |a, w| {
        let (out, inp) = (w.rows as f64, w.cols as f64);
        Cost { bytes: a.bytes + w.bytes() as f64 + 4.0 * m * (out + inp), flops: a.flops + 2.0 * m * out * inp }
    })
}

/// All `y = x W^T (+ bias)` of one x (M, in) in one parallel region. Panics when the shapes do not
/// fit.
pub fn matmul_nt_many(x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    let _timed = timed("linear_int8", || cost(products.iter().map(|p| p.weight), x.len() / inp.max(1)));
    many_at(level(), x, inp, products);
}

fn many_at(level: Level, x: &[f32], inp: usize, products: &mut [Product<'_>]) {
    if inp == 0 || x.is_empty() {
        return;
    }
    let x = Rows::new(x, inp);
    let m = x.rows();
    let spans: Vec<Span<'_>> = products
        .iter_mut()
        .map(|p| {
            let out = p.weight.rows;
            assert!(p.weight.cols == inp && p.y.len() == m * out, "int8 product: {} x {out} of {inp}", p.weight.cols);
            assert!(p.bias.is_none_or(|b| b.len() == out), "int8 product: bias");
            Span { x: &x, w: p.weight, y: p.y.as_mut_ptr(), bias: p.bias, accumulate: p.accumulate }
        })
        .collect();
    let outputs: usize = spans.iter().map(|s| s.w.rows).sum();
    let serial = 2 * m * inp * outputs <= SERIAL;
    jobs::run(&spans, |s| s.w.rows, kernel::PANEL, serial, |span, outputs| kernel::run(level, span, outputs));
}

#[cfg(test)]
mod tests;
