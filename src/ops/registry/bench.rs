//! Works of operators that are measured: inputs of a size, a way to run them, what they are held
//! against.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::rows::kernel::duplicate;
use crate::rng::{Rng, Use};
use crate::tensor::Cost;

/// How large the cases of kernels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As their shape says.
    Full,
    /// A few of everything: the host build takes microseconds for what a GPU takes nanoseconds for.
    Tiny,
}

impl Scale {
    /// `full`, or `tiny`.
    pub fn of(self, full: usize, tiny: usize) -> usize {
        if self == Scale::Full { full } else { tiny }
    }
}

/// One line of the list.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Operator.
    pub op: &'static str,
    /// Which work of it.
    pub work: &'static str,
    /// Makes the inputs.
    pub make: Make,
}

/// Where a case runs, and what makes its inputs there.
#[derive(Debug, Clone, Copy)]
pub enum Make {
    /// On the CPU.
    Cpu(fn() -> Result<Prepared>),
    /// With kernels.
    Kernels(fn(&KernelDevice, Scale) -> Result<Prepared>),
    /// With kernels for compute capability 9.0 alone.
    Hopper(fn(&KernelDevice, Scale) -> Result<Prepared>),
}

impl Case {
    /// A case of the CPU.
    pub const fn cpu(op: &'static str, work: &'static str, make: fn() -> Result<Prepared>) -> Self {
        Self { op, work, make: Make::Cpu(make) }
    }

    /// A case of kernels.
    pub const fn kernels(
        op: &'static str,
        work: &'static str,
        make: fn(&KernelDevice, Scale) -> Result<Prepared>,
    ) -> Self {
        Self { op, work, make: Make::Kernels(make) }
    }

    /// A case of kernels for compute capability 9.0 alone.
    pub const fn hopper(
        op: &'static str,
        work: &'static str,
        make: fn(&KernelDevice, Scale) -> Result<Prepared>,
    ) -> Self {
        Self { op, work, make: Make::Hopper(make) }
    }
}

/// What a work should reach on the device at hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The floor's time over the time taken, at least.
    Floor(f64),
    /// The time of the work beside it over the time taken, at least.
    Beside(f64),
    /// Seconds, at most.
    Seconds(f64),
}

/// Runs one set of inputs.
pub type Run = Box<dyn FnMut(usize) -> Result<()>>;

/// The arithmetic units that bound a work on the CPU, by what they multiply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Units {
    /// f32, or on a device whatever its kernel multiplies.
    #[default]
    F32,
    /// bf16 with sums in f32.
    Bf16,
    /// Codes of 8 bits.
    Int8,
}

