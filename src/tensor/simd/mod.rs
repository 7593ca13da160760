//! The vector unit, chosen at run time: AVX-512, AVX2 with FMA and F16C, or plain code.
//!
//! Elementwise loops are written with [`vectorized!`](vectorized) and leave the choice of
//! instructions to the compiler: the same bits at every level. A kernel is a [`Task`]: one generic
//! body, compiled once per instruction set by [`run`]. Every kernel gives each output an order of
//! additions of its own that does not depend on how the work was cut, so a row's bits do not depend
//! on the batch or on the number of threads; they do depend on the instruction set.

pub mod amx;
pub mod bytes;
pub mod cache;
pub mod pairs;
pub mod vectorized;

pub(crate) use vectorized::vectorized;
pub use vectorized::{LANES, Shared, exp, fold2};

use std::sync::OnceLock;

use half::{bf16, f16};

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// No more than the compiler's baseline.
    Scalar,
    /// AVX2, FMA, F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

/// The best level of this processor.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| *available().last().unwrap_or(&Level::Scalar))
}

/// All levels that this processor can run, slowest first.
pub fn available() -> Vec<Level> {
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        if avx2 {
            levels.push(Level::Avx2);
        }
        if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            levels.push(Level::Avx512);
        }
    }
    levels
}

/// Vector operations of one instruction set.
///
/// # Safety
/// Every method needs the instruction set; pointers must be valid for `N` values of their type.
pub(crate) trait Simd: Copy {
    /// A vector of `N` f32.
    type F: Copy;
    /// `N` sums in f64.
    type D: Copy;
    /// Lanes.
    const N: usize;
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn load_bf16(p: *const bf16) -> Self::F;
    unsafe fn load_f16(p: *const f16) -> Self::F;
    /// N signed bytes.
    unsafe fn load_i8(p: *const i8) -> Self::F;
    /// The lower and the upper four bits of N bytes, each less `centre`.
    unsafe fn nibbles(p: *const u8, centre: f32) -> (Self::F, Self::F);
    unsafe fn store(p: *mut f32, v: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The second operand when one is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The second operand when one is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `a * 2^n` for integral n in -126..=127.
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F;
    /// `v` where `x >= limit` or x is NaN, else 0.
    unsafe fn keep_from(v: Self::F, x: Self::F, limit: f32) -> Self::F;
    /// A bit for each lane that is not below `limit`: NaN is not.
    unsafe fn not_below(v: Self::F, limit: f32) -> u32;
    /// Sum of the lanes, by halves: lane i with lane i + N/2, and so on.
    unsafe fn sum(a: Self::F) -> f32;
    /// The N x N square of 32-bit lanes on its other side; only the first N vectors count.
    #[inline(always)]
    unsafe fn transpose(v: &mut [Self::F; 16]) {
        let mut square = [0.0f32; 256];
        // SAFETY: N <= 16.
        unsafe {
            for (i, v) in v.iter().enumerate().take(Self::N) {
                Self::store(square.as_mut_ptr().add(i * Self::N), *v);
            }
            for (i, v) in v.iter_mut().enumerate().take(Self::N) {
                let column: [f32; 16] =
                    std::array::from_fn(|j| if j < Self::N { square[j * Self::N + i] } else { 0.0 });
                *v = Self::load(column.as_ptr());
            }
        }
    }
    /// Lanes of two bf16 each: N values at `low` as the lower 16 bits, N at `high` as the upper.
    #[inline(always)]
    unsafe fn couple(low: *const bf16, high: *const bf16) -> Self::F {
        let mut lanes = [0.0f32; 16];
        // SAFETY: N <= 16.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::N) {
                let bits = |p: *const bf16| u32::from((*p.add(i)).to_bits());
                *lane = f32::from_bits(bits(low) | bits(high) << 16);
            }
            Self::load(lanes.as_ptr())
        }
    }
    /// Each lane's lower 16 bits, a bf16, as f32.
    unsafe fn low_bf16(v: Self::F) -> Self::F;
    /// Each lane's upper 16 bits, a bf16, as f32.
    unsafe fn high_bf16(v: Self::F) -> Self::F;
    /// Each lane's lower and upper 16 bits, two f16, as f32.
    unsafe fn both_f16(v: Self::F) -> (Self::F, Self::F);
    /// Sums of nothing.
    unsafe fn zeros_wide() -> Self::D;
    /// Adds each lane of `v` to its sum.
    unsafe fn add_wide(sums: Self::D, v: Self::F) -> Self::D;
    /// The sum of all sums, by halves.
    unsafe fn sum_wide(sums: Self::D) -> f64;
    /// Largest lane.
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: N <= 16.
        unsafe { Self::store(lanes.as_mut_ptr(), a) };
        let mut best = lanes[0];
        for &x in &lanes[1..Self::N] {
            best = if x > best { x } else { best };
        }
        best
    }
    /// e^x to about 2 ulp; 0 below -87.3, infinity never (88.3 is the largest argument used), NaN
    /// stays NaN.
    #[inline(always)]
    unsafe fn exp(x: Self::F) -> Self::F {
        // The classic Cephes scheme: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial for e^r.
        // SAFETY: as the caller's.
        unsafe {
            let clamped = Self::min(Self::splat(88.0), Self::max(Self::splat(-87.3), x));
            let n = Self::round(Self::mul(clamped, Self::splat(std::f32::consts::LOG2_E)));
            let r = Self::fma(n, Self::splat(-0.693_359_4), clamped);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = Self::fma(p, r, Self::splat(c));
            }
            let p = Self::add(Self::fma(p, Self::mul(r, r), r), Self::splat(1.0));
            Self::keep_from(Self::scale2(p, n), x, -87.3)
        }
    }
}

