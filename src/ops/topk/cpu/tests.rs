use super::*;
use crate::device::Device;
use crate::ops::topk::{Nothing, oracle};
use crate::rng::{Rng, Use};
use proptest::prelude::*;

proptest! {
    #![proptest_config(crate::testing::cases(48))]
    #[test]
    fn many_ties_come_out_exactly(
        queries in 1usize..80, items in 1usize..1500, dim in 1usize..20, k in 1usize..=256,
        spread in 1u32..4, masked in 0u32..3, seed in 0u64..1000,
    ) {
        // Small integers: every score is exact, and most tie.
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        let mut draw = |n: usize| -> Vec<f32> {
            (0..n).map(|_| rng.below(2 * spread + 1) as f32 - spread as f32).collect()
        };
        let (q, i) = (draw(queries * dim), draw(items * dim));
        let mut rng = Rng::new(seed, Use::Rows, 0, 0);
        let seen: Vec<Vec<u32>> =
            (0..queries).map(|_| (0..items as u32).filter(|_| rng.below(4) < masked).collect()).collect();
        prop_assert_eq!(topk(&q, &i, dim, k, &seen).unwrap(), oracle::topk(&q, &i, dim, k, &seen));
    }

    #[test]
    fn real_scores_agree_with_the_oracle(items in 1usize..2000, k in 1usize..100, seed in 0u64..1000) {
        let (dim, queries) = (24, 5);
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let (q, i) = (draw(queries * dim), draw(items * dim));
        let (got, want) = (topk(&q, &i, dim, k, &Nothing).unwrap(), oracle::topk(&q, &i, dim, k, &Nothing));
        for (got, want) in got.iter().zip(&want) {
            prop_assert_eq!(got.len(), want.len());
            for (g, w) in got.iter().zip(want) {
                prop_assert!((g.score - w.score).abs() <= 1e-5 * (1.0 + w.score.abs()), "{:?} and not {:?}", g, w);
            }
        }
    }
}

#[test]
fn ascending_and_descending_scores() {
    for sign in [1.0f32, -1.0] {
        let items: Vec<f32> = (0..3000).map(|i| sign * i as f32).collect();
        let got = topk(&[1.0], &items, 1, 50, &Nothing).unwrap();
        assert_eq!(got, oracle::topk(&[1.0], &items, 1, 50, &Nothing));
    }
}

#[test]
fn minus_infinity_ranks_last_and_nan_is_refused() {
    let mut items = vec![f32::NEG_INFINITY; 600];
    items[577] = -3.0;
    let got = &topk(&[1.0], &items, 1, 3, &Nothing).unwrap()[0];
    assert_eq!(got.iter().map(|h| h.index).collect::<Vec<_>>(), [577, 0, 1]);
    items[599] = f32::NAN;
    let error = topk(&[1.0], &items, 1, 3, &Nothing).unwrap_err();
    assert!(error.to_string().contains("item 599"), "{error}");
    // Also late, when a full buffer has a high threshold.
    let mut items: Vec<f32> = (0..2000).rev().map(|i| i as f32).collect();
    items[1999] = f32::NAN;
    assert!(topk(&[1.0], &items, 1, 3, &Nothing).is_err());
}

#[test]
fn nonsense_is_refused() {
    let topk = |queries: &[f32], items: &[f32], dim: usize, k: usize| {
        crate::ops::topk::topk(&Device::Cpu, (queries, dim).into(), (items, dim).into(), k, &Nothing)
            .map(|found| found.0)
    };
    assert!(topk(&[1.0], &[1.0], 1, 0).is_err());
    assert!(topk(&[1.0], &[1.0], 1, 257).is_err());
    assert!(topk(&[1.0, 2.0, 3.0], &[1.0, 2.0], 2, 1).is_err());
    assert!(topk(&[], &[1.0], 1, 1).unwrap().is_empty());
    assert_eq!(topk(&[1.0], &[], 1, 1).unwrap(), vec![vec![]]);
}

