//! Score tiles by GEMM, selection by threshold.

use rayon::prelude::*;

use super::{Hit, Seen, key, unkey};
use crate::error::{Error, Result};
use crate::ops::linear::gemm::{View, product};
use crate::tensor::profile::timed;

/// Queries of one parallel piece.
const QUERIES: usize = 64;
/// Items of one tile: 64 x 512 scores are 128 KB.
const ITEMS: usize = 512;
/// Carried beyond k, to be scored again.
const SLACK: usize = 32;

/// Candidates of one query: the best `keep` so far are certain to be among `keys`.
struct Best {
    keys: Vec<u64>,
    keep: usize,
    /// Scores must be above this to matter (or equal with a lower index, which cannot come later).
    threshold: f32,
    full: bool,
}

impl Best {
    fn push(&mut self, score: f32, index: u32) {
        self.keys.push(key(score, index));
        if self.keys.len() >= 2 * self.keep {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.keys.len() > self.keep {
            self.keys.select_nth_unstable_by(self.keep - 1, |a, b| b.cmp(a));
            self.keys.truncate(self.keep);
        }
        if self.keys.len() == self.keep {
            self.full = true;
            self.threshold = unkey(self.keys[self.keep - 1]).score;
        }
    }
}

/// The sixteen-sum inner product: the same bits wherever it is called from.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..16 {
            sums[l] += a[l] * b[l];
        }
    }
    for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[l] += a * b;
    }
    let mut half = 8;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}

/// As [`super::topk`], which has checked the shapes.
///
/// Fails on scores that are not a number.
pub(super) fn topk(queries: &[f32], items: &[f32], dim: usize, k: usize, seen: &dyn Seen) -> Result<Vec<Vec<Hit>>> {
    let _timed = timed("topk", || super::cost(queries.len() / dim.max(1), items.len() / dim.max(1), dim));
    let blocks: Vec<Result<Vec<Vec<Hit>>>> = queries
        .par_chunks(QUERIES * dim)
        .enumerate()
        .map(|(b, block)| search(b * QUERIES, block, items, dim, k, seen))
        .collect();
    let mut out = Vec::with_capacity(queries.len() / dim);
    for block in blocks {
        out.extend(block?);
    }
    Ok(out)
}

fn search(first: usize, block: &[f32], items: &[f32], dim: usize, k: usize, seen: &dyn Seen) -> Result<Vec<Vec<Hit>>> {
    let queries = block.len() / dim;
    let mut best: Vec<Best> = (0..queries)
        .map(|_| Best {
            keys: Vec::with_capacity(2 * (k + SLACK)),
            keep: k + SLACK,
            threshold: f32::NEG_INFINITY,
            full: false,
        })
        .collect();
    let mut scores = vec![0.0f32; queries * ITEMS];
    for (t, tile) in items.chunks(ITEMS * dim).enumerate() {
        let width = tile.len() / dim;
        tile_scores(block, tile, dim, &mut scores[..queries * width]);
        for (q, row) in scores[..queries * width].chunks_exact(width).enumerate() {
            let best = &mut best[q];
            let mask = seen.of(first + q);
            for (c, chunk) in row.chunks(16).enumerate() {
                // NaN goes to the slow path, which refuses it.
                let threshold = best.threshold;
                let interesting = chunk.iter().fold(false, |any, &s| any | (s > threshold) | s.is_nan());
                if best.full && !interesting {
                    continue;
                }
                for (l, &score) in chunk.iter().enumerate() {
                    let index = (t * ITEMS + c * 16 + l) as u32;
                    if score.is_nan() {
                        return Err(Error::input(
                            format!("top-k: query {}, item {index}", first + q),
                            "the score is not a number",
                        )
                        .next("check the embeddings for NaN or infinite values; a smaller learning rate may help"));
                    }
                    if (!best.full || score > best.threshold) && mask.binary_search(&index).is_err() {
                        best.push(score, index);
                    }
                }
            }
        }
    }
    let rows = best.into_iter().zip(block.chunks_exact(dim)).map(|(mut best, query)| {
        best.shrink();
        let mut keys: Vec<u64> = best
            .keys
            .iter()
            .map(|&key_| {
                let index = unkey(key_).index;
                let row = index as usize * dim;
                key(dot(query, &items[row..row + dim]), index)
            })
            .collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.truncate(k);
        keys.into_iter().map(unkey).collect()
    });
    Ok(rows.collect())
}

/// `scores (queries x width) = block tile^T`.
fn tile_scores(block: &[f32], tile: &[f32], dim: usize, scores: &mut [f32]) {
    let (m, n) = (block.len() / dim, tile.len() / dim);
    assert_eq!(scores.len(), m * n, "tile: shapes differ");
    // SAFETY: the three slices hold m x dim, n x dim and m x n values, row-major.
    unsafe {
        let (lhs, rhs) = (View(block.as_ptr(), dim, 1), View(tile.as_ptr(), 1, dim));
        product((m, n, dim), scores.as_mut_ptr(), n, false, lhs, rhs, 1.0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Nothing, oracle};
    use super::*;
    use crate::device::Device;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
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
            super::super::topk(&Device::Cpu, (queries, dim).into(), (items, dim).into(), k, &Nothing)
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
}
