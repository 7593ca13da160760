//! The product of codes in f64, and what the codes may be off by.

use super::GROUP;

/// Codes and scales of one row by their definition.
pub fn codes(row: &[f32]) -> (Vec<i32>, Vec<f64>) {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for group in row.chunks(GROUP) {
        let scale = f64::from(group.iter().fold(0.0f32, |m, v| m.max(v.abs()))) / 127.0;
        codes.extend(group.iter().map(|&v| if scale == 0.0 { 0 } else { (f64::from(v) / scale).round() as i32 }));
        scales.push(scale);
    }
    (codes, scales)
}

/// `x (M, in) w (out, in)^T`, and beside each value the most that rounding to codes may have
/// changed.
pub fn matmul_nt(x: &[f32], w: &[f32], inp: usize) -> Vec<(f64, f64)> {
    let mut y = Vec::new();
    for row in x.chunks_exact(inp) {
        for weights in w.chunks_exact(inp) {
            let (mut sum, mut off) = (0.0, 0.0);
            for (a, b) in row.chunks(GROUP).zip(weights.chunks(GROUP)) {
                let [sa, sb] = [a, b].map(|g| f64::from(g.iter().fold(0.0f32, |m, v| m.max(v.abs()))) / 127.0);
                for (&a, &b) in a.iter().zip(b) {
                    let (a, b) = (f64::from(a), f64::from(b));
                    sum += a * b;
                    off += a.abs() * sb / 2.0 + b.abs() * sa / 2.0 + sa * sb / 4.0;
                }
            }
            y.push((sum, off));
        }
    }
    y
}
