//! Few rows through bf16 and quantised weights.

use half::{bf16, f16};
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::linear::decode::{Format, Quantised, product, step};
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, close, devices, same_bits, wide};

/// Blocks as a file holds them, and the values they mean.
fn quantised(format: Format, blocks: usize, seed: u64) -> (Vec<u8>, Vec<f64>) {
    let mut rng = Rng::new(seed, Use::Synthetic, 3, 3);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        // Also subnormal, negative and zero scales.
        let d = f16::from_f32(match block % 5 {
            0 => 3e-7,
            1 => 0.0,
            _ => rng.normal() * 0.1,
        });
        let m = f16::from_f32(rng.normal());
        bytes.extend(d.to_le_bytes());
        let (d, m) = (f64::from(d.to_f32()), f64::from(m.to_f32()));
        match format {
            Format::Q8_0 => {
                for _ in 0..32 {
                    let q = rng.next_u32() as i8;
                    bytes.push(q as u8);
                    values.push(d * f64::from(q));
                }
            }
            Format::Q4_0 | Format::Q4_1 => {
                if format == Format::Q4_1 {
                    bytes.extend(f16::from_f32(m as f32).to_le_bytes());
                }
                let packed: Vec<u8> = (0..16).map(|_| rng.next_u32() as u8).collect();
                let nibbles = packed.iter().map(|p| p & 15).chain(packed.iter().map(|p| p >> 4));
                values.extend(nibbles.map(|q| match format {
                    Format::Q4_0 => d * (f64::from(q) - 8.0),
                    _ => d * f64::from(q) + m,
                }));
                bytes.extend(&packed);
            }
        }
    }
    (bytes, values)
}

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
        Some(format) => quantised(format, out * inp / 32, seed),
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
        // Q4's shifted sums are of the size of 8 d x even where they cancel; its minimum multiplies all of x.
        let x_all: f64 = wide_x[row * inp..(row + 1) * inp].iter().map(|v| v.abs()).sum();
        size.push(all + if format.is_some() { 4.0 * x_all } else { 0.0 });
    }
    for device in devices(seed) {
        let got = run(&device);
        same_bits(&got, &run(&device))?;
        close("y", &got, &want, |i| 2e-6 * (size[i] + 10.0))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn quantised_weights_meet_the_oracle(
        rows in prop::sample::select(vec![0usize, 1, 7, 8, 9, 33, 40]), out in prop::sample::select(vec![1usize, 16, 17, 50]),
        blocks in prop::sample::select(vec![1usize, 2, 9, 33]),
        format in prop::sample::select(vec![Format::Q8_0, Format::Q4_0, Format::Q4_1]),
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
            // Sums in f32, and the result rounded to eight bits once.
            let got: Vec<f32> = got.iter().map(|v| v.to_f32()).collect();
            close("y", &got, &want, |i| want[i].abs() / 256.0 + 2e-6 * (size[i] + 1.0))?;
        }
    }

    #[test]
    fn blocks_widen_to_what_they_say(
        out in prop::sample::select(vec![0usize, 1, 17, 70]), blocks in prop::sample::select(vec![1usize, 3, 9]),
        format in prop::sample::select(vec![Format::Q8_0, Format::Q4_0, Format::Q4_1]), seed in 0u64..1_000_000,
    ) {
        let (bytes, values) = quantised(format, out * blocks, seed);
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
