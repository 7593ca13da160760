//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). A draw is a pure function of (key, counter), so the CPU and a GPU draw the
//! same numbers, and the order of work, the batch and a resume do not matter.

/// What a draw is for. Each use has streams of its own, so adding draws to one never shifts
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Use {
    /// Initial embeddings and weights.
    Init = 1,
    /// Order of training rows.
    Shuffle = 2,
    /// BPR negatives.
    Negative = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Token sampling.
    Token = 5,
    /// Choice of rows.
    Rows = 6,
    /// Synthetic data.
    Synthetic = 7,
    /// Bootstrap resampling.
    Bootstrap = 8,
    /// Trials of a sweep.
    Sweep = 9,
}

/// Ten rounds of Philox4x32 over `counter` with `key`.
#[inline(always)]
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    let [mut k0, mut k1] = key;
    let mut c = counter;
    for _ in 0..10 {
        let p0 = M0 * u64::from(c[0]);
        let p1 = M1 * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    c
}

/// The Philox key of `seed` for `purpose`: what [`Rng::new`] uses, for code that draws many
/// counters at once.
pub fn key(seed: u64, purpose: Use) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32 ^ (purpose as u32).wrapping_mul(0x85EB_CA6B)]
}

/// A stream of draws: fixed (seed, use, a, b), counting up.
#[derive(Debug, Clone)]
pub struct Rng {
    key: [u32; 2],
    high: [u32; 2],
    next: u64,
    buffer: [u32; 4],
    left: usize,
}

impl Rng {
    /// The stream of `seed` for `purpose`, with two free coordinates (e.g. row and sample).
    pub fn new(seed: u64, purpose: Use, a: u32, b: u32) -> Self {
        Self { key: key(seed, purpose), high: [a, b], next: 0, buffer: [0; 4], left: 0 }
    }

    /// Jumps to draw group `index` (each group is four 32-bit words).
    #[must_use]
    pub fn at(mut self, index: u64) -> Self {
        self.next = index;
        self.left = 0;
        self
    }

    /// 32 uniform bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.left == 0 {
            self.buffer = philox(self.key, [self.next as u32, (self.next >> 32) as u32, self.high[0], self.high[1]]);
            self.next += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.buffer[3 - self.left]
    }

    /// 64 uniform bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1), 24 bits.
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline]
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in 0..n (n > 0), unbiased (Lemire's multiply and reject).
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Standard normal (Box-Muller; one draw of two is used, so the stream stays simple).
    pub fn normal(&mut self) -> f32 {
        let u = 1.0 - self.uniform_f64();
        let v = self.uniform_f64();
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the reference implementation (Random123, kat_vectors).
    #[test]
    fn philox_matches_the_reference() {
        assert_eq!(philox([0, 0], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_stream_does_not_depend_on_how_it_is_reached() {
        let mut walked = Rng::new(7, Use::Token, 1, 2);
        for _ in 0..8 {
            walked.next_u32();
        }
        assert_eq!(walked.next_u32(), Rng::new(7, Use::Token, 1, 2).at(2).next_u32());
    }

    #[test]
    fn below_is_in_range_and_reaches_everything() {
        let mut rng = Rng::new(1, Use::Rows, 0, 0);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
