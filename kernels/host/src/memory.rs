//! Buffers that end at a page of no access.

use std::ffi::{CString, c_void};

use crate::ffi;

/// Device memory of the host build: aligned to 16 bytes, 0xFF at first (NaN as any float), and a
/// read or write beyond its end is a fault that names the label and the kernel's line.
#[derive(Debug)]
pub struct Memory {
    p: *mut c_void,
    bytes: usize,
    _label: CString, // the runtime keeps its address
}

// SAFETY: plain memory that this value owns.
unsafe impl Send for Memory {}
// SAFETY: as above; it is only reached through its address.
unsafe impl Sync for Memory {}

impl Memory {
    /// `None` where the system has no memory.
    pub fn new(bytes: usize, label: &str) -> Option<Self> {
        let label = CString::new(label).unwrap_or_default();
        // SAFETY: the label lives as long as the buffer.
        let p = unsafe { ffi::rallrec_host_alloc(bytes, label.as_ptr()) };
        (!p.is_null()).then_some(Self { p, bytes, _label: label })
    }

    /// The address that kernels get.
    pub fn address(&self) -> u64 {
        self.p as u64
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: from `rallrec_host_alloc`, freed once.
        unsafe { ffi::rallrec_host_free(self.p) };
    }
}
