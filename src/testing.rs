//! How many cases the property tests of this crate draw.

use proptest::test_runner::Config;

/// `n` cases, for a test whose cases are slow; as many as PROPTEST_CASES says where it is set.
pub fn cases(n: u32) -> Config {
    if std::env::var_os("PROPTEST_CASES").is_some() { Config::default() } else { Config::with_cases(n) }
}
