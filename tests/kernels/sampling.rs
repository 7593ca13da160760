//! Sampling: the token's interval of the uniform number, as the f64 definition has it.

use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice};
use rallrec::ops::sampling::cases::TOLERANCE;
use rallrec::ops::sampling::kernel::{Draw, sample};
use rallrec::ops::sampling::{Cut, Sampler, oracle};
use rallrec::rng::{Rng, Use};

use super::common::{cases, devices};

fn run(device: &KernelDevice, vocab: usize, logits: &[f32], seed: u64, draws: &[Draw], cut: Cut) -> Vec<u32> {
    let rows = DeviceRows::upload(device, vocab, logits, "logits").unwrap();
    sample(device, &rows, seed, draws, cut).unwrap().0
}

fn logits(n: usize, kind: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    let mut all: Vec<f32> = (0..n).map(|_| rng.normal() * 3.0).collect();
    match kind {
        0 => {}
        // Ties, also of zeros with either sign.
        1 => all.iter_mut().for_each(|l| *l = l.round()),
        2 => all.fill(-1.5),
        3 => all.iter_mut().for_each(|l| *l *= 1e30),
        _ => all.iter_mut().enumerate().for_each(|(i, l)| *l = if i % 3 == 0 { f32::NEG_INFINITY } else { *l * 1e-40 }),
    }
    if n > 3 {
        all[2] = f32::NEG_INFINITY;
    }
    all[n - 1] = all[n - 1].max(-3.0);
    all
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn meets_the_definition(
        n in prop::sample::select(vec![1usize, 2, 31, 33, 600, 1024, 1025, 2500]), temperature in 0.2f32..2.0,
        top_k in prop::sample::select(vec![0usize, 2, 5, 40, 4000]), top_p in 0.05f64..1.0, all: bool,
        kind in 0usize..5, seed in 0u64..1_000_000,
    ) {
        let cut = Cut { temperature, top_k, top_p: if all { 1.0 } else { top_p } };
        let rows: Vec<Vec<f32>> = (0..3).map(|i| logits(n, kind, seed + i)).collect();
        let draws: Vec<Draw> = (0..3).map(|i| Draw { row: i, sample: 7 * i, step: (1 << 33) + u64::from(i) }).collect();
        for device in devices(seed) {
            let tokens = run(&device, n, &rows.concat(), seed, &draws, cut);
            let again = run(&device, n, &rows.concat(), seed, &draws, cut);
            prop_assert_eq!(&tokens, &again);
            for i in 0..3 {
                let alone = run(&device, n, &rows[i], seed, &draws[i..i + 1], cut);
                prop_assert_eq!(alone[0], tokens[i], "another place in the batch, another token");
                let d = draws[i];
                let u = Rng::new(seed, Use::Token, d.row, d.sample).at(d.step).uniform_f64();
                let token = tokens[i] as usize;
                prop_assert!(rows[i][token] > f32::NEG_INFINITY, "a forbidden token");
                if oracle::edge(&rows[i], cut) > TOLERANCE {
                    let (low, high) = oracle::intervals(&rows[i], cut)[token];
                    prop_assert!(high > low, "token {} is not kept", token);
                    prop_assert!(low - TOLERANCE <= u && u <= high + TOLERANCE, "{}: {} <= {} <= {}", token, low, u, high);
                    // The CPU's token, unless the number lies within rounding of a border.
                    if low + TOLERANCE < u && u < high - TOLERANCE {
                        prop_assert_eq!(Sampler::default().pick(&rows[i], cut, u).unwrap(), tokens[i]);
                    }
                }
            }
            let greedy = run(&device, n, &rows.concat(), seed, &draws, Cut { temperature: 0.0, ..cut });
            let first = run(&device, n, &rows.concat(), seed, &draws, Cut { top_k: 1, ..cut });
            prop_assert_eq!(&greedy, &first);
            for (row, token) in rows.iter().zip(&greedy) {
                let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                prop_assert_eq!(row.iter().position(|&l| l == top), Some(*token as usize));
            }
        }
    }
}

#[test]
fn frequencies_follow_the_distribution() {
    for device in devices(0) {
        let row = [0.1f32.ln(), 0.2f32.ln(), f32::NEG_INFINITY, 0.7f32.ln()];
        let draws: Vec<Draw> = (0..1000).map(|i| Draw { row: 0, sample: 0, step: i }).collect();
        let mut counts = [0u32; 4];
        for token in run(&device, 4, &row.repeat(1000), 3, &draws, Cut { temperature: 1.0, top_k: 0, top_p: 1.0 }) {
            counts[token as usize] += 1;
        }
        for (count, want) in counts.iter().zip([100.0, 200.0, 0.0, 700.0]) {
            assert!((f64::from(*count) - want).abs() <= 60.0, "{counts:?}");
        }
    }
}

#[test]
fn unusable_logits_are_errors() {
    let cut = Cut { temperature: 1.0, top_k: 0, top_p: 1.0 };
    for device in devices(0) {
        for (bad, word) in [
            (vec![1.0, f32::NAN], "NaN"),
            (vec![f32::INFINITY, 0.0], "infinite"),
            (vec![f32::NEG_INFINITY; 3], "no token"),
        ] {
            let rows = DeviceRows::upload(&device, bad.len(), &bad, "logits").unwrap();
            let error = sample(&device, &rows, 0, &[Draw { row: 5, sample: 2, step: 1 }], cut).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
