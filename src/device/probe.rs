//! What this machine has: SIMD, memory, GPU driver. Looks only, never fails.

use cudarc::driver::CudaContext;
use serde::Serialize;

use super::driver;
use crate::tensor::simd::{self, bytes};

/// One CUDA device.
#[derive(Debug, Clone, Serialize)]
pub struct Gpu {
    /// Marketing name.
    pub name: String,
    /// Compute capability, e.g. `9.0`.
    pub capability: String,
    /// Bytes of memory.
    pub memory: u64,
}

/// The widest vectors that the CPU kernels use here, and whether products of bytes have an
/// instruction.
pub fn simd() -> &'static str {
    use bytes::Level::{Avx512Vnni, AvxVnni};
    match (simd::level(), bytes::level()) {
        (simd::Level::Avx512, AvxVnni | Avx512Vnni) => "AVX-512 with VNNI",
        (simd::Level::Avx512, _) => "AVX-512",
        (simd::Level::Avx2, AvxVnni | Avx512Vnni) => "AVX2 with VNNI",
        (simd::Level::Avx2, _) => "AVX2",
        (simd::Level::Scalar, _) if cfg!(target_arch = "x86_64") => "SSE2",
        (simd::Level::Scalar, _) if cfg!(target_arch = "aarch64") => "NEON",
        (simd::Level::Scalar, _) => "scalar",
    }
}

/// The CUDA devices, or why there are none.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    // Asking first matters: other calls of the binding panic where the library, or a function of
    // it, is absent.
    driver::speaks()?;
    let count = CudaContext::device_count().map_err(|e| format!("the NVIDIA driver answers: {e:?}"))?;
    (0..count.max(0) as usize)
        .map(|ordinal| {
            let said = |e| format!("device {ordinal}: {e:?}");
            let context = CudaContext::new(ordinal).map_err(said)?;
            let (major, minor) = context.compute_capability().map_err(said)?;
            Ok(Gpu {
                name: context.name().map_err(said)?,
                capability: format!("{major}.{minor}"),
                memory: context.total_mem().map_err(said)? as u64,
            })
        })
        .collect()
}
