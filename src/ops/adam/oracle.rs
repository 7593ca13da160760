//! Adam in f64.

use super::Adam;

/// Parameters with their moments.
#[derive(Debug, Clone)]
pub struct State {
    /// Parameters.
    pub p: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
    t: i32,
}

impl State {
    /// Before the first step.
    pub fn new(p: Vec<f64>) -> Self {
        let n = p.len();
        Self { p, m: vec![0.0; n], v: vec![0.0; n], t: 0 }
    }

    /// One step from gradient `g + weight * p`.
    pub fn step(&mut self, adam: &Adam, g: &[f64], weight: f64) {
        let (b1, b2) = (f64::from(adam.beta1), f64::from(adam.beta2));
        self.t += 1;
        for i in 0..self.p.len() {
            let g = g[i] + weight * self.p[i];
            self.m[i] = b1 * self.m[i] + (1.0 - b1) * g;
            self.v[i] = b2 * self.v[i] + (1.0 - b2) * g * g;
            let m = self.m[i] / (1.0 - b1.powi(self.t));
            let v = self.v[i] / (1.0 - b2.powi(self.t));
            self.p[i] -= f64::from(adam.learning_rate) * m / (v.sqrt() + f64::from(adam.epsilon));
        }
    }
}
