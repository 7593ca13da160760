//! What a launch took; only kept while profiling.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::kernel::Launch;

/// One launch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// Name.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Seconds.
    pub seconds: f64,
    /// Bytes that it must move at least.
    pub bytes: f64,
    /// FLOP that it must do at least.
    pub flops: f64,
}

impl Timing {
    pub(super) fn new(launch: &Launch, seconds: f64) -> Self {
        let Launch { kernel, grid, cost, .. } = *launch;
        Self { kernel, grid, seconds, bytes: cost.bytes, flops: cost.flops }
    }
}

#[derive(Default)]
pub(super) struct Timings(Mutex<Vec<Timing>>);

impl Timings {
    pub(super) fn add(&self, timing: Timing) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(timing);
    }
    pub(super) fn take(&self) -> Vec<Timing> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
