//! Which neighbours count: columns whose row is not zero, found at about a cycle each where a row
//! costs four cache lines.

use crate::ops::spmm::bits;
use crate::tensor::simd::Level;

/// One bit a node.
pub(super) struct Bits(Vec<u32>);

impl Bits {
    pub(super) fn new(flags: &[bool]) -> Self {
        Self(bits(flags))
    }

    fn has(&self, column: u32) -> bool {
        self.0[column as usize / 32] >> (column % 32) & 1 == 1
    }
}

/// The columns that have their bit set, in their order, in the front of `kept`, which has room for
/// 16 more than `columns`.
///
/// # Safety
/// Every column has a bit, and the processor has `level`.
pub(super) unsafe fn filter<'a>(level: Level, bits: &Bits, columns: &[u32], kept: &'a mut [u32]) -> &'a [u32] {
    assert!(kept.len() >= columns.len() + 16, "filter: room for {} of {} columns", kept.len(), columns.len());
    let count = match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: by contract, and the room was just checked.
        Level::Avx512 => unsafe { filter_avx512(bits, columns, kept) },
        _ => filter_plain(bits, columns, kept),
    };
    &kept[..count]
}

fn filter_plain(bits: &Bits, columns: &[u32], kept: &mut [u32]) -> usize {
    let mut count = 0;
    for &c in columns {
        kept[count] = c;
        count += usize::from(bits.has(c));
    }
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn filter_avx512(bits: &Bits, columns: &[u32], kept: &mut [u32]) -> usize {
    use std::arch::x86_64::*;
    let (chunks, rest) = columns.as_chunks::<16>();
    let mut count = 0;
    for chunk in chunks {
        // SAFETY: every column has its word, and 16 values fit behind `count`.
        unsafe {
            let columns = _mm512_loadu_si512(chunk.as_ptr().cast());
            let words = _mm512_i32gather_epi32::<4>(_mm512_srli_epi32::<5>(columns), bits.0.as_ptr().cast());
            let bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(columns, _mm512_set1_epi32(31)));
            let mask = _mm512_test_epi32_mask(words, bit);
            _mm512_storeu_si512(kept.as_mut_ptr().add(count).cast(), _mm512_maskz_compress_epi32(mask, columns));
            count += mask.count_ones() as usize;
        }
    }
    count + filter_plain(bits, rest, &mut kept[count..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::simd::available;

    proptest! {
        #[test]
        fn every_level_keeps_the_flagged_in_order(
            flags in prop::collection::vec(any::<bool>(), 1..200), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..100)
        ) {
            let columns: Vec<u32> = picks.iter().map(|i| i.index(flags.len()) as u32).collect();
            let want: Vec<u32> = columns.iter().copied().filter(|&c| flags[c as usize]).collect();
            let bits = Bits::new(&flags);
            for level in available() {
                let mut room = vec![0; columns.len() + 16];
                // SAFETY: columns are below the number of flags; the level was detected.
                let kept = unsafe { filter(level, &bits, &columns, &mut room) };
                prop_assert_eq!(kept, &want[..], "{:?}", level);
            }
        }
    }
}
