//! `--kernels FOLDER`: kernels out of a folder, beside those of the program.

use std::path::Path;

use serde::Serialize;

use crate::device::{KernelDevice, Kind};
use crate::error::{Error, Result};
use crate::kernels::{Built, Sources, compile};
use crate::ops::registry::Operator;

/// What was made of the folder.
#[derive(Debug, Clone, Serialize)]
pub struct Edited {
    /// The folder or file.
    pub from: String,
    /// Units that differ from the program's.
    pub units: Vec<String>,
    /// How many of them were compiled now.
    pub compiled: usize,
    /// Seconds until they could be launched.
    pub seconds: f64,
}

impl Edited {
    fn new(from: &Path, built: Built) -> Self {
        let Built { units, compiled, seconds } = built;
        Self { from: from.display().to_string(), units, compiled, seconds }
    }

    /// A line for people.
    pub fn text(&self) -> String {
        if self.units.is_empty() {
            return format!("{}: nothing that is asked for differs from this program\n", self.from);
        }
        let units = self.units.join(", ");
        let kept = if self.compiled == 0 { " (kept from before)" } else { "" };
        format!("{}: {units}, ready in {:.1} s{kept}\n", self.from, self.seconds)
    }
}

/// The architecture that code is made for, of a GPU of this compute capability.
fn architecture((major, minor): (u32, u32)) -> String {
    // Only that of 9.0 has instructions of its own that kernels use.
    if (major, minor) == (9, 0) { "90a".to_owned() } else { format!("{major}{minor}") }
}

/// A device with the kernels of `from` for these operators; `seed` is that of the order of threads
/// on the host build.
///
/// # Errors
/// Sources that do not compile or fit; a device without kernels.
pub fn device(from: &Path, kind: Kind, operators: &[&Operator], seed: u64) -> Result<(KernelDevice, Edited)> {
    let sources = Sources::open(from)?;
    let wanted: Vec<&str> = operators.iter().flat_map(|o| o.sources).copied().collect();
    let (device, built) = match kind {
        Kind::Host => {
            let (set, built) = compile::for_host(&sources, &wanted)?;
            (KernelDevice::host_with(seed, set), built)
        }
        Kind::Cuda => {
            let capability =
                KernelDevice::cuda(0)?.capability().ok_or_else(|| Error::failed("GPU", "no capability"))?;
            let (compiled, built) = compile::for_gpu(&sources, sources.changed(&wanted)?, &architecture(capability))?;
            (KernelDevice::cuda_with(0, compiled)?, built)
        }
    };
    Ok((device, Edited::new(from, built)))
}
