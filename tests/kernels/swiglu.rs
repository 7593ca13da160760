//! SwiGLU and its backward.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::swiglu::cases::{slope_tolerance, tolerance};
use rallrec::ops::swiglu::{kernel, oracle};

use super::common::{Values, any_values, cases, close, devices, narrow, same_bits};

/// Columns `from .. from + width` of rows twice as wide.
fn part(x: &[f32], width: usize, from: usize) -> Vec<f32> {
    x.chunks_exact(2 * width).flat_map(|r| &r[from..from + width]).copied().collect()
}

fn check<T: Storage>(rows: usize, width: usize, values: Values, spread: f32, seed: u64) -> Result<(), TestCaseError> {
    let spread = if values == Values::Normal { spread } else { 1.0 };
    let gate_up: Vec<T> = values.draw(rows * 2 * width, seed);
    let gate_up: Vec<T> = gate_up.iter().map(|v| T::from_f32(v.to_f32() * spread)).collect();
    let dy: Vec<T> = Values::Normal.draw(rows * width, seed + 1);
    let (plain, by) = (narrow(&gate_up), narrow(&dy));
    let (gate, up) = (part(&plain, width, 0), part(&plain, width, width));
    let want = oracle::swiglu(&gate, &up);
    let (dg, du) = oracle::backward(&gate, &up, &by);
    let narrow_storage = T::NAME == "bf16";
    let (u, d) = (|i: usize| f64::from(up[i]), |i: usize| f64::from(by[i]));
    for device in devices(seed) {
        let mut on_device = DeviceRows::upload(&device, 2 * width, &gate_up, "gate and up").unwrap();
        let mut y = DeviceRows::zeros(&device, rows, width, "y").unwrap();
        kernel::forward(&on_device, &mut y).unwrap();
        close("y", &narrow(&y.download().unwrap()), &want, |i| tolerance(narrow_storage, want[i], u(i)))?;
        let dy = DeviceRows::upload(&device, width, &dy, "dy").unwrap();
        kernel::backward(&mut on_device, &dy).unwrap();
        let got = narrow(&on_device.download().unwrap());
        close("d gate", &part(&got, width, 0), &dg, |i| slope_tolerance(narrow_storage, dg[i], u(i) * d(i)))?;
        close("d up", &part(&got, width, width), &du, |i| tolerance(narrow_storage, du[i], d(i)))?;
        // The same kernels on matrices of their own.
        let own = |x: &[f32]| -> DeviceRows<T> {
            let values: Vec<T> = x.iter().map(|&v| T::from_f32(v)).collect();
            DeviceRows::upload(&device, width, &values, "gate or up").unwrap()
        };
        let (mut gate, mut up) = (own(&gate), own(&up));
        let mut apart = DeviceRows::zeros(&device, rows, width, "y").unwrap();
        kernel::forward_apart(&gate, &up, &mut apart).unwrap();
        same_bits(&narrow(&apart.download().unwrap()), &narrow(&y.download().unwrap()))?;
        kernel::backward_apart(&mut gate, &mut up, &dy).unwrap();
        same_bits(&narrow(&gate.download().unwrap()), &part(&got, width, 0))?;
        same_bits(&narrow(&up.download().unwrap()), &part(&got, width, width))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn meets_the_oracle(
        rows in 0usize..6, vectors in 1usize..40, values in any_values(), spread in 0.1f32..60.0, seed in 0u64..1_000_000,
    ) {
        check::<f32>(rows, 8 * vectors, values, spread, seed)?;
        check::<bf16>(rows, 8 * vectors, values, spread, seed)?;
    }
}

#[test]
fn extremes() {
    for device in devices(0) {
        let rows: Vec<f32> = [1e30, -1e30, f32::NAN, 0.0].into_iter().chain([1.0; 4]).collect();
        let x = DeviceRows::upload(&device, 8, &rows, "x").unwrap();
        let mut y = DeviceRows::zeros(&device, 1, 4, "y").unwrap();
        kernel::forward(&x, &mut y).unwrap();
        let y = y.download().unwrap();
        assert!(y[0] == 1e30 && y[1] == 0.0 && y[2].is_nan() && y[3] == 0.0, "{y:?}");
    }
}
