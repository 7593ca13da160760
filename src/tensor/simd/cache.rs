//! The caches of this machine.

use gemm_common::cache::CACHE_INFO;

/// Bytes of a core's second-level cache, as the system says; 256 KiB at least.
pub fn second_level() -> usize {
    CACHE_INFO[1].cache_bytes.max(256 << 10)
}
