//! The loss of chosen rows and its gradient, wherever the rows are.

use half::bf16;

use super::{Scratch, kernel};
use crate::device::{Device, DeviceRows, Rows, mixed};
use crate::error::{Error, Result};
use crate::ops::linear::{self, decode};
use crate::tensor::Cost;

/// The output head (vocab, hidden) where it is.
#[derive(Clone, Copy)]
pub enum Head<'a> {
    /// In this process, in whatever storage it came in; and the soft cap of its logits, `cap
    /// tanh(logit / cap)`, which kernels do not have.
    Cpu(&'a linear::Weight, Option<f32>),
    /// f32 on a device with kernels.
    F32(&'a DeviceRows<f32>),
    /// bf16 on a device with kernels.
    Bf16(&'a DeviceRows<bf16>),
    /// In the blocks of its file on a device with kernels: for what no backward follows.
    Blocks(&'a decode::Quantised),
}

impl Head<'_> {
    /// Rows of the head.
    pub fn vocab(&self) -> usize {
        match self {
            Head::Cpu(w, _) => w.rows(),
            Head::F32(w) => w.rows(),
            Head::Bf16(w) => w.rows(),
            Head::Blocks(w) => w.out(),
        }
    }
}

/// The token that each row is to predict and its weight in the sum, where the rows are.
#[derive(Debug)]
pub struct RowTargets {
    on: On,
    rows: usize,
    end: usize,
}

#[expect(clippy::large_enum_variant, reason = "few of them live at a time, and none is moved in a loop")]
#[derive(Debug)]
enum On {
    Cpu { tokens: Vec<u32>, weights: Vec<f32> },
    Kernels(kernel::DeviceTargets),
}

impl RowTargets {
    /// A copy; a token and a weight for each row.
    ///
    /// # Errors
    /// Lists of different lengths; out of memory.
    pub fn upload(device: &Device, tokens: &[u32], weights: &[f32]) -> Result<Self> {
        if tokens.len() != weights.len() {
            return Err(Error::failed("cross entropy", format!("{} tokens, {} weights", tokens.len(), weights.len())));
        }
        let on = match device {
            Device::Cpu => On::Cpu { tokens: tokens.to_vec(), weights: weights.to_vec() },
            Device::Kernels(device) => On::Kernels(kernel::DeviceTargets::upload(device, tokens, weights)?),
        };
        Ok(Self { on, rows: tokens.len(), end: tokens.iter().max().map_or(0, |&t| t as usize + 1) })
    }
}

/// The weighted loss sum of the rows `h` (rows, hidden), in f64.
///
/// # Errors
/// Shapes that do not fit, a target outside the vocabulary, operands in different places; out of
/// memory.
pub fn cross_entropy(h: &Rows, head: Head<'_>, targets: &RowTargets, scratch: &mut Scratch) -> Result<(f64, Cost)> {
    run(h, head, targets, (None, None), scratch)
}

/// As [`cross_entropy`], and writes the gradient by the rows to `dh`. With `dw` (vocab x hidden),
/// which the CPU alone takes, adds the head's.
///
/// # Errors
/// As [`cross_entropy`]; the head's gradient asked of kernels.
pub fn cross_entropy_backward(
    h: &Rows,
    head: Head<'_>,
    targets: &RowTargets,
    (dh, dw): (&mut Rows, Option<&mut [f32]>),
    scratch: &mut Scratch,
) -> Result<(f64, Cost)> {
    run(h, head, targets, (Some(dh), dw), scratch)
}

fn run(
    h: &Rows,
    head: Head<'_>,
    targets: &RowTargets,
    (dh, dw): (Option<&mut Rows>, Option<&mut [f32]>),
    scratch: &mut Scratch,
) -> Result<(f64, Cost)> {
    let vocab = head.vocab();
    if targets.rows != h.rows() || targets.end > vocab {
        let what = format!("{} targets below {} for {} rows, {vocab} tokens", targets.rows, targets.end, h.rows());
        return Err(Error::failed("cross entropy", what));
    }
    if let Some(dh) = &dh {
        dh.must_be("cross entropy", "gradient", h.rows(), h.dim())?;
    }
    if dw.is_some() && !matches!(head, Head::Cpu(..)) {
        return Err(Error::failed("cross entropy", "the head's gradient is added on the CPU alone"));
    }
    let places = [h.place(), dh.as_ref().map_or(h.place(), |dh| dh.place())];
    match (h, head, &targets.on) {
        (Rows::Cpu(h), Head::Cpu(head, cap), On::Cpu { tokens, weights }) => {
            let width = head.cols();
            if h.cols() != width || dw.as_ref().is_some_and(|dw| dw.len() != vocab * width) {
                let what = format!("rows of {} with a head of {vocab} x {width}, or its gradient", h.cols());
                return Err(Error::failed("cross entropy", what));
            }
            let dh = match dh {
                None => None,
                Some(Rows::Cpu(dh)) => Some(dh.as_mut_slice()),
                Some(_) => return Err(mixed("cross entropy", &places)),
            };
            let cost = super::cost(head, h.rows(), dh.is_some(), dw.is_some());
            let targets = super::Targets { tokens, weights };
            Ok((super::capped_loss(h.as_slice(), (head, cap), targets, dh, dw, scratch), cost))
        }
        (Rows::F32(h), Head::F32(head), On::Kernels(targets)) => match dh {
            None => kernel::loss(h, head, targets, None),
            Some(Rows::F32(dh)) => kernel::loss(h, head, targets, Some(dh)),
            Some(_) => Err(mixed("cross entropy", &places)),
        },
        (Rows::Bf16(h), Head::Bf16(head), On::Kernels(targets)) => match dh {
            None => kernel::loss(h, head, targets, None),
            Some(Rows::F32(dh)) => kernel::loss(h, head, targets, Some(dh)),
            Some(_) => Err(mixed("cross entropy", &places)),
        },
        _ => Err(mixed("cross entropy", &places)),
    }
}
