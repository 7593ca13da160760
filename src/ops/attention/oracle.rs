//! Attention in f64, with plain row-major keys and values.

use std::ops::Range;

use super::Heads;

/// The keys that a row sees which is behind `end` keys, its own included: the `window` last of
/// them.
pub fn seen(end: usize, window: Option<usize>) -> Range<usize> {
    window.map_or(0, |window| end.saturating_sub(window))..end
}

/// One sequence: q (rows, heads, dim), k and v (T, kv heads, dim); the rows are the last positions.
pub fn attention(q: &[f64], k: &[f64], v: &[f64], heads: Heads) -> Vec<f64> {
    attention_within(q, k, v, heads, None)
}

/// The same, where a row sees no more than the `window` last of its keys.
pub fn attention_within(q: &[f64], k: &[f64], v: &[f64], heads: Heads, window: Option<usize>) -> Vec<f64> {
    let (qw, kw, d) = (heads.query * heads.dim, heads.kv * heads.dim, heads.dim);
    let (rows, keys) = (q.len() / qw, k.len() / kw);
    let mut out = vec![0.0; q.len()];
    for row in 0..rows {
        for h in 0..heads.query {
            let kv = h / (heads.query / heads.kv);
            let query = &q[row * qw + h * d..][..d];
            let seen = seen(keys - rows + row + 1, window);
            let scores: Vec<f64> = seen
                .clone()
                .map(|t| {
                    let dot: f64 = (0..d).map(|i| query[i] * k[t * kw + kv * d + i]).sum();
                    dot / (d as f64).sqrt()
                })
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for (t, s) in seen.zip(&scores) {
                let p = (s - top).exp() / sum;
                for i in 0..d {
                    out[row * qw + h * d + i] += p * v[t * kw + kv * d + i];
                }
            }
        }
    }
    out
}

/// The log of each softmax's denominator, (rows, heads), of one sequence as in [`attention`].
pub fn log_sum_exp(q: &[f64], k: &[f64], heads: Heads, window: Option<usize>) -> Vec<f64> {
    let (qw, kw, d) = (heads.query * heads.dim, heads.kv * heads.dim, heads.dim);
    let (rows, keys) = (q.len() / qw, k.len() / kw);
    let mut out = Vec::with_capacity(rows * heads.query);
    for row in 0..rows {
        for h in 0..heads.query {
            let (query, at) = (&q[row * qw + h * d..][..d], h / heads.group() * d);
            let score = |t: usize| (0..d).map(|i| query[i] * k[t * kw + at + i]).sum::<f64>() / (d as f64).sqrt();
            let scores: Vec<f64> = seen(keys - rows + row + 1, window).map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            out.push(top + scores.iter().map(|s| (s - top).exp()).sum::<f64>().ln());
        }
    }
    out
}

/// Gradients of q, k and v for the gradient `by_out` of [`attention`]'s result.
pub fn gradients(q: &[f64], k: &[f64], v: &[f64], by_out: &[f64], heads: Heads) -> [Vec<f64>; 3] {
    gradients_within(q, k, v, by_out, (heads, None))
}

/// The same, where a row sees no more than the `window` last of its keys.
pub fn gradients_within(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    by_out: &[f64],
    (heads, window): (Heads, Option<usize>),
) -> [Vec<f64>; 3] {
    let (qw, kw, d) = (heads.query * heads.dim, heads.kv * heads.dim, heads.dim);
    let (rows, keys, scale) = (q.len() / qw, k.len() / kw, 1.0 / (d as f64).sqrt());
    let [mut dq, mut dk, mut dv] = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for row in 0..rows {
        for h in 0..heads.query {
            let (at, kv) = (row * qw + h * d, h / heads.group() * d);
            let (query, g) = (&q[at..at + d], &by_out[at..at + d]);
            let seen = seen(keys - rows + row + 1, window);
            let scores: Vec<f64> = seen.clone().map(|t| dot(query, &k[t * kw + kv..][..d]) * scale).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            let p: Vec<f64> = scores.iter().map(|s| (s - top).exp() / sum).collect();
            let by_p: Vec<f64> = seen.clone().map(|t| dot(g, &v[t * kw + kv..][..d])).collect();
            let mean = dot(&p, &by_p);
            for (t, (p, by_p)) in seen.zip(p.iter().zip(&by_p)) {
                let by_score = p * (by_p - mean) * scale;
                for i in 0..d {
                    let key = t * kw + kv + i;
                    dv[key] += p * g[i];
                    dk[key] += by_score * query[i];
                    dq[at + i] += by_score * k[key];
                }
            }
        }
    }
    [dq, dk, dv]
}
