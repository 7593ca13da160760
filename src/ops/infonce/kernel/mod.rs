//! The kernels of `kernels/infonce.cu` and `kernels/infonce_bounded.cu`.
//!
//! Cosines above a temperature of 1/40 have a bound that exponentials can be taken against: one
//! pass and one exponential for both directions ([`bounded`]), for rows that fit into shared memory
//! whole. Everything else keeps maxima ([`online`]).

pub(in crate::ops) mod bounded;
pub(in crate::ops) mod online;

use super::{Params, Similarity};
use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Pointer, Storage, arguments};
use crate::error::{Error, Result};
use crate::ops::merge::kernel::sum_rows;
use crate::tensor::Cost;

const THREADS: u32 = 128;
const WARPS: usize = 4;

arguments! {
    /// Of `infonce_finish`.
    struct FinishArgs {
        x: Pointer,
        rows: u64,
        dim: u32,
        stride: u32,
        cosine: i32,
        inv_tau: f32,
        inverse: Pointer,
        g: Pointer,
        g_stride: u32,
    }
}

/// Loss and gradients on the device.
#[derive(Debug)]
pub struct DeviceGradients {
    /// The loss.
    pub loss: f64,
    /// By x.
    pub x: DeviceRows<f32>,
    /// By y.
    pub y: DeviceRows<f32>,
    /// By tau.
    pub tau: f64,
    /// What it took at least.
    pub cost: Cost,
}

/// Zeros for `n` rows and on to a multiple of 128: a tile's columns beyond the end have norm and
/// weight 0.
fn padded(device: &KernelDevice, n: usize, label: &'static str) -> Result<Buffer<f32>> {
    device.zeros(n.div_ceil(128) * 128, label)
}

/// Planes of a stored value as matrix operand.
/// The rows, and what every kernel wants to know of them.
struct Pairs<'a, T: Storage> {
    x: &'a DeviceRows<T>,
    y: &'a DeviceRows<T>,
    params: &'a Params,
    /// 1 / |row|, or 1; [`padded`].
    inv_x: Buffer<f32>,
    inv_y: Buffer<f32>,
    cost: Cost,
}

/// What the forward passes leave: log-sum-exps of rows and columns and the scores of pairs, in base
/// 2.
struct Sums {
    lse_x: Buffer<f32>,
    lse_y: Buffer<f32>,
    diagonal: Buffer<f32>,
    /// 1 / sum of exponentials of rows and columns, where they are bounded; [`padded`].
    parts: Option<(Buffer<f32>, Buffer<f32>)>,
}

impl<'a, T: Storage> Pairs<'a, T> {
    fn new(x: &'a DeviceRows<T>, y: &'a DeviceRows<T>, params: &'a Params) -> Result<Self> {
        let (n, d) = (x.rows(), x.dim());
        if (y.rows(), y.dim()) != (n, d) || params.tau.is_nan() || params.tau <= 0.0 {
            let what = format!("x is {n} x {d}, y {} x {}, tau {}", y.rows(), y.dim(), params.tau);
            return Err(Error::failed("infonce", what));
        }
        let norms = || padded(x.device(), n, "norms");
        let mut pairs = Pairs { x, y, params, inv_x: norms()?, inv_y: norms()?, cost: Cost::default() };
        if n == 0 {
            return Ok(pairs);
        }
        for (rows, inv) in [(x, &pairs.inv_x), (y, &pairs.inv_y)] {
            let cost = Cost { bytes: n as f64 * (pairs.row_bytes() + 4.0), flops: 2.0 * (n * d) as f64 };
            let [n, dim, stride] = pairs.shape();
            let launch = pairs.by_row(T::pick("infonce_norms_f32", "infonce_norms_bf16"), cost);
            // SAFETY: n rows of the shape that is passed, a value a row.
            let taken = unsafe {
                x.device().launch(&launch, &[rows.arg(), n, dim, stride, Arg::I32(pairs.cosine()), inv.arg()])?
            };
            pairs.cost += taken;
        }
        Ok(pairs)
    }

    fn n(&self) -> usize {
        self.x.rows()
    }

    /// (rows, width, stride), as kernels take them.
    fn shape(&self) -> [Arg; 3] {
        [self.x.rows_arg(), self.x.dim_arg(), self.x.stride_arg()]
    }

    fn cosine(&self) -> i32 {
        i32::from(self.params.similarity == Similarity::Cosine)
    }

