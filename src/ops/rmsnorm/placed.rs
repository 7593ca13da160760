//! The forward that no backward follows, wherever the rows are.

use half::bf16;

use super::{Weight, cpu, kernel};
use crate::device::{DeviceRows, Rows, mixed};
use crate::error::{Error, Result};
use crate::tensor::{Cost, Matrix};

/// Whether rows of x are whole heads of the width of `w`.
fn whole(x: &Matrix, w: &[f32]) -> Result<()> {
    if !w.is_empty() && x.cols().is_multiple_of(w.len()) {
        return Ok(());
    }
    Err(Error::failed("rmsnorm", format!("rows of {} values with a weight of {}", x.cols(), w.len())))
}

/// `x += add` on the CPU, where there is something to add.
pub(super) fn add_to(x: &mut Matrix, add: Option<&Rows>) -> Result<()> {
    match add {
        None => Ok(()),
        Some(Rows::Cpu(add)) if (add.rows(), add.cols()) == (x.rows(), x.cols()) => {
            x.as_mut_slice().iter_mut().zip(add.as_slice()).for_each(|(x, a)| *x += a);
            Ok(())
        }
        Some(other) => {
            let what = format!("{} x {} to be added to {} x {}", other.rows(), other.dim(), x.rows(), x.cols());
            Err(Error::failed("rmsnorm", what))
        }
    }
}

/// `y = rmsnorm(x)`, after `x += add` where that is given. Where `w` is narrower than a row, every
/// head of its width is normed alone. `y` takes the shape of `x`. Cost: `4 rows dim` FLOP; two
/// passes over the rows, four with `add`.
///
/// # Errors
/// Shapes that do not fit, operands in different places; out of memory.
pub fn rmsnorm(x: &mut Rows, add: Option<&Rows>, w: Weight<'_>, eps: f64, y: &mut Rows) -> Result<Cost> {
    let places = [x.place(), y.place()];
    y.fit(x.rows(), x.dim(), "activations")?;
    match (x, w, y) {
        (Rows::Cpu(x), Weight::Cpu(w), Rows::Cpu(y)) => {
            whole(x, w)?;
            add_to(x, add)?;
            cpu::rmsnorm(x.as_slice(), w, eps, y.as_mut_slice());
            Ok(super::cost(x.as_slice().len() / w.len(), w.len()))
        }
        (Rows::F32(x), Weight::Kernels(w), Rows::F32(y)) => kernel::forward(x, f32_rows(add)?, w, eps as f32, y, None),
        (Rows::Bf16(x), Weight::Kernels(w), Rows::Bf16(y)) => {
            kernel::forward(x, bf16_rows(add)?, w, eps as f32, y, None)
        }
        _ => Err(mixed("rmsnorm", &places)),
    }
}

/// `x = rmsnorm(x)`, each head of the width of `w` for itself.
///
/// # Errors
/// As [`rmsnorm`].
pub fn rmsnorm_in_place(x: &mut Rows, w: Weight<'_>, eps: f64) -> Result<Cost> {
    if let (Rows::Cpu(x), Weight::Cpu(w)) = (&mut *x, w) {
        whole(x, w)?;
        cpu::rmsnorm_in_place(x.as_mut_slice(), w, eps);
        return Ok(super::cost(x.as_slice().len() / w.len(), w.len()));
    }
    let mut y = x.zeros_beside(x.rows(), x.dim(), "activations")?;
    let cost = rmsnorm(x, None, w, eps, &mut y)?;
    *x = y;
    Ok(cost)
}

pub(super) fn f32_rows(add: Option<&Rows>) -> Result<Option<&DeviceRows<f32>>> {
    match add {
        None => Ok(None),
        Some(Rows::F32(add)) => Ok(Some(add)),
        Some(other) => Err(mixed("rmsnorm", &[other.place()])),
    }
}

pub(super) fn bf16_rows(add: Option<&Rows>) -> Result<Option<&DeviceRows<bf16>>> {
    match add {
        None => Ok(None),
        Some(Rows::Bf16(add)) => Ok(Some(add)),
        Some(other) => Err(mixed("rmsnorm", &[other.place()])),
    }
}
