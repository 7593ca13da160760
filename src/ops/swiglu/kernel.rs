//! The kernels of `kernels/swiglu.cu`.

use crate::device::{Arg, DeviceRows, Launch, Storage};
use crate::error::{Error, Result};
use crate::tensor::Cost;

const NEXT: &str = "the width must be whole 16-byte vectors, as every model's is";

/// Checks `gate_up` (M x 2 W) against `y` (M x W); W, and the column where up begins.
fn width<T: Storage>(gate_up: &DeviceRows<T>, y: &DeviceRows<T>) -> Result<usize> {
    let width = y.dim();
    if gate_up.rows() != y.rows() || gate_up.dim() != 2 * width || !width.is_multiple_of(T::VECTOR) {
        let what = format!("gate and up of {} x {}, output {} x {width}", gate_up.rows(), gate_up.dim(), y.rows());
        return Err(Error::failed("swiglu", what).next(NEXT));
    }
    Ok(width)
}

/// Checks that gate, up and `y` have one shape.
fn apart<T: Storage>(gate: &DeviceRows<T>, up: &DeviceRows<T>, y: &DeviceRows<T>) -> Result<()> {
    let shape = (y.rows(), y.dim());
    if (gate.rows(), gate.dim()) != shape || (up.rows(), up.dim()) != shape || !y.dim().is_multiple_of(T::VECTOR) {
        let what = format!("gate {} x {}, up {} x {}, output {shape:?}", gate.rows(), gate.dim(), up.rows(), up.dim());
        return Err(Error::failed("swiglu", what).next(NEXT));
    }
    Ok(())
}

/// Where gate and up begin, and their stride.
type Two = [Arg; 3];

fn side_by_side<T: Storage>(gate_up: &DeviceRows<T>, width: usize) -> Two {
    let up = if gate_up.rows() == 0 { 0 } else { width };
    [gate_up.arg(), gate_up.values().arg_at(up), gate_up.stride_arg()]
}

/// Gate and up must have the rows of `y` and at least its width.
unsafe fn launch_forward<T: Storage>([gate, up, stride]: Two, y: &mut DeviceRows<T>) -> Result<Cost> {
    let values = (y.rows() * y.dim()) as f64;
    let cost = Cost { bytes: 3.0 * size_of::<T>() as f64 * values, flops: 12.0 * values };
    let blocks = (y.rows() * y.dim() / T::VECTOR).div_ceil(256);
    let launch = Launch::new(T::pick("swiglu_f32", "swiglu_bf16"), blocks, 256, cost);
    // SAFETY: by this function's contract.
    unsafe { y.device().launch(&launch, &[gate, up, y.rows_arg(), y.dim_arg(), stride, y.arg(), y.stride_arg()]) }
}

/// As [`launch_forward`].
unsafe fn launch_backward<T: Storage>([gate, up, stride]: Two, dy: &DeviceRows<T>) -> Result<Cost> {
    let values = (dy.rows() * dy.dim()) as f64;
    let cost = Cost { bytes: 5.0 * size_of::<T>() as f64 * values, flops: 20.0 * values };
    let blocks = (dy.rows() * dy.dim() / T::VECTOR).div_ceil(256);
    let launch = Launch::new(T::pick("swiglu_backward_f32", "swiglu_backward_bf16"), blocks, 256, cost);
    // SAFETY: by this function's contract.
    unsafe { dy.device().launch(&launch, &[gate, up, dy.arg(), dy.rows_arg(), dy.dim_arg(), stride, dy.stride_arg()]) }
}

/// `y = silu(gate) up` with gate and up side by side in rows of `gate_up`.
pub fn forward<T: Storage>(gate_up: &DeviceRows<T>, y: &mut DeviceRows<T>) -> Result<Cost> {
    let width = width(gate_up, y)?;
    // SAFETY: shapes checked above.
    unsafe { launch_forward(side_by_side(gate_up, width), y) }
}

/// Replaces gate and up by their gradients.
pub fn backward<T: Storage>(gate_up: &mut DeviceRows<T>, dy: &DeviceRows<T>) -> Result<Cost> {
    let width = width(gate_up, dy)?;
    // SAFETY: as in `forward`.
    unsafe { launch_backward(side_by_side(gate_up, width), dy) }
}

/// As [`forward`], gate and up each in a matrix of its own.
pub fn forward_apart<T: Storage>(gate: &DeviceRows<T>, up: &DeviceRows<T>, y: &mut DeviceRows<T>) -> Result<Cost> {
    apart(gate, up, y)?;
    // SAFETY: shapes checked above; one width is one stride.
    unsafe { launch_forward([gate.arg(), up.arg(), gate.stride_arg()], y) }
}

/// As [`forward_apart`], the result in the place of the gate: a thread reads its values before it
/// writes them.
pub fn forward_in_place<T: Storage>(gate: &mut DeviceRows<T>, up: &DeviceRows<T>) -> Result<Cost> {
    apart(gate, up, gate)?;
    // SAFETY: shapes checked above; one width is one stride.
    unsafe { launch_forward([gate.arg(), up.arg(), up.stride_arg()], gate) }
}

/// As [`backward`], gate and up each in a matrix of its own.
pub fn backward_apart<T: Storage>(
    gate: &mut DeviceRows<T>,
    up: &mut DeviceRows<T>,
    dy: &DeviceRows<T>,
) -> Result<Cost> {
    apart(gate, up, dy)?;
    // SAFETY: as in `forward_apart`.
    unsafe { launch_backward([gate.arg(), up.arg(), gate.stride_arg()], dy) }
}
