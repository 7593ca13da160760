//! The linear layer alone and with several adapters at once: forward, backward, and the adapters'
//! gradients.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::linear::cases::tolerance;
use rallrec::ops::lora::cases::RANKS;
use rallrec::ops::lora::kernel::{
    Adapters, Batch, Beside, Gradients, Segment, backward, forward, gradients, shrink, shrink_backward,
};

use super::common::{Values, any_values, cases, close, devices, same_bits, wide};

/// `a (m x k) b (k x n)` in f64 with any strides, and the same of absolute values: what rounding
/// scales with.
fn product(
    (m, n, k): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let each = |i: usize| {
        let (i, j) = (i / n, i % n);
        (0..k).fold((0.0, 0.0), |(s, t), l| (s + a(i, l) * b(l, j), t + (a(i, l) * b(l, j)).abs()))
    };
    (0..m * n).map(each).unzip()
}

struct Case {
    segments: Vec<Segment>,
    /// Adapter of each row.
    of_row: Vec<Option<usize>>,
    count: usize,
    inp: usize,
    out: usize,
    rank: usize,
    scale: f32,
}

struct Data<T> {
    x: Vec<T>,
    w: Vec<T>,
    a: Vec<T>,
    b: Vec<T>,
    dy: Vec<T>,
    bias: Vec<f32>,
    old: Vec<f32>,
}

struct Got<T> {
    s: Vec<T>,
    ds: Vec<T>,
    y: Vec<f32>,
    y_stored: Vec<f32>,
    dx: Vec<f32>,
    da: Vec<f32>,
    db: Vec<f32>,
}

fn run<T: Storage>(device: &KernelDevice, c: &Case, d: &Data<T>) -> Got<T> {
    let rows = c.of_row.len();
    let up = |v: &[T], dim, label| DeviceRows::upload(device, dim, v, label).unwrap();
    let (x, w, dy) = (up(&d.x, c.inp, "x"), up(&d.w, c.inp, "w"), up(&d.dy, c.out, "dy"));
    let low = Adapters { a: up(&d.a, c.inp, "a"), b: up(&d.b, c.rank, "b"), count: c.count, scale: c.scale };
    let batch = Batch::new(device, &c.segments).unwrap();
    let bias = device.upload(&d.bias, "bias").unwrap();
    let mut s = DeviceRows::zeros(device, rows, c.rank, "s").unwrap();
    let mut ds = DeviceRows::zeros(device, rows, c.rank, "ds").unwrap();
    let mut y = DeviceRows::<f32>::upload(device, c.out, &d.old, "y").unwrap();
    let mut stored = DeviceRows::<T>::zeros(device, rows, c.out, "y").unwrap();
    let mut dx = DeviceRows::<f32>::zeros(device, rows, c.inp, "dx").unwrap();
    shrink(&batch, &x, &low, &mut s).unwrap();
    shrink_backward(&batch, &dy, &low, &mut ds).unwrap();
    let both = |s| Beside { low: Some((s, &low)), ..Beside::default() };
    forward(&batch, &x, &w, &Beside { bias: Some(&bias), accumulate: true, ..both(&s) }, &mut y).unwrap();
    forward(&batch, &x, &w, &both(&s), &mut stored).unwrap();
    backward(&batch, &dy, &w, &both(&ds), &mut dx).unwrap();
    let mut g = Gradients {
        a: DeviceRows::zeros(device, c.count * c.rank, c.inp, "da").unwrap(),
        b: DeviceRows::zeros(device, c.count * c.out, c.rank, "db").unwrap(),
    };
    gradients(&batch, &low, (&x, &s), (&dy, &ds), &mut g).unwrap();
    Got {
        s: s.download().unwrap(),
        ds: ds.download().unwrap(),
        y: y.download().unwrap(),
        y_stored: stored.download().unwrap().iter().map(|v| v.to_f32()).collect(),
        dx: dx.download().unwrap(),
        da: g.a.download().unwrap(),
        db: g.b.download().unwrap(),
    }
}

