//! Top-K over a catalogue and within histories.

use std::collections::HashSet;

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, Storage};
use rallrec::ops::topk::cases::{DIMS, ITEMS, QUERIES, tolerance};
use rallrec::ops::topk::{Hit, Nothing, kernel, oracle};
use rallrec::rng::{Rng, Use};

use super::common::{Values, any_values, cases, devices};

/// The same scores in the same order; rows may differ only among scores that are equal within the
/// tolerance.
fn same(
    got: &[Hit],
    want: &[Hit],
    exact: bool,
    score_of: impl Fn(u32) -> f64,
    tolerance: f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len(), "{:?} and not {:?}", got, want);
    let distinct: HashSet<u32> = got.iter().map(|h| h.index).collect();
    prop_assert_eq!(distinct.len(), got.len(), "a row twice: {:?}", got);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        if exact {
            prop_assert_eq!(g.index, w.index, "hit {}", i);
        }
        prop_assert!(
            (f64::from(g.score) - f64::from(w.score)).abs() <= tolerance,
            "hit {}: {:?} and not {:?}",
            i,
            g,
            w
        );
        prop_assert!(
            (score_of(g.index) - f64::from(g.score)).abs() <= tolerance,
            "hit {}: {:?} is not its score",
            i,
            g
        );
        if i > 0 {
            let before = got[i - 1];
            prop_assert!(
                before.score > g.score || (before.score == g.score && before.index < g.index),
                "order at {}",
                i
            );
        }
    }
    Ok(())
}

fn check<T: Storage>(
    (q, n, dim, k): (usize, usize, usize, usize),
    values: Values,
    seed: u64,
) -> Result<(), TestCaseError> {
    // Small whole numbers have exact scores: then ties are exact, and must go to the lower row.
    let whole = seed.is_multiple_of(2);
    let draw = |count: usize, salt: u64, sort: Values| -> Vec<T> {
        let mut rng = Rng::new(seed, Use::Synthetic, 5, salt as u32);
        if whole {
            return (0..count).map(|_| T::from_f32(rng.below(4) as f32 - 1.0)).collect();
        }
        sort.draw(count, seed + salt)
    };
    let (queries, items) = (draw(q * dim, 0, Values::Normal), draw(n * dim, 1, values));
    let (fq, fi): (Vec<f32>, Vec<f32>) =
        (queries.iter().map(|v| v.to_f32()).collect(), items.iter().map(|v| v.to_f32()).collect());
    let mut rng = Rng::new(seed, Use::Synthetic, 6, 0);
    let seen: Vec<Vec<u32>> = (0..q).map(|_| (0..n as u32).filter(|_| rng.below(5) == 0).collect()).collect();
    // Equal items have equal scores in any arithmetic.
    let exact = whole || values == Values::Equal;
    let score = |q: usize, i: u32| -> f64 {
        let (a, b) = (&fq[q * dim..][..dim], &fi[i as usize * dim..][..dim]);
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let largest = (0..q).flat_map(|a| (0..n as u32).map(move |b| (a, b))).fold(0.0f64, |m, (a, b)| {
        let (a, b) = (&fq[a * dim..][..dim], &fi[b as usize * dim..][..dim]);
        m.max(a.iter().zip(b).map(|(a, b)| f64::from(*a * *b).abs()).sum())
    });
    let most = |x: &[f32]| x.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let tolerance = tolerance(T::NAME == "bf16", largest, dim, most(&fq).max(most(&fi)));
    for device in devices(seed) {
        let dq = DeviceRows::upload(&device, dim, &queries, "queries").unwrap();
        let di = DeviceRows::upload(&device, dim, &items, "items").unwrap();
        let lists = kernel::DeviceSeen::new(&device, seen.iter().map(Vec::as_slice)).unwrap();
        for masked in [false, true] {
            let want =
                if masked { oracle::topk(&fq, &fi, dim, k, &seen) } else { oracle::topk(&fq, &fi, dim, k, &Nothing) };
            let got = kernel::topk(&dq, &di, k, masked.then_some(&lists)).unwrap().0;
            // Few blocks, so that each has many tiles and its lists overflow.
            for blocks in [1, 3] {
                let by = kernel::topk_by(&dq, &di, k, masked.then_some(&lists), blocks).unwrap().0;
                prop_assert_eq!(&got, &by, "{} blocks give something else", blocks);
            }
            for a in 0..q {
                same(&got[a], &want[a], exact, |i| score(a, i), tolerance)?;
                prop_assert!(!masked || got[a].iter().all(|h| !seen[a].contains(&h.index)), "a seen item");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(20))]
    #[test]
    fn the_catalogue_meets_the_oracle(
        q in prop::sample::select(QUERIES), n in prop::sample::select(ITEMS), dim in prop::sample::select(DIMS),
        k in prop::sample::select(vec![1usize, 10, 33]),
        values in any_values(), seed in 0u64..1_000_000,
    ) {
        check::<f32>((q, n, dim, k), values, seed)?;
        check::<bf16>((q, n, dim, k), values, seed)?;
    }

    #[test]
    fn histories_meet_the_oracle(
        n in 1usize..900, dim in prop::sample::select(vec![1usize, 8, 33, 64]), k in prop::sample::select(vec![1usize, 5, 256]),
        seed in 0u64..1_000_000,
    ) {
        let mut rng = Rng::new(seed, Use::Synthetic, 6, 0);
        let items: Vec<f32> = (0..n * dim).map(|_| rng.below(4) as f32 - 1.0).collect();
        let targets: Vec<u32> = (0..3).map(|_| rng.below(n as u32)).collect();
        let lists: Vec<Vec<u32>> =
            (0..3).map(|l| (0..n as u32).rev().filter(|_| l > 0 && rng.below(4) > 0).collect()).collect();
        for device in devices(seed) {
            let rows = DeviceRows::upload(&device, dim, &items, "items").unwrap();
            let slices: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
            let (got, _) = kernel::history(&rows, &targets, &slices, k).unwrap();
            for (q, list) in lists.iter().enumerate() {
                let others: Vec<Vec<u32>> = vec![(0..n as u32).filter(|i| !list.contains(i)).collect()];
                let query = &items[targets[q] as usize * dim..][..dim];
                prop_assert_eq!(&got[q], &oracle::topk(query, &items, dim, k, &others)[0]);
            }
        }
    }
}

#[test]
fn many_hits_and_full_lists() {
    // k at its largest over ascending and equal scores: every list overflows again and again.
    for (values, k) in [(Values::Ascending, 256), (Values::Equal, 256), (Values::Ascending, 100)] {
        check::<bf16>((3, 1500, 8, k), values, 1).unwrap();
    }
    check::<bf16>((70, 500, 8, 100), Values::Ascending, 1).unwrap();
    // More blocks a query than one sort takes the candidates of; lists too large for whole rows of
    // 128 beside them.
    check::<bf16>((1, 1300, 8, 100), Values::Ascending, 2).unwrap();
    check::<f32>((1, 1300, 8, 100), Values::Normal, 3).unwrap();
    check::<bf16>((66, 200, 128, 256), Values::Normal, 5).unwrap();
}
