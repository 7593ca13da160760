//! Weights of 4 or 8 bits with a scale, and perhaps a minimum, for every few values of a row; laid
//! out so that the panel kernel widens them without turning anything: lanes are rows.
//!
//! ```text
//!   16 rows (a tile), one group of inner values
//!   4 bits: a byte is inner k (low) and k + 1 (high) of one row; 8 bits: one signed code
//!   codes   k, k+1: r0 r1 ... r15 | k+2, k+3: ...
//!   scales  r0 r1 ... r15        minima r0 r1 ... r15
//! ```
//!
//! Scales and minima are f16, or 8-bit multiples of an f16 step that several groups share: what
//! files have, no wider. A multiple times its step is exact in f32.
//!
//! A value is `scale * code`, or `scale * code + minimum`, in f32: the products with a quantised
//! weight have the bits of the products with the same values widened to f32 (where the processor
//! fuses, see [`crate::tensor::simd`]).

// Constant-bound index loops over registers, as in the panel kernel.
#![allow(clippy::needless_range_loop)]

mod build;

use half::f16;
use memmap2::MmapMut;

use crate::tensor::simd::{Element, Simd};

/// Rows of a tile; rows that fill no tile are padded with zeros.
pub const TILE: usize = 16;

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// Codes 0 to 15, less [`Form::centre`].
    Four,
    /// Codes -128 to 127.
    Eight,
}

/// What the blocks of a quantised matrix are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Values that share a scale: a multiple of 16 that divides 384.
    pub group: usize,
    /// Bits of a code.
    pub bits: Bits,
    /// What was added to a code to make it fit into four bits without a sign.
    pub centre: i8,
    /// Whether groups have a minimum.
    pub minimum: bool,
    /// Groups that share a step, a power of two: their scales and minima are multiples of it. 0
    /// where each is a number of its own.
    pub shared: usize,
}

impl Form {
    /// Values that make up whole groups and steps.
    fn whole(&self) -> usize {
        self.group * self.shared.max(1)
    }
}

/// Scales or minima of all groups: those of a tile's rows side by side, its groups one behind the
/// other.
#[derive(Debug)]
pub(super) enum Scales {
    /// Numbers of their own.
    Own(Vec<f16>),
    /// Multiples of steps; `2^shift` groups share one.
    Shared { multiples: Vec<i8>, steps: Vec<f16>, shift: u32 },
}

impl Scales {
    fn bytes(&self) -> usize {
        match self {
            Self::Own(v) => v.len() * 2,
            Self::Shared { multiples, steps, .. } => multiples.len() + 2 * steps.len(),
        }
    }

    fn get(&self, at: usize) -> f32 {
        match self {
            Self::Own(v) => v[at].to_f32(),
            Self::Shared { multiples, steps, shift } => steps[step(at, *shift)].to_f32() * f32::from(multiples[at]),
        }
    }

    /// # Safety
    /// The instruction set is there, and N values from `at`.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, at: usize) -> S::F {
        // SAFETY: as the caller's.
        unsafe {
            match self {
                Self::Own(v) => f16::load::<S>(v.as_ptr().add(at)),
                Self::Shared { multiples, steps, shift } => {
                    S::mul(f16::load::<S>(steps.as_ptr().add(step(at, *shift))), S::load_i8(multiples.as_ptr().add(at)))
                }
            }
        }
    }
}

/// Where the step of the multiple at `at` is: groups of a tile follow one another, and whole
/// numbers of them share a step.
#[inline(always)]
pub(super) fn step(at: usize, shift: u32) -> usize {
    ((at / TILE) >> shift) * TILE + at % TILE
}

/// A quantised matrix of shape (rows = out, cols = in).
#[derive(Debug)]
pub struct Quantised {
    rows: usize,
    cols: usize,
    form: Form,
    codes: MmapMut,
    scales: Scales,
    minima: Option<Scales>,
}

