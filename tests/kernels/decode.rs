//! Few rows through bf16 and quantised weights.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::linear::cases::{FORMATS, drawn_blocks, shifted, tolerance};
use rallrec::ops::linear::decode::{Format, Quantised, product, step};

use super::common::{Values, any_values, cases, close, devices, same_bits, wide};

fn check<T: Storage>(
    format: Option<Format>,
    (rows, out, inp): (usize, usize, usize),
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let x: Vec<T> = values.draw(rows * inp, seed);
    let bias: Vec<f32> = Values::Normal.draw(out, seed + 1);
    let old: Vec<f32> = Values::Normal.draw(rows * out, seed + 2);
    let plain: Vec<bf16> = Values::Normal.draw(out * inp, seed + 3);
    let (bytes, w) = match format {
        Some(format) => drawn_blocks(format, out * inp / 32, seed),
        None => (Vec::new(), wide(&plain)),
    };
    let run = |device: &KernelDevice| {
        let on_device = DeviceRows::upload(device, inp, &x, "x").unwrap();
        let mut y = DeviceRows::upload(device, out, &old, "y").unwrap();
        let bias = device.upload(&bias, "bias").unwrap();
        match format {
            Some(format) => {
                let w = Quantised::upload(device, format, (out, inp), &bytes).unwrap();
                w.product(&on_device, Some(&bias), true, &mut y).unwrap();
            }
            None => {
                let w = DeviceRows::upload(device, inp, &plain, "w").unwrap();
                product(&on_device, &w, Some(&bias), true, &mut y).unwrap();
            }
        }
        y.download().unwrap()
    };
    let wide_x = wide(&x);
    let mut want = Vec::new();
    let mut size = Vec::new();
    for (i, &old) in old.iter().enumerate() {
        let (row, o) = (i / out, i % out);
        let terms = (0..inp).map(|k| wide_x[row * inp + k] * w[o * inp + k]);
        let (sum, all) = terms.fold((0.0, 0.0), |(s, t), v| (s + v, t + v.abs()));
        want.push(sum + f64::from(bias[o]) + f64::from(old));
        let x_all: f64 = wide_x[row * inp..(row + 1) * inp].iter().map(|v| v.abs()).sum();
        let beside = f64::from(bias[o]).abs() + f64::from(old).abs();
        size.push(all + beside + if format.is_some() { shifted(x_all) } else { 0.0 });
    }
    for device in devices(seed) {
        let got = run(&device);
        same_bits(&got, &run(&device))?;
        close("y", &got, &want, |i| tolerance(false, want[i], size[i]))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn quantised_weights_meet_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 7, 8, 9, 33, 40]), out in prop::sample::select(vec![1usize, 16, 17, 50]),
        blocks in prop::sample::select(vec![1usize, 2, 9, 33]),
        format in prop::sample::select(FORMATS),
        values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>(Some(format), (rows, out, 32 * blocks), values, seed)?;
        check::<bf16>(Some(format), (rows, out, 32 * blocks), values, seed)?;
    }

    #[test]
    fn steps_in_bf16_meet_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 5, 8, 9, 34]), out in prop::sample::select(vec![1usize, 15, 16, 33]),
        inp in prop::sample::select(vec![1usize, 31, 33, 100, 600]), rank in prop::sample::select(vec![0usize, 1, 8, 33, 300]),
        (biased, add) in any::<(bool, bool)>(), values in any_values(), seed in 0u64..1_000_000,
    ) {
        let x: Vec<bf16> = values.draw(rows * inp, seed);
        let draw = |count: usize, salt: u64| -> Vec<bf16> { Values::Normal.draw(count, seed + salt) };
        let (w, s, b, old) = (draw(out * inp, 1), draw(rows * rank, 2), draw(out * rank, 3), draw(rows * out, 4));
        let bias: Vec<f32> = Values::Normal.draw(out, seed + 5);
        let (fx, fw, fs, fb) = (wide(&x), wide(&w), wide(&s), wide(&b));
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for (i, old) in wide(&old).into_iter().enumerate() {
            let (row, o) = (i / out, i % out);
            let main = (0..inp).map(|k| fx[row * inp + k] * fw[o * inp + k]);
            let low = (0..rank).map(|k| fs[row * rank + k] * fb[o * rank + k]);
            let rest = [if biased { f64::from(bias[o]) } else { 0.0 }, if add { old } else { 0.0 }];
            let (sum, all) = main.chain(low).chain(rest).fold((0.0f64, 0.0f64), |(s, t), v| (s + v, t + v.abs()));
            want.push(sum);
            size.push(all);
        }
        for device in devices(seed) {
            let up = |dim: usize, values: &[bf16]| DeviceRows::upload(&device, dim, values, "rows").unwrap();
            let (x, w, bias) = (up(inp, &x), up(inp, &w), device.upload(&bias, "bias").unwrap());
            let low = (up(rank.max(1), &s), up(rank.max(1), &b));
            let run = || {
                let mut y = up(out, &old);
                step(&x, &w, (rank > 0).then_some((&low.0, &low.1)), biased.then_some(&bias), add, &mut y).unwrap();
                y.download().unwrap()
            };
            let got = run();
            prop_assert_eq!(&got, &run(), "two runs differ");
            let got: Vec<f32> = got.iter().map(|v| v.to_f32()).collect();
            close("y", &got, &want, |i| tolerance(true, want[i], size[i]))?;
        }
    }

    #[test]
    fn blocks_widen_to_what_they_say(
        out in prop::sample::select(vec![0usize, 1, 17, 70]), blocks in prop::sample::select(vec![1usize, 3, 9]),
        format in prop::sample::select(FORMATS), seed in 0u64..1_000_000,
    ) {
        let (bytes, values) = drawn_blocks(format, out * blocks, seed);
        // Scale times integer is exact in f64 and in f32; a minimum is added exactly in f64.
        let want: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        for device in devices(seed) {
            let w = Quantised::upload(&device, format, (out, 32 * blocks), &bytes).unwrap();
            let got = w.widen().unwrap().download().unwrap();
            prop_assert!(got.iter().all(|v| v.is_finite()));
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn bf16_weights_meet_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 5, 8, 9, 34]), out in prop::sample::select(vec![1usize, 15, 16, 33]),
        inp in prop::sample::select(vec![1usize, 8, 31, 33, 100, 600]), values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>(None, (rows, out, inp), values, seed)?;
        check::<bf16>(None, (rows, out, inp), values, seed)?;
    }
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let device = KernelDevice::host(0);
    for (shape, bytes) in [((1, 32), 33), ((1, 31), 34), ((2, 32), 34)] {
        assert!(Quantised::upload(&device, Format::Q8_0, shape, &vec![0; bytes]).is_err(), "{shape:?} {bytes}");
    }
}
