//! What a device gives at best: kernels that do nothing but multiply, or fetch rows by number.
//! Ceilings of the others; [`cpu`] has those of this processor.

pub mod cases;
pub mod cpu;

use crate::device::{Arg, Buffer, DeviceRows, KernelDevice, Launch, Storage};
use crate::error::{Error, Result};
use crate::tensor::Cost;

/// Words of the operands, as the kernel makes them.
fn pair(lane: u32, word: u32) -> [f32; 2] {
    let mut h = lane.wrapping_mul(0x9e37_79b9).wrapping_add(word.wrapping_mul(0x85eb_ca6b)).wrapping_add(0x27d4_eb2f);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    let word = ((h ^ (h >> 15)) & 0x807f_807f) | 0x3f80_3f80;
    [word << 16, word & 0xffff_0000].map(f32::from_bits)
}

/// What [`multiply`] leaves in every value of `out` after an odd number of steps: the least over
/// the lanes of a warp of the sums of its chains' first values. Lane 4 g + t has rows g and columns
/// 2 t of a product.
pub fn product() -> f32 {
    let sum = |lane: u32| -> f32 {
        let (g, t) = (lane / 4, lane % 4);
        let chain = |c: u32| -> f32 {
            let of_k = |k: u32| {
                let (half, at) = (k / 8, k % 8);
                let left = pair(4 * g + at / 2, 2 * half)[(at % 2) as usize];
                // The column 2 t of the right operand is with the lanes of that row.
                let right = pair(4 * (2 * t) + at / 2, 4 + 2 * c + half)[(at % 2) as usize];
                left * right
            };
            (0..16).map(of_k).sum()
        };
        (0..8).map(chain).sum()
    };
    (0..32).map(sum).fold(f32::INFINITY, f32::min)
}

/// `steps` times eight products of every warp, of random numbers. After an odd number of steps
/// every value of `out`, one a block, is [`product`].
///
/// # Errors
/// A device that fails.
pub fn multiply(device: &KernelDevice, steps: u32, out: &mut Buffer<f32>) -> Result<Cost> {
    let blocks = out.len() as f64;
    let flops = blocks * 8.0 * f64::from(steps) * 8.0 * 4096.0;
    let launch = Launch::new("mma_peak", out.len(), 256, Cost { bytes: 4.0 * blocks, flops });
    // SAFETY: a value a block.
    unsafe { device.launch(&launch, &[Arg::U32(steps), out.arg()]) }
}

/// Row numbers that a warp fetches.
pub(super) const SHARE: usize = 256;

/// Rows by number, and a word for each warp that fetches them.
#[derive(Debug)]
pub struct Fetch {
    indices: Buffer<u32>,
    end: usize,
    words: Buffer<u32>,
}

impl Fetch {
    /// A copy of the numbers.
    ///
    /// # Errors
    /// A device without room.
    pub fn new(device: &KernelDevice, indices: &[u32]) -> Result<Self> {
        let words = device.alloc(indices.len().div_ceil(SHARE), "fetched words")?;
        let end = indices.iter().max().map_or(0, |&i| i as usize + 1);
        Ok(Self { indices: device.upload(indices, "row numbers")?, end, words })
    }

    /// Fetches each of the rows, whose length is a power of two of 16-byte vectors, and does
    /// nothing with them.
    ///
    /// # Errors
    /// Rows of another length, numbers beyond them, a device that fails.
    pub fn run<T: Storage>(&mut self, rows: &DeviceRows<T>) -> Result<Cost> {
        let (vectors, numbers) = (rows.stride() / T::VECTOR, self.indices.len());
        if !vectors.is_power_of_two() || self.end > rows.rows() {
            let what = format!("rows of {vectors} vectors, numbers below {} of {}", self.end, rows.rows());
            return Err(Error::failed("fetching rows", what));
        }
        let cost = Cost { bytes: numbers as f64 * (4 + 16 * vectors) as f64, flops: 0.0 };
        let launch = Launch::new("gather_peak", self.words.len().div_ceil(4), 128, cost);
        let count = Arg::U64(numbers as u64);
        // SAFETY: numbers are below the rows, whose stride is `vectors` vectors; a word a warp.
        unsafe {
            let args = [rows.arg(), self.indices.arg(), count, Arg::U32(vectors as u32), self.words.arg()];
            rows.device().launch(&launch, &args)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};

    #[test]
    fn products_of_random_numbers_leave_what_was_computed_here() {
        let device = KernelDevice::host(5);
        for steps in [1, 3] {
            let mut out = device.zeros(2, "sums").unwrap();
            multiply(&device, steps, &mut out).unwrap();
            assert_eq!(device.download(&out).unwrap(), [product(); 2], "{steps} steps");
        }
        assert!(product() != 0.0);
    }

    #[test]
    fn every_row_is_fetched_whole() {
        let mut rng = Rng::new(3, Use::Synthetic, 0xfe, 0);
        // Rows of less than a warp, of one, and of more; lists that end inside a share.
        for (width, numbers) in [(4, 1), (8, 700), (64, 256), (128, 513), (256, 300), (512, 40)] {
            let rows = 1 + rng.below(50) as usize;
            let words: Vec<u32> = (0..rows * width).map(|_| rng.below(u32::MAX)).collect();
            let values: Vec<f32> = words.iter().map(|&w| f32::from_bits(w)).collect();
            let indices: Vec<u32> = (0..numbers).map(|_| rng.below(rows as u32)).collect();
            let row = |i: &u32| words[*i as usize * width..][..width].iter().fold(0, |a, b| a ^ b);
            let want: Vec<u32> = indices.chunks(SHARE).map(|c| c.iter().map(row).fold(0, |a, b| a ^ b)).collect();
            let device = KernelDevice::host(width as u64);
            let on_device = DeviceRows::upload(&device, width, &values, "rows").unwrap();
            let mut fetch = Fetch::new(&device, &indices).unwrap();
            fetch.run(&on_device).unwrap();
            assert_eq!(device.download(&fetch.words).unwrap(), want, "{numbers} rows of {width}");
        }
        let device = KernelDevice::host(0);
        let rows = DeviceRows::<f32>::zeros(&device, 3, 8, "rows").unwrap();
        assert!(Fetch::new(&device, &[0, 3]).unwrap().run(&rows).is_err(), "a number beyond the rows");
        let odd = DeviceRows::<f32>::zeros(&device, 3, 24, "rows").unwrap();
        assert!(Fetch::new(&device, &[0]).unwrap().run(&odd).is_err(), "six vectors");
    }
}
