//! Products in all forms with their epilogues, and the projector.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::linear::cases::tolerance;
use rallrec::ops::linear::kernel::{Epilogue, Form, gemm};
use rallrec::ops::mlp::cases::{ACTIVATIONS, tolerances};
use rallrec::ops::mlp::{Mlp, kernel, oracle};

use super::common::{Values, any_values, cases, close, devices, wide};

fn check<T: Storage>(
    form: Form,
    (m, n, k): (usize, usize, usize),
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let (a, b): (Vec<T>, Vec<T>) = (values.draw(m * k, seed), Values::Normal.draw(n * k, seed + 1));
    let bias: Vec<f32> = Values::Normal.draw(n, seed + 2);
    let old: Vec<f32> = Values::Normal.draw(m * n, seed + 3);
    let (fa, fb) = (wide(&a), wide(&b));
    let (mut want, mut size) = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut all) = (0.0, 0.0);
            for l in 0..k {
                let left = if form == Form::Tn { fa[l * m + i] } else { fa[i * k + l] };
                let right = if form == Form::Nt { fb[j * k + l] } else { fb[l * n + j] };
                sum += left * right;
                all += (left * right).abs();
            }
            want[i * n + j] = 0.5 * sum + f64::from(bias[j]) - 2.0 * f64::from(old[i * n + j]);
            size[i * n + j] = all + f64::from(bias[j]).abs() + 2.0 * f64::from(old[i * n + j]).abs();
        }
    }
    for device in devices(seed) {
        let up = |dim, v: &[T]| DeviceRows::upload(&device, dim, v, "operand").unwrap();
        let (da, db) = (up(if form == Form::Tn { m } else { k }, &a), up(if form == Form::Nt { k } else { n }, &b));
        let mut out = DeviceRows::upload(&device, n, &old, "out").unwrap();
        let bias = device.upload(&bias, "bias").unwrap();
        let epilogue = Epilogue { alpha: 0.5, beta: -2.0, bias: Some(&bias), ..Epilogue::default() };
        gemm(form, &da, &db, &epilogue, &mut out).unwrap();
        close("product", &out.download().unwrap(), &want, |i| tolerance(false, want[i], size[i]))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn products_meet_the_definition(
        form in prop::sample::select(vec![Form::Nt, Form::Nn, Form::Tn]),
        m in prop::sample::select(vec![1usize, 17, 64, 70]), n in prop::sample::select(vec![1usize, 8, 65]),
        k in prop::sample::select(vec![1usize, 16, 31, 32, 33, 100]), values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>(form, (m, n, k), values, seed)?;
        check::<bf16>(form, (m, n, k), values, seed)?;
    }

    #[test]
    fn the_projector_meets_its_oracle(
        rows in prop::sample::select(vec![1usize, 9, 70]), input in 1usize..50, hidden in 1usize..70, output in 1usize..20,
        activation in prop::sample::select(ACTIVATIONS),
        seed in 0u64..1_000_000,
    ) {
        let mlp = Mlp { input, hidden, output, activation };
        let p = mlp.init(seed);
        let x: Vec<f32> = Values::Normal.draw(rows * input, seed);
        let by: Vec<f32> = Values::Normal.draw(rows * output, seed + 1);
        let (out, grads) = oracle::mlp(&mlp, &p, &x, &by);
        let off = tolerances(&mlp, &p, &x, &by);
        for device in devices(seed) {
            let dp = kernel::DeviceTensors::upload(&device, &mlp, &p).unwrap();
            let dx = DeviceRows::upload(&device, input, &x, "x").unwrap();
            let dby = DeviceRows::upload(&device, output, &by, "by").unwrap();
            let mut g = kernel::DeviceTensors::zeros(&device, &mlp).unwrap();
            let (got, saved, _) = kernel::forward(&mlp, &dp, &dx).unwrap();
            kernel::backward(&mlp, &dp, &dx, &saved, &dby, &mut g).unwrap();
            close("output", &got.download().unwrap(), &out, |i| off.0[i])?;
            for ((got, want), off) in g.download().unwrap().each().into_iter().zip(&grads).zip(&off.1) {
                close("gradient", got, want, |i| off[i])?;
            }
        }
    }
}

/// Root mean square of the error over that of the products, of f32 operands: what is left of f32
/// after K = 4096. A sum that stays in the accumulator of a matrix unit is twenty times as far off
/// there (`RALLREC_MMA=hopper`, or a GPU).
#[test]
fn long_products_keep_the_accuracy_of_f32() {
    const LIMIT: f64 = 6e-7;
    let (m, n, k) = (64, 16, 4096);
    let (a, b): (Vec<f32>, Vec<f32>) = (Values::Normal.draw(m * k, 41), Values::Normal.draw(n * k, 42));
    for form in [Form::Nt, Form::Nn, Form::Tn] {
        let at = |i: usize, l: usize| f64::from(if form == Form::Tn { a[l * m + i] } else { a[i * k + l] });
        let bt = |l: usize, j: usize| f64::from(if form == Form::Nt { b[j * k + l] } else { b[l * n + j] });
        for device in devices(43) {
            let up = |dim, v: &[f32]| DeviceRows::upload(&device, dim, v, "operand").unwrap();
            let (da, db) = (up(if form == Form::Tn { m } else { k }, &a), up(if form == Form::Nt { k } else { n }, &b));
            let mut out = DeviceRows::zeros(&device, m, n, "out").unwrap();
            gemm(form, &da, &db, &Epilogue::default(), &mut out).unwrap();
            let got = out.download().unwrap();
            let (mut off, mut size) = (0.0, 0.0);
            for i in 0..m {
                for j in 0..n {
                    let want: f64 = (0..k).map(|l| at(i, l) * bt(l, j)).sum();
                    off += (f64::from(got[i * n + j]) - want).powi(2);
                    size += want * want;
                }
            }
            let error = (off / size).sqrt();
            println!("{form:?} on {device:?}: {error:.1e}");
            assert!(error <= LIMIT, "{form:?} on {device:?}: {error:e} > {LIMIT:e}");
        }
    }
}
