//! How the rows that are gathered lie in memory: as f32, or two values in a word.
//!
//! A gather is bound by the bytes it moves from the second cache level, so rows of half the size
//! are worth their rounding. Sums are f32 in both forms; even and odd neighbours are summed in two
//! sets of registers, which hides the latency of the additions.

// Fixed-width loops over several arrays at once read best, and vectorise, with an index.
#![allow(clippy::needless_range_loop)]

use bytemuck::{Pod, Zeroable};

use super::super::{LANE, Lane};
use crate::tensor::simd::Level;

/// A cache line of one form.
pub(super) trait Stored: Copy + Send + Sync + Zeroable {
    /// The lanes of f32 that a line holds.
    type Lanes: Pod;

    /// How many they are.
    const LANES: usize = size_of::<Self::Lanes>() / size_of::<Lane>();

    /// Writes `lanes` (as many as fill `to`, the last line perhaps only in part).
    fn put(level: Level, lanes: &[Lane], to: &mut [Self]);

    /// Adds a line.
    fn add(&self, to: &mut Self::Lanes);

    /// The sums of `z[c * stride ..][..N]` over `c` in `columns`.
    ///
    /// # Safety
    /// Every column times `stride`, plus N, must be within `z`, and the processor have `level`.
    unsafe fn sum<const N: usize>(
        level: Level,
        z: *const Self,
        stride: usize,
        columns: &[u32],
        out: &mut [Self::Lanes; N],
    );
}

/// Thirty-two values in 16 bits each: word `w` holds value `w` of one lane in its lower half and
/// value `w` of the next lane in its upper half.
///
/// Lower halves are bf16. A whole word *is* the upper value: an f32 whose last 16 bits happen to be
/// the other value, the upper half being chosen such that this f32 is the nearest to the value. So
/// the upper values are summed without being unpacked, and the lower ones after one shift. Both are
/// within `2^-8` of the value, relatively, from `2^-126` on; an upper zero reads as less than
/// `2^-133`. What is not finite, or above `2^127`, stays or becomes not finite.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Pair(pub [u32; LANE]);

/// The word of two values.
#[inline(always)]
fn word(lower: f32, upper: f32) -> u32 {
    // Infinity must not round to NaN nor NaN to infinity: a quiet NaN keeps its highest bits.
    let round = |bits: u32| bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let low = if lower.is_nan() { 0x7fc0 } else { round(lower.to_bits()) };
    let (sign, size) = (upper.to_bits() & 0x8000_0000, (upper.to_bits() & 0x7fff_ffff) as i32);
    let nearest = (size - low as i32 + 0x8000).max(0) as u32 & 0x7fff_0000;
    let high = if upper.is_finite() { nearest } else { 0x7fc0_0000 };
    sign | high | low
}

