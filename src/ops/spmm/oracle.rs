//! The definition in f64.

use super::Adjacency;

/// `1/(layers+1) * sum A^l X` for packed `x` (`nodes x dim`).
pub fn propagate(graph: &Adjacency, x: &[f64], dim: usize, layers: usize) -> Vec<f64> {
    let (mut layer, mut sum) = (x.to_vec(), x.to_vec());
    for _ in 0..layers {
        let mut next = vec![0.0; x.len()];
        for r in 0..graph.nodes() {
            for &c in graph.neighbours(r) {
                let c = c as usize;
                let weight = 1.0 / ((graph.neighbours(r).len() * graph.neighbours(c).len()) as f64).sqrt();
                for k in 0..dim {
                    next[r * dim + k] += weight * layer[c * dim + k];
                }
            }
        }
        sum.iter_mut().zip(&next).for_each(|(s, n)| *s += n);
        layer = next;
    }
    sum.iter_mut().for_each(|s| *s /= (layers + 1) as f64);
    sum
}
