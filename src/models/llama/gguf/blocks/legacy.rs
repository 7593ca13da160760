//! Blocks of 32 values with one f16 scale. Low nibbles are values 0 to 15, high nibbles 16 to 31.

use super::half;

pub(super) const Q4_0_BYTES: usize = 2 + 16;
pub(super) const Q4_1_BYTES: usize = 2 + 2 + 16;
pub(super) const Q8_0_BYTES: usize = 2 + 32;

/// `d (q - 8)`.
pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((&q, l), h) in block[2..].iter().zip(low).zip(high) {
        *l = d * f32::from((q & 0x0F) as i8 - 8);
        *h = d * f32::from((q >> 4) as i8 - 8);
    }
}

/// `d q + m`, the product rounded before the sum as the reference does.
pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((&q, l), h) in block[4..].iter().zip(low).zip(high) {
        *l = d * f32::from(q & 0x0F) + m;
        *h = d * f32::from(q >> 4) + m;
    }
}

/// `d q`, q signed.
pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (&q, o) in block[2..].iter().zip(out) {
        *o = d * f32::from(q as i8);
    }
}
