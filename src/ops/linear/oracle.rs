//! The product in f64.

/// `x (M, in) w (out, in)^T + bias`.
pub fn matmul_nt(x: &[f32], w: &[f32], inp: usize, bias: Option<&Vec<f32>>) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks_exact(inp) {
        for (o, weights) in w.chunks_exact(inp).enumerate() {
            let sum: f64 = row.iter().zip(weights).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            y.push(sum + bias.map_or(0.0, |b| f64::from(b[o])));
        }
    }
    y
}
