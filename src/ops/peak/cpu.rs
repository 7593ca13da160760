//! What the arithmetic units of this processor give from registers: chains of multiply-adds that
//! wait for nothing but each other. And what its caches give: sums of what lies in them.

use std::hint::black_box;
use std::time::Instant;

use crate::tensor::simd::amx::{self, Tiles};
use crate::tensor::simd::{self, Simd, Task, pairs};

/// Independent chains: more than any processor has multiply-adds under way, and few enough for the
/// registers of AVX2, two operands included.
const CHAINS: usize = 12;
/// Multiply-adds of a chain: about a millisecond, less than another program takes the core for.
const STEPS: usize = 1 << 18;
/// Tries; the best counts.
const TRIES: usize = 50;

/// Billions of operations a second, a multiplication and an addition being two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// f32.
    pub f32: f64,
    /// bf16 with sums in f32, in tiles or in pairs, where the processor has an instruction for it.
    pub bf16: Option<f64>,
    /// Codes of 8 bits with sums in whole numbers, likewise.
    pub int8: Option<f64>,
}

/// Leaves the number of lanes that were multiplied.
struct Chains;

impl Task for Chains {
    type Out = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        let ones = black_box([0.0f32; 16]);
        // SAFETY: 16 values are a vector at least; the instruction set is there.
        unsafe {
            let (a, b) = (S::load(ones.as_ptr()), S::load(black_box(&ones).as_ptr()));
            let mut sums = [S::load(black_box(&ones).as_ptr()); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = S::fma(a, b, *sum);
                }
            }
            let mut out = [0.0f32; 16];
            for sum in sums {
                S::store(out.as_mut_ptr(), sum);
                black_box(&out);
            }
        }
        S::N * CHAINS * STEPS
    }
}

/// The same of codes.
///
/// # Safety
/// Needs AVX-512 F and VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn codes() -> usize {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_epi32(black_box(0)), _mm512_set1_epi32(black_box(0)));
    let mut sums = [_mm512_set1_epi32(black_box(0)); CHAINS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    for sum in sums {
        black_box(_mm512_reduce_add_epi32(sum));
    }
    16 * CHAINS * STEPS
}

fn lanes_of_codes() -> Option<fn() -> usize> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: just checked.
        return Some(|| unsafe { codes() });
    }
    None
}

/// Of all threads of the pool at once, or of one.
pub fn measure(all: bool) -> Peak {
    let rate = |each: f64, body: &(dyn Fn() -> usize + Sync)| {
        let once = || {
            let start = Instant::now();
            let lanes = if all { rayon::broadcast(|_| body()).into_iter().sum() } else { body() };
            each * lanes as f64 / start.elapsed().as_secs_f64() / 1e9
        };
        (0..TRIES).map(|_| once()).fold(0.0, f64::max)
    };
    Peak {
        f32: rate(2.0, &|| simd::run(simd::level(), Chains)),
        bf16: if amx::available() {
            Some(rate(2.0, &|| Tiles::new().chains(STEPS / 8)))
        } else {
            pairs::available().then(|| rate(4.0, &|| pairs::run(Chains)))
        },
        int8: lanes_of_codes().map(|body| rate(8.0, &body)),
    }
}

/// Adds up what lies there, a multiple of [`SUMS`] vectors.
struct Sum<'a>(&'a [f32]);

/// Independent sums, as many as additions are under way.
const SUMS: usize = 8;
/// Bytes that a thread reads of a cache at a time: about a millisecond.
const READ: usize = 64 << 20;

impl Task for Sum<'_> {
    type Out = f32;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: whole vectors inside the slice; the instruction set is there.
        unsafe {
            let mut sums = [S::splat(0.0); SUMS];
            for from in self.0.chunks_exact(SUMS * S::N) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = S::add(*sum, S::load(from.as_ptr().add(i * S::N)));
                }
            }
            sums.into_iter().map(|sum| S::sum(sum)).sum()
        }
    }
}

/// Gigabytes a second that all threads of the pool together read of `bytes` each, again and again.
pub fn read_again(bytes: usize) -> f64 {
    let (values, times) = ((bytes / 4).next_multiple_of(SUMS * 16), READ.div_ceil(bytes.max(1)));
    let once = || {
        let seconds = rayon::broadcast(|_| {
            let own = vec![1.0f32; values];
            let read = || {
                black_box(simd::run(simd::level(), Sum(black_box(&own))));
            };
            read();
            let start = Instant::now();
            (0..times).for_each(|_| read());
            start.elapsed().as_secs_f64()
        });
        // Threads begin together; the last one decides.
        let longest = seconds.iter().fold(0.0f64, |most, &s| most.max(s));
        (seconds.len() * times * values * 4) as f64 / longest / 1e9
    };
    (0..TRIES / 5).map(|_| once()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_read_whole_by_every_instruction_set() {
        let values: Vec<f32> = (0..SUMS * 16 * 3).map(|i| (i % 7) as f32).collect();
        let want: f32 = values.iter().sum();
        for level in simd::available() {
            assert_eq!(simd::run(level, Sum(&values)), want, "{level:?}");
        }
        let rate = read_again(16 << 10);
        assert!(rate > 0.1 && rate.is_finite(), "{rate} GB/s");
    }
}
