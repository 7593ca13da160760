//! A two-layer perceptron `O = act(X W1^T + b1) W2^T + b2` with its backward.
//!
//! Cost of forward and backward of M rows: `6 M (in hidden + hidden out)` FLOP.

pub mod cuda;
pub mod oracle;

use serde::{Deserialize, Serialize};

use super::linear::{Weight, matmul_nn, matmul_nt, matmul_tn};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::tensor::Cost;
use crate::tensor::profile::timed;

/// What stands between the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// tanh x.
    Tanh,
    /// x / (1 + e^-x).
    Silu,
    /// Nothing: one linear map of bounded rank.
    Identity,
}

impl Activation {
    /// (value, derivative).
    pub fn at(self, x: f64) -> (f64, f64) {
        match self {
            Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Activation::Tanh => (x.tanh(), 1.0 - x.tanh().powi(2)),
            Activation::Silu => {
                let s = 1.0 / (1.0 + (-x).exp());
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Activation::Identity => (x, 1.0),
        }
    }
}

/// One set of tensors: the parameters, or their gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// hidden x in.
    pub w1: Vec<f32>,
    /// hidden.
    pub b1: Vec<f32>,
    /// out x hidden.
    pub w2: Vec<f32>,
    /// out.
    pub b2: Vec<f32>,
}

impl Tensors {
    /// The four, in order.
    pub fn each(&self) -> [&Vec<f32>; 4] {
        [&self.w1, &self.b1, &self.w2, &self.b2]
    }

    /// The four, in order.
    pub fn each_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [&mut self.w1, &mut self.b1, &mut self.w2, &mut self.b2]
    }
}

/// Shape and activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mlp {
    /// Input width.
    pub input: usize,
    /// Hidden width.
    pub hidden: usize,
    /// Output width.
    pub output: usize,
    /// Between the layers.
    pub activation: Activation,
}

/// What the backward needs of a forward.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    before: Vec<f32>,
    after: Vec<f32>,
}

/// Cost of forward and backward of `rows` rows.
pub fn cost(mlp: &Mlp, rows: usize) -> Cost {
    let weights = (mlp.input * mlp.hidden + mlp.hidden * mlp.output) as f64;
    let widths = (mlp.input + 2 * mlp.hidden + mlp.output) as f64;
    Cost { bytes: 12.0 * (weights + rows as f64 * widths), flops: 6.0 * rows as f64 * weights }
}

/// So many thirds of [`cost`]: the forward does one, the backward two.
fn thirds(mlp: &Mlp, values: usize, count: f64) -> Cost {
    let all = cost(mlp, values / mlp.input.max(1));
    Cost { bytes: all.bytes * count / 3.0, flops: all.flops * count / 3.0 }
}

impl Mlp {
    /// Uniform in +- 1 / sqrt(fan-in), the usual start of linear layers.
    pub fn init(&self, seed: u64) -> Tensors {
        let draw = |tensor: u32, n: usize, fan: usize| -> Vec<f32> {
            let mut rng = Rng::new(seed, Use::Init, u32::MAX, tensor);
            let bound = 1.0 / (fan.max(1) as f32).sqrt();
            (0..n).map(|_| (2.0 * rng.uniform() - 1.0) * bound).collect()
        };
        Tensors {
            w1: draw(0, self.hidden * self.input, self.input),
            b1: draw(1, self.hidden, self.input),
            w2: draw(2, self.output * self.hidden, self.hidden),
            b2: draw(3, self.output, self.hidden),
        }
    }

