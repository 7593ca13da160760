//! Where operators run. The CPU is always there. CUDA needs a driver, which is looked for without linking against
//! anything, and kernels embedded in the binary. The host backend runs the same kernels as C++ for tests and checks.

mod buffer;
pub mod catalogue;
mod cuda;
pub mod images;
mod kernel;
mod pool;
pub mod probe;
mod rows;
mod signatures;
mod timing;

pub use buffer::{Buffer, Element, Storage};
pub use kernel::{Arg, KernelDevice, Kind, Launch};
pub use rows::DeviceRows;
pub use timing::Timing;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// CUDA where this build and this machine can, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error that says what is missing.
    Cuda,
}

/// What a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU backend.
    Cpu,
}

impl Choice {
    /// Decides, with the reason for people.
    pub fn resolve(self) -> Result<(Device, String)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let simd = probe::simd();
        match self {
            Choice::Cpu => Ok((Device::Cpu, format!("cpu ({cores} threads, {simd})"))),
            Choice::Auto => {
                Ok((Device::Cpu, format!("cpu ({cores} threads, {simd}); the stages do not use the CUDA kernels yet")))
            }
            Choice::Cuda => {
                // Says first what this machine or binary lacks.
                KernelDevice::cuda(0)?;
                Err(Error::usage("--device cuda", "the stages do not use the CUDA kernels yet")
                    .next("use --device cpu; `rallrec check --device cuda` runs the kernels themselves"))
            }
        }
    }
}