#[inline(always)]
fn put_pairs(lanes: &[Lane], to: &mut [Pair]) {
    for (two, to) in lanes.chunks(2).zip(to) {
        let upper = two.get(1).unwrap_or(&Lane::ZERO);
        for l in 0..LANE {
            to.0[l] = word(two[0].0[l], upper.0[l]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn put_pairs_avx512(lanes: &[Lane], to: &mut [Pair]) {
    put_pairs(lanes, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn put_pairs_avx2(lanes: &[Lane], to: &mut [Pair]) {
    put_pairs(lanes, to);
}

/// The sums in plain code.
#[inline(always)]
unsafe fn sum_plain<S: Stored, const N: usize>(z: *const S, stride: usize, columns: &[u32], out: &mut [S::Lanes; N]) {
    let mut odd = [S::Lanes::zeroed(); N];
    *out = odd;
    for (i, &c) in columns.iter().enumerate() {
        let to = if i % 2 == 0 { &mut *out } else { &mut odd };
        for n in 0..N {
            // SAFETY: by the contract of `Stored::sum`.
            unsafe { (*z.add(c as usize * stride + n)).add(&mut to[n]) };
        }
    }
    let odd: &[Lane] = bytemuck::cast_slice(&odd);
    for (to, odd) in bytemuck::cast_slice_mut::<_, Lane>(out).iter_mut().zip(odd) {
        for l in 0..LANE {
            to.0[l] += odd.0[l];
        }
    }
}

// SAFETY of the two below: as `Stored::sum`; compiled for AVX2, the plain loops become 256-bit
// code.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn lanes_avx2<const N: usize>(z: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    // SAFETY: passed on.
    unsafe { sum_plain(z, stride, columns, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn pairs_avx2<const N: usize>(z: *const Pair, stride: usize, columns: &[u32], out: &mut [[Lane; 2]; N]) {
    // SAFETY: passed on.
    unsafe { sum_plain(z, stride, columns, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn lanes_avx512<const N: usize>(z: *const Lane, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
    use std::arch::x86_64::*;
    let (mut even, mut odd) = ([_mm512_setzero_ps(); N], [_mm512_setzero_ps(); N]);
    let (pairs, rest) = columns.as_chunks::<2>();
    // SAFETY: in bounds by the contract of `Stored::sum`; a Lane is aligned to 64 bytes.
    unsafe {
        for &[a, b] in pairs {
            let (a, b) = (z.add(a as usize * stride).cast::<f32>(), z.add(b as usize * stride).cast::<f32>());
            for n in 0..N {
                even[n] = _mm512_add_ps(even[n], _mm512_load_ps(a.add(n * LANE)));
                odd[n] = _mm512_add_ps(odd[n], _mm512_load_ps(b.add(n * LANE)));
            }
        }
        for &a in rest {
            let a = z.add(a as usize * stride).cast::<f32>();
            for n in 0..N {
                even[n] = _mm512_add_ps(even[n], _mm512_load_ps(a.add(n * LANE)));
            }
        }
        for n in 0..N {
            _mm512_store_ps(out[n].0.as_mut_ptr(), _mm512_add_ps(even[n], odd[n]));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn pairs_avx512<const N: usize>(z: *const Pair, stride: usize, columns: &[u32], out: &mut [[Lane; 2]; N]) {
    use std::arch::x86_64::*;
    // [parity][lower, upper][line]
    let mut sums = [[[_mm512_setzero_ps(); N]; 2]; 2];
    let add = |set: &mut [[__m512; N]; 2], n: usize, line: __m512i| {
        set[0][n] = _mm512_add_ps(set[0][n], _mm512_castsi512_ps(_mm512_slli_epi32::<16>(line)));
        set[1][n] = _mm512_add_ps(set[1][n], _mm512_castsi512_ps(line));
    };
    let (twos, rest) = columns.as_chunks::<2>();
    // SAFETY: in bounds by the contract of `Stored::sum`; a Pair is aligned to 64 bytes.
    unsafe {
        for &[a, b] in twos {
            let (a, b) = (z.add(a as usize * stride), z.add(b as usize * stride));
            for n in 0..N {
                add(&mut sums[0], n, _mm512_load_si512(a.add(n).cast()));
                add(&mut sums[1], n, _mm512_load_si512(b.add(n).cast()));
            }
        }
        for &a in rest {
            for n in 0..N {
                add(&mut sums[0], n, _mm512_load_si512(z.add(a as usize * stride + n).cast()));
            }
        }
        let [even, odd] = sums;
        for n in 0..N {
            for half in 0..2 {
                _mm512_store_ps(out[n][half].0.as_mut_ptr(), _mm512_add_ps(even[half][n], odd[half][n]));
            }
        }
    }
}

impl Stored for Lane {
    type Lanes = Lane;

    fn put(_: Level, lanes: &[Lane], to: &mut [Self]) {
        to.copy_from_slice(lanes);
    }

    #[inline(always)]
    fn add(&self, to: &mut Lane) {
        for l in 0..LANE {
            to.0[l] += self.0[l];
        }
    }

    unsafe fn sum<const N: usize>(level: Level, z: *const Self, stride: usize, columns: &[u32], out: &mut [Lane; N]) {
        // SAFETY: passed on; `level` was detected.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => lanes_avx2::<N>(z, stride, columns, out),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => lanes_avx512::<N>(z, stride, columns, out),
                _ => sum_plain(z, stride, columns, out),
            }
        }
    }
}

impl Stored for Pair {
    type Lanes = [Lane; 2];

    fn put(level: Level, lanes: &[Lane], to: &mut [Self]) {
        // SAFETY: `level` was detected.
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { put_pairs_avx2(lanes, to) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { put_pairs_avx512(lanes, to) },
            _ => put_pairs(lanes, to),
        }
    }

    #[inline(always)]
    fn add(&self, to: &mut [Lane; 2]) {
        for l in 0..LANE {
            to[0].0[l] += f32::from_bits(self.0[l] << 16);
            to[1].0[l] += f32::from_bits(self.0[l]);
        }
    }

    unsafe fn sum<const N: usize>(
        level: Level,
        z: *const Self,
        stride: usize,
        columns: &[u32],
        out: &mut [[Lane; 2]; N],
    ) {
        // SAFETY: passed on; `level` was detected.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => pairs_avx2::<N>(z, stride, columns, out),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => pairs_avx512::<N>(z, stride, columns, out),
                _ => sum_plain(z, stride, columns, out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Rng, Use};
    use crate::tensor::simd::{available, level};

    fn same_bits<S: Stored, const N: usize>(rows: usize) {
        let mut rng = Rng::new(3, Use::Synthetic, 0, 0);
        let lanes: Vec<Lane> = (0..rows * N * S::LANES).map(|_| Lane(std::array::from_fn(|_| rng.normal()))).collect();
        let mut z = vec![S::zeroed(); rows * N];
        S::put(level(), &lanes, &mut z);
        for count in [0usize, 1, 2, 7, 33] {
            let columns: Vec<u32> = (0..count).map(|_| rng.below(rows as u32)).collect();
            let sum = |level| {
                let mut out = [S::Lanes::zeroed(); N];
                // SAFETY: columns are below the rows of z, and the level was detected.
                unsafe { S::sum(level, z.as_ptr(), N, &columns, &mut out) };
                bytemuck::cast_slice::<_, Lane>(&out).to_vec()
            };
            let all: Vec<Vec<Lane>> = available().into_iter().map(sum).collect();
            assert!(all.iter().all(|out| out == &all[0]), "{count} neighbours, {N} lines");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        same_bits::<Lane, 4>(50);
        same_bits::<Lane, 1>(50);
        same_bits::<Pair, 2>(50);
        same_bits::<Pair, 4>(50);
    }

    fn read(word: u32) -> (f32, f32) {
        (f32::from_bits(word << 16), f32::from_bits(word))
    }

    proptest! {
        #![proptest_config(crate::testing::cases(4096))]
        /// Any two f32, normal and denormal; the bound of the contract.
        #[test]
        fn a_pair_reads_as_its_values(a in any::<u32>(), b in any::<u32>()) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            let (x, y) = read(word(a, b));
            for (value, read) in [(a, x), (b, y)] {
                let (value, read) = (f64::from(value), f64::from(read));
                if !value.is_finite() {
                    prop_assert!(!read.is_finite(), "{} reads as {}", value, read);
                } else if value.abs() <= 2f64.powi(127) {
                    let bound = value.abs() / 256.0 + 2f64.powi(-133);
                    prop_assert!((read - value).abs() <= bound, "{} reads as {}", value, read);
                }
            }
            let mut two = [Lane::ZERO; 2];
            (two[0].0[5], two[1].0[5]) = (a, b);
            for level in available() {
                let mut to = [Pair::zeroed()];
                Pair::put(level, &two, &mut to);
                prop_assert_eq!(to[0].0[5], word(a, b), "{:?}", level);
            }
        }
    }

    #[test]
    fn a_lane_without_a_second_one_is_a_pair_with_zeros() {
        let mut to = [Pair::zeroed(); 2];
        let lane = |v: f32| Lane([v; LANE]);
        Pair::put(level(), &[lane(1.0), lane(2.0), lane(3.0)], &mut to);
        let ((first, second), (third, none)) = (read(to[0].0[0]), read(to[1].0[0]));
        // Lower values have 8 bits of their own; an upper one ends in the lower one's.
        assert!(first == 1.0 && (second - 2.0).abs() <= 2.0 / 256.0 && third == 3.0, "{first} {second} {third}");
        assert!(none.abs() < 1e-39, "{none}");
    }
}
