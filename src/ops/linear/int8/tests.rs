use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ops::linear::quantised::{Bits, Form, Quantised};
use crate::ops::linear::weight::Storage;
use crate::rng::{Rng, Use};
use crate::tensor::simd::bytes::available;

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    (0..n).map(|_| rng.normal()).collect()
}

/// Normal numbers, some groups of which are zeros, subnormal, tiny, huge, or have one value far
/// above the others.
fn uneven(rows: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut values = noise(rows * width, seed);
    let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
    for row in values.chunks_mut(width) {
        for group in row.chunks_mut(GROUP) {
            match rng.below(8) {
                0 => group.fill(0.0),
                1 => group.iter_mut().for_each(|v| *v *= 1e-41),
                2 => group.iter_mut().for_each(|v| *v *= 1e-12),
                3 => group.iter_mut().for_each(|v| *v *= 1e12),
                4 => group[0] = 1e3,
                _ => {}
            }
        }
    }
    values
}

fn values(codes: &Codes) -> Vec<f32> {
    (0..codes.rows()).flat_map(|r| (0..codes.cols()).map(move |k| codes.get(r, k))).collect()
}

fn weight(rows: usize, cols: usize, values: &[f32]) -> Weight {
    Weight::from_f32(rows, cols, values.to_vec()).unwrap()
}

proptest! {
    /// The codes are those of the definition, but where a value lies within rounding of the middle
    /// between two.
    #[test]
    fn codes_are_the_nearest(rows in 1usize..40, width in 1usize..100, seed in 0u64..1000) {
        let x = uneven(rows, width, seed);
        let got = Rows::new(&x, width);
        prop_assert_eq!((got.rows(), got.groups()), (rows, width.div_ceil(GROUP)));
        for (r, row) in x.chunks_exact(width).enumerate() {
            let (codes, scales) = oracle::codes(row);
            for (g, Group { codes: group, scale, sums }) in got.row(r).iter().copied().enumerate() {
                for (half, sum) in group.chunks(GROUP / 2).zip(sums) {
                    prop_assert_eq!(i32::from(sum), half.iter().map(|&c| i32::from(c)).sum::<i32>());
                }
                let tiny = scales[g] * 127.0 < 1e-30;
                let near = (f64::from(scale) - scales[g]).abs() <= 1e-7 * scales[g];
                prop_assert!(if tiny { scale == 0.0 } else { near }, "{} {}", scale, scales[g]);
                for (k, code) in group.into_iter().enumerate() {
                    let want = if tiny { 0 } else { codes.get(g * GROUP + k).copied().unwrap_or(0) };
                    let exact = row.get(g * GROUP + k).map_or(0.0, |&v| f64::from(v) / scales[g]);
                    let middle = ((exact - exact.floor()) - 0.5).abs() < 1e-4;
                    prop_assert!(i32::from(code) == want || middle, "{} {}: {} and not {}", r, k, code, want);
                }
            }
        }
    }

    /// Every instruction set gives the products of the codes, those that fuse the same bits, and a
    /// row's are its own.
    #[test]
    fn products_are_those_of_the_codes(
        m in 1usize..11, out in 1usize..110, inp in prop_oneof![1usize..90, 380usize..400, 760usize..790],
        biased: bool, accumulate: bool, seed in 0u64..1000,
    ) {
        let x = uneven(m, inp, seed);
        let codes = Codes::new(&weight(out, inp, &uneven(out, inp, seed + 1)));
        let (bias, before) = (noise(out, seed + 2), noise(m * out, seed + 3));
        let (w, rows) = (values(&codes), Rows::new(&x, inp));
        let coded: Vec<f32> = (0..m)
            .flat_map(|r| rows.row(r).iter().flat_map(|g| g.codes.map(|c| g.scale * f32::from(c))).take(inp))
            .collect();
        let mut fused: Option<Vec<f32>> = None;
        for level in available() {
            let product = |x: &[f32], y: &mut [f32]| {
                let bias = biased.then_some(bias.as_slice());
                many_at(level, x, inp, &mut [Product { weight: &codes, y, bias, accumulate }]);
            };
            let mut y = before.clone();
            product(&x, &mut y);
            for i in 0..m * out {
                let (r, o) = (i / out, i % out);
                let terms = (0..inp).map(|k| f64::from(coded[r * inp + k]) * f64::from(w[o * inp + k]));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, t), v| (s + v, t + v.abs()));
                let there = if accumulate { f64::from(before[i]) } else { 0.0 };
                let bias = if biased { f64::from(bias[o]) } else { 0.0 };
                let want = sum + there + bias;
                // Values are rounded to f32 here, sums of groups there. What is added may cancel
                // out.
                let tolerance = 1e-6 * (size + there.abs() + bias.abs()) + 1e-35;
                prop_assert!((f64::from(y[i]) - want).abs() <= tolerance, "{:?} {}: {} {}", level, i, y[i], want);
            }
            for i in 0..m {
                let mut row = before[i * out..(i + 1) * out].to_vec();
                product(&x[i * inp..(i + 1) * inp], &mut row);
                let same = row.iter().zip(&y[i * out..]).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{:?}: row {} of {} differs from itself alone", level, i, m);
            }
            if level != Level::Scalar {
                let first = fused.get_or_insert_with(|| y.clone());
                prop_assert!(first.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?}: other bits", level);
            }
        }
    }

    /// What the codes change stays within the stated bound of the product of the values.
    #[test]
    fn the_error_is_within_its_bound(m in 1usize..5, out in 1usize..20, inp in 1usize..300, seed in 0u64..1000) {
        let (x, w) = (noise(m * inp, seed), noise(out * inp, seed + 1));
        let codes = Codes::new(&weight(out, inp, &w));
        let mut y = vec![f32::NAN; m * out];
        matmul_nt_many(&x, inp, &mut [Product { weight: &codes, y: &mut y, bias: None, accumulate: false }]);
        for (y, (want, off)) in y.iter().zip(oracle::matmul_nt(&x, &w, inp)) {
            prop_assert!((f64::from(*y) - want).abs() <= off * 1.0001 + 1e-5, "{} {} {}", y, want, off);
        }
    }
}

