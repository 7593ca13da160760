//! Random cases of rotary positions.

use super::tolerance;
use crate::device::Device;
use crate::error::Result;
use crate::ops::registry::{Check, Shape, drawn, errors, largest, wide};
use crate::ops::rope::{Positions, Rope, Table, oracle};
use crate::rng::{Rng, Use};

/// There and back.
pub(super) const CASES: &[Check] = &[Check::new("rope", ["rows", "heads", "half"], turn)];

fn turn(device: &Device, [count, heads, half]: Shape, narrow: bool, seed: u64) -> Result<Vec<f64>> {
    // Head widths are whole vectors.
    let (heads, dim) = (heads.min(8), half.min(64).next_multiple_of(8) * 2);
    let mut x = drawn(device, (count, heads * dim), narrow, seed, 0)?;
    let mut rng = Rng::new(seed, Use::Synthetic, 4, 0);
    let positions: Vec<u32> = (0..count).map(|_| rng.below(4096)).collect();
    let plain = x.download()?;
    let want = oracle::apply(&plain, heads, dim, 1e4, None, &positions);
    let plain = wide(&plain);
    let off = tolerance(narrow, largest(&plain));
    let (mut table, positions) =
        (Table::new(device, Rope::new(dim, 1e4, None)), Positions::upload(device, &positions)?);
    table.grow(4096)?;
    table.rope(&mut x, &positions)?;
    let mut all = errors(&x.download()?, &want, |_| off);
    table.rope_backward(&mut x, &positions)?;
    all.extend(errors(&x.download()?, &plain, |_| 2.5 * off));
    Ok(all)
}
