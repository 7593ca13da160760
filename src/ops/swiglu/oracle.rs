//! SwiGLU in f64.

/// See the contract.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f64> {
    gate.iter().zip(up).map(|(&g, &u)| f64::from(g) / (1.0 + (-f64::from(g)).exp()) * f64::from(u)).collect()
}

/// Gradients of gate and up from `dy`.
pub fn backward(gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let each = |((&g, &u), &d): ((&f32, &f32), &f32)| {
        let (g, u, d) = (f64::from(g), f64::from(u), f64::from(d));
        let s = 1.0 / (1.0 + (-g).exp());
        (d * u * (s + g * s * (1.0 - s)), d * g * s)
    };
    gate.iter().zip(up).zip(dy).map(each).unzip()
}
