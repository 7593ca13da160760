//! Devices under test, values that kernels get wrong, and a comparison that a NaN cannot pass.

use std::hash::BuildHasher;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rallrec::device::{KernelDevice, Storage};
use rallrec::models::decoder::{Family, families};
use rallrec::ops::registry;
pub use rallrec::ops::registry::{largest, narrow, wide};
use rallrec::rng::{Rng, Use};

/// The host build with the order of `seed`, and the first GPU if there is one.
/// `RALLREC_DEVICES=gpu` wants the GPU alone, and panics where there is none.
pub fn devices(seed: u64) -> Vec<KernelDevice> {
    static GPU: OnceLock<Result<KernelDevice, String>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| KernelDevice::cuda(0).map_err(|e| e.to_string()));
    if std::env::var("RALLREC_DEVICES").is_ok_and(|v| v == "gpu") {
        return vec![gpu.clone().unwrap_or_else(|why| panic!("RALLREC_DEVICES=gpu: {why}"))];
    }
    std::iter::once(KernelDevice::host(seed)).chain(gpu.clone().ok()).collect()
}

/// The device of a test that one is enough for: the host build, or the GPU where it is asked for
/// alone, so that no time of a GPU is spent on the host build.
pub fn one(seed: u64) -> KernelDevice {
    devices(seed).swap_remove(0)
}

/// The families whose models run on kernels.
pub fn families() -> impl Iterator<Item = &'static Family> {
    families::ALL.into_iter().filter(|family| !family.capped())
}

/// The seed of all draws: that of PROPTEST_RNG_SEED, else one of this process.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match ProptestConfig::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => std::hash::RandomState::new().hash_one(0),
    })
}

/// Cases of a property test; a GPU takes many more in the same time.
pub fn cases(n: u32) -> ProptestConfig {
    let n = std::env::var("RALLREC_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(n);
    let rng_seed = RngSeed::Fixed(seed());
    ProptestConfig { cases: n, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

/// The command that makes the draws of the running test again; and the one that checks its operator
/// at every save of a kernel.
fn again() -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let cases = std::env::var("RALLREC_CASES").map_or(String::new(), |n| format!("RALLREC_CASES={n} "));
    let test = format!("\n  again: {cases}PROPTEST_RNG_SEED={} cargo test --test kernels {name} -- --exact", seed());
    match registry::find(name.split("::").next().unwrap_or_default()) {
        Some(operator) if !operator.checks.is_empty() => {
            format!("{test}\n  at every save: rallrec check {} --kernels kernels --watch", operator.name)
        }
        _ => test,
    }
}

/// Sorts of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// Standard normal.
    Normal,
    /// All the same: ties everywhere.
    Equal,
    /// Growing with the index.
    Ascending,
    /// Up to 1e15.
    Huge,
    /// Below the smallest normal number.
    Denormal,
    /// Mostly zeros.
    Sparse,
}

/// Any sort.
pub fn any_values() -> impl Strategy<Value = Values> {
    prop::sample::select(vec![
        Values::Normal,
        Values::Normal,
        Values::Equal,
        Values::Ascending,
        Values::Huge,
        Values::Denormal,
        Values::Sparse,
    ])
}

impl Values {
    /// As [`Self::draw`], each value `by` times as large.
    pub fn scaled<T: Storage>(self, n: usize, seed: u64, by: f32) -> Vec<T> {
        self.draw::<T>(n, seed).iter().map(|v| T::from_f32(v.to_f32() * by)).collect()
    }

    /// `n` values as `T` stores them.
    pub fn draw<T: Storage>(self, n: usize, seed: u64) -> Vec<T> {
        let mut rng = Rng::new(seed, Use::Synthetic, 7, 7);
        let mut value = |i: usize| match self {
            Values::Normal => rng.normal(),
            Values::Equal => 0.5,
            Values::Ascending => i as f32 / n.max(1) as f32,
            Values::Huge => rng.normal() * 1e15,
            Values::Denormal => rng.normal() * 1e-40,
            Values::Sparse => {
                if rng.below(8) == 0 {
                    rng.normal()
                } else {
                    0.0
                }
            }
        };
        (0..n).map(|i| T::from_f32(value(i))).collect()
    }
}

/// Fails where `got` is farther than `tolerance(i)` from `want`, or either is NaN.
pub fn close(what: &str, got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len(), "{}: lengths", what);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs();
        prop_assert!(
            error <= tolerance(i),
            "{} [{}]: {} and not {}; error {:e} > {:e}{}",
            what,
            i,
            g,
            w,
            error,
            tolerance(i),
            again()
        );
    }
    Ok(())
}

/// Two runs, which on the host take threads and blocks in another order, must give the same bits.
pub fn same_bits(a: &[f32], b: &[f32]) -> Result<(), TestCaseError> {
    let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    prop_assert!(same, "two runs differ{}", again());
    Ok(())
}

#[test]
fn a_difference_says_how_to_see_it_again() {
    let said = close("here", &[1.0], &[2.0], |_| 0.5).unwrap_err().to_string();
    assert!(
        said.contains("cargo test --test kernels common::a_difference") && said.contains(&seed().to_string()),
        "{said}"
    );
    assert!(close("here", &[f32::NAN], &[f64::NAN], |_| 0.5).is_err(), "a NaN is no value");
}
