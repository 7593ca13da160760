//! RMSNorm: whole rows and heads, with and without the residual, narrow (a warp a row) and wide (a
//! block a row).

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::rmsnorm::cases::{DIMS, EPS, tolerance};
use rallrec::ops::rmsnorm::{kernel, oracle};

use super::common::{Values, any_values, cases, close, devices, narrow, same_bits};

struct Case<T: Storage> {
    x: Vec<T>,
    add: Option<Vec<T>>,
    w: Vec<f32>,
    dy: Vec<T>,
    old: Vec<T>,
    width: usize,
}

type Got = (Vec<f32>, Vec<f32>, Vec<f32>, Vec<f32>);

fn run<T: Storage>(device: &KernelDevice, c: &Case<T>) -> Got {
    let up = |v: &[T], label| DeviceRows::upload(device, c.width, v, label).unwrap();
    let (mut x, dy, mut dx) = (up(&c.x, "x"), up(&c.dy, "dy"), up(&c.old, "dx"));
    let add = c.add.as_deref().map(|a| up(a, "add"));
    let w = DeviceRows::upload(device, c.w.len(), &c.w, "w").unwrap();
    let mut y = DeviceRows::zeros(device, x.rows(), c.width, "y").unwrap();
    let mut rstd = device.alloc(c.x.len() / c.w.len(), "rstd").unwrap();
    let mut dw = DeviceRows::zeros(device, 1, c.w.len(), "dw").unwrap();
    kernel::forward(&mut x, add.as_ref(), &w, EPS, &mut y, Some(&mut rstd)).unwrap();
    kernel::backward(&x, &w, &rstd, &dy, true, &mut dx).unwrap();
    kernel::weight_gradient(&x, &rstd, &dy, &mut dw).unwrap();
    let get = |r: &DeviceRows<T>| narrow(&r.download().unwrap());
    (get(&x), get(&y), get(&dx), dw.download().unwrap())
}

fn check<T: Storage>(
    (rows, heads, dim): (usize, usize, usize),
    residual: bool,
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let n = rows * heads * dim;
    let case = Case::<T> {
        x: values.draw(n, seed),
        add: residual.then(|| values.draw(n, seed + 1)),
        w: Values::Normal.draw(dim, seed + 2),
        dy: Values::Normal.draw(n, seed + 3),
        old: Values::Normal.draw(n, seed + 4),
        width: heads * dim,
    };
    // What is stored of the sum is what both must see.
    let sum: Vec<f32> = match &case.add {
        Some(add) => case.x.iter().zip(add).map(|(a, b)| T::from_f32(a.to_f32() + b.to_f32()).to_f32()).collect(),
        None => narrow(&case.x),
    };
    let dy = narrow(&case.dy);
    let want = oracle::rmsnorm(&sum, &case.w, f64::from(EPS));
    let (dx, dw) = oracle::backward(&sum, &case.w, f64::from(EPS), &dy);
    let (dx_size, dw_size) = oracle::sizes(&sum, &case.w, f64::from(EPS), &dy);
    let narrow_storage = T::NAME == "bf16";
    for device in devices(seed) {
        let got = run(&device, &case);
        let again = run(&device, &case);
        same_bits(&got.1, &again.1)?;
        same_bits(&got.2, &again.2)?;
        same_bits(&got.3, &again.3)?;
        prop_assert!(got.0.iter().zip(&sum).all(|(a, b)| a == b), "the residual sum is stored");
        close("y", &got.1, &want, |i| tolerance(narrow_storage, want[i], 0.0))?;
        let old = |i: usize| f64::from(case.old[i].to_f32());
        let grown: Vec<f64> = dx.iter().enumerate().map(|(i, d)| d + old(i)).collect();
        close("dx", &got.2, &grown, |i| tolerance(narrow_storage, grown[i], dx_size[i] + old(i).abs()))?;
        close("dw", &got.3, &dw, |i| tolerance(false, dw[i], dw_size[i]))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn meets_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 2, 5, 33]),
        dim in prop::sample::select(DIMS),
        residual: bool, values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>((rows, 1, dim), residual, values, seed)?;
        check::<bf16>((rows, 1, dim), residual, values, seed)?;
    }

    #[test]
    fn heads_are_normed_alone(rows in 0usize..5, heads in 2usize..5, dim in prop::sample::select(vec![8usize, 64, 72]), seed in 0u64..1_000_000) {
        check::<f32>((rows, heads, dim), false, Values::Normal, seed)?;
        check::<bf16>((rows, heads, dim), true, Values::Normal, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(6))]
    #[test]
    fn wide_rows_and_many_rows(wide: bool, residual: bool, values in any_values(), seed in 0u64..1_000_000) {
        let shape = if wide { (2, 1, 1030) } else { (520, 1, 20) };
        check::<f32>(shape, residual, values, seed)?;
        check::<bf16>(shape, residual, values, seed)?;
    }
}

/// Rows of one value, whose gradient is the little that two large parts leave.
#[test]
fn what_cancels_is_held_to_the_size_of_its_parts() {
    check::<f32>((33, 1, 1), true, Values::Normal, 253_635).unwrap();
    check::<bf16>((33, 1, 1), true, Values::Normal, 253_635).unwrap();
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let device = KernelDevice::host(0);
    let mut x = DeviceRows::<f32>::zeros(&device, 2, 12, "x").unwrap();
    let mut y = DeviceRows::zeros(&device, 2, 12, "y").unwrap();
    for dim in [0, 5, 6, 24] {
        let w = DeviceRows::zeros(&device, 1, dim, "w").unwrap();
        assert!(kernel::forward(&mut x, None, &w, EPS, &mut y, None).is_err(), "{dim}");
    }
}