    /// log2(e) / tau: scores and log-sums are in base 2.
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.params.tau
    }

    /// Factor of the sum over rows.
    fn weight(&self) -> f32 {
        self.params.weight / self.n() as f32
    }

    fn row_bytes(&self) -> f64 {
        (self.x.dim() * size_of::<T>()) as f64
    }

    /// `factor` n^2 d.
    fn products(&self, factor: f64) -> f64 {
        factor * (self.n() as f64).powi(2) * self.x.dim() as f64
    }

    /// A warp a row.
    fn by_row(&self, kernel: &'static str, cost: Cost) -> Launch {
        Launch::new(kernel, self.n().div_ceil(WARPS), THREADS, cost)
    }

    /// A value a row, which a kernel writes.
    fn vector(&self, label: &'static str) -> Result<Buffer<f32>> {
        self.x.device().alloc(self.n(), label)
    }

    /// [`padded`], a value a row.
    fn padded(&self, label: &'static str) -> Result<Buffer<f32>> {
        padded(self.x.device(), self.n(), label)
    }

    fn sums(&mut self) -> Result<Sums> {
        let (sums, cost) = match bounded::width::<T>(self) {
            Some(width) => bounded::sums(self, width)?,
            None => online::sums(self)?,
        };
        self.cost += cost;
        Ok(sums)
    }

    /// Gradients by both sides into `x` and `y`, and by tau for each row.
    fn gradients(&mut self, sums: &Sums, x: &DeviceRows<f32>, y: &DeviceRows<f32>) -> Result<Buffer<f32>> {
        let (by_tau, cost) = match (bounded::width::<T>(self), &sums.parts) {
            (Some(width), Some(parts)) => bounded::gradients(self, width, sums, parts, x, y)?,
            _ => online::gradients(self, sums, x, y)?,
        };
        self.cost += cost;
        let (n, d) = (self.n() as f64, self.x.dim() as f64);
        for (rows, inv, to) in [(self.x, &self.inv_x, x), (self.y, &self.inv_y, y)] {
            let launch = self.by_row(
                T::pick("infonce_finish_f32", "infonce_finish_bf16"),
                Cost { bytes: n * (self.row_bytes() + 8.0 * d), flops: 5.0 * n * d },
            );
            let args = FinishArgs {
                x: rows.pointer(),
                rows: rows.rows() as u64,
                dim: rows.dim_u32(),
                stride: rows.stride_u32(),
                cosine: self.cosine(),
                inv_tau: 1.0 / self.params.tau,
                inverse: inv.pointer(),
                g: to.pointer(),
                g_stride: to.stride_u32(),
            };
            // SAFETY: n rows of the shape that is passed, and of the gradient's, a value a row.
            self.cost += unsafe { self.x.device().launch(&launch, &[args.arg()])? };
        }
        Ok(by_tau)
    }

    /// (loss, derivative by tau).
    fn totals(&mut self, sums: &Sums, by_tau: &Buffer<f32>) -> Result<(f64, f64)> {
        let (n, device) = (self.n(), self.x.device());
        let terms = device.alloc::<f64>(2 * n, "loss terms")?;
        let mut totals = device.alloc::<f64>(2, "loss")?;
        let cost = Cost { bytes: 32.0 * n as f64, flops: 6.0 * n as f64 };
        let launch = Launch::new("infonce_terms", n.div_ceil(THREADS as usize), THREADS, cost);
        let vectors = [sums.lse_x.arg(), sums.lse_y.arg(), sums.diagonal.arg(), by_tau.arg()];
        // SAFETY: n values each, 2 n terms.
        self.cost += unsafe { device.launch(&launch, &[&vectors[..], &[self.x.rows_arg(), terms.arg()]].concat())? };
        self.cost += sum_rows(&terms, 2, 1.0, &mut totals)?;
        let totals = device.download(&totals)?;
        Ok((f64::from(self.weight()) * totals[0], totals[1] / f64::from(self.params.tau)))
    }
}

/// Loss and gradients as [`super::infonce`](super::infonce()).
///
/// # Errors
/// Shapes that differ, a tau that is not above 0, a device that fails.
pub fn infonce<T: Storage>(x: &DeviceRows<T>, y: &DeviceRows<T>, params: &Params) -> Result<DeviceGradients> {
    let mut pairs = Pairs::new(x, y, params)?;
    let (n, d) = (x.rows(), x.dim());
    let fresh = |label| DeviceRows::unwritten(x.device(), n, d, label);
    let mut out = DeviceGradients {
        loss: 0.0,
        x: fresh("gradient by x")?,
        y: fresh("gradient by y")?,
        tau: 0.0,
        cost: Cost::default(),
    };
    if n > 0 {
        let sums = pairs.sums()?;
        let by_tau = pairs.gradients(&sums, &out.x, &out.y)?;
        (out.loss, out.tau) = pairs.totals(&sums, &by_tau)?;
    }
    out.cost = pairs.cost;
    Ok(out)
}

/// The loss alone, and what it took at least.
///
/// # Errors
/// As [`infonce`].
pub fn loss<T: Storage>(x: &DeviceRows<T>, y: &DeviceRows<T>, params: &Params) -> Result<(f64, Cost)> {
    let mut pairs = Pairs::new(x, y, params)?;
    if pairs.n() == 0 {
        return Ok((0.0, Cost::default()));
    }
    let sums = pairs.sums()?;
    let none = pairs.padded("by tau")?;
    let (loss, _) = pairs.totals(&sums, &none)?;
    Ok((loss, pairs.cost))
}
