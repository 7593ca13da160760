//! The update in f64, as PyTorch writes it.

use super::AdamW;

/// Parameters and moments.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Parameters.
    pub p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

impl State {
    /// With moments of zero.
    pub fn new(p: Vec<f64>) -> Self {
        Self { m: vec![0.0; p.len()], v: vec![0.0; p.len()], p }
    }

    /// One update with gradient `scale g`.
    pub fn step(&mut self, of: &AdamW, g: &[f64], scale: f64) {
        let (b1, b2) = of.betas;
        let (c1, c2) = (1.0 - b1.powf(of.step as f64), 1.0 - b2.powf(of.step as f64));
        for (i, g) in g.iter().enumerate() {
            let g = scale * g;
            self.p[i] -= of.lr * of.weight_decay * self.p[i];
            self.m[i] = b1 * self.m[i] + (1.0 - b1) * g;
            self.v[i] = b2 * self.v[i] + (1.0 - b2) * g * g;
            self.p[i] -= of.lr * (self.m[i] / c1) / ((self.v[i] / c2).sqrt() + of.eps);
        }
    }
}
