//! e^x for slices, f32, about 1e-7 relative: range reduction by ln 2 in two parts and a polynomial
//! (Cephes expf).

use crate::tensor::simd::vectorized;

vectorized! {
    /// Replaces `x` by `e^(x - shift)`; below -87 the result is 0.
    pub(super) fn exp_shifted(values: &mut [f32], shift: f32) {
        for v in values {
            *v = exp(*v - shift);
        }
    }

    /// Replaces scores s by `p = e^(s - shift) (own + other)`; the sum of `p s`.
    pub(super) fn weigh(scores: &mut [f32], shift: f32, own: f32, other: &[f32]) -> f32 {
        let mut sums = [0.0f32; 16];
        let (chunks, rest) = scores.as_chunks_mut::<16>();
        let (others, other_rest) = other.as_chunks::<16>();
        for (chunk, other) in chunks.iter_mut().zip(others) {
            for l in 0..16 {
                let p = exp(chunk[l] - shift) * (own + other[l]);
                sums[l] += p * chunk[l];
                chunk[l] = p;
            }
        }
        for (l, (s, other)) in rest.iter_mut().zip(other_rest).enumerate() {
            let p = exp(*s - shift) * (own + other);
            sums[l] += p * *s;
            *s = p;
        }
        sums.iter().sum()
    }
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to the nearest integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let t = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = clamped - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let e = p * r * r + r + 1.0;
    let scale = f32::from_bits((t.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23);
    if x < -87.0 { 0.0 } else { e * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_three_parts_in_ten_million() {
        let xs: Vec<f32> = (0..175_000).map(|i| -87.0 + i as f32 * 1e-3).collect();
        let mut got = xs.clone();
        exp_shifted(&mut got, 0.0);
        for (x, y) in xs.iter().zip(&got) {
            let want = f64::from(*x).exp();
            assert!((f64::from(*y) - want).abs() <= 3e-7 * want, "e^{x}: {y} and not {want}");
        }
    }

    #[test]
    fn far_below_is_zero_and_nan_stays() {
        let mut v = [-88.0, f32::NEG_INFINITY, f32::NAN];
        exp_shifted(&mut v, 0.0);
        assert_eq!(v[..2], [0.0, 0.0]);
        assert!(v[2].is_nan());
    }
}
