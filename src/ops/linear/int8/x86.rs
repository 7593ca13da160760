//! AVX2, AVX-VNNI and AVX-512 VNNI.

use std::arch::x86_64::*;
use std::ops::Range;

use super::kernel::{Lanes, Span};

/// # Safety
/// Needs AVX-512 F, BW, DQ, VL, VNNI; shapes fit.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
pub(super) unsafe fn avx512_vnni(span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: as the caller's.
    unsafe { span.drive::<Avx512Vnni, 4>(outputs) }
}

/// # Safety
/// Needs AVX-VNNI, AVX2, FMA; shapes fit.
#[target_feature(enable = "avxvnni,avx2,fma")]
pub(super) unsafe fn avx_vnni(span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: as the caller's.
    unsafe { span.drive::<AvxVnni, 2>(outputs) }
}

/// # Safety
/// Needs AVX2, FMA; shapes fit.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2(span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: as the caller's.
    unsafe { span.drive::<Avx2, 2>(outputs) }
}

#[derive(Clone, Copy)]
struct Avx512Vnni;
#[derive(Clone, Copy)]
struct AvxVnni;
#[derive(Clone, Copy)]
struct Avx2;

/// Writes trait methods whose bodies are unsafe intrinsics.
macro_rules! vector {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: the trait's contract: the instruction set is there and pointers hold N lanes.
            unsafe { $body }
        }
    )*};
}

/// What both sets of eight lanes share.
macro_rules! eight_lanes {
    () => {
        type I = __m256i;
        type F = __m256;
        const N: usize = 8;
        vector! {
            fn splat_i32(x: i32) -> __m256i { _mm256_set1_epi32(x) }
            fn load_codes(p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
            fn to_f32(x: __m256i) -> __m256 { _mm256_cvtepi32_ps(x) }
            fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
            fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
            fn store(p: *mut f32, v: __m256) -> () { _mm256_storeu_ps(p, v) }
            fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
            fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
            fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        }
    };
}

impl Lanes for Avx2 {
    eight_lanes!();
    vector! {
        fn dot(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
            // As 16-bit numbers, of which pairs of products fit into 32 bits: the byte form would
            // saturate.
            let even = _mm256_madd_epi16(
                _mm256_and_si256(w, _mm256_set1_epi16(0xff)), _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)));
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), _mm256_srai_epi16::<8>(x));
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        }
    }
}

impl Lanes for AvxVnni {
    eight_lanes!();
    vector! {
        fn dot(sum: __m256i, w: __m256i, x: __m256i) -> __m256i { _mm256_dpbusd_avx_epi32(sum, w, x) }
    }
}

impl Lanes for Avx512Vnni {
    type I = __m512i;
    type F = __m512;
    const N: usize = 16;
    vector! {
        fn splat_i32(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn load_codes(p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn dot(sum: __m512i, w: __m512i, x: __m512i) -> __m512i { _mm512_dpbusd_epi32(sum, w, x) }
        fn to_f32(x: __m512i) -> __m512 { _mm512_cvtepi32_ps(x) }
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn store(p: *mut f32, v: __m512) -> () { _mm512_storeu_ps(p, v) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
    }
}
