//! Whether the installed driver can run this binary's kernels. Asked before anything else of it: a
//! driver that is too old answers a load with an error that names nothing, or has not even the
//! function that is called.

use cudarc::driver::sys::{self, CUresult};

use super::images;
use crate::error::Error;

/// The CUDA version, as 1000 times the major number and 10 times the minor one, whose driver has
/// every function that is called here.
const FUNCTIONS: u32 = 12_000;

/// The driver that speaks each major version of CUDA from its beginning on.
const DRIVERS: [(u32, &str); 2] = [(12, "525.60"), (13, "580.65")];

/// What the installed driver speaks, or why it cannot be asked.
///
/// # Errors
/// No driver library; a driver that does not answer.
pub fn speaks() -> Result<u32, String> {
    // SAFETY: only looks for the driver's shared library; other calls panic without it.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver library (libcuda) on this machine".into());
    }
    let mut version = 0;
    // SAFETY: writes one number; may be called before the driver is initialised.
    match unsafe { sys::cuDriverGetVersion(&raw mut version) } {
        CUresult::CUDA_SUCCESS => Ok(version.max(0) as u32),
        other => Err(format!("the NVIDIA driver does not say its version: {other:?}")),
    }
}

/// `13.0` as 13000, out of a compiler's line about itself.
fn release(compiler: &str) -> Option<u32> {
    let version = compiler.split_once("release ")?.1.split([',', ' ']).next()?;
    let (major, minor) = version.split_once('.')?;
    Some(major.parse::<u32>().ok()? * 1000 + minor.parse::<u32>().ok()? * 10)
}

/// The least version that a driver must speak for machine code of `compiler`: code runs on every
/// driver of the compiler's major version, and on later ones.
fn needed(compiler: &str) -> u32 {
    release(compiler).map_or(FUNCTIONS, |version| version / 1000 * 1000).max(FUNCTIONS)
}

/// A version as people write it.
pub fn text(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn judge(driver: u32, compiler: &str) -> Result<(), (String, String)> {
    let least = needed(compiler);
    if driver >= least {
        return Ok(());
    }
    let name = DRIVERS.iter().find(|(major, _)| *major == least / 1000).map_or("a newer one", |(_, name)| name);
    let what = format!(
        "the driver speaks CUDA {}; the kernels of this binary ({}) need a driver of CUDA {}",
        text(driver),
        if compiler.is_empty() { "none" } else { compiler },
        text(least)
    );
    let mut next = format!("install NVIDIA driver {name} or newer");
    if least > FUNCTIONS && driver >= FUNCTIONS {
        next +=
            ", or build with the nvcc of a CUDA 12 toolkit (NVCC=/usr/local/cuda-12.9/bin/nvcc cargo build --release)";
    }
    Err((what, next))
}

/// Refuses a driver that cannot run what is in this binary.
///
/// # Errors
/// No driver; one that is too old, with what to do.
pub fn gate() -> Result<(), Error> {
    let driver = speaks().map_err(|why| {
        Error::usage("--device cuda", why)
            .next("install the NVIDIA driver, or use --device cpu; `rallrec doctor` shows what the program sees")
    })?;
    judge(driver, images::COMPILER).map_err(|(what, next)| Error::usage("--device cuda", what).next(next))
}

/// What a call of the driver failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// There is no room for what was asked.
    Memory,
    /// A kernel that was launched before went wrong: nothing can be asked of this process's context
    /// any more.
    Kernel,
    /// The image is none for this driver or this GPU.
    Image,
    /// Anything else.
    Other,
}

/// What an answer of the driver means. An error of an earlier kernel is answered to any later call,
/// also to one that asks for memory.
pub(super) fn classify(answer: CUresult) -> Cause {
    use CUresult as R;
    match answer {
        R::CUDA_ERROR_OUT_OF_MEMORY => Cause::Memory,
        R::CUDA_ERROR_ILLEGAL_ADDRESS
        | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | R::CUDA_ERROR_MISALIGNED_ADDRESS
        | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | R::CUDA_ERROR_INVALID_PC
        | R::CUDA_ERROR_LAUNCH_FAILED
        | R::CUDA_ERROR_LAUNCH_TIMEOUT
        | R::CUDA_ERROR_HARDWARE_STACK_ERROR
        | R::CUDA_ERROR_ASSERT
        | R::CUDA_ERROR_ECC_UNCORRECTABLE => Cause::Kernel,
        R::CUDA_ERROR_INVALID_IMAGE
        | R::CUDA_ERROR_NO_BINARY_FOR_GPU
        | R::CUDA_ERROR_INVALID_PTX
        | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => Cause::Image,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_13: &str = "Cuda compilation tools, release 13.0, V13.0.88";
    const OF_12_9: &str = "Cuda compilation tools, release 12.9, V12.9.86";

    #[test]
    fn code_of_a_compiler_needs_a_driver_of_its_major_version() {
        assert_eq!((release(OF_13), release(OF_12_9), release("")), (Some(13_000), Some(12_090), None));
        for (driver, compiler, runs) in [
            (13_000, OF_13, true),
            (13_020, OF_13, true),
            (12_090, OF_13, false),
            (12_020, OF_12_9, true),
            (13_000, OF_12_9, true),
            (11_080, OF_12_9, false),
            (12_000, "", true),
            (11_080, "", false),
            (0, OF_13, false),
        ] {
            assert_eq!(judge(driver, compiler).is_ok(), runs, "driver {driver}, {compiler:?}");
        }
    }

    #[test]
    fn the_refusal_names_both_versions_and_the_way_out() {
        let (what, next) = judge(12_040, OF_13).unwrap_err();
        assert!(what.contains("speaks CUDA 12.4") && what.contains("need a driver of CUDA 13.0"), "{what}");
        assert!(next.contains("580.65") && next.contains("cuda-12.9"), "{next}");
        let (_, next) = judge(11_080, OF_12_9).unwrap_err();
        assert!(next.contains("525.60") && !next.contains("NVCC="), "{next}");
    }

    #[test]
    fn only_running_out_of_memory_means_memory() {
        assert_eq!(classify(CUresult::CUDA_ERROR_OUT_OF_MEMORY), Cause::Memory);
        assert_eq!(classify(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS), Cause::Kernel);
        assert_eq!(classify(CUresult::CUDA_ERROR_LAUNCH_FAILED), Cause::Kernel);
        assert_eq!(classify(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU), Cause::Image);
        assert_eq!(classify(CUresult::CUDA_ERROR_INVALID_VALUE), Cause::Other);
    }
}
