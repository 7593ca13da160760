//! The kernels of `kernels/swiglu.cu`.

use crate::device::{Arg, DeviceRows, Launch, Storage};
use crate::error::{Error, Result};
use crate::ops::Cost;

/// Checks `gate_up` (M x 2 W) against `y` (M x W); W, and the column where up begins.
fn width<T: Storage>(gate_up: &DeviceRows<T>, y: &DeviceRows<T>) -> Result<usize> {
    let width = y.dim();
    if gate_up.rows() != y.rows() || gate_up.dim() != 2 * width || !width.is_multiple_of(T::VECTOR) {
        let what = format!("gate and up of {} x {}, output {} x {width}", gate_up.rows(), gate_up.dim(), y.rows());
        return Err(Error::failed("swiglu", what).next("the width must be whole 16-byte vectors, as every model's is"));
    }
    Ok(width)
}

/// `y = silu(gate) up` with gate and up side by side in rows of `gate_up`.
pub fn forward<T: Storage>(gate_up: &DeviceRows<T>, y: &mut DeviceRows<T>) -> Result<Cost> {
    let width = width(gate_up, y)?;
    let values = (y.rows() * width) as f64;
    let cost = Cost { bytes: 3.0 * size_of::<T>() as f64 * values, flops: 12.0 * values };
    let blocks = (y.rows() * width / T::VECTOR).div_ceil(256);
    // SAFETY: shapes checked above.
    unsafe {
        y.device().launch(
            &Launch::new(T::pick("swiglu_f32", "swiglu_bf16"), blocks, 256, cost),
            &[
                gate_up.arg(),
                gate_up.values().arg_at(if y.rows() == 0 { 0 } else { width }),
                y.rows_arg(),
                Arg::U32(width as u32),
                gate_up.stride_arg(),
                y.arg(),
                y.stride_arg(),
            ],
        )
    }
}

/// Replaces gate and up by their gradients.
pub fn backward<T: Storage>(gate_up: &mut DeviceRows<T>, dy: &DeviceRows<T>) -> Result<Cost> {
    let width = width(gate_up, dy)?;
    let values = (dy.rows() * width) as f64;
    let cost = Cost { bytes: 5.0 * size_of::<T>() as f64 * values, flops: 20.0 * values };
    let blocks = (dy.rows() * width / T::VECTOR).div_ceil(256);
    // SAFETY: as in `forward`.
    unsafe {
        dy.device().launch(
            &Launch::new(T::pick("swiglu_backward_f32", "swiglu_backward_bf16"), blocks, 256, cost),
            &[
                gate_up.arg(),
                gate_up.values().arg_at(if dy.rows() == 0 { 0 } else { width }),
                dy.arg(),
                dy.rows_arg(),
                Arg::U32(width as u32),
                gate_up.stride_arg(),
                dy.stride_arg(),
            ],
        )
    }
}
