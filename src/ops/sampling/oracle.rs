//! Sampling in f64, by a full sort.

use super::Cut;

fn order(logits: &[f32]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    ids
}

/// Weights in order and how many of them are kept, with the running shares.
fn kept(logits: &[f32], cut: Cut) -> (Vec<usize>, Vec<f64>, usize) {
    let mut ids = order(logits);
    if cut.top_k > 0 {
        ids.truncate(cut.top_k);
    }
    let top = f64::from(logits[ids[0]]);
    let weights: Vec<f64> =
        ids.iter().map(|&i| ((f64::from(logits[i]) - top) / f64::from(cut.temperature)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let shares: Vec<f64> = weights
        .iter()
        .map(|w| {
            sum += w / total;
            sum
        })
        .collect();
    let n = if cut.top_p < 1.0 {
        shares.iter().position(|&s| s >= cut.top_p).map_or(ids.len(), |i| i + 1)
    } else {
        ids.len()
    };
    (ids, shares, n)
}

/// Each token's interval of u; empty for tokens that are cut.
pub fn intervals(logits: &[f32], cut: Cut) -> Vec<(f64, f64)> {
    let (ids, shares, n) = kept(logits, cut);
    let mut weights = vec![0.0; logits.len()];
    for (rank, &id) in ids[..n].iter().enumerate() {
        weights[id] = (shares[rank] - if rank > 0 { shares[rank - 1] } else { 0.0 }) / shares[n - 1];
    }
    let mut sum = 0.0;
    weights
        .iter()
        .map(|w| {
            sum += w;
            (sum - w, sum)
        })
        .collect()
}

/// How far top_p is from the nearest running share.
pub fn edge(logits: &[f32], cut: Cut) -> f64 {
    let (_, shares, _) = kept(logits, cut);
    if cut.top_p >= 1.0 { 1.0 } else { shares.iter().map(|s| (s - cut.top_p).abs()).fold(1.0, f64::min) }
}

/// Largest logit, lowest id.
pub fn greedy(logits: &[f32]) -> usize {
    order(logits)[0]
}
