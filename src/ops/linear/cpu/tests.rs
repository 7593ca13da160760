use std::sync::Arc;

use proptest::prelude::*;

use half::{bf16, f16};

use super::*;
use crate::ops::linear::quantised::{Bits, Form};
use crate::ops::linear::{Quantised, Storage, oracle};
use crate::rng::{Rng, Use};
use crate::tensor::simd::available;

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    (0..n).map(|_| rng.normal()).collect()
}

fn stored(kind: usize, out: usize, inp: usize, w: &[f32]) -> (Weight, Vec<f32>) {
    let quantised = |group, bits, centre, minimum, shared| {
        let form = Form { group, bits, centre, minimum, shared };
        let seed = w.len() as u64;
        let matrix = Quantised::build(out, inp, form, |row, parts| {
            let mut rng = Rng::new(seed, Use::Synthetic, row as u32, 0);
            let (low, many) = if bits == Bits::Four { (-i64::from(centre), 16) } else { (-128, 256) };
            parts.codes.iter_mut().for_each(|c| *c = (low + i64::from(rng.below(many))) as i8);
            // Values of order one, as the tolerance supposes.
            let mut number = |size: f32| f16::from_f32(rng.normal() * size).to_f32();
            if shared == 0 {
                parts.scales.iter_mut().for_each(|s| *s = number(1.0 / many as f32));
                parts.minima.iter_mut().for_each(|m| *m = number(1.0));
            } else {
                parts.steps.iter_mut().for_each(|s| *s = [number(1.0 / many as f32 / 64.0), number(1.0 / 64.0)]);
                let multiples = parts.scales.iter_mut().chain(parts.minima.iter_mut());
                multiples.for_each(|m| *m = rng.below(256) as f32 - 128.0);
            }
        });
        Storage::Quantised(Arc::new(matrix.unwrap()))
    };
    let storage = match kind {
        3 => quantised(32, Bits::Four, 0, true, 0),
        4 => quantised(32, Bits::Four, 8, false, 0),
        5 => quantised(16, Bits::Eight, 0, false, 2),
        6 => quantised(16, Bits::Four, 0, true, 2),
        0 => Storage::F32(Arc::new(w.to_vec())),
        1 => Storage::Bf16(Arc::new(w.iter().map(|&v| bf16::from_f32(v)).collect())),
        _ => Storage::F16(Arc::new(w.iter().map(|&v| f16::from_f32(v)).collect())),
    };
    let weight = Weight::new(out, inp, storage).unwrap();
    let mut values = vec![0.0; out * inp];
    weight.read_rows(0, &mut values);
    (weight, values)
}

/// A width that the kind of storage can have.
fn width(kind: usize, inp: usize) -> usize {
    if kind > 2 { inp.next_multiple_of(32) } else { inp }
}

/// Values a few packed pieces deep, or few.
fn inner() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..90, 380usize..400, 760usize..790]
}

/// What f32 sums of n products of normal numbers may be off.
fn tolerance(n: usize, want: f64) -> f64 {
    3e-6 * (n as f64).sqrt() * (1.0 + want.abs())
}

proptest! {
    #[test]
    fn forward_is_the_oracle_and_rows_do_not_see_each_other(
        m in 1usize..21, out in 1usize..60, inp in inner(), kind in 0usize..7,
        biased: bool, accumulate: bool, seed in 0u64..1000,
    ) {
        let inp = width(kind, inp);
        let x = noise(m * inp, seed);
        let (weight, w) = stored(kind, out, inp, &noise(out * inp, seed + 1));
        let (bias, before) = (noise(out, seed + 2), noise(m * out, seed + 3));
        let want = oracle::matmul_nt(&x, &w, inp, biased.then_some(&bias));
        for level in available() {
            let product = |x: &[f32], y: &mut [f32]| {
                let bias = biased.then_some(bias.as_slice());
                many_at(level, x, inp, &mut [Product { weight: &weight, y, bias, accumulate }]);
            };
            let mut y = before.clone();
            product(&x, &mut y);
            for i in 0..m * out {
                let want = want[i] + if accumulate { f64::from(before[i]) } else { 0.0 };
                prop_assert!((f64::from(y[i]) - want).abs() <= tolerance(inp, want), "{level:?} {i}: {} {want}", y[i]);
            }
            for i in 0..m {
                let mut row = before[i * out..(i + 1) * out].to_vec();
                product(&x[i * inp..(i + 1) * inp], &mut row);
                let same = row.iter().zip(&y[i * out..]).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{level:?}: row {i} of {m} differs from itself alone");
            }
        }
    }

    #[test]
    fn backward_of_several_is_the_oracle(
        m in 1usize..12, outs in prop::collection::vec(1usize..30, 1..4), inp in 1usize..120, kind in 0usize..7,
        accumulate: bool, seed in 0u64..1000,
    ) {
        let inp = width(kind, inp);
        let out: usize = outs.iter().sum();
        let (dy, before) = (noise(m * out, seed), noise(m * inp, seed + 1));
        let all: Vec<_> =
            outs.iter().enumerate().map(|(i, &o)| stored(kind, o, inp, &noise(o * inp, seed + 2 + i as u64))).collect();
        let mut column = 0;
        let apart: Vec<Vec<f32>> = outs.iter().map(|&o| {
            column += o;
            dy.chunks_exact(out).flat_map(|row| row[column - o..column].to_vec()).collect()
        }).collect();
        let products: Vec<(&[f32], &Weight)> = apart.iter().map(Vec::as_slice).zip(all.iter().map(|(w, _)| w)).collect();
        let values: Vec<f32> = all.iter().flat_map(|(_, v)| v.clone()).collect();
        for level in available() {
            let mut dx = before.clone();
            nn_at(level, &products, &mut dx, accumulate);
            for i in 0..m {
                for k in 0..inp {
                    let sum: f64 = (0..out).map(|o| f64::from(dy[i * out + o]) * f64::from(values[o * inp + k])).sum();
                    let want = sum + if accumulate { f64::from(before[i * inp + k]) } else { 0.0 };
                    let got = f64::from(dx[i * inp + k]);
                    prop_assert!((got - want).abs() <= tolerance(out, want), "{level:?} {i} {k}: {got} {want}");
                }
            }
        }
    }
}

