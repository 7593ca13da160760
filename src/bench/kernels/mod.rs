//! How fast the kernels are on a device: operators against their floors and goals, and every launch against what the device's memory
//! and its matrix instruction give.
//!
//! The ceilings are measured first ([`ceilings`]). Each case is then run many times, every launch timed by events on the device's stream.
//! A case that is bound by memory walks through more sets of inputs than a GPU's second-level cache holds. What an operator took is the
//! sum of its launches: the median over the runs, with the tenth and the ninetieth of a hundred. Gaps between launches, buffers set to zero
//! and copies to and from the CPU are not in it. Its floor ([`Prepared::floor`]) is what the operator must move and compute, whatever the
//! kernels did; a goal is a share of that floor, of another work timed beside it, or a time.
//!
//! No GPU has run this yet; on the host build, where tests run it, times mean nothing and goals are not judged.

mod about;
mod cases;
mod ceilings;
mod goal;
mod measure;

pub use about::About;
pub use cases::CASES;
pub use ceilings::{Ceilings, measure as ceilings};
pub use goal::{Goal, Verdict};
pub use measure::{Beside, Launched, Measured, time};

use crate::device::{KernelDevice, Kind};
use crate::error::Result;
use crate::tensor::Cost;

/// How large cases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As their shape says.
    Full,
    /// A few of everything: the host build takes microseconds for what a GPU takes nanoseconds for.
    Tiny,
}

impl Scale {
    /// `full`, or `tiny`.
    fn of(self, full: usize, tiny: usize) -> usize {
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
    /// Compute capability without which it cannot run; (0, 0) for any.
    pub needs: (u32, u32),
    /// Makes the inputs.
    pub make: fn(&KernelDevice, Scale) -> Result<Prepared>,
}

impl Case {
    /// Why the device cannot run it, if it cannot.
    pub fn left_out(&self, device: &KernelDevice) -> Option<String> {
        let there = self.needs == (0, 0) || device.capability() == Some(self.needs);
        (!there).then(|| format!("needs a GPU of compute capability {}.{}", self.needs.0, self.needs.1))
    }
}

/// Runs one set of inputs.
type Run = Box<dyn FnMut(usize) -> Result<()>>;

/// Inputs of a case, a way to run it, and what it is held against.
pub struct Prepared {
    /// Names and values of the sizes.
    sizes: Vec<(&'static str, usize)>,
    /// How values are stored.
    storage: &'static str,
    /// Number of input sets.
    sets: usize,
    /// What the work must move and compute; without it the sum of what its launches say.
    floor: Option<Cost>,
    /// A work to compare with.
    beside: Option<Compared>,
    goal: Option<Goal>,
    run: Run,
}

/// A work that is timed beside another.
struct Compared {
    what: &'static str,
    /// The other cannot be done in less time.
    floor: bool,
    run: Run,
}

impl Prepared {
    fn new(
        storage: &'static str,
        sizes: &[(&'static str, usize)],
        run: impl FnMut(usize) -> Result<()> + 'static,
    ) -> Self {
        let sizes = sizes.to_vec();
        Self { sizes, storage, sets: 1, floor: None, beside: None, goal: None, run: Box::new(run) }
    }

    /// With this many sets of inputs.
    fn sets(self, sets: usize) -> Self {
        Self { sets: sets.max(1), ..self }
    }

    fn floor(self, bytes: f64, flops: f64) -> Self {
        Self { floor: Some(Cost { bytes, flops }), ..self }
    }

    fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Compared with a work that does less, or the same in another way.
    fn beside(self, what: &'static str, run: impl FnMut(usize) -> Result<()> + 'static) -> Self {
        Self { beside: Some(Compared { what, floor: false, run: Box::new(run) }), ..self }
    }

    /// Compared with a work than which this one cannot be faster.
    fn beside_floor(self, what: &'static str, run: impl FnMut(usize) -> Result<()> + 'static) -> Self {
        Self { beside: Some(Compared { what, floor: true, run: Box::new(run) }), ..self }
    }
}

/// As [`super::select`], of the kernels' cases.
///
/// # Errors
/// A name that is none of theirs.
pub fn select(names: &[String]) -> Result<Vec<&'static Case>> {
    super::named(CASES, |case| case.op, names)
}

/// The device's size of cases.
pub fn scale(device: &KernelDevice) -> Scale {
    if device.kind() == Kind::Host { Scale::Tiny } else { Scale::Full }
}