/// Asks for the line of the second-level cache at `p`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: of the baseline; what cannot be read is not asked for.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// A stored number that a vector load widens to f32.
pub(crate) trait Element: Copy + Send + Sync {
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<S: Simd>(p: *const Self) -> S::F;
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller's.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller's.
        unsafe { S::load_bf16(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller's.
        unsafe { S::load_f16(p) }
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// A kernel with one generic body. Mark `run` `#[inline(always)]`, and call only such functions in
/// it.
pub(crate) trait Task {
    type Out;
    /// # Safety
    /// The instruction set of `S` must be there.
    unsafe fn run<S: Simd>(self) -> Self::Out;
}

/// Runs `task` on `level`, which must come from [`available`] or [`level`].
pub(crate) fn run<T: Task>(level: Level, task: T) -> T::Out {
    // SAFETY: levels other than Scalar are only handed out when the processor has them.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::run_avx512(task),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::run_avx2(task),
            _ => task.run::<Plain>(),
        }
    }
}

/// Eight lanes in plain code; the compiler makes of it what the baseline has.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Plain {
    type F = [f32; 8];
    type D = [f64; 8];
    const N: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self::F {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[bf16; 8]>().read_unaligned() }.map(Element::widen)
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self::F {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[f16; 8]>().read_unaligned() }.map(Element::widen)
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::F {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[i8; 8]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn nibbles(p: *const u8, centre: f32) -> (Self::F, Self::F) {
        // SAFETY: as the caller's.
        let bytes = unsafe { p.cast::<[u8; 8]>().read_unaligned() };
        (bytes.map(|b| f32::from(b & 15) - centre), bytes.map(|b| f32::from(b >> 4) - centre))
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        // SAFETY: as the caller's.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Two roundings: without the instruction a true fma is a library call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F {
        zip(a, n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn keep_from(v: Self::F, x: Self::F, limit: f32) -> Self::F {
        zip(v, x, |v, x| if x < limit { 0.0 } else { v })
    }
    #[inline(always)]
    unsafe fn not_below(v: Self::F, limit: f32) -> u32 {
        (0..8).fold(0, |mask, l| mask | u32::from(v[l] >= limit || v[l].is_nan()) << l)
    }
    #[inline(always)]
    unsafe fn low_bf16(v: Self::F) -> Self::F {
        v.map(|x| f32::from_bits(x.to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn high_bf16(v: Self::F) -> Self::F {
        v.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    unsafe fn both_f16(v: Self::F) -> (Self::F, Self::F) {
        let half = |bits: u32| f16::from_bits(bits as u16).to_f32();
        (v.map(|x| half(x.to_bits())), v.map(|x| half(x.to_bits() >> 16)))
    }
    #[inline(always)]
    unsafe fn zeros_wide() -> Self::D {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn add_wide(sums: Self::D, v: Self::F) -> Self::D {
        std::array::from_fn(|i| sums[i] + f64::from(v[i]))
    }
    #[inline(always)]
    unsafe fn sum_wide(a: Self::D) -> f64 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

#[cfg(test)]
mod tests {
    use super::*;

    struct Wide<'a>(&'a [f32]);
    impl Task for Wide<'_> {
        type Out = f64;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> f64 {
            // SAFETY: chunks of N.
            unsafe {
                let mut sums = S::zeros_wide();
                for x in self.0.chunks_exact(S::N) {
                    sums = S::add_wide(sums, S::load(x.as_ptr()));
                }
                S::sum_wide(sums)
            }
        }
    }

    #[test]
    fn wide_sums_keep_what_f32_loses() {
        // 2^24 + 1 is no f32.
        let x: Vec<f32> = (0..48).map(|i| if i == 5 { 16_777_216.0 } else { 1.0 + i as f32 }).collect();
        let want: f64 = x.iter().map(|&v| f64::from(v)).sum();
        for level in available() {
            assert_eq!(run(level, Wide(&x)), want, "{level:?}");
        }
    }

    struct Exp<'a>(&'a [f32], &'a mut [f32]);
    impl Task for Exp<'_> {
        type Out = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for (x, y) in self.0.chunks_exact(S::N).zip(self.1.chunks_exact_mut(S::N)) {
                // SAFETY: chunks of N.
                unsafe { S::store(y.as_mut_ptr(), S::exp(S::load(x.as_ptr()))) };
            }
        }
    }

    #[test]
    fn exp_is_within_three_ulp_and_keeps_its_edges() {
        let mut x: Vec<f32> = (0..16_000).map(|i| -87.0 + i as f32 * 0.01).filter(|&x| x < 80.0).collect();
        x.truncate(x.len() / 16 * 16 - 16);
        x.extend([f32::NEG_INFINITY, -100.0, f32::NAN, 0.0, -0.0, 1.0, -1.0, -88.0]);
        x.extend([0.5; 8]);
        for level in available() {
            let mut y = vec![9.0; x.len()];
            run(level, Exp(&x, &mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).exp();
                if x.is_nan() {
                    assert!(y.is_nan());
                } else if x < -87.3 {
                    assert_eq!(y, 0.0);
                } else {
                    assert!((f64::from(y) - want).abs() <= 3.0 * 6e-8 * want, "{level:?} exp({x}) = {y}, not {want}");
                }
            }
            assert_eq!(y[x.len() - 13], 1.0, "exp(0) is exactly 1");
        }
    }

    struct Square<'a>(&'a mut [f32; 256], &'a mut [[f32; 16]; 5]);
    impl Task for Square<'_> {
        type Out = usize;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> usize {
            // SAFETY: 256 values are N vectors of N at least; the other lines hold 16.
            unsafe {
                let mut v = [S::splat(0.0); 16];
                for (i, v) in v.iter_mut().enumerate().take(S::N) {
                    *v = S::load(self.0.as_ptr().add(i * S::N));
                }
                S::store(self.1[0].as_mut_ptr(), S::low_bf16(v[1]));
                S::store(self.1[1].as_mut_ptr(), S::high_bf16(v[1]));
                self.1[2][0] = S::sum(v[2]);
                self.1[2][1] = S::largest(v[2]);
                let (low, high) = S::both_f16(v[1]);
                S::store(self.1[3].as_mut_ptr(), low);
                S::store(self.1[4].as_mut_ptr(), high);
                S::transpose(&mut v);
                for (i, v) in v.iter().enumerate().take(S::N) {
                    S::store(self.0.as_mut_ptr().add(i * S::N), *v);
                }
            }
            S::N
        }
    }

    #[test]
    fn transpose_halves_sum_and_largest_are_what_they_say() {
        for level in available() {
            let before: [f32; 256] = std::array::from_fn(|i| ((i * 37 % 251) as f32 - 120.0) / 7.0);
            let (mut square, mut lines) = (before, [[0.0; 16]; 5]);
            let n = run(level, Square(&mut square, &mut lines));
            for i in 0..n {
                for j in 0..n {
                    assert_eq!(square[i * n + j].to_bits(), before[j * n + i].to_bits(), "{level:?} {i} {j}");
                }
                let bits = before[n + i].to_bits();
                assert_eq!(lines[0][i].to_bits(), bits << 16, "{level:?}: lower half {i}");
                assert_eq!(lines[1][i].to_bits(), bits & 0xffff_0000, "{level:?}: upper half {i}");
                for (line, bits) in [(3, bits as u16), (4, (bits >> 16) as u16)] {
                    let want = f16::from_bits(bits).to_f32();
                    assert!(lines[line][i].to_bits() == want.to_bits() || want.is_nan(), "{level:?}: f16 of {bits:x}");
                }
            }
            let third = &before[2 * n..3 * n];
            let sum: f32 = third.iter().sum();
            assert!((lines[2][0] - sum).abs() <= 1e-4, "{level:?}: sum {} is not {sum}", lines[2][0]);
            assert_eq!(lines[2][1], third.iter().copied().fold(f32::MIN, f32::max), "{level:?}: largest");
        }
    }
}
