//! The machine as it is at a moment, and what stays the same about it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use rallrec_events::{Event, Gpu};
use sysinfo::{Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// What is slow to ask (disks, bytes of the run folder) is asked no more often than this.
const SLOW: Duration = Duration::from_secs(15);

/// Samples the machine; keeps what the system needs to make rates of counters.
pub struct Machine {
    system: Option<System>,
    pid: Option<Pid>,
    nvml: Option<Nvml>,
    folder: PathBuf,
    slow: Option<(Instant, Slow)>,
}

#[derive(Clone, Copy, Default)]
struct Slow {
    disk: Option<(u64, u64)>,
    run: u64,
}

impl Machine {
    /// Prepares; the driver's library is looked for at run time.
    pub fn new(folder: &Path) -> Self {
        Self {
            system: System::new().ok(),
            pid: sysinfo::get_current_pid().ok(),
            nvml: nvml(),
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()),
            slow: None,
        }
    }

    /// The machine now. Shares of cores are over the time since the last call.
    pub fn sample(&mut self) -> Option<Event> {
        let slow = self.slow();
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        system.refresh_memory();
        let process = self.pid.and_then(|pid| {
            let what = ProcessRefreshKind::nothing().with_cpu();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
            system.process(pid).map(|p| p.cpu_usage())
        });
        Some(Event::System {
            cores: system.cpus().iter().map(|c| c.usage()).collect(),
            process,
            memory_used: system.total_memory().saturating_sub(system.available_memory()),
            memory_total: system.total_memory(),
            disk_free: slow.disk.map(|d| d.0),
            disk_total: slow.disk.map(|d| d.1),
            run_bytes: Some(slow.run),
            gpus: self.nvml.as_ref().map(gpus),
        })
    }

    fn slow(&mut self) -> Slow {
        if let Some((at, slow)) = self.slow
            && at.elapsed() < SLOW
        {
            return slow;
        }
        let disk = Disks::new_with_refreshed_list().ok().and_then(|disks| {
            // The folder lies on the disk whose place is the longest beginning of its path.
            let holds = disks.iter().filter(|d| self.folder.starts_with(d.mount_point()));
            let disk = holds.max_by_key(|d| d.mount_point().as_os_str().len())?;
            Some((disk.available_space(), disk.total_space()))
        });
        let slow = Slow { disk, run: rallrec_events::folder::bytes_of(&self.folder) };
        self.slow = Some((Instant::now(), slow));
        slow
    }
}

fn nvml() -> Option<Nvml> {
    // The name that the driver installs; the unversioned one comes with the toolkit only.
    Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().or_else(|_| Nvml::init()).ok()
}

fn gpus(nvml: &Nvml) -> Vec<Gpu> {
    let devices = (0..nvml.device_count().unwrap_or(0)).filter_map(|i| nvml.device_by_index(i).ok());
    let watts = |milli: u32| f64::from(milli) / 1e3;
    devices
        .map(|d| {
            let memory = d.memory_info().ok();
            Gpu {
                name: d.name().unwrap_or_else(|_| "GPU".into()),
                utilisation: d.utilization_rates().ok().map(|u| f64::from(u.gpu)),
                memory_used: memory.as_ref().map(|m| m.used),
                memory_total: memory.as_ref().map(|m| m.total),
                power: d.power_usage().ok().map(watts),
                power_limit: d.enforced_power_limit().ok().map(watts),
                temperature: d.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
                clock: d.clock_info(Clock::SM).ok().map(f64::from),
                memory_clock: d.clock_info(Clock::Memory).ok().map(f64::from),
            }
        })
        .collect()
}

/// What stays the same, for reports.
pub fn facts(device: &str, threads: usize) -> Event {
    let mut facts = vec![("device".to_string(), device.to_string())];
    let mut add = |name: &str, value: String| facts.push((name.to_string(), value));
    if let Ok(mut system) = System::new() {
        system.refresh_cpu_all();
        system.refresh_memory();
        if let Some(cpu) = system.cpus().first() {
            add("processor", cpu.brand().trim().to_string());
        }
        add("cores", system.cpus().len().to_string());
        add("memory", format!("{:.1} GiB", system.total_memory() as f64 / (1u64 << 30) as f64));
    }
    add("threads", threads.to_string());
    add("instructions", crate::device::probe::simd().to_string());
    if let Ok(os) = System::long_os_version() {
        add("system", os);
    }
    if let Ok(kernel) = System::kernel_version() {
        add("kernel", kernel);
    }
    if let Some(nvml) = nvml() {
        let names: Vec<String> = gpus(&nvml).into_iter().map(|g| g.name).collect();
        add("GPU", if names.is_empty() { "none".into() } else { names.join(", ") });
        if let Ok(version) = nvml.sys_driver_version() {
            add("driver", version);
        }
    } else {
        add("GPU", "n/a (no NVIDIA driver)".into());
    }
    add("program", format!("rallrec {}", env!("CARGO_PKG_VERSION")));
    Event::Machine { facts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores_memory_and_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), [0; 100]).unwrap();
        let mut machine = Machine::new(folder.path());
        machine.sample();
        std::thread::sleep(Duration::from_millis(250));
        let Some(Event::System { cores, memory_used, memory_total, run_bytes, disk_free, disk_total, .. }) =
            machine.sample()
        else {
            panic!("no sample");
        };
        assert!(!cores.is_empty() && cores.iter().all(|c| (0.0..=100.5).contains(c)), "{cores:?}");
        assert!(memory_used > 0 && memory_used < memory_total);
        assert_eq!(run_bytes, Some(100));
        assert!(disk_free <= disk_total);
    }
}
