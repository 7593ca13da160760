//! Rope in f64, from the definition.

use super::Scaling;

/// Turn rate of pair `i`, with Llama-3.1's rule: waves longer than original/low are slowed by
/// `factor`, waves shorter than original/high are kept, those between are blended.
pub fn frequency(i: usize, head_dim: usize, theta: f64, scaling: Option<&Scaling>) -> f64 {
    let plain = theta.powf(-2.0 * i as f64 / head_dim as f64);
    let Some(s) = scaling else { return plain };
    let turns = s.original_context as f64 * plain / std::f64::consts::TAU;
    if turns < s.low_freq_factor {
        plain / s.factor
    } else if turns > s.high_freq_factor {
        plain
    } else {
        let smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
        (1.0 - smooth) * plain / s.factor + smooth * plain
    }
}

/// See the contract.
pub fn apply(
    x: &[f32],
    heads: usize,
    head_dim: usize,
    theta: f64,
    scaling: Option<&Scaling>,
    positions: &[u32],
) -> Vec<f64> {
    let mut y: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    let half = head_dim / 2;
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            let at = (row * heads + head) * head_dim;
            for i in 0..half {
                let (sin, cos) = (f64::from(position) * frequency(i, head_dim, theta, scaling)).sin_cos();
                let (a, b) = (f64::from(x[at + i]), f64::from(x[at + half + i]));
                y[at + i] = a * cos - b * sin;
                y[at + half + i] = b * cos + a * sin;
            }
        }
    }
    y
}
