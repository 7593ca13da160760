//! All scores in f64, fully sorted.

use super::{Hit, Seen};

/// As [`topk`](super::topk), by definition.
pub fn topk(queries: &[f32], items: &[f32], dim: usize, k: usize, seen: &dyn Seen) -> Vec<Vec<Hit>> {
    let dot = |q: &[f32], i: &[f32]| q.iter().zip(i).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() + 0.0;
    let rows = queries.chunks_exact(dim).enumerate().map(|(q, query)| {
        let mut scored: Vec<(f64, usize)> = items
            .chunks_exact(dim)
            .enumerate()
            .filter(|(i, _)| !seen.of(q).contains(&(*i as u32)))
            .map(|(i, item)| (dot(query, item), i))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(k);
        scored.into_iter().map(|(score, i)| Hit { index: i as u32, score: score as f32 }).collect()
    });
    rows.collect()
}
