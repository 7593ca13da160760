//! Dropout masks from the counter-based generator, 16 bits an element.

use crate::rng::{Use, philox};
use crate::tensor::simd::vectorized;

/// Counters drawn side by side.
pub(super) const LANES: usize = 16;
/// Columns that one block of counters covers: eight 16-bit draws a counter.
pub(super) const BLOCK: usize = 8 * LANES;

/// The mask of one use of dropout in one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    pub(super) key: [u32; 2],
    pub(super) step: u32,
    pub(super) stream: u32,
    pub(super) threshold: u32,
    pub(super) keep: f32,
}

impl Dropout {
    /// Probability `p` in [0, 1), rounded to 1/65536; `stream` tells layers and targets apart.
    pub fn new(p: f64, seed: u64, step: u32, stream: u32) -> Self {
        let threshold = (p * 65536.0).round().clamp(0.0, 65535.0) as u32;
        let keep = (1.0 / (1.0 - f64::from(threshold) / 65536.0)) as f32;
        Self { key: crate::rng::key(seed, Use::Dropout), step, stream, threshold, keep }
    }

    /// The same mask for another stream.
    #[must_use]
    pub fn stream(self, stream: u32) -> Self {
        Self { stream, ..self }
    }

    /// Writes the factors (0 or `1 / (1 - p)`) of the row with this name.
    pub fn factors(&self, name: u64, out: &mut [f32]) {
        let high = [(name >> 32) as u32, self.step];
        // Counter: column block and lane in 16 bits, row in 28, stream in 20.
        let row = name & 0x0FFF_FFFF;
        let base = u64::from(self.stream) << 44 | row << 16;
        for (i, block) in out.chunks_mut(BLOCK).enumerate() {
            let index = base + (i * LANES) as u64;
            draw_block(self.key, [index as u32, (index >> 32) as u32], high, self.threshold, self.keep, block);
        }
    }
}

vectorized! {
    fn draw_block(key: [u32; 2], low: [u32; 2], high: [u32; 2], threshold: u32, keep: f32, out: &mut [f32]) {
        let mut words = [[0u32; LANES]; 4];
        #[allow(clippy::needless_range_loop)]
        for lane in 0..LANES {
            let c = philox(key, [low[0] + lane as u32, low[1], high[0], high[1]]);
            for w in 0..4 {
                words[w][lane] = c[w];
            }
        }
        if out.len() == BLOCK {
            for (h, part) in out.chunks_exact_mut(LANES).enumerate() {
                for (o, w) in part.iter_mut().zip(&words[h / 2]) {
                    let draw = (w >> (16 * (h % 2) as u32)) & 0xFFFF;
                    *o = if draw < threshold { 0.0 } else { keep };
                }
            }
        } else {
            for (i, o) in out.iter_mut().enumerate() {
                let (h, lane) = (i / LANES, i % LANES);
                let draw = (words[h / 2][lane] >> (16 * (h % 2) as u32)) & 0xFFFF;
                *o = if draw < threshold { 0.0 } else { keep };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_dropped_is_p_and_rows_and_streams_differ() {
        let mask = Dropout::new(0.25, 9, 3, 5);
        let (mut a, mut b) = (vec![0.0; 100_000], vec![0.0; 100_000]);
        mask.factors(7, &mut a);
        let dropped = a.iter().filter(|&&v| v == 0.0).count() as f64 / 1e5;
        assert!((dropped - 0.25).abs() <= 0.01, "{dropped}");
        assert!(a.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() <= 1e-6));
        let mean = a.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() <= 0.01, "a mask has mean one: {mean}");
        for other in [mask.stream(6), Dropout::new(0.25, 9, 4, 5), Dropout::new(0.25, 8, 3, 5)] {
            other.factors(7, &mut b);
            assert_ne!(a, b);
        }
        mask.factors(8, &mut b);
        assert_ne!(a, b);
        mask.factors(7, &mut b[..333]);
        assert_eq!(a[..333], b[..333], "a prefix of a row has the same mask");
    }
}