/// Inputs of a case, a way to run it, and what it is held against.
pub struct Prepared {
    /// Names and values of the sizes.
    pub sizes: Vec<(&'static str, usize)>,
    /// How values are stored.
    pub storage: &'static str,
    /// Number of input sets.
    pub sets: usize,
    /// What bounds its products.
    pub units: Units,
    /// What the work must move and compute; without it the sum of what its launches say.
    pub floor: Option<Cost>,
    /// A work to compare with.
    pub beside: Option<Compared>,
    /// What it should reach.
    pub goal: Option<Goal>,
    /// The work.
    pub run: Run,
}

/// A work that is timed beside another.
pub struct Compared {
    /// What it is.
    pub what: &'static str,
    /// The other cannot be done in less time.
    pub floor: bool,
    /// The work.
    pub run: Run,
}

impl Prepared {
    /// One set of inputs, nothing to hold it against.
    pub fn new(
        storage: &'static str,
        sizes: &[(&'static str, usize)],
        run: impl FnMut(usize) -> Result<()> + 'static,
    ) -> Self {
        let sizes = sizes.to_vec();
        Self {
            sizes,
            storage,
            sets: 1,
            units: Units::default(),
            floor: None,
            beside: None,
            goal: None,
            run: Box::new(run),
        }
    }

    /// `sets` sets of inputs of the CPU, each of this cost; the work says the sizes in words.
    pub fn of(cost: Cost, sets: usize, run: impl FnMut(usize) -> Result<()> + 'static) -> Self {
        Self { floor: Some(cost), ..Self::new("", &[], run).sets(sets) }
    }

    /// Bound by these units.
    #[must_use]
    pub fn on(self, units: Units) -> Self {
        Self { units, ..self }
    }

    /// With this many sets of inputs.
    #[must_use]
    pub fn sets(self, sets: usize) -> Self {
        Self { sets: sets.max(1), ..self }
    }

    /// With a floor in bytes and FLOP.
    #[must_use]
    pub fn floor(self, bytes: f64, flops: f64) -> Self {
        Self { floor: Some(Cost { bytes, flops }), ..self }
    }

    /// With a goal.
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Compared with a work that does less, or the same in another way.
    #[must_use]
    pub fn beside(self, what: &'static str, run: impl FnMut(usize) -> Result<()> + 'static) -> Self {
        Self { beside: Some(Compared { what, floor: false, run: Box::new(run) }), ..self }
    }

    /// Compared with a work than which this one cannot be faster.
    #[must_use]
    pub fn beside_floor(self, what: &'static str, run: impl FnMut(usize) -> Result<()> + 'static) -> Self {
        Self { beside: Some(Compared { what, floor: true, run: Box::new(run) }), ..self }
    }
}

/// Bytes of inputs that are rotated through, beyond the caches of a CPU, and the most sets of them.
const CPU_ROTATED: (usize, usize) = (96 << 20, 128);
/// The same beyond a GPU's second-level cache.
const ROTATED: (usize, usize) = (256 << 20, 256);

/// Whether one set is enough: where instructions are counted, caches do not matter.
static ONE_SET: AtomicBool = AtomicBool::new(false);

/// From now on cases of the CPU that would rotate through inputs have one set of them.
pub fn one_set() {
    ONE_SET.store(true, Ordering::Relaxed);
}

/// How many sets of so many bytes reach beyond the caches of a CPU.
pub fn host_sets(bytes: f64) -> usize {
    if ONE_SET.load(Ordering::Relaxed) {
        return 1;
    }
    let (all, most) = CPU_ROTATED;
    (all as f64 / bytes).ceil().clamp(2.0, most as f64) as usize
}

/// How many sets of so many bytes reach beyond a GPU's second-level cache.
pub fn sets(scale: Scale, bytes: usize) -> usize {
    let (all, most) = ROTATED;
    if scale == Scale::Tiny { 2 } else { (all / bytes.max(1) + 1).clamp(2, most) }
}

/// Normal values out of a pool, from another place for each stream. The pool's length is a prime,
/// so that rows of any width differ.
pub fn normals(n: usize, stream: u32) -> Vec<f32> {
    static POOL: OnceLock<Vec<f32>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut rng = Rng::new(1, Use::Synthetic, 0xbe, 0);
        (0..65_537).map(|_| rng.normal()).collect()
    });
    let from = stream as usize * 7919 % pool.len();
    pool[from..].iter().chain(pool.iter().cycle()).take(n).copied().collect()
}

/// `n x width` normal values.
pub fn rows<T: Storage>(device: &KernelDevice, n: usize, width: usize, stream: u32) -> Result<DeviceRows<T>> {
    let values: Vec<T> = normals(n * width, stream).into_iter().map(T::from_f32).collect();
    DeviceRows::upload(device, width, &values, "bench")
}

/// The same rows in `count` places.
pub fn copies<T: Storage>(of: DeviceRows<T>, count: usize) -> Result<Vec<DeviceRows<T>>> {
    let mut all = Vec::with_capacity(count);
    for _ in 1..count {
        all.push(duplicate(&of, "bench")?);
    }
    all.push(of);
    Ok(all)
}

/// [`rows`] in as many places as rotating takes when a set has nothing else that is large.
pub fn rotated<T: Storage>(
    device: &KernelDevice,
    scale: Scale,
    (n, width): (usize, usize),
    stream: u32,
) -> Result<Vec<DeviceRows<T>>> {
    copies(rows(device, n, width, stream)?, sets(scale, size_of::<T>() * n * width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_reach_beyond_the_cache_or_are_many() {
        for bytes in [1 << 20, 3 << 20, 100 << 20, 1 << 30] {
            let n = sets(Scale::Full, bytes);
            assert!(n >= 2 && n * bytes >= ROTATED.0 && (n - 2) * bytes <= ROTATED.0, "{n} sets of {bytes} bytes");
        }
        assert_eq!(sets(Scale::Full, 0), 256);
    }
}
