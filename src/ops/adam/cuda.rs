//! The kernel of `kernels/adam.cu`.

use super::Adam;
use crate::device::{Arg, Buffer, DeviceRows, Launch, Storage};
use crate::error::{Error, Result};
use crate::tensor::Cost;

const THREADS: u32 = 256;
/// Blocks enough to fill any GPU; each walks over its share.
const BLOCKS: usize = 4096;

/// Step number `t` (from 1) as [`super::step_rows`]. `weight` has one value a row. Rows whose `touched` flag is 0 are left
/// out: that changes nothing as long as their gradient, weight and moments are zero.
#[allow(clippy::too_many_arguments)]
pub fn step_rows<T: Storage>(
    adam: &Adam,
    t: u64,
    p: &mut DeviceRows<f32>,
    g: &DeviceRows<T>,
    m: &mut DeviceRows<f32>,
    v: &mut DeviceRows<f32>,
    weight: Option<&Buffer<f32>>,
    touched: Option<&Buffer<u8>>,
) -> Result<Cost> {
    let shape = (p.rows(), p.dim());
    let fits = |rows, dim| (rows, dim) == shape;
    let flags = weight.is_none_or(|w| w.len() == shape.0) && touched.is_none_or(|f| f.len() == shape.0);
    if !(fits(g.rows(), g.dim()) && fits(m.rows(), m.dim()) && fits(v.rows(), v.dim()) && flags) {
        return Err(Error::failed("adam", format!("gradient, moments, weights or flags do not fit {shape:?}")));
    }
    let exponent = i32::try_from(t).unwrap_or(i32::MAX);
    let c1 = 1.0 - f64::from(adam.beta1).powi(exponent);
    let c2 = 1.0 - f64::from(adam.beta2).powi(exponent);
    let values = p.rows() * p.stride();
    let n = (shape.0 * shape.1) as f64;
    let cost = Cost { bytes: n * (24.0 + size_of::<T>() as f64), flops: 12.0 * n };
    let blocks = values.div_ceil(4 * THREADS as usize).min(BLOCKS);
    let launch = Launch::new(T::pick("adam_rows_f32", "adam_rows_bf16"), blocks, THREADS, cost);
    let null = Arg::Pointer(0);
    let (rate, root) = (Arg::F32((f64::from(adam.learning_rate) / c1) as f32), Arg::F32(c2.sqrt() as f32));
    let betas = [adam.beta1, adam.beta2, 1.0 - adam.beta1, 1.0 - adam.beta2].map(Arg::F32);
    // SAFETY: all four have `values` values in rows of one stride; a weight and a flag for every row.
    unsafe {
        p.device().launch(
            &launch,
            &[
                p.arg(),
                g.arg(),
                m.arg(),
                v.arg(),
                weight.map_or(null, Buffer::arg),
                touched.map_or(null, Buffer::arg),
                Arg::U64(values as u64),
                p.stride_arg(),
                rate,
                root,
                betas[0],
                betas[1],
                betas[2],
                betas[3],
                Arg::F32(adam.epsilon),
            ],
        )
    }
}
