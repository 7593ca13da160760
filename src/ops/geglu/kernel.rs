//! The kernels of `kernels/geglu.cu`.

use crate::device::{DeviceRows, Launch, Storage};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Threads of a block, each with 16 bytes of a row.
const THREADS: u32 = 256;

/// Checks the shapes; a launch over the vectors of `y`.
fn launch<T: Storage>(
    name: &'static str,
    [gate, up, y]: [&DeviceRows<T>; 3],
    passes: f64,
    flops: f64,
) -> Result<Launch> {
    let shape = (y.rows(), y.dim());
    if (gate.rows(), gate.dim()) != shape || (up.rows(), up.dim()) != shape || !y.dim().is_multiple_of(T::VECTOR) {
        let what = format!("gate {} x {}, up {} x {}, output {shape:?}", gate.rows(), gate.dim(), up.rows(), up.dim());
        return Err(Error::failed("geglu", what).next("the width must be whole 16-byte vectors, as every model's is"));
    }
    let values = (y.rows() * y.dim()) as f64;
    let cost = Cost { bytes: passes * size_of::<T>() as f64 * values, flops: flops * values };
    Ok(Launch::new(name, (y.rows() * y.dim() / T::VECTOR).div_ceil(THREADS as usize), THREADS, cost))
}

/// `y = gelu(gate) up`.
///
/// # Errors
/// Shapes that differ, a width of no whole vectors, a device that fails.
pub fn forward<T: Storage>(gate: &DeviceRows<T>, up: &DeviceRows<T>, y: &mut DeviceRows<T>) -> Result<Cost> {
    let launch = launch(T::pick("geglu_f32", "geglu_bf16"), [gate, up, y], 3.0, 16.0)?;
    let args = [gate.arg(), up.arg(), y.rows_arg(), y.dim_arg(), y.stride_arg(), y.arg()];
    // SAFETY: three matrices of one shape, and so of one stride.
    unsafe { y.device().launch(&launch, &args) }
}

/// Replaces gate and up by their gradients.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Storage>(gate: &mut DeviceRows<T>, up: &mut DeviceRows<T>, dy: &DeviceRows<T>) -> Result<Cost> {
    let launch = launch(T::pick("geglu_backward_f32", "geglu_backward_bf16"), [gate, up, dy], 5.0, 28.0)?;
    let args = [gate.arg(), up.arg(), dy.arg(), dy.rows_arg(), dy.dim_arg(), dy.stride_arg()];
    // SAFETY: as in `forward`.
    unsafe { dy.device().launch(&launch, &args) }
}
