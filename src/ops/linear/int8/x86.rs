//! AVX2, AVX-VNNI and AVX-512 VNNI.

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::TILE;
use super::kernel::{Lanes, Span};

/// # Safety
/// Needs AVX-512 F, BW, DQ, VL, VNNI; shapes fit.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn avx512_vnni(span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: as the caller's.
    unsafe { span.drive::<Avx512Vnni, 4>(outputs) }
}

/// # Safety
/// Needs AVX-VNNI, AVX2, FMA, F16C; shapes fit.
#[target_feature(enable = "avxvnni,avx2,fma,f16c")]
pub(super) unsafe fn avx_vnni(span: &Span<'_>, outputs: Range<usize>) {
    // SAFETY: as the caller's.
    unsafe { span.drive::<AvxVnni, 2>(outputs) }
}

/// # Safety
/// Needs AVX2, FMA, F16C; shapes fit.
#[target_feature(enable = "avx2,fma,f16c")]
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
            fn store_codes(p: *mut u8, v: __m256i) -> () { _mm256_storeu_si256(p.cast(), v) }
            fn turn_bytes(p: *const u8, lane: usize) -> __m256i {
                let p = p.add(lane);
                let first = _mm_unpacklo_epi8(_mm_loadl_epi64(p.cast()), _mm_loadl_epi64(p.add(TILE).cast()));
                let second = _mm_unpacklo_epi8(_mm_loadl_epi64(p.add(2 * TILE).cast()), _mm_loadl_epi64(p.add(3 * TILE).cast()));
                let (low, high) = (_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second));
                let all = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
                _mm256_xor_si256(all, _mm256_set1_epi8(i8::MIN))
            }
            fn turn_nibbles(p: *const u8, lane: usize) -> [__m256i; 2] {
                let low = _mm256_set1_epi8(15);
                // Pairs of inner values of eight outputs: 0 and 2 in one vector, 1 and 3 in
                // another, so that each half of a vector ends up with four inner values.
                let p = p.add(lane);
                let even = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadl_epi64(p.cast())), _mm_loadl_epi64(p.add(2 * TILE).cast()));
                let odd = _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadl_epi64(p.add(TILE).cast())), _mm_loadl_epi64(p.add(3 * TILE).cast()));
                let a = _mm256_unpacklo_epi8(_mm256_and_si256(even, low), _mm256_and_si256(_mm256_srli_epi16::<4>(even), low));
                let b = _mm256_unpacklo_epi8(_mm256_and_si256(odd, low), _mm256_and_si256(_mm256_srli_epi16::<4>(odd), low));
                let (near, far) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
                [_mm256_permute2x128_si256::<0x20>(near, far), _mm256_permute2x128_si256::<0x31>(near, far)]
            }
            fn load_f16(p: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
            fn load_i8(p: *const i8) -> __m256 { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
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

/// Turns four by four bytes of each quarter.
#[inline(always)]
unsafe fn squares() -> __m512i {
    // SAFETY: the caller has AVX-512 F.
    unsafe { _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)) }
}

impl Lanes for Avx512Vnni {
    type I = __m512i;
    type F = __m512;
    const N: usize = 16;
    vector! {
        fn splat_i32(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn load_codes(p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn store_codes(p: *mut u8, v: __m512i) -> () { _mm512_storeu_si512(p.cast(), v) }
        fn turn_bytes(p: *const u8, _lane: usize) -> __m512i {
            // To the j-th quarter the j-th four outputs of each inner value, then a square of bytes
            // on its other side.
            let quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let v = _mm512_permutexvar_epi32(quarters, _mm512_loadu_si512(p.cast()));
            _mm512_xor_si512(_mm512_shuffle_epi8(v, squares()), _mm512_set1_epi8(i8::MIN))
        }
        fn turn_nibbles(p: *const u8, _lane: usize) -> [__m512i; 2] {
            let (v, low) = (_mm512_loadu_si512(p.cast()), _mm512_set1_epi8(15));
            let (a, b) = (_mm512_and_si512(v, low), _mm512_and_si512(_mm512_srli_epi16::<4>(v), low));
            let first = _mm512_setr_epi32(0, 16, 4, 20, 1, 17, 5, 21, 2, 18, 6, 22, 3, 19, 7, 23);
            let second = _mm512_setr_epi32(8, 24, 12, 28, 9, 25, 13, 29, 10, 26, 14, 30, 11, 27, 15, 31);
            [
                _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, first, b), squares()),
                _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, second, b), squares()),
            ]
        }
        fn load_f16(p: *const f16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        fn load_i8(p: *const i8) -> __m512 { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
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
