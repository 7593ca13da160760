//! Cross-entropy in f64, with all logits.

/// The weighted loss and its gradient by the hidden states.
pub fn loss(h: &[f32], head: &[f32], width: usize, tokens: &[u32], weights: &[f32]) -> (f64, Vec<f64>) {
    let (mut total, mut dh) = (0.0, Vec::with_capacity(h.len()));
    for ((h, &token), &weight) in h.chunks_exact(width).zip(tokens).zip(weights) {
        let dot = |w: &[f32]| w.iter().zip(h).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let logits: Vec<f64> = head.chunks_exact(width).map(dot).collect();
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = top + logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln();
        total += f64::from(weight) * (lse - logits[token as usize]);
        let mut row = vec![0.0; width];
        for (t, w) in head.chunks_exact(width).enumerate() {
            let by = f64::from(weight) * ((logits[t] - lse).exp() - f64::from(u8::from(t == token as usize)));
            row.iter_mut().zip(w).for_each(|(r, &w)| *r += by * f64::from(w));
        }
        dh.extend(row);
    }
    (total, dh)
}
