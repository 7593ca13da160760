//! Operators: calls, time, work.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::bounded::{Footprint, NAME, cut, flat, push};
use crate::event::Event;

/// Operators that are kept apart.
const MOST: usize = 128;
/// Slices of time that are kept of one.
const SLICES: usize = 120;

/// Work between two reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slice {
    /// When it ended.
    pub t_ms: u64,
    /// Calls.
    pub calls: u64,
    /// Seconds inside.
    pub seconds: f64,
    /// Bytes that were moved.
    pub bytes: f64,
    /// Floating point operations.
    pub flops: f64,
}
flat!(Slice);

/// One operator on one device.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Operator {
    /// Name.
    pub name: String,
    /// Device.
    pub device: String,
    /// Calls in all.
    pub calls: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Bytes in all.
    pub bytes: f64,
    /// Floating point operations in all.
    pub flops: f64,
    /// Seconds that all calls would take at the ceilings; compare with `ceiling_of`.
    pub ceiling_seconds: f64,
    /// Seconds of the calls for which a ceiling is known.
    pub ceiling_of: f64,
    /// Shape of the latest call.
    pub shape: Option<String>,
    /// The latest slices.
    pub recent: VecDeque<Slice>,
}

impl Operator {
    /// Gigabytes a second.
    pub fn gb_s(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.bytes / self.seconds / 1e9)
    }

    /// TFLOP a second.
    pub fn tflop_s(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.flops / self.seconds / 1e12)
    }

    /// Share of the measured ceiling that was reached, 0 to 1 (cached data may pass the memory's
    /// ceiling).
    pub fn of_ceiling(&self) -> Option<f64> {
        (self.ceiling_of > 0.0).then(|| self.ceiling_seconds / self.ceiling_of)
    }

    /// Floating point operations a byte.
    pub fn intensity(&self) -> Option<f64> {
        (self.bytes > 0.0).then(|| self.flops / self.bytes)
    }
}

impl Footprint for Operator {
    fn held(&self) -> usize {
        self.name.held() + self.device.held() + self.shape.held() + self.recent.held()
    }
}

/// Measured ceilings of a device.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Ceilings {
    /// Gigabytes a second.
    pub memory_gb_s: f64,
    /// GFLOP a second.
    pub gflop_s: f64,
}

/// Every operator of a run with its time and work, by device.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Operators {
    /// In the order of their first call.
    pub list: Vec<Operator>,
    /// By device.
    pub ceilings: BTreeMap<String, Ceilings>,
}

impl Operators {
    /// Seconds inside operators.
    pub fn seconds(&self) -> f64 {
        self.list.iter().map(|o| o.seconds).sum()
    }

    /// The operators by time, longest first.
    pub fn by_time(&self) -> Vec<&Operator> {
        let mut list: Vec<_> = self.list.iter().collect();
        list.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
        list
    }

    pub(super) fn apply(&mut self, t: u64, event: &Event) {
        match event {
            Event::Operator { operator, device, calls, seconds, bytes, flops, ceiling_seconds, shape } => {
                let at = match self.list.iter().position(|o| o.name == *operator && o.device == *device) {
                    Some(at) => at,
                    None if self.list.len() < MOST => {
                        let (name, device) = (cut(operator, NAME), cut(device, NAME));
                        self.list.push(Operator { name, device, ..Operator::default() });
                        self.list.len() - 1
                    }
                    None => return,
                };
                let finite = |x: &f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
                let (seconds, bytes, flops) = (finite(seconds), finite(bytes), finite(flops));
                let entry = &mut self.list[at];
                entry.calls = entry.calls.saturating_add(*calls);
                entry.seconds += seconds;
                entry.bytes += bytes;
                entry.flops += flops;
                if let Some(ceiling) = ceiling_seconds {
                    entry.ceiling_seconds += finite(ceiling);
                    entry.ceiling_of += seconds;
                }
                if let Some(shape) = shape {
                    entry.shape = Some(cut(shape, NAME));
                }
                push(&mut entry.recent, SLICES, Slice { t_ms: t, calls: *calls, seconds, bytes, flops });
            }
            Event::Ceilings { device, memory_gb_s, gflop_s } if self.ceilings.len() < 16 => {
                let found = Ceilings { memory_gb_s: *memory_gb_s, gflop_s: *gflop_s };
                self.ceilings.insert(cut(device, NAME), found);
            }
            _ => {}
        }
    }
}

impl Footprint for Operators {
    fn held(&self) -> usize {
        self.list.held() + self.ceilings.keys().map(|k| k.held() + size_of::<Ceilings>()).sum::<usize>()
    }
}
