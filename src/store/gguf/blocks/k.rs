//! Blocks of 256 values with two levels of scales.

use super::{Parts, half};

pub(super) const Q4_K_BYTES: usize = 2 + 2 + 12 + 128;
pub(super) const Q6_K_BYTES: usize = 128 + 64 + 16 + 2;

/// The 6-bit scale and minimum of group `j` of 8. The first four lie in the low 6 bits of bytes 0-3
/// and 4-7; of the last four, the low 4 bits lie in bytes 8-11 and the top 2 bits on top of bytes
/// 0-3 and 4-7.
fn scale_and_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let both = packed[j + 4];
        ((both & 0x0F) | (packed[j - 4] >> 6) << 4, (both >> 4) | (packed[j] >> 6) << 4)
    }
}

/// `(d s_j) q - (m n_j)`: 8 groups of 32; 32 bytes hold the low nibbles of one group and the high
/// ones of the next.
pub(super) fn q4_k(block: &[u8], out: Parts<'_>) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (packed, quants) = (&block[4..16], &block[16..]);
    // The minimum is taken off: the step has its sign.
    out.steps[0] = [d, -m];
    for j in 0..8 {
        let (scale, min) = scale_and_min(packed, j);
        (out.scales[j], out.minima[j]) = (f32::from(scale), f32::from(min));
    }
    for (codes, quants) in out.codes.chunks_exact_mut(64).zip(quants.chunks_exact(32)) {
        let (low, high) = codes.split_at_mut(32);
        for ((l, h), &q) in low.iter_mut().zip(high).zip(quants) {
            (*l, *h) = ((q & 0x0F) as i8, (q >> 4) as i8);
        }
    }
}

/// `(d s_j) (q - 32)`: two halves of 128 values; in each, 64 bytes of low nibbles and 32 bytes with
/// four pairs of high bits; a signed 8-bit scale for 16 values.
pub(super) fn q6_k(block: &[u8], out: Parts<'_>) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    out.steps[0] = [half(block, 208), 0.0];
    for (o, &s) in out.scales.iter_mut().zip(scales) {
        *o = f32::from(s as i8);
    }
    let halves = out.codes.chunks_exact_mut(128).zip(low.chunks_exact(64)).zip(high.chunks_exact(32));
    for ((codes, low), high) in halves {
        // Nibbles and pairs of bits of the same value, a quarter at a time: the shifts are
        // constants then, and the compiler takes 16 values together.
        let (front, back) = codes.split_at_mut(64);
        let ((a, b), (c, d)) = (front.split_at_mut(32), back.split_at_mut(32));
        let (first, second) = low.split_at(32);
        let centred = |nibble: u8, top: u8| (nibble | top << 4) as i8 - 32;
        a.iter_mut().zip(first).zip(high).for_each(|((o, &n), &h)| *o = centred(n & 0x0F, h & 3));
        b.iter_mut().zip(second).zip(high).for_each(|((o, &n), &h)| *o = centred(n & 0x0F, h >> 2 & 3));
        c.iter_mut().zip(first).zip(high).for_each(|((o, &n), &h)| *o = centred(n >> 4, h >> 4 & 3));
        d.iter_mut().zip(second).zip(high).for_each(|((o, &n), &h)| *o = centred(n >> 4, h >> 6));
    }
}
