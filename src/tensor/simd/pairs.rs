//! Products of pairs of bf16: a 32-bit lane holds two neighbours of a row, and one instruction
//! multiplies both with two of another row and adds the two products to an f32.
//!
//! A kernel that is generic over [`Simd`] multiplies bf16 rows of an even width when its values are
//! such pairs, half as many as the row has numbers, and when it runs by [`run`]: there
//! [`Simd::fma`] is that instruction. Products are exact; sums are rounded to nearest at each
//! addition; numbers and sums below 2^-126 count as zero.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::Simd;
use super::{Element, Task, vectorized};

/// Two neighbours of a row, the first one low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Pair(pub [u16; 2]);

impl Element for Pair {
    #[inline(always)]
    unsafe fn load<S: super::Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller's; N pairs are N lanes.
        unsafe { S::load(p.cast()) }
    }
    /// The 32 bits of the lane.
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0[0]) | u32::from(self.0[1]) << 16)
    }
}

/// `value` rounded to bf16, to nearest even, as its 16 bits. What is below 2^-126 becomes zero, as
/// it is for the instruction; NaN stays NaN.
#[inline(always)]
pub fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let size = bits & 0x7fff_ffff;
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let nearest = if size < 0x0080_0000 { (bits >> 16 & 0x8000) as u16 } else { nearest };
    if size > 0x7f80_0000 { (bits >> 16) as u16 | 0x40 } else { nearest }
}

/// The value of 16 bits of bf16.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

vectorized! {
    /// All values, rounded.
    fn round_all(values: &[f32], to: &mut [u16]) {
        for (to, &v) in to.iter_mut().zip(values) {
            *to = round(v);
        }
    }
}

/// Pairs of a row of `width` numbers.
pub fn of_row(width: usize) -> usize {
    width.div_ceil(2)
}

/// Rounds rows of `width` numbers into rows of [`of_row`] pairs; a zero ends an odd row. Panics
/// unless `to` holds as many rows.
pub fn narrow(values: &[f32], width: usize, to: &mut [Lane]) {
    let pairs = of_row(width);
    assert!(width > 0 && values.len() / width * pairs == to.len(), "rows of pairs: shapes differ");
    let to: &mut [u16] = bytemuck::cast_slice_mut(to);
    if width.is_multiple_of(2) {
        return round_all(values, to);
    }
    for (row, to) in values.chunks_exact(width).zip(to.chunks_exact_mut(2 * pairs)) {
        round_all(row, to);
        to[width] = 0;
    }
}

/// A pair where it is aligned to be broadcast.
pub type Lane = u32;

/// Whether this processor has the instruction (AVX512-BF16).
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let there = super::level() == super::Level::Avx512 && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let there = false;
        there
    })
}

/// Runs `task` on pairs. Panics unless they are [`available`].
pub(crate) fn run<T: Task>(task: T) -> T::Out {
    assert!(available(), "products of bf16 pairs on a processor without them");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: just checked.
    return unsafe { run_pairs(task) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("never available")
}

/// # Safety
/// Needs AVX-512 F, BW, DQ, VL, BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn run_pairs<T: Task>(task: T) -> T::Out {
    // SAFETY: as the caller's.
    unsafe { task.run::<Pairs>() }
}

/// Sixteen lanes of two bf16 each, and sixteen sums.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// What moves lanes, or works on sums, is that of f32.
#[cfg(target_arch = "x86_64")]
macro_rules! as_f32 {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: as the caller's.
            unsafe { super::x86::Avx512::$name($($arg),*) }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
impl Simd for Pairs {
    type F = __m512;
    type D = <super::x86::Avx512 as Simd>::D;
    const N: usize = 16;
    as_f32! {
        splat(x: f32) -> __m512;
        load(p: *const f32) -> __m512;
        load_bf16(p: *const bf16) -> __m512;
        load_f16(p: *const f16) -> __m512;
        load_i8(p: *const i8) -> __m512;
        store(p: *mut f32, v: __m512) -> ();
        add(a: __m512, b: __m512) -> __m512;
        sub(a: __m512, b: __m512) -> __m512;
        mul(a: __m512, b: __m512) -> __m512;
        div(a: __m512, b: __m512) -> __m512;
        max(a: __m512, b: __m512) -> __m512;
        min(a: __m512, b: __m512) -> __m512;
        round(a: __m512) -> __m512;
        scale2(a: __m512, n: __m512) -> __m512;
        keep_from(v: __m512, x: __m512, limit: f32) -> __m512;
        not_below(v: __m512, limit: f32) -> u32;
        sum(a: __m512) -> f32;
        low_bf16(v: __m512) -> __m512;
        high_bf16(v: __m512) -> __m512;
        transpose(v: &mut [__m512; 16]) -> ();
        couple(low: *const bf16, high: *const bf16) -> __m512;
        both_f16(v: __m512) -> (__m512, __m512);
        zeros_wide() -> Self::D;
        add_wide(sums: Self::D, v: __m512) -> Self::D;
        sum_wide(sums: Self::D) -> f64;
    }
    #[inline(always)]
    unsafe fn nibbles(p: *const u8, centre: f32) -> (__m512, __m512) {
        // SAFETY: as the caller's.
        unsafe { super::x86::Avx512::nibbles(p, centre) }
    }
    /// `a` and `b` are pairs, `c` is a sum.
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the instruction set is there; the types are the same 512 bits.
        unsafe {
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_even_number_of_16_bits() {
        let edges = [0.0, -0.0, 1.0, -1.5, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 3.4e38, f32::INFINITY, -f32::INFINITY];
        let many = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)));
        for value in edges.into_iter().chain(many) {
            let want = half::bf16::from_f32(value);
            let got = half::bf16::from_bits(round(value));
            if value.is_nan() {
                assert!(got.is_nan());
            } else if value.abs() < f32::MIN_POSITIVE {
                assert_eq!(got.to_f32(), 0.0, "{value:e}");
            } else {
                assert_eq!(got, want, "{value:e}");
            }
        }
        let mut rows = [7; 4];
        narrow(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, &mut rows);
        let numbers: &[u16] = bytemuck::cast_slice(&rows);
        assert_eq!(numbers.iter().map(|&b| widen(b)).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0]);
    }
}
