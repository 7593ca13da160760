//! Rope on the CPU. Angles are made in f64 once a batch (a position of 100,000 in f32 would be off by 4e-3 radians)
//! and shared by all layers.

use rayon::prelude::*;

use super::Scaling;
use crate::tensor::profile::timed;

/// The frequencies of one model.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Vec<f64>,
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
        Self { frequencies: frequencies.collect() }
    }

    /// Radians a position, one for each pair.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Cosines and sines for rows at these positions.
    pub fn angles(&self, positions: impl ExactSizeIterator<Item = u32>) -> Angles {
        let half = self.frequencies.len();
        let mut table = Vec::with_capacity(positions.len() * 2 * half);
        for position in positions {
            let angle = |f: &f64| f64::from(position) * f;
            table.extend(self.frequencies.iter().map(|f| angle(f).cos() as f32));
            table.extend(self.frequencies.iter().map(|f| angle(f).sin() as f32));
        }
        Angles { half, table }
    }
}

/// Cosines and sines of a batch's rows.
#[derive(Debug, Clone)]
pub struct Angles {
    half: usize,
    /// For each row `half` cosines, then `half` sines.
    table: Vec<f32>,
}

impl Angles {
    /// Turns x (rows, heads, head_dim) in place. Panics when the shape does not fit.
    pub fn apply(&self, x: &mut [f32], heads: usize) {
        let _timed = timed("rope", || super::cost(x.len() / (2 * self.half * heads).max(1), heads, 2 * self.half));
        self.turn(x, heads, 1.0);
    }

    /// The opposite turn: also the gradient's way back.
    pub fn apply_inverse(&self, x: &mut [f32], heads: usize) {
        let _timed = timed("rope", || super::cost(x.len() / (2 * self.half * heads).max(1), heads, 2 * self.half));
        self.turn(x, heads, -1.0);
    }

    fn turn(&self, x: &mut [f32], heads: usize, sign: f32) {
        let (half, width) = (self.half, 2 * self.half * heads);
        if width == 0 {
            return;
        }
        assert_eq!(x.len() * 2 * half, self.table.len() * width, "rope: {} values, {heads} heads", x.len());
        let row = |(x, table): (&mut [f32], &[f32])| {
            let (cos, sin) = table.split_at(half);
            for head in x.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for i in 0..half {
                    let (u, v, s) = (a[i], b[i], sign * sin[i]);
                    a[i] = u * cos[i] - v * s;
                    b[i] = v * cos[i] + u * s;
                }
            }
        };
        if x.len() <= 32 * 1024 {
            x.chunks_exact_mut(width).zip(self.table.chunks_exact(2 * half)).for_each(row);
        } else {
            x.par_chunks_exact_mut(width).with_min_len(16).zip(self.table.par_chunks_exact(2 * half)).for_each(row);
        }
    }
}
