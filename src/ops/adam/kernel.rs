//! The kernel of `kernels/adam.cu`.

use super::Adam;
use crate::device::{Buffer, DeviceRows, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

const THREADS: u32 = 256;
/// Blocks enough to fill any GPU; each walks over its share.
const BLOCKS: usize = 4096;

arguments! {
    /// Of `adam_rows`.
    struct AdamArgs {
        p: Pointer,
        g: Pointer,
        m: Pointer,
        v: Pointer,
        weight: Pointer,
        touched: Pointer,
        values: u64,
        stride: u32,
        rate: f32,
        root: f32,
        beta1: f32,
        beta2: f32,
        one_minus_beta1: f32,
        one_minus_beta2: f32,
        epsilon: f32,
    }
}

/// Parameters and moments with what a row has of its own.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Parameters.
    pub p: &'a mut DeviceRows<f32>,
    /// First moments.
    pub m: &'a mut DeviceRows<f32>,
    /// Second moments.
    pub v: &'a mut DeviceRows<f32>,
    /// Factor of the extra gradient of each row.
    pub weight: Option<&'a Buffer<f32>>,
    /// Rows whose flag is 0 are left out: that changes nothing as long as their gradient, weight
    /// and moments are zero.
    pub touched: Option<&'a Buffer<u8>>,
}

/// Step number `t` (from 1) as [`super::step`].
pub fn step<T: Storage>(adam: &Adam, t: u64, rows: Rows<'_>, g: &DeviceRows<T>) -> Result<Cost> {
    let Rows { p, m, v, weight, touched } = rows;
    let shape = (p.rows(), p.dim());
    let fits = |rows, dim| (rows, dim) == shape;
    let flags = weight.is_none_or(|w| w.len() == shape.0) && touched.is_none_or(|f| f.len() == shape.0);
    if !(fits(g.rows(), g.dim()) && fits(m.rows(), m.dim()) && fits(v.rows(), v.dim()) && flags) {
        return Err(Error::failed("adam", format!("gradient, moments, weights or flags do not fit {shape:?}")));
    }
    let (rate, root) = adam.corrected(t);
    let values = p.rows() * p.stride();
    let n = (shape.0 * shape.1) as f64;
    let cost = Cost { bytes: n * (24.0 + size_of::<T>() as f64), flops: 12.0 * n };
    let blocks = values.div_ceil(4 * THREADS as usize).min(BLOCKS);
    let launch = Launch::new(T::pick("adam_rows_f32", "adam_rows_bf16"), blocks, THREADS, cost);
    let args = AdamArgs {
        p: p.pointer(),
        g: g.pointer(),
        m: m.pointer(),
        v: v.pointer(),
        weight: weight.map_or(Pointer::NULL, Buffer::pointer),
        touched: touched.map_or(Pointer::NULL, Buffer::pointer),
        values: values as u64,
        stride: p.stride_u32(),
        rate,
        root,
        beta1: adam.beta1,
        beta2: adam.beta2,
        one_minus_beta1: 1.0 - adam.beta1,
        one_minus_beta2: 1.0 - adam.beta2,
        epsilon: adam.epsilon,
    };
    // SAFETY: all four have `values` values in rows of one stride; a weight and a flag for every
    // row.
    unsafe { p.device().launch(&launch, &[args.arg()]) }
}
