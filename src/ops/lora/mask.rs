//! Dropout on a device (`kernels/lora_dropout.cu`): the masks of [`Dropout`], drawn where they are applied.

use super::Dropout;
use crate::device::{Arg, Buffer, DeviceRows, Launch};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Columns whose draws have a counter of their own.
const WIDEST: usize = 1 << 19;

/// `y = x mask`, or `y += x mask` with `accumulate`; row `i` has the mask of `names[i]`, bit for bit that of the CPU.
pub fn apply(
    mask: Dropout,
    names: &Buffer<u64>,
    x: &DeviceRows<f32>,
    accumulate: bool,
    y: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let (rows, columns) = (x.rows(), x.dim());
    if names.len() != rows || (y.rows(), y.dim()) != (rows, columns) || columns > WIDEST {
        let what = format!("{rows} x {columns} to {} x {}, {} row names", y.rows(), y.dim(), names.len());
        return Err(Error::failed("dropout", what));
    }
    let values = (rows * columns) as f64;
    let cost = Cost { bytes: (if accumulate { 12.0 } else { 8.0 }) * values, flops: values };
    let launch = Launch::new("dropout_f32", (rows * columns.div_ceil(128) * 16).div_ceil(256), 256, cost);
    // SAFETY: a name a row; x and y have one shape.
    unsafe {
        y.device().launch(
            &launch,
            &[
                x.arg(),
                x.stride_arg(),
                names.arg(),
                x.rows_arg(),
                x.dim_arg(),
                Arg::U32(mask.key[0]),
                Arg::U32(mask.key[1]),
                Arg::U32(mask.step),
                Arg::U32(mask.stream),
                Arg::U32(mask.threshold),
                Arg::F32(mask.keep),
                Arg::I32(i32::from(accumulate)),
                y.arg(),
                y.stride_arg(),
            ],
        )
    }
}