/// The codes and scales of one row, as the file has them.
pub struct Row<'a> {
    /// One a value; signed.
    pub codes: &'a mut [i8],
    /// One a group; where groups share a step a whole number, -128 to 127.
    pub scales: &'a mut [f32],
    /// The same; ignored without minima.
    pub minima: &'a mut [f32],
    /// The steps of scales and of minima, one for all groups that share it; none where each scale
    /// is a number of its own.
    pub steps: &'a mut [[f32; 2]],
}

impl Quantised {
    /// Output width.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What its blocks are like.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Bytes of codes, scales and minima.
    pub fn bytes(&self) -> usize {
        let codes = self.rows.div_ceil(TILE) * TILE * self.cols;
        let codes = if self.form.bits == Bits::Four { codes / 2 } else { codes };
        codes + self.scales.bytes() + self.minima.as_ref().map_or(0, Scales::bytes)
    }

    /// The codes of the tile of `row` from inner value `k` on, an even one.
    #[inline(always)]
    pub(super) fn codes_from(&self, row: usize, k: usize) -> *const u8 {
        let at = (row / TILE * self.cols + k) * TILE;
        let bytes = if self.form.bits == Bits::Four { at / 2 } else { at };
        self.codes.as_ptr().wrapping_add(bytes)
    }

    /// Scales, and minima where groups have them.
    pub(super) fn scales(&self) -> (&Scales, Option<&Scales>) {
        (&self.scales, self.minima.as_ref())
    }

    fn code(&self, row: usize, k: usize) -> i8 {
        let (tile, r) = (row / TILE, row % TILE);
        match self.form.bits {
            Bits::Four => {
                let byte = self.codes[(tile * self.cols + k / 2 * 2) / 2 * TILE + r];
                (byte >> (k % 2 * 4) & 15) as i8 - self.form.centre
            }
            Bits::Eight => self.codes[(tile * self.cols + k) * TILE + r] as i8,
        }
    }

    /// Codes, scales and minima of row `row`, multiplied with their steps. Panics where `to` is not
    /// as long as in [`Self::build`].
    pub fn read_row(&self, row: usize, to: Row<'_>) {
        let groups = self.cols / self.form.group;
        assert!(to.codes.len() == self.cols && to.scales.len() == groups && to.minima.len() == groups, "a row's parts");
        for (k, code) in to.codes.iter_mut().enumerate() {
            *code = self.code(row, k);
        }
        for g in 0..groups {
            let at = (row / TILE * groups + g) * TILE + row % TILE;
            to.scales[g] = self.scales.get(at);
            to.minima[g] = self.minima.as_ref().map_or(0.0, |m| m.get(at));
        }
    }

    /// One value.
    pub fn get(&self, row: usize, k: usize) -> f32 {
        let at = (row / TILE * (self.cols / self.form.group) + k / self.form.group) * TILE + row % TILE;
        let product = self.scales.get(at) * f32::from(self.code(row, k));
        self.minima.as_ref().map_or(product, |m| product + m.get(at))
    }

    /// Widens inner values `k .. k + count` of rows `row .. row + N` into vectors `stride` apart.
    /// `row` is a multiple of N, `k` even.
    ///
    /// # Safety
    /// The instruction set is there, `to` holds `count` vectors, and rows and values are inside.
    #[inline(always)]
    pub(super) unsafe fn widen<S: Simd>(&self, row: usize, k: usize, count: usize, to: *mut f32, stride: usize) {
        let (tile, half) = (row / TILE, row % TILE);
        let group = self.form.group;
        let mut done = 0;
        // SAFETY: tiles are whole; the caller keeps row, k and count inside.
        unsafe {
            while done < count {
                let many = (group - (k + done) % group).min(count - done);
                let at = (tile * (self.cols / group) + (k + done) / group) * TILE + half;
                let scale = self.scales.load::<S>(at);
                let low = self.minima.as_ref().map(|m| m.load::<S>(at));
                let value = |code: S::F| match low {
                    Some(low) => S::fma(code, scale, low),
                    None => S::mul(code, scale),
                };
                let first = tile * self.cols + k + done;
                match self.form.bits {
                    Bits::Four => {
                        let centre = f32::from(self.form.centre);
                        for j in (0..many).step_by(2) {
                            let (a, b) = S::nibbles(self.codes.as_ptr().add((first + j) / 2 * TILE + half), centre);
                            let to = to.add((done + j) * stride);
                            S::store(to, value(a));
                            if j + 1 < many {
                                S::store(to.add(stride), value(b));
                            }
                        }
                    }
                    Bits::Eight => {
                        for j in 0..many {
                            let code = S::load_i8(self.codes.as_ptr().add((first + j) * TILE + half).cast());
                            S::store(to.add((done + j) * stride), value(code));
                        }
                    }
                }
                done += many;
            }
        }
    }

