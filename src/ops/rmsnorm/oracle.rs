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

/// Gradients of x and w from `dy`.
pub fn backward(x: &[f32], w: &[f32], eps: f64, dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (Vec::with_capacity(x.len()), vec![0.0; w.len()]);
    for (x, dy) in x.chunks_exact(w.len()).zip(dy.chunks_exact(w.len())) {
        let square: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let r = 1.0 / (square / w.len() as f64 + eps).sqrt();
        let g: Vec<f64> = dy.iter().zip(w).map(|(&d, &w)| f64::from(d) * f64::from(w)).collect();
        let mean = g.iter().zip(x).map(|(g, &x)| g * f64::from(x) * r).sum::<f64>() / w.len() as f64;
        dx.extend(g.iter().zip(x).map(|(g, &x)| r * (g - f64::from(x) * r * mean)));
        dw.iter_mut().zip(x).zip(dy).for_each(|((w, &x), &d)| *w += f64::from(d) * f64::from(x) * r);
    }
    (dx, dw)
}

/// What the terms of each gradient come to by their sizes: what rounding scales with, whatever they
/// cancel to.
pub fn sizes(x: &[f32], w: &[f32], eps: f64, dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (Vec::with_capacity(x.len()), vec![0.0; w.len()]);
    for (x, dy) in x.chunks_exact(w.len()).zip(dy.chunks_exact(w.len())) {
        let square: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let r = 1.0 / (square / w.len() as f64 + eps).sqrt();
        let g: Vec<f64> = dy.iter().zip(w).map(|(&d, &w)| (f64::from(d) * f64::from(w)).abs()).collect();
        let of = |x: f32| f64::from(x).abs() * r;
        let mean = g.iter().zip(x).map(|(g, &x)| g * of(x)).sum::<f64>() / w.len() as f64;
        dx.extend(g.iter().zip(x).map(|(g, &x)| r * (g + of(x) * mean)));
        dw.iter_mut().zip(x).zip(dy).for_each(|((w, &x), &d)| *w += f64::from(d).abs() * of(x));
    }
    (dx, dw)
}
