//! How an operator is compared with its oracle on random cases, and what such cases share.

use crate::device::{Device, KernelDevice, Rows, Storage};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::tensor::Dtype;

/// Sizes of a case; what each means is the operator's business.
pub type Shape = [usize; 3];

/// Name and inclusive ranges of the sizes.
pub type Class = (&'static str, [(usize, usize); 3]);

/// Random cases of one direction of an operator.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// As the profile shows it.
    pub name: &'static str,
    /// What the three sizes are.
    pub sizes: [&'static str; 3],
    /// Sorts of shapes.
    pub classes: &'static [Class],
    /// Whether kernels also take bf16 storage.
    pub bf16: bool,
    /// Where it can run.
    pub on: On,
    /// A case: shape, whether storage is bf16, seed. Gives the error of every value in units of its
    /// tolerance.
    pub run: fn(&Device, Shape, bool, u64) -> Result<Vec<f64>>,
}

/// Where a check can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On every device.
    Any,
    /// On the CPU alone: there is no kernel of it.
    Cpu,
    /// With kernels alone: the CPU has no form of its own with the same inputs.
    Kernels,
    /// On GPUs of compute capability 9.0, and the host build.
    Hopper,
}

const SMALL: [(usize, usize); 3] = [(1, 9), (1, 9), (1, 9)];
const EDGES: [(usize, usize); 3] = [(63, 65), (63, 65), (31, 33)];
const LARGER: [(usize, usize); 3] = [(65, 200), (65, 200), (33, 130)];

impl Check {
    /// On every device and in both storages, with the usual shapes.
    pub const fn new(
        name: &'static str,
        sizes: [&'static str; 3],
        run: fn(&Device, Shape, bool, u64) -> Result<Vec<f64>>,
    ) -> Self {
        let classes = &[("small", SMALL), ("tile edges", EDGES), ("larger", LARGER)];
        Self { name, sizes, classes, bf16: true, on: On::Any, run }
    }

    /// In its own storage alone.
    #[must_use]
    pub const fn one_storage(self) -> Self {
        Self { bf16: false, ..self }
    }

    /// Only there.
    #[must_use]
    pub const fn only(self, on: On) -> Self {
        Self { on, ..self }
    }

    /// With other shapes.
    #[must_use]
    pub const fn shapes(self, classes: &'static [Class]) -> Self {
        Self { classes, ..self }
    }

    /// Whether `device` can run it.
    pub fn runs_on(&self, device: &Device) -> bool {
        match (self.on, device) {
            (On::Any, _) | (On::Cpu, Device::Cpu) | (On::Kernels, Device::Kernels(_)) => true,
            (On::Hopper, Device::Kernels(device)) => device.has_hopper(),
            _ => false,
        }
    }
}

/// The device of a check that needs kernels.
///
/// # Errors
/// The CPU.
pub fn kernels_of(device: &Device) -> Result<&KernelDevice> {
    match device {
        Device::Kernels(device) => Ok(device),
        Device::Cpu => Err(Error::failed("check", "there is nothing of this on the CPU")),
    }
}

/// `n` normal values as `T` stores them.
pub fn draw<T: Storage>(n: usize, seed: u64, salt: u32) -> Vec<T> {
    let mut rng = Rng::new(seed, Use::Synthetic, 11, salt);
    (0..n).map(|_| T::from_f32(rng.normal())).collect()
}

/// How a check's rows are stored where kernels take both types.
pub fn stored(narrow: bool) -> Dtype {
    if narrow { Dtype::Bf16 } else { Dtype::F32 }
}

/// `count x dim` normal values on a device, and as it stores them.
///
/// # Errors
/// Out of memory.
pub fn drawn(device: &Device, (count, dim): (usize, usize), narrow: bool, seed: u64, salt: u32) -> Result<Rows> {
    Rows::upload(device, stored(narrow), dim, &draw::<f32>(count * dim, seed, salt), "drawn rows")
}

/// f64 copies.
pub fn wide<T: Storage>(x: &[T]) -> Vec<f64> {
    x.iter().map(|v| f64::from(v.to_f32())).collect()
}

/// f32 copies.
pub fn narrow<T: Storage>(x: &[T]) -> Vec<f32> {
    x.iter().map(|v| v.to_f32()).collect()
}

/// |got - want| in units of `tolerance`; a missing value is infinitely wrong.
pub fn errors(got: &[f32], want: &[f64], tolerance: impl Fn(usize) -> f64) -> Vec<f64> {
    let error = |(i, w): (usize, &f64)| got.get(i).map_or(f64::INFINITY, |g| (f64::from(*g) - w).abs() / tolerance(i));
    want.iter().enumerate().map(error).collect()
}

/// The largest magnitude.
pub fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// sum over k of a(k) b(k), and of their sizes.
pub fn dot(depth: usize, term: impl Fn(usize) -> f64) -> (f64, f64) {
    (0..depth).map(term).fold((0.0, 0.0), |(s, t), v| (s + v, t + v.abs()))
}

/// A check of both storage types by one function over [`Storage`]; `kernels` where it takes the
/// kernels' device.
macro_rules! both {
    ($of:ident) => {
        |device, shape, narrow, seed| {
            if narrow { $of::<half::bf16>(device, shape, seed) } else { $of::<f32>(device, shape, seed) }
        }
    };
    (kernels $of:ident) => {
        |device, shape, narrow, seed| {
            let device = $crate::ops::registry::kernels_of(device)?;
            if narrow { $of::<half::bf16>(device, shape, seed) } else { $of::<f32>(device, shape, seed) }
        }
    };
}
pub(crate) use both;
