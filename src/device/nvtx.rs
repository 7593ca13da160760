//! Ranges for Nsight: stages and launches by name in its timeline, while a run is profiled and
//! NVIDIA's library is there.

use std::sync::OnceLock;

use cudarc::nvtx::safe::{Range, scoped_range};

use crate::tensor::profile;

/// A range that ends when it is dropped; `None` while nothing is profiled or nothing could show it.
pub fn range(name: &str) -> Option<Range> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: only asks whether the library can be loaded.
    let present = || *PRESENT.get_or_init(|| unsafe { cudarc::nvtx::sys::is_culib_present() });
    // A name with a zero byte could not be handed over; no stage and no kernel has one.
    (profile::is_on() && !name.contains('\0') && present()).then(|| scoped_range(name))
}
