//! The caches of this machine.

use std::sync::atomic::{AtomicUsize, Ordering};

use gemm_common::cache::CACHE_INFO;

/// What is taken for the second-level cache; 0 is what the system says.
static ASSUMED: AtomicUsize = AtomicUsize::new(0);

/// Takes `bytes` for a core's second-level cache from now on, so that works whose instructions are
/// counted are cut alike on every machine.
pub fn assume_second_level(bytes: usize) {
    ASSUMED.store(bytes, Ordering::Relaxed);
}

/// Bytes of a core's second-level cache, as the system says; 256 KiB at least.
pub fn second_level() -> usize {
    match ASSUMED.load(Ordering::Relaxed) {
        0 => CACHE_INFO[1].cache_bytes.max(256 << 10),
        assumed => assumed,
    }
}
