//! Loss and gradients in f64 with the n x n matrix written out.

use super::{Params, Similarity};

fn normalise(x: &[f64], dim: usize, params: &Params) -> (Vec<f64>, Vec<f64>) {
    let mut out = x.to_vec();
    let mut norms = Vec::new();
    for row in out.chunks_exact_mut(dim) {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        norms.push(norm);
        if params.similarity == Similarity::Cosine && norm > 0.0 {
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
    (out, norms)
}

/// (loss, by x, by y, by tau).
pub fn infonce(x: &[f64], y: &[f64], dim: usize, params: &Params) -> (f64, Vec<f64>, Vec<f64>, f64) {
    let n = x.len() / dim;
    let (tau, weight) = (f64::from(params.tau), f64::from(params.weight) / n as f64);
    let ((xn, xs), (yn, ys)) = (normalise(x, dim, params), normalise(y, dim, params));
    let score = |i: usize, j: usize| (0..dim).map(|k| xn[i * dim + k] * yn[j * dim + k]).sum::<f64>() / tau;
    let s: Vec<f64> = (0..n * n).map(|p| score(p / n, p % n)).collect();
    let lse = |values: Vec<f64>| {
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
    };
    let rows: Vec<f64> = (0..n).map(|i| lse((0..n).map(|j| s[i * n + j]).collect())).collect();
    let cols: Vec<f64> = (0..n).map(|j| lse((0..n).map(|i| s[i * n + j]).collect())).collect();
    let (mut loss, mut by_tau) = (0.0, 0.0);
    let (mut gx, mut gy) = (vec![0.0; x.len()], vec![0.0; y.len()]);
    for i in 0..n {
        loss += weight * (rows[i] + cols[i] - 2.0 * s[i * n + i]);
        for j in 0..n {
            let v = s[i * n + j];
            let g = weight * ((v - rows[i]).exp() + (v - cols[j]).exp() - if i == j { 2.0 } else { 0.0 });
            by_tau -= g * v / tau;
            for k in 0..dim {
                gx[i * dim + k] += g * yn[j * dim + k] / tau;
                gy[j * dim + k] += g * xn[i * dim + k] / tau;
            }
        }
    }
    if params.similarity == Similarity::Cosine {
        for (g, (unit, norms)) in [(&mut gx, (&xn, &xs)), (&mut gy, (&yn, &ys))] {
            for (i, row) in g.chunks_exact_mut(dim).enumerate() {
                let u = &unit[i * dim..(i + 1) * dim];
                let along: f64 = row.iter().zip(u).map(|(a, b)| a * b).sum();
                for (v, u) in row.iter_mut().zip(u) {
                    *v = if norms[i] > 0.0 { (*v - along * u) / norms[i] } else { 0.0 };
                }
            }
        }
    }
    (loss, gx, gy, by_tau)
}
