//! The kernels of `kernels/merge.cu`.

use super::{CLIP, Trust};
use crate::device::{Arg, Buffer, KernelDevice, Launch, Pointer, arguments};
use crate::error::{Error, Result};
use crate::tensor::Cost;

const ROWS: usize = 128;
const SWEEP: usize = 256;

arguments! {
    /// Of `merge_sweep`.
    struct SweepArgs {
        means: Pointer,
        vars: Pointer,
        trust: Pointer,
        experts: u32,
        rows: u64,
        grid: Pointer,
        labels: Pointer,
        clip: f64,
        p: Pointer,
        losses: Pointer,
    }
}

/// As [`super::moments`]: `x` is `rows x stride`, every row has at least one sample and `limit` is
/// above 0.
pub fn moments(
    x: &Buffer<f64>,
    stride: usize,
    counts: &Buffer<u32>,
    limit: usize,
    mean: &mut Buffer<f64>,
    var: &mut Buffer<f64>,
) -> Result<Cost> {
    let rows = counts.len();
    if x.len() != rows * stride || mean.len() != rows || var.len() != rows || limit == 0 || stride > u32::MAX as usize {
        return Err(Error::failed("moments", format!("{} samples, {rows} rows, stride {stride}", x.len())));
    }
    let cost = super::moments_cost(rows, rows * stride.min(limit));
    let launch = Launch::new("merge_moments", rows.div_ceil(ROWS), ROWS as u32, cost);
    let limit = Arg::U32(u32::try_from(limit).unwrap_or(u32::MAX));
    // SAFETY: shapes checked above; a count beyond the stride reads no further than the stride.
    unsafe {
        x.device().launch(
            &launch,
            &[x.arg(), Arg::U64(rows as u64), Arg::U32(stride as u32), counts.arg(), limit, mean.arg(), var.arg()],
        )
    }
}

/// Experts on a device: `experts x rows` means and variances.
#[derive(Debug)]
pub struct DeviceExperts {
    means: Buffer<f64>,
    vars: Buffer<f64>,
    trust: Buffer<f64>,
    experts: usize,
    rows: usize,
}

impl DeviceExperts {
    /// Copies them.
    pub fn new(device: &KernelDevice, means: &[&[f64]], vars: &[&[f64]], trust: &[Trust]) -> Result<Self> {
        let (experts, rows) = (means.len(), means.first().map_or(0, |m| m.len()));
        let whole = means.iter().chain(vars).all(|v| v.len() == rows);
        if experts == 0 || vars.len() != experts || trust.len() != experts || !whole {
            return Err(Error::failed("merge", format!("{experts} experts of {rows} rows with unequal lists")));
        }
        let trust: Vec<f64> = trust.iter().flat_map(|t| [t.alpha, t.tau]).collect();
        Ok(Self {
            means: device.upload(&means.concat(), "experts' means")?,
            vars: device.upload(&vars.concat(), "experts' variances")?,
            trust: device.upload(&trust, "experts' trust")?,
            experts,
            rows,
        })
    }

    fn args(&self) -> [Arg; 5] {
        let (experts, rows) = (Arg::U32(self.experts as u32), Arg::U64(self.rows as u64));
        [self.means.arg(), self.vars.arg(), self.trust.arg(), experts, rows]
    }
}

/// As [`super::merge`].
pub fn merge(of: &DeviceExperts, epsilon: f64, p: &mut Buffer<f64>, share: &mut Buffer<f64>) -> Result<Cost> {
    if p.len() != of.rows || share.len() != of.rows {
        return Err(Error::failed("merge", format!("results of {} and {} rows for {}", p.len(), share.len(), of.rows)));
    }
    let cost = super::merge_cost(of.rows, of.experts);
    let launch = Launch::new("merge_rows", of.rows.div_ceil(SWEEP), SWEEP as u32, cost);
    let args = [&of.args()[..], &[Arg::F64(epsilon), p.arg(), share.arg()]].concat();
    // SAFETY: experts x rows values (`DeviceExperts::new`), rows results.
    unsafe { p.device().launch(&launch, &args) }
}

