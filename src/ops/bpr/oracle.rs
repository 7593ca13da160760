//! Loss and gradients in f64, in plain loops.

use super::Batch;

/// (loss, gradient of the ranking term by `e`, gradient of the penalty by `e0`), packed `nodes x
/// dim`.
pub fn bpr(e: &[f64], e0: &[f64], dim: usize, batch: &Batch, lambda: f64) -> (f64, Vec<f64>, Vec<f64>) {
    let (mut loss, mut by_e, mut by_e0) = (0.0, vec![0.0; e.len()], vec![0.0; e.len()]);
    let size = batch.users.len() as f64;
    for ((&u, &p), &n) in batch.users.iter().zip(&batch.positives).zip(&batch.negatives) {
        let (u, p, n) = (u as usize * dim, p as usize * dim, n as usize * dim);
        let x: f64 = (0..dim).map(|k| e[u + k] * (e[n + k] - e[p + k])).sum();
        loss += (x.max(0.0) + (-x.abs()).exp().ln_1p()) / size;
        let c = 1.0 / (1.0 + (-x).exp()) / size;
        for k in 0..dim {
            by_e[u + k] += c * (e[n + k] - e[p + k]);
            by_e[p + k] -= c * e[u + k];
            by_e[n + k] += c * e[u + k];
            for row in [u, p, n] {
                loss += lambda * e0[row + k] * e0[row + k] / (2.0 * size);
                by_e0[row + k] += lambda * e0[row + k] / size;
            }
        }
    }
    (loss, by_e, by_e0)
}

/// Of these nodes the one with the highest inner product with the row of `user`, the first of equal
/// ones; with the score.
pub fn hardest(e: &[f64], dim: usize, user: u32, nodes: &[u32]) -> Option<(u32, f64)> {
    let row = |node: u32| &e[node as usize * dim..][..dim];
    let score = |node: u32| row(user).iter().zip(row(node)).map(|(a, b)| a * b).sum::<f64>();
    nodes.iter().map(|&node| (node, score(node))).reduce(|best, other| if other.1 > best.1 { other } else { best })
}
