//! Rope in place: whole vectors and single pairs, some columns of a row, there and back.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::rope::cases::{HALVES, tolerance};
use rallrec::ops::rope::{Rope, Scaling, kernel, oracle};

use super::common::{Values, any_values, cases, close, devices, largest, wide};

const SCALED: Scaling = Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };

fn check<T: Storage>(
    positions: &[u32],
    (heads, half): (usize, usize),
    column: usize,
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let (rows, dim) = (positions.len(), 2 * half);
    let width = column + heads * dim + 3;
    let x: Vec<T> = values.draw(rows * width, seed);
    let turned = |v: &[f32]| -> Vec<f32> {
        v.chunks_exact(width).flat_map(|r| &r[column..column + heads * dim]).copied().collect()
    };
    let plain: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
    let inner = oracle::apply(&turned(&plain), heads, dim, 1e4, Some(&SCALED), positions);
    let mut want: Vec<f64> = plain.iter().map(|&v| f64::from(v)).collect();
    for (row, inner) in want.chunks_exact_mut(width).zip(inner.chunks_exact((heads * dim).max(1))) {
        row[column..column + heads * dim].copy_from_slice(inner);
    }
    let off = tolerance(T::NAME == "bf16", largest(&wide(&plain)));
    for device in devices(seed) {
        let rope = Rope::new(dim, 1e4, Some(SCALED));
        let angles = kernel::DeviceAngles::new(&device, &rope, 100).unwrap();
        let at = kernel::Positions::upload(&device, positions).unwrap();
        let mut on_device = DeviceRows::upload(&device, width, &x, "x").unwrap();
        angles.turn(&mut on_device, (column, heads), &at, false).unwrap();
        let got: Vec<f32> = on_device.download().unwrap().iter().map(|v| v.to_f32()).collect();
        close("turned", &got, &want, |_| off)?;
        angles.turn(&mut on_device, (column, heads), &at, true).unwrap();
        let back: Vec<f32> = on_device.download().unwrap().iter().map(|v| v.to_f32()).collect();
        close("turned back", &back, &wide(&plain), |_| 2.5 * off)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn meets_the_oracle(
        positions in prop::collection::vec(0u32..100, 0..9), heads in 0usize..4,
        half in prop::sample::select(HALVES), column in prop::sample::select(vec![0usize, 5, 8]),
        values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>(&positions, (heads, half), column, values, seed)?;
        check::<bf16>(&positions, (heads, half), column, values, seed)?;
    }
}

#[test]
fn a_position_beyond_the_table_is_refused() {
    for device in devices(0) {
        let angles = kernel::DeviceAngles::new(&device, &Rope::new(4, 1e4, None), 10).unwrap();
        let mut x = DeviceRows::<f32>::zeros(&device, 1, 4, "x").unwrap();
        for (position, fits) in [(9, true), (10, false)] {
            let at = kernel::Positions::upload(&device, &[position]).unwrap();
            assert_eq!(angles.turn(&mut x, (0, 1), &at, false).is_ok(), fits, "{position}");
        }
    }
}