fn check<T: Storage>(
    lengths: &[usize],
    (inp, out, rank): (usize, usize, usize),
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    let count = lengths.len().max(1);
    // Adapters in descending order, one segment without.
    let segments: Vec<Segment> = lengths
        .iter()
        .enumerate()
        .map(|(i, &rows)| Segment { rows, adapter: (i != 1).then(|| (count - 1 - i) as u32) })
        .collect();
    let of_row: Vec<Option<usize>> =
        segments.iter().flat_map(|s| std::iter::repeat_n(s.adapter.map(|a| a as usize), s.rows)).collect();
    let rows = of_row.len();
    let c = Case { segments, of_row, count, inp, out, rank, scale: 0.37 };
    let d = Data::<T> {
        x: values.draw(rows * inp, seed),
        w: Values::Normal.draw(out * inp, seed + 1),
        a: Values::Normal.draw(count * rank * inp, seed + 2),
        b: Values::Normal.draw(count * out * rank, seed + 3),
        dy: Values::Normal.draw(rows * out, seed + 4),
        bias: Values::Normal.draw(out, seed + 5),
        old: Values::Normal.draw(rows * out, seed + 6),
    };
    let (x, w, a, b, dy) = (wide(&d.x), wide(&d.w), wide(&d.a), wide(&d.b), wide(&d.dy));
    let scale = f64::from(c.scale);
    let narrow_storage = T::NAME == "bf16";
    for device in devices(seed) {
        let got = run(&device, &c, &d);
        let again = run(&device, &c, &d);
        for (one, two) in [(&got.y, &again.y), (&got.dx, &again.dx), (&got.da, &again.da), (&got.db, &again.db)] {
            same_bits(one, two)?;
        }
        let narrow = |s: &[T]| -> Vec<f32> { s.iter().map(|v| v.to_f32()).collect() };
        let mine = |i: usize, m: &[f64], per: usize, at: usize| c.of_row[i].map_or(0.0, |k| m[k * per + at]);
        for (name, values, depth, left, right) in [
            ("s", narrow(&got.s), inp, &x, (&a, rank * inp, 1usize, inp)),
            ("ds", narrow(&got.ds), out, &dy, (&b, out * rank, rank, 1)),
        ] {
            let (matrix, per, step_k, step_j) = right;
            let mut want = Vec::with_capacity(rows * rank);
            let mut size = Vec::with_capacity(rows * rank);
            for i in 0..rows {
                for j in 0..rank {
                    let terms =
                        (0..depth).map(|k| scale * left[i * depth + k] * mine(i, matrix, per, k * step_k + j * step_j));
                    let (sum, all) = terms.fold((0.0, 0.0), |(s, t), v| (s + v, t + v.abs()));
                    want.push(sum);
                    size.push(all);
                }
            }
            close(name, &values, &want, |i| tolerance(narrow_storage, want[i], size[i]))?;
        }
        // From here on the stored S and dS are the inputs.
        let (s, ds) = (wide(&got.s), wide(&got.ds));
        let (k1, k2) = (inp + rank, out + rank);
        let mut want = Vec::new();
        let mut size = Vec::new();
        let mut want_dx = Vec::new();
        let mut size_dx = Vec::new();
        for i in 0..rows {
            let (y, t) = product(
                (1, out, k1),
                |_, k| if k < inp { x[i * inp + k] } else { s[i * rank + k - inp] },
                |k, j| if k < inp { w[j * inp + k] } else { mine(i, &b, out * rank, j * rank + k - inp) },
            );
            want.extend(y);
            size.extend(t);
            let (y, t) = product(
                (1, inp, k2),
                |_, k| if k < out { dy[i * out + k] } else { ds[i * rank + k - out] },
                |k, j| if k < out { w[k * inp + j] } else { mine(i, &a, rank * inp, (k - out) * inp + j) },
            );
            want_dx.extend(y);
            size_dx.extend(t);
        }
        close("stored y", &got.y_stored, &want, |i| tolerance(narrow_storage, want[i], size[i]))?;
        let beside = |i: usize| [f64::from(d.bias[i % out.max(1)]), f64::from(d.old[i])];
        let full: Vec<f64> = want.iter().enumerate().map(|(i, v)| v + beside(i).iter().sum::<f64>()).collect();
        let all = |i: usize| size[i] + beside(i).iter().map(|v| v.abs()).sum::<f64>();
        close("y", &got.y, &full, |i| tolerance(false, full[i], all(i)))?;
        close("dx", &got.dx, &want_dx, |i| tolerance(false, want_dx[i], size_dx[i]))?;
        let at = |i: usize, adapter: usize| if c.of_row[i] == Some(adapter) { 1.0 } else { 0.0 };
        let (db, db_size) =
            product((count * out, rank, rows), |i, k| at(k, i / out) * dy[k * out + i % out], |k, j| s[k * rank + j]);
        close("db", &got.db, &db, |i| tolerance(false, db[i], db_size[i]))?;
        let (da, da_size) =
            product((count * rank, inp, rows), |i, k| at(k, i / rank) * ds[k * rank + i % rank], |k, j| x[k * inp + j]);
        close("da", &got.da, &da, |i| tolerance(false, da[i], da_size[i]))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(10))]
    #[test]
    fn meets_the_oracle(
        lengths in prop::collection::vec(0usize..90, 0..4),
        inp in prop::sample::select(vec![1usize, 7, 32, 65, 130]), out in prop::sample::select(vec![1usize, 9, 64, 131]),
        rank in prop::sample::select(RANKS), values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>(&lengths, (inp, out, rank), values, seed)?;
        check::<bf16>(&lengths, (inp, out, rank), values, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(2))]
    #[test]
    fn tiles_and_splits_join(rank in 65usize..70, values in any_values(), seed in 0u64..1_000_000) {
        check::<bf16>(&[130, 0, 3], (520, 9, rank), values, seed)?;
        check::<f32>(&[65, 2], (9, 515, rank), Values::Normal, seed)?;
    }

    /// A gradient of more rows than a block takes is made in pieces, beside one that is not.
    #[test]
    fn pieces_of_gradients_join(
        long in prop::sample::select(vec![512usize, 513, 1030]), values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<bf16>(&[3, 5, long], (9, 7, 4), values, seed)?;
        check::<f32>(&[long, 600, 40], (7, 9, 3), values, seed)?;
    }
}

