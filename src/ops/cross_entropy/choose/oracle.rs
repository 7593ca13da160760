//! The choice in f64: all logits, then the log-sum-exp.

/// (two logits, log-sum-exp) of each row.
pub fn choose(hidden: &[f32], head: &[f32], width: usize, ids: [u32; 2]) -> Vec<([f64; 2], f64)> {
    let row = |h: &[f32]| {
        let logits: Vec<f64> = head
            .chunks_exact(width)
            .map(|w| w.iter().zip(h).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum())
            .collect();
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|l| (l - top).exp()).sum();
        (ids.map(|i| logits[i as usize]), top + sum.ln())
    };
    hidden.chunks_exact(width).map(row).collect()
}