    /// `x` is `M x input`; gives `M x output` and what the backward needs.
    pub fn forward(&self, p: &Tensors, x: &[f32]) -> Result<(Vec<f32>, Saved)> {
        let _timed = timed("mlp", || thirds(self, x.len(), 1.0));
        let shapes = [self.hidden * self.input, self.hidden, self.output * self.hidden, self.output];
        if p.each().map(Vec::len) != shapes
            || self.input == 0
            || self.hidden == 0
            || !x.len().is_multiple_of(self.input)
        {
            return Err(Error::failed("projector", format!("tensors do not fit {self:?}")));
        }
        let m = x.len() / self.input;
        let mut before: Vec<f32> = p.b1.iter().copied().cycle().take(m * self.hidden).collect();
        matmul_nt(x, &Weight::from_f32(self.hidden, self.input, p.w1.clone())?, &mut before, true);
        let after: Vec<f32> = match self.activation {
            Activation::Relu => before.iter().map(|v| v.max(0.0)).collect(),
            act => before.iter().map(|&v| act.at(f64::from(v)).0 as f32).collect(),
        };
        let mut out: Vec<f32> = p.b2.iter().copied().cycle().take(m * self.output).collect();
        matmul_nt(&after, &Weight::from_f32(self.output, self.hidden, p.w2.clone())?, &mut out, true);
        Ok((out, Saved { before, after }))
    }

    /// Gradients by the parameters, from the gradient by the output (`M x output`).
    pub fn backward(&self, p: &Tensors, x: &[f32], saved: &Saved, by_out: &[f32]) -> Result<Tensors> {
        let _timed = timed("mlp_backward", || thirds(self, x.len(), 2.0));
        let m = x.len() / self.input;
        if by_out.len() != m * self.output || saved.before.len() != m * self.hidden {
            return Err(Error::failed("projector", "the gradient is not one row an input row"));
        }
        let column_sums = |rows: &[f32], width: usize| {
            let mut sums = vec![0.0f32; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            }
            sums
        };
        let mut g = Tensors {
            w1: vec![0.0; p.w1.len()],
            b1: Vec::new(),
            w2: vec![0.0; p.w2.len()],
            b2: column_sums(by_out, self.output),
        };
        matmul_tn(by_out, self.output, &saved.after, self.hidden, &mut g.w2, 1.0, false);
        let mut by_hidden = vec![0.0f32; m * self.hidden];
        matmul_nn(by_out, &Weight::from_f32(self.output, self.hidden, p.w2.clone())?, &mut by_hidden, false);
        for (d, &v) in by_hidden.iter_mut().zip(&saved.before) {
            *d *= self.activation.at(f64::from(v)).1 as f32;
        }
        matmul_tn(&by_hidden, self.hidden, x, self.input, &mut g.w1, 1.0, false);
        g.b1 = column_sums(&by_hidden, self.hidden);
        Ok(g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn forward_and_backward_match_the_oracle(
            rows in 1usize..9, input in 1usize..20, hidden in 1usize..20, output in 1usize..9, seed in 0u64..1000,
            activation in prop::sample::select(
                vec![Activation::Relu, Activation::Tanh, Activation::Silu, Activation::Identity]),
        ) {
            let mlp = Mlp { input, hidden, output, activation };
            let p = mlp.init(seed);
            let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
            let x: Vec<f32> = (0..rows * input).map(|_| rng.normal()).collect();
            let by: Vec<f32> = (0..rows * output).map(|_| rng.normal()).collect();
            let (out, saved) = mlp.forward(&p, &x).unwrap();
            let g = mlp.backward(&p, &x, &saved, &by).unwrap();
            let want = oracle::mlp(&mlp, &p, &x, &by);
            for (a, b) in out.iter().zip(&want.0) {
                prop_assert!((f64::from(*a) - b).abs() <= 2e-5, "output {} and not {}", a, b);
            }
            for (a, b) in g.each().into_iter().zip(&want.1) {
                prop_assert_eq!(a.len(), b.len());
                for (a, b) in a.iter().zip(b) {
                    prop_assert!((f64::from(*a) - b).abs() <= 1e-4, "gradient {} and not {}", a, b);
                }
            }
        }
    }

    #[test]
    fn activations_have_their_derivatives() {
        for act in [Activation::Relu, Activation::Tanh, Activation::Silu, Activation::Identity] {
            for x in [-1.3, -0.2, 0.4, 2.0] {
                let want = (act.at(x + 1e-6).0 - act.at(x - 1e-6).0) / 2e-6;
                assert!((act.at(x).1 - want).abs() <= 1e-6, "{act:?} at {x}");
            }
        }
    }
}
