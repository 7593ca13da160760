//! Blocks of 32 values with one f16 scale. Low nibbles are values 0 to 15, high nibbles 16 to 31.

use super::{Parts, half};

pub(super) const Q4_0_BYTES: usize = 2 + 16;
pub(super) const Q4_1_BYTES: usize = 2 + 2 + 16;
pub(super) const Q8_0_BYTES: usize = 2 + 32;

fn nibbles(bytes: &[u8], codes: &mut [i8], centre: i8) {
    let (low, high) = codes.split_at_mut(16);
    for ((&q, l), h) in bytes.iter().zip(low).zip(high) {
        *l = (q & 0x0F) as i8 - centre;
        *h = (q >> 4) as i8 - centre;
    }
}

/// `d (q - 8)`.
pub(super) fn q4_0(block: &[u8], out: Parts<'_>) {
    out.scales[0] = half(block, 0);
    nibbles(&block[2..], out.codes, 8);
}

/// `d q + m`.
pub(super) fn q4_1(block: &[u8], out: Parts<'_>) {
    (out.scales[0], out.minima[0]) = (half(block, 0), half(block, 2));
    nibbles(&block[4..], out.codes, 0);
}

/// `d q`, q signed.
pub(super) fn q8_0(block: &[u8], out: Parts<'_>) {
    out.scales[0] = half(block, 0);
    for (&q, o) in block[2..].iter().zip(out.codes) {
        *o = q as i8;
    }
}
