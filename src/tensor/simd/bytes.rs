//! The vector unit for products of bytes, chosen at run time.

use std::sync::OnceLock;

/// An instruction set for products of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// No more than the compiler's baseline.
    Scalar,
    /// AVX2 and FMA: pairs of 16-bit products.
    Avx2,
    /// AVX-VNNI: four products of bytes a lane, eight lanes.
    AvxVnni,
    /// AVX-512 VNNI: four products of bytes a lane, sixteen lanes.
    Avx512Vnni,
}

/// The best level of this processor.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| *available().last().unwrap_or(&Level::Scalar))
}

/// All levels that this processor can run, slowest first.
pub fn available() -> Vec<Level> {
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    for level in super::available() {
        match level {
            super::Level::Scalar => {}
            super::Level::Avx2 => {
                levels.push(Level::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    levels.push(Level::AvxVnni);
                }
            }
            super::Level::Avx512 => {
                if is_x86_feature_detected!("avx512vnni") {
                    levels.push(Level::Avx512Vnni);
                }
            }
        }
    }
    levels
}
