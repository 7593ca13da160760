//! Python's `random.seed` and `random.shuffle`, so that what the authors drew can be drawn again.
//! The generator is MT19937 (Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998).

const N: usize = 624;
const M: usize = 397;

/// The seed that the authors' notebooks set before they shuffle.
pub const AUTHORS_SEED: u64 = 42;

/// `random.Random(seed)`.
pub struct Random {
    state: [u32; N],
    at: usize,
}

impl Random {
    /// Seeded by a number, as Python does it: its 32-bit words are the key.
    pub fn new(seed: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        let key = if key[1] == 0 { &key[..1] } else { &key[..] };
        let mut state = [0; N];
        state[0] = 19_650_218u32;
        for i in 1..N {
            state[i] = mix(state[i - 1], 1_812_433_253).wrapping_add(i as u32);
        }
        let mut i = 1;
        for step in 0..N.max(key.len()) {
            let j = step % key.len();
            state[i] = (state[i] ^ mix(state[i - 1], 1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            i = next(i, &mut state);
        }
        for _ in 1..N {
            state[i] = (state[i] ^ mix(state[i - 1], 1_566_083_941)).wrapping_sub(i as u32);
            i = next(i, &mut state);
        }
        state[0] = 1 << 31;
        Self { state, at: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = self.state[i] & (1 << 31) | self.state[(i + 1) % N] & !(1 << 31);
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
        }
        self.at = 0;
    }

    fn word(&mut self) -> u32 {
        if self.at == N {
            self.refill();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in 0..n, n at least 1: as many bits as n has, until they are below n.
    fn below(&mut self, n: u32) -> u32 {
        let bits = 32 - n.leading_zeros();
        loop {
            let drawn = self.word() >> (32 - bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `random.shuffle`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

fn mix(previous: u32, factor: u32) -> u32 {
    (previous ^ (previous >> 30)).wrapping_mul(factor)
}

fn next(i: usize, state: &mut [u32; N]) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values as CPython prints them.
    #[test]
    fn it_shuffles_as_python_does() {
        let shuffled = |seed, n| {
            let mut items: Vec<usize> = (0..n).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(42, 10), TEN);
        assert_eq!(shuffled((1 << 40) + 7, 10), WIDE);
        let thousand = shuffled(42, 1000);
        assert_eq!((&thousand[..6], &thousand[997..]), (&HEAD[..], &TAIL[..]));
        assert!(shuffled(1, 0).is_empty() && shuffled(1, 1) == [0]);
    }

    const TEN: [usize; 10] = [7, 3, 2, 8, 5, 6, 9, 4, 0, 1];
    const HEAD: [usize; 6] = [776, 507, 895, 922, 33, 483];
    const TAIL: [usize; 3] = [25, 114, 654];
    const WIDE: [usize; 10] = [0, 5, 2, 3, 6, 1, 8, 4, 7, 9];
}
