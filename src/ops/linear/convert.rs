//! Between storage types.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::{bf16, f16};
use rayon::prelude::*;

use super::Storage;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// Builds owned storage of `dtype` row by row: `fill(row, values)` writes a row in f32, which is
/// rounded to nearest even. Rows are filled in parallel; no f32 copy larger than a row per thread
/// is made. A value that is not finite, or too large for `dtype`, is an error.
pub fn build(rows: usize, cols: usize, dtype: Dtype, fill: impl Fn(usize, &mut [f32]) + Sync) -> Result<Storage> {
    // The first row that came out wrong.
    let bad = AtomicUsize::new(usize::MAX);
    let storage = match dtype {
        Dtype::F32 => {
            let mut values = vec![0.0f32; rows * cols];
            values.par_chunks_mut(cols.max(1)).enumerate().for_each(|(row, out)| {
                fill(row, out);
                if out.iter().any(|v| !v.is_finite()) {
                    bad.fetch_min(row, Ordering::Relaxed);
                }
            });
            Storage::F32(Arc::new(values))
        }
        Dtype::Bf16 => Storage::Bf16(rounded((rows, cols), fill, bf16::from_f32, |v| v.is_finite(), &bad)),
        Dtype::F16 => Storage::F16(rounded((rows, cols), fill, f16::from_f32, |v| v.is_finite(), &bad)),
    };
    match bad.into_inner() {
        usize::MAX => Ok(storage),
        row => Err(Error::input(format!("row {row}"), format!("holds a value that is no finite {dtype:?} number"))
            .next("load the model as bf16 or f32; if it stays so, the file is damaged")),
    }
}

fn rounded<T: Copy + Default + Send + Sync>(
    (rows, cols): (usize, usize),
    fill: impl Fn(usize, &mut [f32]) + Sync,
    round: impl Fn(f32) -> T + Sync,
    finite: impl Fn(T) -> bool + Sync,
    bad: &AtomicUsize,
) -> Arc<Vec<T>> {
    let mut values = vec![T::default(); rows * cols];
    values.par_chunks_mut(cols.max(1)).enumerate().for_each_init(
        || vec![0.0f32; cols],
        |scratch, (row, out)| {
            fill(row, scratch);
            let mut sound = true;
            for (o, &s) in out.iter_mut().zip(scratch.iter()) {
                *o = round(s);
                sound &= finite(*o);
            }
            if !sound {
                bad.fetch_min(row, Ordering::Relaxed);
            }
        },
    );
    Arc::new(values)
}

/// Widens little-endian values of `dtype`; `bytes` holds exactly `out.len()` of them, at any
/// alignment.
pub fn widen(bytes: &[u8], dtype: Dtype, out: &mut [f32]) {
    debug_assert_eq!(bytes.len(), out.len() * dtype.size());
    match dtype {
        Dtype::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Dtype::Bf16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        Dtype::F16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = f16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
    }
}

/// Rounds values to `dtype` and checks that they are finite; `place` names the tensor.
pub fn round_vector(mut values: Vec<f32>, dtype: Dtype, place: &str) -> Result<Vec<f32>> {
    if dtype != Dtype::F32 {
        let bytes = narrow(&values, dtype);
        widen(&bytes, dtype, &mut values);
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::input(place, format!("value {i} is {}, not a finite number", values[i]))
            .next("the file is damaged; download it again")),
        None => Ok(values),
    }
}

/// Little-endian bytes of f32 values rounded to `dtype`.
pub fn narrow(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size());
    for &v in values {
        match dtype {
            Dtype::F32 => bytes.extend(v.to_le_bytes()),
            Dtype::Bf16 => bytes.extend(bf16::from_f32(v).to_le_bytes()),
            Dtype::F16 => bytes.extend(f16::from_f32(v).to_le_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_widening_undoes_it() {
        // 1 + 2^-8 is halfway between two bf16 values; the even one is 1. 1 + 3 * 2^-8 goes up to 1
        // + 2^-6.
        let values = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.0, 3.5];
        let bytes = narrow(&values, Dtype::Bf16);
        let mut back = [0.0f32; 4];
        widen(&bytes, Dtype::Bf16, &mut back);
        assert_eq!(back.map(f32::to_bits), [1.0f32, 1.0 + 1.0 / 64.0, -0.0, 3.5].map(f32::to_bits));
        for dtype in [Dtype::F32, Dtype::F16] {
            let mut back = [0.0f32; 4];
            widen(&narrow(&[0.5, -2.0, 65504.0, 0.0], dtype), dtype, &mut back);
            assert_eq!(back, [0.5, -2.0, 65504.0, 0.0]);
        }
        let Storage::Bf16(built) =
            build(2, 2, Dtype::Bf16, |row, out| out.copy_from_slice(&values[row * 2..][..2])).unwrap()
        else {
            panic!("asked for bf16")
        };
        assert_eq!(bytemuck::cast_slice::<bf16, u8>(&built), bytes);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fill = |value: f32| move |row: usize, out: &mut [f32]| out.fill(if row == 1 { value } else { 0.0 });
        assert!(build(3, 2, Dtype::F16, fill(1e5)).err().unwrap().to_string().contains("row 1"));
        assert!(build(3, 2, Dtype::Bf16, fill(1e5)).is_ok());
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            assert!(build(3, 2, dtype, fill(f32::NAN)).is_err());
        }
    }
}
