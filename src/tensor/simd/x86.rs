//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Simd, Task};

/// # Safety
/// Needs AVX-512 F, BW, DQ, VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn run_avx512<T: Task>(task: T) -> T::Out {
    // SAFETY: as the caller's.
    unsafe { task.run::<Avx512>() }
}

/// # Safety
/// Needs AVX2, FMA, F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<T: Task>(task: T) -> T::Out {
    // SAFETY: as the caller's.
    unsafe { task.run::<Avx2>() }
}

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Writes trait methods whose bodies are unsafe intrinsics.
macro_rules! vector {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: the trait's contract: the instruction set is there and pointers hold N
            // values.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    type F = __m512;
    type D = [__m512d; 2];
    const N: usize = 16;
    vector! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn load_bf16(p: *const bf16) -> __m512 {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
        fn load_f16(p: *const f16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        fn load_i8(p: *const i8) -> __m512 { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
        fn nibbles(p: *const u8, centre: f32) -> (__m512, __m512) {
            // A look-up among sixteen lanes takes the lowest four bits of an index: no mask, no
            // conversion.
            let count = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0);
            let values = _mm512_sub_ps(count, _mm512_set1_ps(centre));
            let both = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let high = _mm512_srli_epi32::<4>(both);
            (_mm512_permutexvar_ps(both, values), _mm512_permutexvar_ps(high, values))
        }
        fn store(p: *mut f32, v: __m512) -> () { _mm512_storeu_ps(p, v) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        fn scale2(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn keep_from(v: __m512, x: __m512, limit: f32) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(limit)), v)
        }
        fn not_below(v: __m512, limit: f32) -> u32 {
            u32::from(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(v, _mm512_set1_ps(limit)))
        }
        fn sum(a: __m512) -> f32 {
            let halves = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            Avx2::sum(halves)
        }
        fn both_f16(v: __m512) -> (__m512, __m512) {
            // The sixteen lower halves first, then the upper ones.
            let halves = _mm512_set_epi16(
                31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1,
                30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
            let apart = _mm512_permutexvar_epi16(halves, _mm512_castps_si512(v));
            (
                _mm512_cvtph_ps(_mm512_castsi512_si256(apart)),
                _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(apart)),
            )
        }
        fn zeros_wide() -> [__m512d; 2] { [_mm512_setzero_pd(); 2] }
        fn add_wide(sums: [__m512d; 2], v: __m512) -> [__m512d; 2] {
            let halves = [_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)];
            [
                _mm512_add_pd(sums[0], _mm512_cvtps_pd(halves[0])),
                _mm512_add_pd(sums[1], _mm512_cvtps_pd(halves[1])),
            ]
        }
        fn sum_wide(sums: [__m512d; 2]) -> f64 {
            let eight = _mm512_add_pd(sums[0], sums[1]);
            let (low, high) = (_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
            Avx2::sum_wide([low, high])
        }
        fn largest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
        fn low_bf16(v: __m512) -> __m512 { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))) }
        fn couple(low: *const bf16, high: *const bf16) -> __m512 {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(low.cast()));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(high.cast())));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
        fn high_bf16(v: __m512) -> __m512 {
            let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), upper))
        }
        fn transpose(v: &mut [__m512; 16]) -> () {
            // Pairs of rows, pairs of pairs, then 128-bit quarters twice.
            let mut t = *v;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
            }
            for i in 0..4 {
                let d = |x: usize| _mm512_castps_pd(t[4 * i + x]);
                let (a, b, c, e) = (d(0), d(1), d(2), d(3));
                v[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                v[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                v[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, e));
                v[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, e));
            }
            for i in 0..4 {
                t[i] = _mm512_shuffle_f32x4::<0x88>(v[i], v[4 + i]);
                t[4 + i] = _mm512_shuffle_f32x4::<0xDD>(v[i], v[4 + i]);
                t[8 + i] = _mm512_shuffle_f32x4::<0x88>(v[8 + i], v[12 + i]);
                t[12 + i] = _mm512_shuffle_f32x4::<0xDD>(v[8 + i], v[12 + i]);
            }
            for i in 0..4 {
                v[i] = _mm512_shuffle_f32x4::<0x88>(t[i], t[8 + i]);
                v[8 + i] = _mm512_shuffle_f32x4::<0xDD>(t[i], t[8 + i]);
                v[4 + i] = _mm512_shuffle_f32x4::<0x88>(t[4 + i], t[12 + i]);
                v[12 + i] = _mm512_shuffle_f32x4::<0xDD>(t[4 + i], t[12 + i]);
            }
        }
    }
}