/// The mean log loss of every point (alpha of the first expert, epsilon) of `grid` against `labels`
/// (0 or 1), in one launch and a reduction. With `p` (`points x rows`) the merged values too.
pub fn sweep(
    of: &DeviceExperts,
    grid: &[(f64, f64)],
    labels: &Buffer<u8>,
    p: Option<&mut Buffer<f64>>,
) -> Result<(Vec<f64>, Cost)> {
    let (rows, points) = (of.rows, grid.len());
    let fits = p.as_ref().is_none_or(|p| p.len() == points * rows);
    if labels.len() != rows || !fits || points > 65535 {
        return Err(Error::failed(
            "merge sweep",
            format!("{} labels and {points} points for {rows} rows", labels.len()),
        ));
    }
    if rows == 0 || points == 0 {
        return Ok((vec![0.0; points], Cost::default()));
    }
    let device = labels.device();
    let pairs: Vec<f64> = grid.iter().flat_map(|&(a, e)| [a, e]).collect();
    let pairs = device.upload(&pairs, "sweep grid")?;
    let blocks = rows.div_ceil(SWEEP);
    let partials = device.alloc::<f64>(points * blocks, "sweep partials")?;
    let mut losses = device.alloc::<f64>(points, "sweep losses")?;
    let kept = if p.is_some() { 8.0 * (points * rows) as f64 } else { 0.0 };
    let mut cost = super::sweep_cost(rows, of.experts, points);
    cost.bytes += kept;
    let launch = Launch::new("merge_sweep", blocks, SWEEP as u32, cost).by(points);
    let args = SweepArgs {
        means: of.means.pointer(),
        vars: of.vars.pointer(),
        trust: of.trust.pointer(),
        experts: of.experts as u32,
        rows: rows as u64,
        grid: pairs.pointer(),
        labels: labels.pointer(),
        clip: CLIP,
        p: p.map_or(Pointer::NULL, |p| p.pointer()),
        losses: partials.pointer(),
    };
    // SAFETY: shapes checked above.
    let mut total = unsafe { device.launch(&launch, &[args.arg()])? };
    total += sum_rows(&partials, points, 1.0 / rows as f64, &mut losses)?;
    Ok((device.download(&losses)?, total))
}

/// `out[r]` = scale times the sum of row `r` of `x` (`rows` rows of equal length), in an order that
/// their length alone decides.
pub fn sum_rows(x: &Buffer<f64>, rows: usize, scale: f64, out: &mut Buffer<f64>) -> Result<Cost> {
    let count = x.len().checked_div(rows).unwrap_or(0);
    if count * rows != x.len() || out.len() < rows {
        return Err(Error::failed("sum", format!("{} values in {rows} rows", x.len())));
    }
    let pieces = count.div_ceil(PIECE).max(1);
    if pieces == 1 {
        return sum_pieces(x, (rows, count), (count, 1), scale, out);
    }
    // A row that one block would walk for long: a block a piece, then their sums.
    let mut parts = x.device().alloc::<f64>(rows * pieces, "sums of pieces")?;
    let mut total = sum_pieces(x, (rows, count), (PIECE, pieces), 1.0, &mut parts)?;
    total += sum_rows(&parts, rows, scale, out)?;
    Ok(total)
}

/// Values of a row that one block of `sum_f64` sums.
pub const PIECE: usize = 8192;

/// One launch: `out[row * pieces + p]` is `scale` times the sum of piece `p`.
fn sum_pieces(
    x: &Buffer<f64>,
    (rows, count): (usize, usize),
    (piece, pieces): (usize, usize),
    scale: f64,
    out: &mut Buffer<f64>,
) -> Result<Cost> {
    let cost = Cost { bytes: 8.0 * (x.len() + rows * pieces) as f64, flops: x.len() as f64 };
    let launch = Launch::new("sum_f64", rows * pieces, SWEEP as u32, cost);
    let args = [Arg::U64(count as u64), Arg::U64(piece as u64), Arg::U32(pieces as u32), Arg::F64(scale)];
    // SAFETY: rows x count values, a result a piece; pieces end at the row's end.
    unsafe { x.device().launch(&launch, &[x.arg(), args[0], args[1], args[2], args[3], out.arg()]) }
}
