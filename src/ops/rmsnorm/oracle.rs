//! RMSNorm in f64.

/// See the contract.
pub fn rmsnorm(x: &[f32], w: &[f32], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(w.len()) {
        let square: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let inverse = 1.0 / (square / w.len() as f64 + eps).sqrt();
        y.extend(row.iter().zip(w).map(|(&v, &g)| f64::from(v) * inverse * f64::from(g)));
    }
    y
}
