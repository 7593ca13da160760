//! The machine over time. Curves run over seconds since the first record.

use serde::Serialize;

use super::bounded::{Footprint, NAME, cut};
use super::series::Series;
use crate::event::Event;
use crate::parts::Gpu;

/// The latest sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// When.
    pub t_ms: u64,
    /// Busy share of each core, 0 to 100.
    pub cores: Vec<f32>,
    /// Busy share of the process, 100 a core.
    pub process: Option<f32>,
    /// Bytes in use.
    pub memory_used: u64,
    /// Bytes there are.
    pub memory_total: u64,
    /// Bytes free on the disk of the run folder.
    pub disk_free: Option<u64>,
    /// Bytes of that disk.
    pub disk_total: Option<u64>,
    /// Bytes of the run folder.
    pub run_bytes: Option<u64>,
    /// GPUs; `None` where nothing is known of them ("n/a").
    pub gpus: Option<Vec<Gpu>>,
}

/// The machine while a run is at work: the latest sample, and curves over the whole run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct System {
    /// The latest sample.
    pub now: Option<Moment>,
    /// Mean of the cores, 0 to 100.
    pub cpu: Series,
    /// Bytes in use on the machine.
    pub memory: Series,
    /// Resident bytes of the process.
    pub resident: Series,
    /// Latest resident bytes of the process.
    pub resident_now: Option<u64>,
    /// Largest resident bytes of the process.
    pub peak: Option<u64>,
    /// Mean utilisation of the GPUs, 0 to 100.
    pub gpu: Series,
    /// Bytes in use on all GPUs.
    pub gpu_memory: Series,
    /// Power of all GPUs, watts.
    pub gpu_power: Series,
}

impl System {
    pub(super) fn apply(&mut self, t: u64, first: u64, event: &Event) {
        let x = t.saturating_sub(first) as f64 / 1e3;
        match event {
            Event::Memory { resident, peak } => {
                self.resident.push(x, *resident as f64);
                self.resident_now = Some(*resident);
                self.peak = Some(self.peak.map_or(*peak, |p| p.max(*peak)));
            }
            Event::System { cores, process, memory_used, memory_total, disk_free, disk_total, run_bytes, gpus } => {
                if !cores.is_empty() {
                    self.cpu.push(x, f64::from(cores.iter().sum::<f32>()) / cores.len() as f64);
                }
                self.memory.push(x, *memory_used as f64);
                if let Some(gpus) = gpus.as_ref().filter(|g| !g.is_empty()) {
                    let busy: Vec<f64> = gpus.iter().filter_map(|g| g.utilisation).collect();
                    if !busy.is_empty() {
                        self.gpu.push(x, busy.iter().sum::<f64>() / busy.len() as f64);
                    }
                    self.gpu_memory.push(x, gpus.iter().filter_map(|g| g.memory_used).map(|m| m as f64).sum());
                    self.gpu_power.push(x, gpus.iter().filter_map(|g| g.power).sum());
                }
                let bounded = |g: &Gpu| Gpu { name: cut(&g.name, NAME), ..g.clone() };
                self.now = Some(Moment {
                    t_ms: t,
                    cores: cores.iter().take(1024).copied().collect(),
                    process: *process,
                    memory_used: *memory_used,
                    memory_total: *memory_total,
                    disk_free: *disk_free,
                    disk_total: *disk_total,
                    run_bytes: *run_bytes,
                    gpus: gpus.as_ref().map(|g| g.iter().take(64).map(bounded).collect()),
                });
            }
            _ => {}
        }
    }
}

impl Footprint for System {
    fn held(&self) -> usize {
        let curves = [&self.cpu, &self.memory, &self.resident, &self.gpu, &self.gpu_memory, &self.gpu_power];
        curves.into_iter().map(Footprint::held).sum::<usize>()
            + self.now.as_ref().map_or(0, |n| n.cores.held() + n.gpus.as_ref().map_or(0, |g| g.len() * 256))
    }
}
