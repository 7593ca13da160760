//! Dropout on a device (`kernels/lora_dropout.cu`): the masks of [`Dropout`], drawn where they are
//! applied.

use super::dropout::{BLOCK, Dropout, LANES};
use crate::device::{Buffer, DeviceRows, Launch, Pointer, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

arguments! {
    /// Of `dropout`.
    struct DropoutArgs {
        x: Pointer,
        stride_x: u32,
        names: Pointer,
        rows: u64,
        columns: u32,
        key0: u32,
        key1: u32,
        step: u32,
        stream: u32,
        threshold: u32,
        keep: f32,
        add: i32,
        y: Pointer,
        stride_y: u32,
    }
}

/// Columns whose draws have a counter of their own.
const WIDEST: usize = 1 << 19;

/// `y = x mask`, or `y += x mask` with `accumulate`; row `i` has the mask of `names[i]`, bit for
/// bit that of the CPU.
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
    let launch = Launch::new("dropout_f32", (rows * columns.div_ceil(BLOCK) * LANES).div_ceil(256), 256, cost);
    let args = DropoutArgs {
        x: x.pointer(),
        stride_x: x.stride_u32(),
        names: names.pointer(),
        rows: rows as u64,
        columns: x.dim_u32(),
        key0: mask.key[0],
        key1: mask.key[1],
        step: mask.step,
        stream: mask.stream,
        threshold: mask.threshold,
        keep: mask.keep,
        add: i32::from(accumulate),
        y: y.pointer(),
        stride_y: y.stride_u32(),
    };
    // SAFETY: a name a row; x and y have one shape.
    unsafe { y.device().launch(&launch, &[args.arg()]) }
}
