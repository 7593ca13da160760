//! The kernels of `kernels/linear.cu`.

use crate::device::{Buffer, DeviceRows, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

const THREADS: u32 = 128;
/// Rows and columns of a tile (`common/tile.cuh`).
pub(in crate::ops) const TILE: usize = 64;

/// Planes of 16 bits that a value is multiplied in.
pub(in crate::ops) const fn planes<T: Storage>() -> usize {
    if size_of::<T>() == 4 { 3 } else { 1 }
}

/// Shared memory of a tile: two stages of 32 values a row, two operands.
pub(in crate::ops) const fn tile_shared<T: Storage>() -> usize {
    2 * 2 * planes::<T>() * TILE * 32 * 2
}

arguments! {
    /// Of `gemm_nt`, `gemm_nn` and `gemm_tn`.
    struct GemmArgs {
        a: Pointer,
        b: Pointer,
        m: u64,
        n: u64,
        k: u32,
        stride_a: u32,
        stride_b: u32,
        alpha: f32,
        beta: f32,
        act: i32,
        bias: Pointer,
        before: Pointer,
        slope_of: Pointer,
        out: Pointer,
        stride: u32,
    }
}

/// Which operands stand the other way; names as in BLAS, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A is m x k, B n x k.
    Nt,
    /// A is m x k, B k x n.
    Nn,
    /// A is k x m, B k x n.
    Tn,
}

/// What is done to a sum before it is written.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what the output held.
    pub beta: f32,
    /// 0 none, 1 relu, 2 tanh, 3 silu.
    pub activation: i32,
    /// Added to every row.
    pub bias: Option<&'a Buffer<f32>>,
    /// Gets the value before the activation.
    pub before: Option<&'a DeviceRows<f32>>,
    /// Multiply by the activation's slope at these values instead of applying it.
    pub slope_of: Option<&'a DeviceRows<f32>>,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 0.0, activation: 0, bias: None, before: None, slope_of: None }
    }
}

/// `out = epilogue(A B)` in the given form.
pub fn gemm<T: Storage>(
    form: Form,
    a: &DeviceRows<T>,
    b: &DeviceRows<T>,
    epilogue: &Epilogue<'_>,
    out: &mut DeviceRows<f32>,
) -> Result<Cost> {
    let (m, k) = if form == Form::Tn { (a.dim(), a.rows()) } else { (a.rows(), a.dim()) };
    let (n, depth) = if form == Form::Nt { (b.rows(), b.dim()) } else { (b.dim(), b.rows()) };
    let shape = (m, n);
    let fits = |o: Option<&DeviceRows<f32>>| o.is_none_or(|o| (o.rows(), o.dim()) == shape);
    let bias = epilogue.bias.is_none_or(|b| b.len() == n);
    if k != depth || (out.rows(), out.dim()) != shape || !fits(epilogue.before) || !fits(epilogue.slope_of) || !bias {
        let what = format!("{form:?} of {} x {} and {} x {}", a.rows(), a.dim(), b.rows(), b.dim());
        return Err(Error::failed(
            "gemm",
            format!("{what} into {} x {}, or its bias or saved rows", out.rows(), out.dim()),
        ));
    }
    let depth = u32::try_from(k).map_err(|_| Error::failed("gemm", format!("depth {k} is more than 2^32 - 1")))?;
    let kernel = match form {
        Form::Nt => T::pick("gemm_nt_f32", "gemm_nt_bf16"),
        Form::Nn => T::pick("gemm_nn_f32", "gemm_nn_bf16"),
        Form::Tn => T::pick("gemm_tn_f32", "gemm_tn_bf16"),
    };
    let (mf, nf, kf) = (m as f64, n as f64, k as f64);
    let cost = Cost { bytes: size_of::<T>() as f64 * kf * (mf + nf) + 4.0 * mf * nf, flops: 2.0 * mf * nf * kf };
    let launch = Launch::new(kernel, m.div_ceil(TILE), THREADS, cost).by(n.div_ceil(TILE));
    let args = GemmArgs {
        a: a.pointer(),
        b: b.pointer(),
        m: m as u64,
        n: n as u64,
        k: depth,
        stride_a: a.stride_u32(),
        stride_b: b.stride_u32(),
        alpha: epilogue.alpha,
        beta: epilogue.beta,
        act: epilogue.activation,
        bias: epilogue.bias.map_or(Pointer::NULL, Buffer::pointer),
        before: epilogue.before.map_or(Pointer::NULL, DeviceRows::pointer),
        slope_of: epilogue.slope_of.map_or(Pointer::NULL, DeviceRows::pointer),
        out: out.pointer(),
        stride: out.stride_u32(),
    };
    // SAFETY: shapes checked above; `before` and `slope_of` have the shape, and so the stride, of
    // `out`.
    unsafe { out.device().launch(&launch.shared(tile_shared::<T>()), &[args.arg()]) }
}

/// Sums of the columns of `x`, rows in a fixed order.
pub fn column_sums(x: &DeviceRows<f32>, out: &mut Buffer<f32>) -> Result<Cost> {
    if out.len() != x.dim() {
        return Err(Error::failed("column sums", format!("{} sums of {} columns", out.len(), x.dim())));
    }
    let values = (x.rows() * x.dim()) as f64;
    let launch = Launch::new("column_sums", x.dim().div_ceil(32), 256, Cost { bytes: 4.0 * values, flops: values });
    // SAFETY: a sum a column.
    unsafe { x.device().launch(&launch, &[x.arg(), x.rows_arg(), x.dim_arg(), x.stride_arg(), out.arg()]) }
}