#[test]
fn extreme_codes_do_not_saturate() {
    // All codes 127 or -127: 16-bit pair sums, as the AVX2 instruction for bytes makes them, would
    // overflow.
    let (inp, out) = (64, 17);
    for (a, b) in [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)] {
        let codes = Codes::new(&weight(out, inp, &vec![b; out * inp]));
        for level in available() {
            let mut y = vec![0.0; out];
            let product = Product { weight: &codes, y: &mut y, bias: None, accumulate: false };
            many_at(level, &vec![a; inp], inp, &mut [product]);
            assert!(y.iter().all(|v| (v - a * b * inp as f32).abs() <= 1e-4), "{level:?}: {y:?}");
        }
    }
}

#[test]
fn several_products_in_parallel_have_the_bits_of_each_alone() {
    let (m, inp) = (61, 576);
    let x = noise(m * inp, 1);
    let all: Vec<Codes> = [(500, 2), (101, 3)].map(|(n, s)| Codes::new(&weight(n, inp, &noise(n * inp, s)))).into();
    let (mut a, mut b) = (vec![f32::NAN; m * 500], vec![f32::NAN; m * 101]);
    fn one<'a>(weight: &'a Codes, y: &'a mut [f32]) -> Product<'a> {
        Product { weight, y, bias: None, accumulate: false }
    }
    matmul_nt_many(&x, inp, &mut [one(&all[0], &mut a), one(&all[1], &mut b)]);
    for (codes, y) in all.iter().zip([a, b]) {
        let out = codes.rows();
        for i in [0, 30, 60] {
            let mut row = vec![0.0; out];
            matmul_nt_many(&x[i * inp..(i + 1) * inp], inp, &mut [one(codes, &mut row)]);
            assert_eq!(row, y[i * out..(i + 1) * out]);
        }
    }
}

#[test]
fn what_is_no_number_is_not_hidden() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let codes = Codes::new(&weight(2, 40, &[1.0; 80]));
        let mut x = vec![1.0; 80];
        x[75] = bad;
        let mut y = [0.0; 4];
        matmul_nt_many(&x, 40, &mut [Product { weight: &codes, y: &mut y, bias: None, accumulate: false }]);
        assert!(y[0].is_finite() && y[2].is_nan() && y[3].is_nan(), "{y:?}");
        let mut w = vec![1.0; 80];
        w[3] = bad;
        let codes = Codes::new(&weight(2, 40, &w));
        matmul_nt_many(&x[..40], 40, &mut [Product { weight: &codes, y: &mut y[..2], bias: None, accumulate: false }]);
        assert!(y[0].is_nan() && y[1].is_finite(), "{y:?}");
    }
}

#[test]
fn nothing_is_a_product_of_nothing() {
    let codes = Codes::new(&weight(0, 5, &[]));
    matmul_nt_many(&[1.0; 5], 5, &mut [Product { weight: &codes, y: &mut [], bias: None, accumulate: false }]);
    assert_eq!((codes.bytes(), Codes::new(&weight(3, 0, &[])).bytes()), (0, 0));
}

/// A file that has 8-bit codes already, as Q8_0 has, keeps them: the largest of a group is 127
/// there too.
#[test]
fn codes_of_a_file_stay() {
    let form = Form { group: 32, bits: Bits::Eight, centre: 0, minimum: false, shared: 0 };
    let (out, inp) = (21, 96);
    let stored = Quantised::build(out, inp, form, |row, parts| {
        let mut rng = Rng::new(3, Use::Synthetic, row as u32, 0);
        parts.codes.iter_mut().for_each(|c| *c = (rng.below(255) as i32 - 127) as i8);
        parts.codes.iter_mut().step_by(GROUP).for_each(|c| *c = 127);
        parts.scales.iter_mut().for_each(|s| *s = half::f16::from_f32(rng.uniform() + 0.01).to_f32());
    });
    let weight = Weight::new(out, inp, Storage::Quantised(Arc::new(stored.unwrap()))).unwrap();
    let codes = Codes::new(&weight);
    let mut values = vec![0.0; out * inp];
    weight.read_rows(0, &mut values);
    for (i, v) in values.iter().enumerate() {
        assert_eq!(codes.get(i / inp, i % inp), *v, "{i}");
    }
}

