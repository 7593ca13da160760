//! The frequencies of rope.

use super::Scaling;

/// The frequencies of one model.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Vec<f64>,
    amplitude: f64,
}

impl Rope {
    /// Frequencies `theta^(-2i/head_dim)`, with Llama-3.1's scaling if given.
    pub fn new(head_dim: usize, theta: f64, scaling: Option<Scaling>) -> Self {
        let frequencies = (0..head_dim / 2).map(|i| {
            let plain = 1.0 / theta.powf((2 * i) as f64 / head_dim as f64);
            let Some(s) = scaling else { return plain };
            let wave = std::f64::consts::TAU / plain;
            let original = s.original_context as f64;
            if wave < original / s.high_freq_factor {
                plain
            } else if wave > original / s.low_freq_factor {
                plain / s.factor
            } else {
                let smooth = (original / wave - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
                (1.0 - smooth) * plain / s.factor + smooth * plain
            }
        });
        Self { frequencies: frequencies.collect(), amplitude: 1.0 }
    }

    /// The same, where what is turned is also multiplied by `amplitude`.
    #[must_use]
    pub fn times(self, amplitude: f64) -> Self {
        Self { amplitude, ..self }
    }

    /// What everything that is turned is multiplied by; 1 as a rule.
    pub fn amplitude(&self) -> f64 {
        self.amplitude
    }

    /// Radians a position, one for each pair.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }
}
