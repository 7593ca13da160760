//! What figures are worth nothing without: the device, its driver, the compiler, the commit and the
//! day.

use nvml_wrapper::Nvml;
use serde::Serialize;

use crate::device::{Device, KernelDevice, Kind, images, probe};

/// Where and with what figures were made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    /// The device in words.
    pub device: String,
    /// Compute capability, `9.0`; none of the host build.
    pub capability: Option<String>,
    /// The driver's version, where it says one.
    pub driver: Option<String>,
    /// Worker threads on the CPU.
    pub threads: usize,
    /// Architectures and compiler of the kernels in this binary.
    pub kernels: String,
    /// Program version.
    pub program: String,
    /// Commit, where `RALLREC_COMMIT` named one while this binary was built.
    pub commit: Option<&'static str>,
    /// Day and time, UTC.
    pub date: String,
    /// The command.
    pub command: String,
}

impl About {
    /// Looks; what cannot be found out is left empty. `name` is the device as it was chosen.
    pub fn new(device: &Device, name: &str) -> Self {
        let Device::Kernels(kernels) = device else { return Self { device: name.to_owned(), ..Self::program(None) } };
        let gpu = (kernels.kind() == Kind::Cuda).then(|| probe::gpus().ok()?.into_iter().next()).flatten();
        let driver = || Nvml::init().ok()?.sys_driver_version().ok();
        let device = match (&gpu, kernels.kind()) {
            (Some(gpu), _) => format!("{}, {:.0} GiB", gpu.name, gpu.memory as f64 / (1u64 << 30) as f64),
            (None, Kind::Host) => "host build of the kernels: times mean nothing".into(),
            (None, Kind::Cuda) => "a GPU that does not say its name".into(),
        };
        Self { device, driver: gpu.and_then(|_| driver()), ..Self::program(Some(kernels)) }
    }

    fn program(device: Option<&KernelDevice>) -> Self {
        let capability = device.and_then(KernelDevice::capability);
        Self {
            device: String::new(),
            capability: capability.map(|(major, minor)| format!("{major}.{minor}")),
            driver: None,
            threads: rayon::current_num_threads(),
            kernels: images::compiled(),
            program: format!("rallrec {}", env!("CARGO_PKG_VERSION")),
            commit: option_env!("RALLREC_COMMIT").filter(|commit| !commit.is_empty()),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}