/// The blocks of GGUF files, and one that no kernel takes as it is.
const FORMS: [Form; 6] = [
    Form { group: 32, bits: Bits::Four, centre: 8, minimum: false, shared: 0 },
    Form { group: 32, bits: Bits::Four, centre: 0, minimum: true, shared: 0 },
    Form { group: 32, bits: Bits::Eight, centre: 0, minimum: false, shared: 0 },
    Form { group: 32, bits: Bits::Four, centre: 0, minimum: true, shared: 8 },
    Form { group: 16, bits: Bits::Eight, centre: 0, minimum: false, shared: 16 },
    Form { group: 96, bits: Bits::Four, centre: 0, minimum: true, shared: 0 },
];

/// Random codes, scales and minima of a form.
fn blocks(out: usize, inp: usize, form: Form, seed: u64) -> Weight {
    let matrix = Quantised::build(out, inp, form, |row, parts| {
        let mut rng = Rng::new(seed, Use::Synthetic, row as u32, 0);
        let (least, many) = if form.bits == Bits::Four { (-i32::from(form.centre), 16) } else { (-128, 256) };
        parts.codes.iter_mut().for_each(|c| *c = (least + rng.below(many) as i32) as i8);
        let shared = form.shared > 0;
        let mut scale = || if shared { rng.below(127) as f32 - 63.0 } else { rng.normal() };
        parts.scales.iter_mut().for_each(|s| *s = scale());
        parts.minima.iter_mut().for_each(|m| *m = scale());
        parts.steps.iter_mut().for_each(|s| *s = [0.02 * rng.normal(), 0.3 * rng.normal()]);
    });
    Weight::new(out, inp, Storage::Quantised(Arc::new(matrix.unwrap()))).unwrap()
}

proptest! {
    /// Blocks are multiplied as they are, without a copy: only x is rounded.
    #[test]
    fn products_with_blocks_are_those_of_their_values(
        m in 1usize..10, out in 1usize..110, wide in 1usize..4, form in 0usize..FORMS.len(),
        biased: bool, accumulate: bool, seed in 0u64..1000,
    ) {
        let inp = 768 * wide;
        let (weight, form) = (blocks(out, inp, FORMS[form], seed), FORMS[form]);
        let (x, codes) = (uneven(m, inp, seed + 1), Codes::new(&weight));
        let (bias, before) = (noise(out, seed + 2), noise(m * out, seed + 3));
        let shared = form.group <= GROUP;
        prop_assert_eq!(shared, codes.bytes() == weight.bytes());
        prop_assert_eq!(Codes::copied(&weight), if shared { 0 } else { (out * inp) as u64 });
        let rows = Rows::new(&x, inp);
        let coded: Vec<f64> = (0..m)
            .flat_map(|r| rows.row(r).iter().flat_map(|g| g.codes.map(|c| f64::from(g.scale) * f64::from(c))))
            .collect();
        let w = values(&codes);
        // A value is a product and a minimum, which are summed apart.
        let largest = w.iter().fold(0.0f64, |most, v| most.max(f64::from(v.abs())));
        let mut fused: Option<Vec<f32>> = None;
        for level in available() {
            let product = |x: &[f32], y: &mut [f32]| {
                let bias = biased.then_some(bias.as_slice());
                many_at(level, x, inp, &mut [Product { weight: &codes, y, bias, accumulate }]);
            };
            let mut y = before.clone();
            product(&x, &mut y);
            for i in 0..m * out {
                let (r, o) = (i / out, i % out);
                let there = if accumulate { f64::from(before[i]) } else { 0.0 };
                let bias = if biased { f64::from(bias[o]) } else { 0.0 };
                let (mut want, mut size) = (there + bias, there.abs() + bias.abs());
                for k in 0..inp {
                    want += coded[r * inp + k] * f64::from(w[o * inp + k]);
                    size += coded[r * inp + k].abs() * 4.0 * largest;
                }
                let off = (f64::from(y[i]) - want).abs();
                prop_assert!(off <= 2e-7 * size + 1e-35, "{:?} {:?} {}: {} and not {}", form, level, i, y[i], want);
            }
            for i in 0..m {
                let mut row = before[i * out..(i + 1) * out].to_vec();
                product(&x[i * inp..(i + 1) * inp], &mut row);
                let same = row.iter().zip(&y[i * out..]).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{:?} {:?}: row {} of {} differs from itself alone", form, level, i, m);
            }
            if level != Level::Scalar {
                let first = fused.get_or_insert_with(|| y.clone());
                prop_assert!(first.iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?}: other bits", level);
            }
        }
    }
}
