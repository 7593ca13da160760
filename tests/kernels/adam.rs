//! Adam: any rows and steps, either storage of the gradient, rows left out.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::adam::cases::{DIMS, tolerance};
use rallrec::ops::adam::{Adam, kernel, oracle};
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, close, devices, wide};

fn check<T: Storage>(
    (rows, dim): (usize, usize),
    values: Values,
    weighted: bool,
    seed: u64,
) -> Result<(), TestCaseError> {
    let adam = Adam::new(1e-2);
    let n = rows * dim;
    let start: Vec<f32> = Values::Normal.draw(n, seed);
    let mut rng = Rng::new(seed, Use::Synthetic, 3, 0);
    let weight: Vec<f32> = (0..rows).map(|_| if weighted { rng.uniform() } else { 0.0 }).collect();
    let flags: Vec<u8> = (0..rows).map(|_| u8::from(rng.below(3) > 0)).collect();
    // The contract of a flag 0: nothing there has a gradient or a weight.
    let kept = |r: usize| flags[r] == 1;
    let weight: Vec<f32> = weight.iter().enumerate().map(|(r, &w)| if kept(r) { w } else { 0.0 }).collect();
    let grads: Vec<Vec<T>> = (0..3)
        .map(|t| {
            let g: Vec<T> = values.draw(n, seed + t);
            g.into_iter().enumerate().map(|(i, v)| if kept(i / dim) { v } else { T::from_f32(0.0) }).collect()
        })
        .collect();
    let mut states: Vec<oracle::State> =
        (0..rows).map(|r| oracle::State::new(wide(&start[r * dim..(r + 1) * dim]))).collect();
    for g in &grads {
        for (r, state) in states.iter_mut().enumerate() {
            state.step(&adam, &wide(&g[r * dim..(r + 1) * dim]), f64::from(weight[r]));
        }
    }
    let want: Vec<f64> = states.iter().flat_map(|s| s.p.clone()).collect();
    for device in devices(seed) {
        let weights = device.upload(&weight, "weights").unwrap();
        let touched = device.upload(&flags, "flags").unwrap();
        for (w, f) in [(Some(&weights), None), (Some(&weights), Some(&touched))] {
            let mut p = DeviceRows::upload(&device, dim, &start, "p").unwrap();
            let mut m = DeviceRows::zeros(&device, rows, dim, "m").unwrap();
            let mut v = DeviceRows::zeros(&device, rows, dim, "v").unwrap();
            for (t, g) in grads.iter().enumerate() {
                let g = DeviceRows::upload(&device, dim, g, "g").unwrap();
                let rows = kernel::Rows { p: &mut p, m: &mut m, v: &mut v, weight: w, touched: f };
                kernel::step(&adam, t as u64 + 1, rows, &g).unwrap();
            }
            close("parameter", &p.download().unwrap(), &want, |i| tolerance(want[i]))?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn meets_the_oracle(
        rows in prop::sample::select(vec![1usize, 2, 7, 40]),
        dim in prop::sample::select(DIMS),
        values in any_values(), weighted in any::<bool>(), seed in 0u64..1_000_000,
    ) {
        check::<f32>((rows, dim), values, weighted, seed)?;
        check::<bf16>((rows, dim), values, weighted, seed)?;
    }
}