#[test]
fn keys_sort_like_numbers() {
    let order = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
    assert!(order.windows(2).all(|w| key(w[0], 0) < key(w[1], 9)));
    assert!(key(1.0, 3) > key(1.0, 4) && key(-0.0, 3) > key(0.0, 4));
    assert_eq!(unkey(key(-1.5, 7)), Hit { index: 7, score: -1.5 });
}

/// Every item scored by [`dot`], all sorted.
fn by_definition(queries: &[f32], items: &[f32], dim: usize, k: usize, seen: &dyn Seen) -> Vec<Vec<Hit>> {
    let search = Search { queries, items, dim, k, seen };
    let all = |q: usize| (0..(items.len() / dim) as u32).filter(move |i| seen.of(q).binary_search(i).is_err());
    (0..queries.len() / dim).map(|q| search.rank(q, all(q))).collect()
}

fn bits(hits: &[Vec<Hit>]) -> Vec<Vec<(u32, u32)>> {
    hits.iter().map(|of| of.iter().map(|h| (h.index, h.score.to_bits())).collect()).collect()
}

proptest! {
    #![proptest_config(crate::testing::cases(48))]
    #[test]
    fn no_pass_can_be_told_from_scoring_everything_exactly(
        queries in 1usize..40, items in 1usize..3000, dim in 1usize..80, k in 1usize..=40, alike in 0u32..4,
        size in -12i32..12, masked in any::<bool>(), seed in 0u64..1000,
    ) {
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let q = draw(queries * dim);
        // Items that differ in all of their digits, in the last ones of bf16, of f32, or not at
        // all.
        let (centre, own) = (draw(dim), draw(items * dim));
        let spread = [1.0, 1e-2, 1e-6, 0.0][alike as usize];
        let scale = 2f32.powi(size);
        let x: Vec<f32> = own.iter().enumerate().map(|(i, v)| scale * (centre[i % dim] + spread * v)).collect();
        let seen: Vec<Vec<u32>> =
            (0..queries as u32).map(|q| if masked { (q..items as u32).step_by(3).collect() } else { vec![] }).collect();
        let want = by_definition(&q, &x, dim, k, &seen);
        prop_assert_eq!(bits(&topk(&q, &x, dim, k, &seen).unwrap()), bits(&want));
    }
}

#[test]
fn each_type_of_the_first_pass_finds_the_hits_or_leaves_them_to_the_next() {
    let (dim, queries, items, k) = (24, 50, 9000, 7);
    let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
    let (q, x) = (draw(queries * dim), draw(items * dim));
    let want = by_definition(&q, &x, dim, k, &Nothing);
    for first in Unit::all().into_iter().map(First::Bf16).chain([First::F32]) {
        let search = Search { queries: &q, items: &x, dim, k, seen: &Nothing };
        let mut hits = vec![None; queries];
        search.pass(first, Norms::largest(&x, dim), &mut hits).unwrap();
        let found: Vec<_> = hits.into_iter().flatten().collect();
        assert_eq!(bits(&found), bits(&want), "each query has its hits by {first:?}");
    }
}

#[test]
fn hits_do_not_depend_on_the_threads() {
    let (dim, queries) = (33, 90);
    let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
    let (q, x) = (draw(queries * dim), draw(20_000 * dim));
    let by = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(&pool.install(|| topk(&q, &x, dim, 20, &Nothing)).unwrap())
    };
    let one = by(1);
    assert!(by(3) == one && by(16) == one);
}

#[test]
fn the_largest_numbers_are_ordered_and_rows_that_are_no_numbers_are_told_with_many_queries() {
    let queries = vec![1.0; 10];
    let mut items: Vec<f32> = (0..600).map(|i| i as f32 * 5e35).collect();
    items[3] = f32::INFINITY;
    items[4] = f32::NEG_INFINITY;
    let got = topk(&queries, &items, 1, 600, &Nothing).unwrap();
    assert_eq!(bits(&got), bits(&by_definition(&queries, &items, 1, 600, &Nothing)));
    assert_eq!((got[9][0].index, got[9][599].index), (3, 4));
    items[577] = f32::NAN;
    let error = topk(&queries, &items, 1, 3, &Nothing).unwrap_err();
    assert!(error.to_string().contains("item 577"), "{error}");
}
