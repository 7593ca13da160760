//! Typed device memory.

use std::marker::PhantomData;

use bytemuck::Pod;

use super::arguments::Pointer;
use super::kernel::{Arg, KernelDevice};
use super::pool::Memory;
use super::rows::DeviceRows;

/// What buffers hold: plain values without padding.
pub trait Element: Pod {}
impl<T: Pod> Element for T {}

/// A float as kernels store it; they compute in f32.
pub trait Storage: Element + Send + Sync + 'static {
    /// As in the names of kernels.
    const NAME: &'static str;
    /// The kernel of this type among (f32, bf16).
    fn pick(f32: &'static str, bf16: &'static str) -> &'static str;
    /// Values of a 16-byte vector.
    const VECTOR: usize = 16 / size_of::<Self>();
    /// Rounds to nearest.
    fn from_f32(x: f32) -> Self;
    /// Exact.
    fn to_f32(self) -> f32;
    /// The rows, if they are stored in bf16.
    fn narrow(_rows: &DeviceRows<Self>) -> Option<&DeviceRows<half::bf16>> {
        None
    }
}

impl Storage for f32 {
    const NAME: &'static str = "f32";
    fn pick(f32: &'static str, _: &'static str) -> &'static str {
        f32
    }
    fn from_f32(x: f32) -> Self {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
}

impl Storage for half::bf16 {
    const NAME: &'static str = "bf16";
    fn pick(_: &'static str, bf16: &'static str) -> &'static str {
        bf16
    }
    fn from_f32(x: f32) -> Self {
        half::bf16::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        half::bf16::to_f32(self)
    }
    fn narrow(rows: &DeviceRows<Self>) -> Option<&DeviceRows<half::bf16>> {
        Some(rows)
    }
}

/// `len` values on a device, given back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer<T: Element> {
    device: KernelDevice,
    memory: Option<Memory>,
    address: u64,
    label: &'static str,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    pub(super) fn new(device: KernelDevice, memory: Memory, len: usize) -> Self {
        let (address, label) = (memory.address(), memory.label());
        Self { device, memory: Some(memory), address, label, len, of: PhantomData }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it is for.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Where it is.
    pub fn device(&self) -> &KernelDevice {
        &self.device
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Its address, for a struct of arguments.
    pub fn pointer(&self) -> Pointer {
        Pointer(self.address)
    }

    /// The address of value `offset` (at most `len`), for a struct of arguments.
    pub fn pointer_at(&self, offset: usize) -> Pointer {
        assert!(offset <= self.len, "{}: value {offset} of {}", self.label, self.len);
        Pointer(self.address + (offset * size_of::<T>()) as u64)
    }

    /// As a kernel's argument.
    pub fn arg(&self) -> Arg {
        Arg::Pointer(self.address)
    }

    /// The address of value `offset` (at most `len`) as an argument.
    pub fn arg_at(&self, offset: usize) -> Arg {
        assert!(offset <= self.len, "{}: value {offset} of {}", self.label, self.len);
        Arg::Pointer(self.address + (offset * size_of::<T>()) as u64)
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.device.give_back(memory);
        }
    }
}
