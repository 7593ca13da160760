//! Elementwise loops, compiled once a [`Level`](super::Level) and chosen at run time.

/// Defines functions whose bodies are compiled once a [`Level`](crate::tensor::simd::Level), and
/// chosen at run time. No reassociation and no contraction happens, so all levels give the same
/// bits.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::tensor::simd::level() {
                    // SAFETY: the level says that the processor has these features.
                    $crate::tensor::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::tensor::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::tensor::simd::Level::Scalar => {}
                }
            }
            body($($arg),*)
        }
    )*};
}
pub(crate) use vectorized;

/// Independent partial sums of a reduction: enough for 512-bit vectors, and the order of additions
/// is fixed.
pub const LANES: usize = 16;

/// Sum of `f(a_i, b_i)`, in [`LANES`] partial sums.
#[inline(always)]
pub fn fold2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            sums[i] += f(x[i], y[i]);
        }
    }
    let mut total = 0.0;
    for s in sums {
        total += s;
    }
    for (x, y) in a_rest.iter().zip(b_rest) {
        total += f(*x, *y);
    }
    total
}

/// `exp(x)` to about 1e-7 relative, 0 below -87.3: straight-line code that vectorises (Cephes'
/// polynomial).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer.
    let clamped = x.clamp(-87.3, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E + MAGIC) - MAGIC;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_2e-4f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5.0e-1;
    p = p * r * r + r + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    // The comparison is false for NaN, which then stays NaN.
    if x < -87.3 { 0.0 } else { p * scale }
}

/// A pointer that may cross threads; each user proves that its tasks write disjoint places.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);
// SAFETY: a plain address; the disjointness of accesses is argued where it is used.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The start of `values`.
    pub fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The address `offset` values on.
    pub fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_near_the_library() {
        for i in -8700..8700 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= 3e-7 * want, "{x}");
        }
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
