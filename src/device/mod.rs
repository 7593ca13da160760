//! Where operators run. The CPU is always there. CUDA needs a driver, which is looked for without
//! linking against anything, and kernels embedded in the binary. The host backend runs the same
//! kernels as C++ for tests and checks.

pub mod arguments;
mod buffer;
mod cuda;
pub mod driver;
pub mod images;
mod kernel;
pub mod nvtx;
mod place;
mod pool;
pub mod probe;
mod recording;
pub mod resources;
mod rows;
mod series;
mod shelf;
mod signatures;
mod tensor_map;
mod view;

pub use arguments::Pointer;
pub(crate) use arguments::arguments;
pub use buffer::{Buffer, Element, Storage};
pub use images::Compiled;
pub use kernel::{Arg, KernelDevice, Kind, Launch, Set, TimedLaunch};
pub use place::{List, Place, Rows, mixed};
pub use recording::Recording;
pub use rows::DeviceRows;
pub use view::{View, ViewMut};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The CPU, until the kernels were measured on a GPU; says why.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error that says what is missing.
    #[value(alias = "gpu")]
    Cuda,
    /// The CUDA kernels as C++ on the CPU: for tests, far too slow for a run.
    #[value(hide = true)]
    #[schemars(skip)]
    Host,
}

/// What a run uses.
#[derive(Debug, Clone)]
pub enum Device {
    /// The CPU backend.
    Cpu,
    /// Kernels, where a stage has them.
    Kernels(KernelDevice),
}

/// What runs on a device with kernels; the rest is done by the CPU.
const STAGES: &str = "LightGCN, alignment, tuning, and what a language model reads and writes";

impl Choice {
    /// Decides, with the reason for people.
    pub fn resolve(self) -> Result<(Device, String)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let simd = probe::simd();
        match self {
            Choice::Cpu => Ok((Device::Cpu, format!("cpu ({cores} threads, {simd})"))),
            Choice::Auto => {
                let why = "--device cuda asks for the kernels, which have not been measured on a GPU yet";
                Ok((Device::Cpu, format!("cpu ({cores} threads, {simd}); {why}")))
            }
            Choice::Cuda => {
                let device = KernelDevice::cuda(0)?;
                Ok((Device::Kernels(device), format!("cuda ({STAGES}: {cores} threads, {simd})")))
            }
            Choice::Host => {
                let text = format!("host build of the kernels ({STAGES}: {cores} threads, {simd})");
                Ok((Device::Kernels(KernelDevice::host(0)), text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_host_build_can_be_asked_for_and_is_not_offered() {
        let choice = Choice::from_str("host", false).unwrap();
        assert!(choice.to_possible_value().unwrap().is_hide_set());
        let (device, text) = choice.resolve().unwrap();
        assert!(matches!(device, Device::Kernels(d) if d.kind() == Kind::Host) && text.contains("host build"));
        let (device, text) = Choice::Auto.resolve().unwrap();
        assert!(matches!(device, Device::Cpu) && text.contains("not been measured"), "{text}");
        let schema = serde_json::to_string(&schemars::schema_for!(Choice)).unwrap();
        assert!(schema.contains("cuda") && !schema.contains("host"), "{schema}");
    }
}
