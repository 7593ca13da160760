//! What this machine has: SIMD, memory, GPU driver. Looks only, never fails.

use cudarc::driver::{CudaContext, sys};
use serde::Serialize;

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

/// The widest SIMD level that the CPU kernels use here.
pub fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            return "AVX2";
        }
        "SSE2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "scalar"
    }
}

/// The CUDA devices, or why there are none.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    // SAFETY: only looks for the driver's shared library; loads nothing else. Asking first matters: every other
    // call of the binding panics when the library is absent.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver library (libcuda) on this machine".into());
    }
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
