//! GEGLU and its backward.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::geglu::cases::tolerance;
use rallrec::ops::geglu::{kernel, oracle};

use super::common::{Values, any_values, cases, close, devices, narrow, same_bits};

fn check<T: Storage>(rows: usize, width: usize, values: Values, spread: f32, seed: u64) -> Result<(), TestCaseError> {
    let spread = if values == Values::Normal { spread } else { 1.0 };
    let n = rows * width;
    let gate: Vec<T> = values.scaled(n, seed, spread);
    let (up, dy): (Vec<T>, Vec<T>) = (values.draw(n, seed + 1), Values::Normal.draw(n, seed + 2));
    let (g, u, d) = (narrow(&gate), narrow(&up), narrow(&dy));
    let want = oracle::geglu(&g, &u);
    let (by_gate, by_up) = oracle::backward(&g, &u, &d);
    let narrow_storage = T::NAME == "bf16";
    let size = |i: usize| (1.0 + f64::from(u[i].abs())) * (1.0 + f64::from(d[i].abs()));
    for device in devices(seed) {
        let place = |x: &[T]| DeviceRows::upload(&device, width, x, "rows").unwrap();
        let dy = place(&dy);
        let run = || {
            let (mut gate, mut up) = (place(&gate), place(&up));
            let mut y = DeviceRows::zeros(&device, rows, width, "y").unwrap();
            kernel::forward(&gate, &up, &mut y).unwrap();
            kernel::backward(&mut gate, &mut up, &dy).unwrap();
            [y, gate, up].map(|rows| narrow(&rows.download().unwrap()))
        };
        let (got, again) = (run(), run());
        for (a, b) in got.iter().zip(&again) {
            same_bits(a, b)?;
        }
        let [y, dg, du] = got;
        close("y", &y, &want, |i| tolerance(narrow_storage, want[i], f64::from(u[i].abs())))?;
        close("d gate", &dg, &by_gate, |i| tolerance(narrow_storage, by_gate[i], size(i)))?;
        close("d up", &du, &by_up, |i| tolerance(narrow_storage, by_up[i], size(i)))?;
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
        let place = |x: &[f32]| DeviceRows::upload(&device, 4, x, "rows").unwrap();
        let (gate, up) = (place(&[1e30, -1e30, f32::NAN, 0.0]), place(&[1.0; 4]));
        let mut y = DeviceRows::zeros(&device, 1, 4, "y").unwrap();
        kernel::forward(&gate, &up, &mut y).unwrap();
        let y = y.download().unwrap();
        assert!(y[0] == 1e30 && y[1].abs() <= 1e-7 && y[2].is_nan() && y[3] == 0.0, "{y:?}");
    }
}
