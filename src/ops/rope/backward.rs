//! Rotary positions for training batches: rotation of packed rows, and its inverse (the backward, as the map is
//! orthogonal). Half-split pairing: columns `i` and `i + d/2` of a head turn by `position * frequency_i`.

use rayon::prelude::*;

use super::Rope;
use crate::tensor::simd::vectorized;

/// Cosines and sines of positions `0 .. len`, each (len x head_dim / 2).
#[derive(Debug, Clone, Default)]
pub struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// Makes sure that positions `0 .. len` are there.
    pub fn grow(&mut self, rope: &Rope, len: usize) {
        let half = rope.frequencies().len();
        if self.half == half && self.cos.len() >= len * half {
            return;
        }
        self.half = half;
        let angle = |p: usize| rope.frequencies().iter().map(move |f| p as f64 * f);
        self.cos = (0..len).flat_map(|p| angle(p).map(|a| a.cos() as f32)).collect();
        self.sin = (0..len).flat_map(|p| angle(p).map(|a| a.sin() as f32)).collect();
    }

    /// Turns `heads` heads of each row, which start at column `column` of rows of `stride` values; backwards when
    /// `inverse`.
    pub fn rotate(
        &self,
        x: &mut [f32],
        (stride, column): (usize, usize),
        heads: usize,
        positions: &[u32],
        inverse: bool,
    ) {
        let half = self.half;
        let sign = if inverse { -1.0 } else { 1.0 };
        x.par_chunks_exact_mut(stride).with_min_len(16).zip(positions).for_each(|(row, &p)| {
            let at = p as usize * half;
            let (cos, sin) = (&self.cos[at..at + half], &self.sin[at..at + half]);
            rotate_row(&mut row[column..column + heads * 2 * half], cos, sin, sign);
        });
    }
}

vectorized! {
    fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for head in row.chunks_exact_mut(2 * cos.len()) {
            let (a, b) = head.split_at_mut(cos.len());
            for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let (x, y, s) = (*a, *b, s * sign);
                *a = x * c - y * s;
                *b = y * c + x * s;
            }
        }
    }
}
