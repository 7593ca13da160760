use proptest::prelude::*;

use super::*;
use crate::rng::{Rng, Use};

/// What the careful way draws.
fn careful(logits: &[f32], cut: Cut, u: f64) -> u32 {
    let mut sampler = Sampler::default();
    sampler.weigh(logits, largest(logits).unwrap(), cut.temperature);
    sampler.careful(logits, cut, u)
}

/// Logits of several kinds: spread wide or narrowly, in steps so that many are alike, all alike,
/// zeros of both signs, some forbidden.
fn logits(n: usize, kind: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    let mut all: Vec<f32> = (0..n)
        .map(|_| match kind {
            0 => rng.normal() * 8.0 - 3.0,
            1 => rng.normal() * 0.01 + 20.0,
            2 => (rng.normal() * 2.0).round(),
            3 => 4.25,
            4 => [0.0, -0.0][rng.below(2) as usize],
            _ => rng.normal() * 100.0,
        })
        .collect();
    for i in (0..n).step_by(7).filter(|_| seed.is_multiple_of(3)) {
        all[i] = f32::NEG_INFINITY;
    }
    all[n / 2] = all[n / 2].max(0.5);
    all
}

proptest! {
    #[test]
    fn the_quick_way_draws_what_the_careful_one_draws(
        n in 1usize..5000, kind in 0usize..6, seed in 0u64..1000, temperature in 0.01f32..3.0,
        top_k in prop_oneof![Just(0usize), 2usize..50, 50usize..6000],
        top_p in prop_oneof![Just(1.0), 1e-6f64..1.0, 0.9f64..1.0, Just(0.5), Just(0.25)],
        u in prop_oneof![0.0f64..1.0, Just(0.0), Just(0.5), Just(1.0 - f64::EPSILON / 2.0)],
    ) {
        let (logits, cut) = (logits(n, kind, seed), Cut { temperature, top_k, top_p });
        let mut sampler = Sampler::default();
        prop_assert_eq!(sampler.pick(&logits, cut, u).unwrap(), careful(&logits, cut, u));
        // Once more in used room.
        prop_assert_eq!(sampler.pick(&logits, cut, u).unwrap(), careful(&logits, cut, u));
    }
}

#[test]
fn hardly_a_row_is_left_to_the_careful_way() {
    for kind in [0, 1, 2, 5] {
        for (seed, cut) in [
            Cut { temperature: 1.0, top_k: 0, top_p: 0.95 },
            Cut { temperature: 0.7, top_k: 0, top_p: 1.0 },
            Cut { temperature: 1.3, top_k: 40, top_p: 1.0 },
            Cut { temperature: 0.2, top_k: 1000, top_p: 0.5001 },
            Cut { temperature: 1e-9, top_k: 0, top_p: 0.9 },
        ]
        .into_iter()
        .enumerate()
        {
            let logits = logits(20_000, kind, seed as u64);
            let (mut sampler, top) = (Sampler::default(), largest(&logits).unwrap());
            sampler.weigh(&logits, top, cut.temperature);
            let token = sampler.quick(&logits, top, cut, 0.371);
            assert_eq!(token, Some(careful(&logits, cut, 0.371)), "kind {kind}, {cut:?}");
        }
    }
}

/// Numbers that fall on a token's edge but for rounding: there the order of additions decides.
#[test]
fn on_the_edge_of_a_token_both_ways_draw_the_same() {
    for seed in 0..60 {
        let (logits, mut sampler) = (logits(3000, 0, seed), Sampler::default());
        let all = Cut { temperature: 3.0, top_k: 0, top_p: 1.0 };
        sampler.weigh(&logits, largest(&logits).unwrap(), all.temperature);
        let sum = |weights: &[f32]| weights.chunks(BLOCK).map(|b| b.iter().map(|&w| f64::from(w)).sum::<f64>()).sum();
        let total: f64 = sum(&sampler.weights);
        for last in (1..3000).step_by(37) {
            let before: f64 = sum(&sampler.weights[..last]);
            let u = (before / total).min(1.0 - f64::EPSILON);
            let mut fresh = Sampler::default();
            assert_eq!(fresh.pick(&logits, all, u).unwrap(), careful(&logits, all, u), "seed {seed}, token {last}");
        }
    }
}

#[test]
fn a_limit_that_the_order_of_additions_could_decide_is_left_to_the_careful_way() {
    // Weights of 1: the nucleus of a half ends exactly at its limit, and so does the walk.
    let (logits, mut sampler) = (vec![2.0f32; 512], Sampler::default());
    let cut = Cut { temperature: 1.0, top_k: 0, top_p: 0.5 };
    sampler.weigh(&logits, 2.0, 1.0);
    assert_eq!(sampler.quick(&logits, 2.0, cut, 0.3), None);
    assert_eq!(sampler.pick(&logits, cut, 0.3).unwrap(), 76);
    let all = Cut { top_p: 1.0, ..cut };
    sampler.weigh(&logits, 2.0, 1.0);
    assert_eq!(sampler.quick(&logits, 2.0, all, 0.5), None);
    assert_eq!(sampler.pick(&logits, all, 0.5).unwrap(), 256);
}

#[test]
fn nan_and_infinity_are_found_wherever_they_are() {
    for n in [1, 63, 64, 65, 200] {
        for at in [0, n / 2, n - 1] {
            let mut logits = vec![1.0f32; n];
            logits[at] = f32::NAN;
            assert!(largest(&logits).unwrap_err().to_string().contains("NaN"), "{at} of {n}");
            logits[at] = f32::INFINITY;
            assert!(largest(&logits).unwrap_err().to_string().contains("infinite"), "{at} of {n}");
            logits[at] = 3.5;
            assert_eq!(largest(&logits).unwrap(), 3.5, "{at} of {n}");
        }
    }
    assert!(largest(&[]).is_err() && largest(&[f32::NEG_INFINITY; 70]).is_err());
}
