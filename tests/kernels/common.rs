//! Devices under test, values that kernels get wrong, and a comparison that a NaN cannot pass.

use std::sync::OnceLock;

use proptest::prelude::*;
use rallrec::device::{KernelDevice, Storage};
use rallrec::models::decoder::{Family, families};
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

/// Cases of a property test; a GPU takes many more in the same time.
pub fn cases(n: u32) -> ProptestConfig {
    let n = std::env::var("RALLREC_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(n);
    ProptestConfig { cases: n, failure_persistence: None, ..ProptestConfig::default() }
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
            "{} [{}]: {} and not {}; error {:e} > {:e}",
            what,
            i,
            g,
            w,
            error,
            tolerance(i)
        );
    }
    Ok(())
}

/// Two runs, which on the host take threads and blocks in another order, must give the same bits.
pub fn same_bits(a: &[f32], b: &[f32]) -> Result<(), TestCaseError> {
    prop_assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "two runs differ");
    Ok(())
}
