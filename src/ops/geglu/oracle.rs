//! GEGLU in f64.

fn parts(g: f64) -> (f64, f64) {
    let z = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
    let slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * g * g);
    let tanh = z.tanh();
    let by_z = 1.0 - tanh * tanh;
    // Where the gate is shut or open the slope of z has no say, however large.
    (0.5 * g * (1.0 + tanh), 0.5 * (1.0 + tanh) + if by_z > 0.0 { 0.5 * g * by_z * slope } else { 0.0 })
}

/// See the contract.
pub fn geglu(gate: &[f32], up: &[f32]) -> Vec<f64> {
    gate.iter().zip(up).map(|(&g, &u)| parts(f64::from(g)).0 * f64::from(u)).collect()
}

/// Gradients of gate and up from `dy`.
pub fn backward(gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let each = |((&g, &u), &d): ((&f32, &f32), &f32)| {
        let (value, slope) = parts(f64::from(g));
        (f64::from(d) * f64::from(u) * slope, f64::from(d) * value)
    };
    gate.iter().zip(up).zip(dy).map(each).unzip()
}