/// Few rows take another way than many, and end with the same bits: whole vectors of outputs and
/// some left over, whole squares of inner values and some left over, several chains.
#[test]
fn few_rows_have_the_bits_of_many() {
    let many = FEW + 4;
    for (out, inp) in [(48, 192), (77, 290), (5, 97), (16, 31), (33, 1)] {
        let (x, before, bias) = (noise(many * inp, 1), noise(many * out, 2), noise(out, 3));
        for kind in 0..3 {
            let (weight, _) = stored(kind, out, inp, &noise(out * inp, 4));
            for (level, accumulate) in available().into_iter().flat_map(|l| [(l, false), (l, true)]) {
                let product = |rows: usize| {
                    let mut y = before[..rows * out].to_vec();
                    let all = Product { weight: &weight, y: &mut y, bias: Some(&bias), accumulate };
                    many_at(level, &x[..rows * inp], inp, &mut [all]);
                    y
                };
                let want = product(many);
                for rows in 1..=FEW {
                    let same = product(rows).iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{rows} rows, {out} x {inp}, kind {kind}, {level:?}, accumulate {accumulate}");
                }
            }
        }
    }
}

/// What is quantised gives the bits of the same values in f32, forward and backward, whole and in
/// parts that begin anywhere.
#[test]
fn a_quantised_weight_has_the_bits_of_its_values() {
    let (m, out, inp) = (11, 77, 800);
    let (x, dy) = (noise(m * inp, 1), noise(m * out, 2));
    for kind in 3..7 {
        let (weight, values) = stored(kind, out, inp, &[0.0; 9]);
        let plain = Weight::from_f32(out, inp, values).unwrap();
        assert!(weight.bytes() * 2 < plain.bytes() && weight.dtype().is_none());
        let mut results = [&weight, &plain].map(|w| {
            let (mut y, mut dx, mut part) = (vec![0.0; m * out], vec![0.0; m * inp], vec![0.0; m * 34]);
            matmul_nt(&x, w, &mut y, false);
            matmul_nn(&dy, w, &mut dx, false);
            matmul_nt_panel(&x, w, 21..55, &mut part);
            [y, dx, part].concat()
        });
        let [a, b] = &mut results;
        // Plain code has no fused multiply-add: the value's own rounding comes first there too.
        assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "kind {kind}");
    }
}

#[test]
fn rows_that_are_no_whole_groups_are_refused() {
    let form = Form { group: 32, bits: Bits::Four, centre: 0, minimum: true, shared: 0 };
    assert!(Quantised::build(3, 40, form, |_, _| ()).unwrap_err().to_string().contains("40 values"));
}

#[test]
fn a_large_product_in_parallel_has_the_bits_of_its_rows() {
    let (m, inp) = (70, 576);
    let x = noise(m * inp, 1);
    let (a, _) = stored(1, 500, inp, &noise(500 * inp, 2));
    let (b, _) = stored(0, 101, inp, &noise(101 * inp, 3));
    let (mut ya, mut yb) = (vec![f32::NAN; m * 500], vec![f32::NAN; m * 101]);
    matmul_nt_many(
        &x,
        inp,
        &mut [
            Product { weight: &a, y: &mut ya, bias: None, accumulate: false },
            Product { weight: &b, y: &mut yb, bias: None, accumulate: false },
        ],
    );
    let mut part = vec![f32::NAN; m * 77];
    matmul_nt_panel(&x, &a, 401..478, &mut part);
    let (mut ra, mut rb) = (vec![0.0; 500], vec![0.0; 101]);
    for i in [0, 33, 69] {
        let row = &x[i * inp..(i + 1) * inp];
        matmul_nt_many(row, inp, &mut [Product { weight: &a, y: &mut ra, bias: None, accumulate: false }]);
        matmul_nt_many(row, inp, &mut [Product { weight: &b, y: &mut rb, bias: None, accumulate: false }]);
        assert_eq!(ra, ya[i * 500..(i + 1) * 500]);
        assert_eq!(rb, yb[i * 101..(i + 1) * 101]);
        assert_eq!(ra[401..478], part[i * 77..(i + 1) * 77]);
    }
}

#[test]
fn the_weight_gradient_is_plain_loops() {
    let (m, out, inp) = (7, 13, 8);
    let (dy, x) = (noise(m * out, 1), noise(m * inp, 2));
    let mut c = vec![1.0; out * inp];
    matmul_tn(&dy, out, &x, inp, &mut c, 0.5, true);
    for o in 0..out {
        for k in 0..inp {
            let sum: f64 = (0..m).map(|i| f64::from(dy[i * out + o]) * f64::from(x[i * inp + k])).sum();
            assert!((f64::from(c[o * inp + k]) - (1.0 + 0.5 * sum)).abs() <= 1e-5, "{o} {k}");
        }
    }
}

#[test]
fn nan_is_not_hidden() {
    let w = Weight::from_f32(2, 3, vec![0.0, 0.0, 0.0, 1.0, f32::NAN, 1.0]).unwrap();
    let mut y = [0.0; 2];
    matmul_nt_many(&[1.0; 3], 3, &mut [Product { weight: &w, y: &mut y, bias: None, accumulate: false }]);
    assert!(y[0] == 0.0 && y[1].is_nan());
}
