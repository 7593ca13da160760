//! The products of a layer by wgmma and TMA, forward and backward, against the f64 oracle.

use std::process::Command;

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::linear::cases::tolerance;
use rallrec::ops::lora::kernel::{self, Adapters, Batch, Beside, Segment};
use rallrec::ops::lora::wgmma::{self, backward, forward};
use rallrec::tensor::profile;

use super::common::{Values, any_values, cases, close, devices, one, same_bits, wide};

/// Sums and sums of absolute values of `left (m, depth) right(depth, n)`, both added to what is
/// there.
fn add(to: &mut [(f64, f64)], n: usize, (left, depth): (&[f64], usize), right: impl Fn(usize, usize) -> f64) {
    for (i, row) in to.chunks_exact_mut(n.max(1)).enumerate() {
        for (j, (sum, size)) in row.iter_mut().enumerate() {
            for (k, l) in left[i * depth..(i + 1) * depth].iter().enumerate() {
                let term = l * right(k, j);
                *sum += term;
                *size += term.abs();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
    /// `None` for no adapter at all.
    rank: Option<usize>,
    bias: bool,
    accumulate: bool,
    values: Values,
}

fn up<T: Storage>(device: &KernelDevice, rows: usize, dim: usize, values: &[T]) -> DeviceRows<T> {
    let mut out = DeviceRows::zeros(device, rows, dim, "operand").unwrap();
    out.write(values).unwrap();
    out
}

fn check<U: Storage>(c: Shape, turned: bool, seed: u64) -> Result<(), TestCaseError> {
    let Shape { m, n, k, .. } = c;
    let rank = c.rank.unwrap_or(0);
    let draw = |v: Values, rows: usize, dim: usize, salt: u64| -> Vec<bf16> { v.draw(rows * dim, seed + salt) };
    // The result is m x n, the depth k; the right operand lies along the depth, or across it.
    let (left, low) = (draw(c.values, m, k, 0), draw(Values::Normal, m, rank, 1));
    let lie = |depth: usize| if turned { (depth, n) } else { (n, depth) };
    let (right, right_low) =
        (draw(Values::Normal, lie(k).0, lie(k).1, 2), draw(Values::Normal, lie(rank).0, lie(rank).1, 3));
    let bias: Option<Vec<f32>> = (c.bias && !turned).then(|| Values::Normal.draw(n, seed + 4));
    let old: Vec<U> = Values::Normal.draw(m * n, seed + 5);
    let mut want = vec![(0.0, 0.0); m * n];
    let (r, rl) = (wide(&right), wide(&right_low));
    add(&mut want, n, (&wide(&left), k), |d, j| if turned { r[d * n + j] } else { r[j * k + d] });
    add(&mut want, n, (&wide(&low), rank), |d, j| if turned { rl[d * n + j] } else { rl[j * rank + d] });
    for (i, (sum, size)) in want.iter_mut().enumerate() {
        let b = bias.as_ref().map_or(0.0, |b| f64::from(b[i % n]));
        let o = if c.accumulate { f64::from(old[i].to_f32()) } else { 0.0 };
        *sum += b + o;
        *size += b.abs() + o.abs();
    }
    let sums: Vec<f64> = want.iter().map(|w| w.0).collect();
    for device in devices(seed).iter().filter(|device| wgmma::is_there(device)) {
        let (x, s) = (up(device, m, k, &left), up(device, m, rank, &low));
        let (w, a) = (up(device, lie(k).0, lie(k).1, &right), up(device, lie(rank).0, lie(rank).1, &right_low));
        let bias = bias.as_ref().map(|b| device.upload(b, "bias").unwrap());
        let low = c.rank.map(|_| (&s, &a));
        let run = || -> Vec<f32> {
            let mut y = up(device, m, n, &old);
            if turned {
                backward(&x, (&w, 0..k), low, c.accumulate, &mut y).unwrap();
            } else {
                forward(&x, &w, low, bias.as_ref(), c.accumulate, &mut y).unwrap();
            }
            y.download().unwrap().iter().map(|v| v.to_f32()).collect()
        };
        let got = run();
        same_bits(&got, &run())?;
        let name = if turned { "dx" } else { "y" };
        close(name, &got, &sums, |i| tolerance(U::NAME == "bf16", want[i].0, want[i].1))?;
    }
    Ok(())
}

fn check_all(c: Shape, seed: u64) -> Result<(), TestCaseError> {
    for turned in [false, true] {
        check::<f32>(c, turned, seed)?;
        check::<bf16>(c, turned, seed)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn meets_the_oracle(
        m in prop::sample::select(vec![1usize, 5, 63, 64, 100, 128, 129, 200]),
        n in prop::sample::select(vec![1usize, 7, 64, 65, 127, 128, 136, 200]),
        k in prop::sample::select(vec![1usize, 9, 63, 64, 72, 128, 190]),
        rank in prop::sample::select(vec![None, Some(0usize), Some(1), Some(8), Some(16), Some(72)]),
        bias: bool, accumulate: bool, values in any_values(), seed in 0u64..1_000_000,
    ) {
        check_all(Shape { m, n, k, rank, bias, accumulate, values }, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(6))]
    // Round the ring of four stages twice and more, and on with the adapter.
    #[test]
    fn the_ring_turns(k in 500usize..700, rank in prop::sample::select(vec![8usize, 64, 100]), seed in 0u64..1_000_000) {
        let c = Shape { m: 70, n: 130, k, rank: Some(rank), bias: true, accumulate: true, values: Values::Normal };
        check::<f32>(c, false, seed)?;
        check::<f32>(c, true, seed)?;
    }
}

#[test]
fn nothing_to_multiply() {
    let c = Shape { m: 3, n: 5, k: 0, rank: None, bias: true, accumulate: true, values: Values::Normal };
    for c in [
        c,
        Shape { rank: Some(0), ..c },
        Shape { rank: Some(9), ..c },
        Shape { m: 0, k: 4, ..c },
        Shape { n: 0, k: 4, rank: Some(2), ..c },
        Shape { accumulate: false, bias: false, ..c },
    ] {
        check_all(c, 1).unwrap();
    }
}

#[test]
fn a_panel_of_rows_and_wrong_shapes() {
    for device in devices(3).iter().filter(|device| wgmma::is_there(device)) {
        let w: Vec<bf16> = Values::Normal.draw(90 * 40, 1);
        let dy: Vec<bf16> = Values::Normal.draw(6 * 30, 2);
        let (matrix, left) = (up(device, 90, 40, &w), up(device, 6, 30, &dy));
        let mut dx = DeviceRows::<f32>::zeros(device, 6, 40, "dx").unwrap();
        backward(&left, (&matrix, 50..80), None, false, &mut dx).unwrap();
        let mut want = vec![(0.0, 0.0); 6 * 40];
        let part = wide(&w[50 * 40..80 * 40]);
        add(&mut want, 40, (&wide(&dy), 30), |d, j| part[d * 40 + j]);
        let sums: Vec<f64> = want.iter().map(|w| w.0).collect();
        close("panel", &dx.download().unwrap(), &sums, |i| tolerance(false, want[i].0, want[i].1)).unwrap();
        for rows in [0..29, 61..91] {
            assert!(backward(&left, (&matrix, rows), None, false, &mut dx).is_err());
        }
        assert!(forward(&left, &matrix, None, None, false, &mut dx).is_err());
        let low = up(device, 6, 2, &dy[..12]);
        assert!(backward(&left, (&matrix, 0..30), Some((&low, &matrix)), false, &mut dx).is_err());
    }
}

/// Run by the test below, in a process of its own: `RALLREC_WGMMA` is read once.
#[test]
#[ignore = "the child of the test below"]
fn a_layer_of_a_run() {
    let device = one(1);
    let (rows, inp, out, rank) = (130, 24, 20, 4);
    let draw = |rows: usize, dim: usize, seed| -> DeviceRows<bf16> {
        up(&device, rows, dim, &Values::Normal.draw::<bf16>(rows * dim, seed))
    };
    let (x, w, dy) = (draw(rows, inp, 0), draw(out, inp, 1), draw(rows, out, 2));
    let low = Adapters { a: draw(rank, inp, 3), b: draw(out, rank, 4), count: 1, scale: 0.5 };
    let (s, ds) = (draw(rows, rank, 5), draw(rows, rank, 6));
    let batch = Batch::new(&device, &[Segment { rows, adapter: Some(0) }]).unwrap();
    let beside = |s| Beside { low: Some((s, &low)), ..Beside::default() };
    let mut y = DeviceRows::<bf16>::zeros(&device, rows, out, "y").unwrap();
    let mut dx = DeviceRows::<f32>::zeros(&device, rows, inp, "dx").unwrap();
    profile::switch(true);
    kernel::forward(&batch, &x, &w, &beside(&s), &mut y).unwrap();
    kernel::backward(&batch, &dy, &w, &beside(&ds), &mut dx).unwrap();
    // Without its adapter the batch is refused, whatever way it would have taken.
    assert!(kernel::forward(&batch, &x, &w, &Beside::default(), &mut y).is_err());
    for (kernel, _) in profile::take().keys() {
        println!("launched {kernel}");
    }
}

#[test]
fn a_run_goes_through_it_where_it_asks() {
    if std::env::var_os("RALLREC_SANITIZE").is_some() {
        let why = "the child measures times, in which the thread sanitizer sees ghosts";
        crate::shared::skip::skip("no sanitizer", why);
        return;
    }
    for (asks, forward, backward) in [
        ("1", "lora_forward_bf16_sm90a", "lora_backward_bf16_f32_sm90a"),
        ("0", "lora_forward_bf16", "lora_backward_bf16_f32"),
    ] {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["wgmma::a_layer_of_a_run", "--exact", "--ignored", "--nocapture"])
            .env("RALLREC_WGMMA", asks)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let launched: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("launched ")).collect();
        assert!(out.status.success(), "{text} {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(launched, [backward, forward]);
    }
}