    /// The sums of `x` against V vectors of rows from `row`, inner values `from .. to`, one fused
    /// addition after the other: what a row of [`super::panel`]'s tile adds up, without a panel in
    /// between. `row` is a multiple of N, `from` and `to` of the group.
    ///
    /// # Safety
    /// The instruction set is there; rows and values are inside; x holds `to` values.
    #[inline(always)]
    pub(super) unsafe fn dot<S: Simd, const V: usize>(
        &self,
        x: *const f32,
        row: usize,
        from: usize,
        to: usize,
    ) -> [S::F; V] {
        // Apart, so that nothing is decided in the inner loops.
        // SAFETY: as the caller's.
        unsafe {
            match (self.form.bits, &self.minima) {
                (Bits::Four, Some(minima)) => self.dot_of::<S, V, true, true>(minima, x, row, from, to),
                (Bits::Four, None) => self.dot_of::<S, V, true, false>(&self.scales, x, row, from, to),
                (Bits::Eight, Some(minima)) => self.dot_of::<S, V, false, true>(minima, x, row, from, to),
                (Bits::Eight, None) => self.dot_of::<S, V, false, false>(&self.scales, x, row, from, to),
            }
        }
    }

    #[inline(always)]
    unsafe fn dot_of<S: Simd, const V: usize, const FOUR: bool, const LOW: bool>(
        &self,
        minima: &Scales,
        x: *const f32,
        row: usize,
        from: usize,
        to: usize,
    ) -> [S::F; V] {
        let group = self.form.group;
        let groups = self.cols / group;
        let centre = f32::from(self.form.centre);
        // SAFETY: as the caller's.
        unsafe {
            let mut acc = [S::splat(0.0); V];
            for g in from / group..to / group {
                let (mut scale, mut low) = ([S::splat(0.0); V], [S::splat(0.0); V]);
                let mut codes = [self.codes.as_ptr(); V];
                for v in 0..V {
                    let (tile, half) = ((row + v * S::N) / TILE, (row + v * S::N) % TILE);
                    let at = (tile * groups + g) * TILE + half;
                    scale[v] = self.scales.load::<S>(at);
                    if LOW {
                        low[v] = minima.load::<S>(at);
                    }
                    let first = tile * self.cols + g * group;
                    codes[v] = codes[v].add(if FOUR { first / 2 * TILE } else { first * TILE } + half);
                }
                let x = x.add(g * group);
                let value = |code: S::F, v: usize| {
                    if LOW { S::fma(code, scale[v], low[v]) } else { S::mul(code, scale[v]) }
                };
                for k in (0..group).step_by(2) {
                    let (x0, x1) = (S::splat(*x.add(k)), S::splat(*x.add(k + 1)));
                    for v in 0..V {
                        let (a, b) = if FOUR {
                            S::nibbles(codes[v].add(k / 2 * TILE), centre)
                        } else {
                            (S::load_i8(codes[v].add(k * TILE).cast()), S::load_i8(codes[v].add((k + 1) * TILE).cast()))
                        };
                        acc[v] = S::fma(x0, value(a, v), acc[v]);
                        acc[v] = S::fma(x1, value(b, v), acc[v]);
                    }
                }
            }
            acc
        }
    }
}