impl Simd for Avx2 {
    type F = __m256;
    type D = [__m256d; 2];
    const N: usize = 8;
    vector! {
        fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        fn load_bf16(p: *const bf16) -> __m256 {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
        fn load_f16(p: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        fn load_i8(p: *const i8) -> __m256 { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
        fn nibbles(p: *const u8, centre: f32) -> (__m256, __m256) {
            let both = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let low = _mm256_and_si256(both, _mm256_set1_epi32(15));
            let centre = _mm256_set1_ps(centre);
            let value = |code| _mm256_sub_ps(_mm256_cvtepi32_ps(code), centre);
            (value(low), value(_mm256_srli_epi32::<4>(both)))
        }
        fn store(p: *mut f32, v: __m256) -> () { _mm256_storeu_ps(p, v) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn round(a: __m256) -> __m256 { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        fn scale2(a: __m256, n: __m256) -> __m256 {
            let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            _mm256_mul_ps(a, _mm256_castsi256_ps(bits))
        }
        fn keep_from(v: __m256, x: __m256, limit: f32) -> __m256 {
            _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(limit)))
        }
        fn not_below(v: __m256, limit: f32) -> u32 {
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(v, _mm256_set1_ps(limit))) as u32
        }
        fn low_bf16(v: __m256) -> __m256 { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(v))) }
        fn high_bf16(v: __m256) -> __m256 {
            _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000u32 as i32)))
        }
        fn transpose(v: &mut [__m256; 16]) -> () {
            let mut t = *v;
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
            }
            for i in 0..2 {
                let d = |x: usize| _mm256_castps_pd(t[4 * i + x]);
                let (a, b, c, e) = (d(0), d(1), d(2), d(3));
                v[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                v[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                v[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, e));
                v[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, e));
            }
            for i in 0..4 {
                let (a, b) = (v[i], v[4 + i]);
                v[i] = _mm256_permute2f128_ps::<0x20>(a, b);
                v[4 + i] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
        }
        fn both_f16(v: __m256) -> (__m256, __m256) {
            // In each half the lower halves of lanes first; then the middle quarters change places.
            let halves = _mm256_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let apart = _mm256_shuffle_epi8(_mm256_castps_si256(v), halves);
            let apart = _mm256_permute4x64_epi64::<0b11_01_10_00>(apart);
            (
                _mm256_cvtph_ps(_mm256_castsi256_si128(apart)),
                _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(apart)),
            )
        }
        fn zeros_wide() -> [__m256d; 2] { [_mm256_setzero_pd(); 2] }
        fn add_wide(sums: [__m256d; 2], v: __m256) -> [__m256d; 2] {
            let halves = [_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v)];
            [
                _mm256_add_pd(sums[0], _mm256_cvtps_pd(halves[0])),
                _mm256_add_pd(sums[1], _mm256_cvtps_pd(halves[1])),
            ]
        }
        fn sum_wide(sums: [__m256d; 2]) -> f64 {
            let four = _mm256_add_pd(sums[0], sums[1]);
            let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
        fn sum(a: __m256) -> f32 {
            let q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let d = _mm_add_ps(q, _mm_movehl_ps(q, q));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
        }
    }
}
