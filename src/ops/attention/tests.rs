use proptest::prelude::*;

use super::*;
use crate::rng::{Rng, Use};
use crate::tensor::simd::available;

fn noise(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
    (0..n).map(|_| rng.normal() * scale).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Keys and values of one kv head.
struct Stored(Vec<f32>, Vec<f32>, usize);

/// Cuts (T, kv heads, dim) into runs of the given lengths.
fn store(k: &[f32], v: &[f32], heads: Heads, lengths: &[usize]) -> Vec<Vec<Stored>> {
    let width = heads.kv * heads.dim;
    (0..heads.kv)
        .map(|h| {
            let mut from = 0;
            let mut runs = Vec::new();
            for &n in lengths {
                let mut run = Stored(Vec::new(), Vec::new(), n);
                // In two goes, as a cache grows.
                for part in [from..from + n / 2, from + n / 2..from + n] {
                    if !part.is_empty() {
                        let span = part.start * width + h * heads.dim..(part.end - 1) * width + (h + 1) * heads.dim;
                        let len = part.start - from;
                        append(&mut run.0, &mut run.1, len, &k[span.clone()], &v[span], width, heads.dim);
                    }
                }
                runs.push(run);
                from += n;
            }
            runs
        })
        .collect()
}

fn item(stored: &[Vec<Stored>], rows: usize) -> Item<'_> {
    Item {
        rows,
        runs: stored
            .iter()
            .map(|runs| runs.iter().map(|s| Run { keys: &s.0, values: &s.1, len: s.2 }).collect())
            .collect(),
    }
}

proptest! {
    #![proptest_config(crate::testing::cases(48))]

    #[test]
    fn cpu_is_the_oracle_and_cuts_do_not_show(
        kv in 1usize..3, group in 1usize..5, dim in prop::sample::select(vec![2usize, 8, 20, 64, 72]),
        past in 0usize..150, rows in 1usize..20, cut in 0.0f64..1.0, scale in 0.1f32..6.0, seed in 0u64..1000,
    ) {
        let heads = Heads { query: kv * group, kv, dim };
        let keys = past + rows;
        let q = noise(rows * heads.query * dim, seed, scale);
        let (k, v) = (noise(keys * kv * dim, seed + 1, 1.0), noise(keys * kv * dim, seed + 2, 1.0));
        let want = oracle::attention(&wide(&q), &wide(&k), &wide(&v), heads);
        let first = (keys as f64 * cut) as usize;
        for level in available() {
            let mut whole = vec![f32::NAN; q.len()];
            let mut lse = vec![f32::NAN; rows * heads.query];
            let stored = store(&k, &v, heads, &[keys]);
            cpu::attend_at(level, &q, (heads, None, None), &[item(&stored, rows)], &mut whole, Some(&mut lse));
            for (i, (g, w)) in whole.iter().zip(&want).enumerate() {
                prop_assert!((f64::from(*g) - w).abs() <= 1e-5 * (1.0 + f64::from(scale)), "{level:?} {i}: {g} {w}");
            }
            prop_assert!(lse.iter().all(|l| l.is_finite()));
            let stored = store(&k, &v, heads, &[first, 0, keys - first]);
            let mut cut = vec![f32::NAN; q.len()];
            cpu::attend_at(level, &q, (heads, None, None), &[item(&stored, rows)], &mut cut, None);
            prop_assert!(whole.iter().zip(&cut).all(|(a, b)| a.to_bits() == b.to_bits()), "{level:?}: cut at {first}");
        }
    }

    #[test]
    fn a_shared_prefix_gives_the_bits_of_separate_ones(
        group in 1usize..5, prefix in 1usize..200, seed in 0u64..1000,
        own in prop::collection::vec(1usize..40, 2..6),
    ) {
        let heads = Heads { query: 2 * group, kv: 2, dim: 16 };
        let (k, v) = (noise(prefix * 32, seed, 1.0), noise(prefix * 32, seed + 1, 1.0));
        let shared = store(&k, &v, heads, &[prefix]);
        let tails: Vec<_> = own.iter().enumerate().map(|(i, &n)| {
            let s = seed + 10 + 3 * i as u64;
            let (tk, tv, q) = (noise(n * 32, s, 1.0), noise(n * 32, s + 1, 1.0), noise(n.min(3) * heads.query * 16, s + 2, 1.0));
            (store(&tk, &tv, heads, &[n]), [k.clone(), tk].concat(), [v.clone(), tv].concat(), q, n)
        }).collect();
        let items: Vec<Item<'_>> = tails.iter().map(|t| {
            let both = item(&shared, 0).runs.into_iter().zip(item(&t.0, 0).runs);
            Item { rows: t.4.min(3), runs: both.map(|(a, b)| [a, b].concat()).collect() }
        }).collect();
        let q: Vec<f32> = tails.iter().flat_map(|t| t.3.clone()).collect();
        let mut got = vec![f32::NAN; q.len()];
        attend(&q, heads, &items, &mut got, None);
        let mut at = 0;
        for t in &tails {
            let stored = store(&t.1, &t.2, heads, &[prefix + t.4]);
            let mut want = vec![f32::NAN; t.3.len()];
            attend(&t.3, heads, &[item(&stored, t.4.min(3))], &mut want, None);
            prop_assert!(got[at..at + want.len()].iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
            at += want.len();
        }
    }
}

#[test]
fn causal_handles_sequences_apart_and_gives_the_log_sum() {
    let heads = Heads { query: 2, kv: 1, dim: 4 };
    let lengths = [3, 0, 70];
    let (q, k, v) = (noise(73 * 8, 1, 1.0), noise(73 * 4, 2, 1.0), noise(73 * 4, 3, 1.0));
    let (mut out, mut lse) = (vec![f32::NAN; q.len()], vec![f32::NAN; 73 * 2]);
    causal(&q, &k, &v, heads, &lengths, &mut out, Some(&mut lse));
    let mut want = oracle::attention(&wide(&q[..24]), &wide(&k[..12]), &wide(&v[..12]), heads);
    want.extend(oracle::attention(&wide(&q[24..]), &wide(&k[12..]), &wide(&v[12..]), heads));
    for (g, w) in out.iter().zip(&want) {
        assert!((f64::from(*g) - w).abs() <= 1e-5, "{g} {w}");
    }
    let score: f32 = (0..4).map(|i| q[4 + i] * k[i]).sum::<f32>() / 2.0;
    assert!((lse[1] - score).abs() <= 1e-5, "one visible key: {} {score}", lse[1]);
}

#[test]
fn huge_scores_do_not_overflow() {
    let heads = Heads { query: 1, kv: 1, dim: 2 };
    let (q, k, v) = (vec![1e4f32; 4], vec![1e4, 1e4, -1e4, -1e4], vec![1.0, 2.0, 3.0, 4.0]);
    let mut out = vec![f32::NAN; 4];
    causal(&q, &k, &v, heads, &[2], &mut out, None);
    assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
}