#[test]
fn a_layer_alone_and_wrong_shapes() {
    for device in devices(0) {
        let batch = Batch::plain(&device, 3).unwrap();
        let x =
            DeviceRows::<bf16>::upload(&device, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(bf16::from_f32), "x").unwrap();
        let w = DeviceRows::<bf16>::upload(&device, 2, &[1.0, -1.0].map(bf16::from_f32), "w").unwrap();
        let mut y = DeviceRows::<f32>::zeros(&device, 3, 1, "y").unwrap();
        forward(&batch, &x, &w, &Beside::default(), &mut y).unwrap();
        assert_eq!(y.download().unwrap(), [-1.0; 3]);
        assert!(forward(&batch, &w, &x, &Beside::default(), &mut y).is_err());
        let twice = [Segment { rows: 1, adapter: Some(0) }; 2];
        assert!(Batch::new(&device, &twice).is_err());
        let one = Batch::new(&device, &twice[..1]).unwrap();
        let mut y = DeviceRows::<f32>::zeros(&device, 1, 1, "y").unwrap();
        let x = DeviceRows::<bf16>::zeros(&device, 1, 2, "x").unwrap();
        assert!(forward(&one, &x, &w, &Beside::default(), &mut y).is_err(), "an adapter that is not given");
    }
}
