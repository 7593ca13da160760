//! A two-layer perceptron `O = act(X W1^T + b1) W2^T + b2` with its backward.
//!
//! Cost of forward and backward of M rows: `6 M (in hidden + hidden out)` FLOP.

pub mod cases;
mod cpu;
pub mod kernel;
pub mod oracle;

use serde::{Deserialize, Serialize};

use crate::device::{Device, Place, Rows, View, mixed};
use crate::error::{Error, Result};
use crate::rng::{Rng, Use};
use crate::tensor::{Cost, Matrix};

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

/// The perceptron at the place where it works.
#[derive(Debug)]
pub struct Placed {
    shape: Mlp,
    at: At,
}

#[expect(clippy::large_enum_variant, reason = "few of them live at a time, and none is moved in a loop")]
#[derive(Debug)]
enum At {
    Cpu(cpu::Layers),
    Kernels(kernel::DeviceTensors),
}

impl Placed {
    /// A copy of `tensors` on `device`.
    ///
    /// # Errors
    /// Tensors of another shape, widths of 0, a device without room.
    pub fn new(device: &Device, shape: &Mlp, tensors: &Tensors) -> Result<Self> {
        let Mlp { input, hidden, output, .. } = *shape;
        if tensors.each().map(Vec::len) != [hidden * input, hidden, output * hidden, output] || input * hidden == 0 {
            return Err(Error::failed("projector", format!("tensors do not fit {shape:?}")));
        }
        let at = match device {
            Device::Cpu => At::Cpu(cpu::Layers::new(shape, tensors)?),
            Device::Kernels(device) => At::Kernels(kernel::DeviceTensors::upload(device, shape, tensors)?),
        };
        Ok(Self { shape: *shape, at })
    }

    /// Shape and activation.
    pub fn shape(&self) -> &Mlp {
        &self.shape
    }
}

/// What the backward needs of a forward.
#[derive(Debug)]
pub struct Saved(Kept);

#[expect(clippy::large_enum_variant, reason = "few of them live at a time, and none is moved in a loop")]
#[derive(Debug)]
enum Kept {
    Cpu(cpu::Saved),
    Kernels(kernel::DeviceSaved),
}

/// Values of whole rows of `width`.
fn whole(rows: &View<'_>, width: usize) -> bool {
    match rows {
        View::Cpu { values, dim } => *dim == width && values.len().is_multiple_of(width.max(1)),
        _ => rows.shape().1 == width,
    }
}

/// `x` is `M x input` in f32; gives `M x output` and what the backward needs.
///
/// # Errors
/// Rows of another width or at another place; a device that fails.
pub fn forward(device: &Device, p: &Placed, x: View<'_>) -> Result<(Rows, Saved, Cost)> {
    let shape = &p.shape;
    if !whole(&x, shape.input) {
        return Err(Error::failed("projector", format!("rows of {} for {shape:?}", x.shape().1)));
    }
    let cost = thirds(shape, x.shape().0, 1.0);
    match (device, &p.at, x) {
        (Device::Cpu, At::Cpu(layers), View::Cpu { values, .. }) => {
            let (out, saved) = cpu::forward(shape, layers, values);
            let out = Matrix::from_vec(values.len() / shape.input, shape.output, out)?;
            Ok((Rows::Cpu(out), Saved(Kept::Cpu(saved)), cost))
        }
        (Device::Kernels(_), At::Kernels(tensors), View::F32(x)) => {
            let (out, saved, cost) = kernel::forward(shape, tensors, x)?;
            Ok((Rows::F32(out), Saved(Kept::Kernels(saved)), cost))
        }
        _ => Err(mixed("projector", &[Place::of(device), x.place()])),
    }
}

/// Gradients by the parameters, from the gradient by the output (`M x output` in f32). They come
/// back to the CPU, where the optimiser is: they are small beside a batch.
///
/// # Errors
/// Rows of another shape or at another place; a device that fails.
pub fn backward(device: &Device, p: &Placed, x: View<'_>, saved: &Saved, by_out: View<'_>) -> Result<(Tensors, Cost)> {
    let (shape, rows) = (&p.shape, x.shape().0);
    let fits = whole(&x, shape.input) && whole(&by_out, shape.output) && by_out.shape().0 == rows;
    let kept = match &saved.0 {
        Kept::Cpu(saved) => saved.rows(shape),
        Kept::Kernels(saved) => saved.rows(),
    };
    if !fits || kept != rows {
        return Err(Error::failed("projector", "the gradient is not one row an input row"));
    }
    let cost = thirds(shape, rows, 2.0);
    match (device, &p.at, &saved.0, x, by_out) {
        (
            Device::Cpu,
            At::Cpu(layers),
            Kept::Cpu(saved),
            View::Cpu { values: x, .. },
            View::Cpu { values: by_out, .. },
        ) => Ok((cpu::backward(shape, layers, x, saved, by_out), cost)),
        (Device::Kernels(device), At::Kernels(tensors), Kept::Kernels(saved), View::F32(x), View::F32(by_out)) => {
            let mut g = kernel::DeviceTensors::zeros(device, shape)?;
            let cost = kernel::backward(shape, tensors, x, saved, by_out, &mut g)?;
            Ok((g.download()?, cost))
        }
        _ => Err(mixed("projector", &[Place::of(device), x.place(), by_out.place()])),
    }
}

/// The gradient by the input (`M x input`), from the one by the output. On the CPU alone: what lies
/// before the perceptron is trained there.
///
/// # Errors
/// Rows of another shape; rows on a device.
pub fn by_input(p: &Placed, saved: &Saved, by_out: View<'_>) -> Result<Vec<f32>> {
    match (&p.at, &saved.0, by_out) {
        (At::Cpu(layers), Kept::Cpu(saved), View::Cpu { values, dim })
            if dim == p.shape.output && values.len() == saved.rows(&p.shape) * dim =>
        {
            Ok(cpu::by_input(&p.shape, layers, saved, values))
        }
        _ => Err(Error::failed("projector", "the gradient by the input is asked for on a device, or of other rows")),
    }
}

/// Cost of forward and backward of `rows` rows.
pub fn cost(mlp: &Mlp, rows: usize) -> Cost {
    let weights = (mlp.input * mlp.hidden + mlp.hidden * mlp.output) as f64;
    let widths = (mlp.input + 2 * mlp.hidden + mlp.output) as f64;
    Cost { bytes: 12.0 * (weights + rows as f64 * widths), flops: 6.0 * rows as f64 * weights }
}

/// So many thirds of [`cost`]: the forward does one, the backward two.
fn thirds(mlp: &Mlp, rows: usize, count: f64) -> Cost {
    let all = cost(mlp, rows);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Use};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::testing::cases(32))]
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
            let placed = Placed::new(&Device::Cpu, &mlp, &p).unwrap();
            let (rows, by_rows) = ((&x[..], input).into(), (&by[..], output).into());
            let (out, saved, _) = forward(&Device::Cpu, &placed, rows).unwrap();
            let (g, _) = backward(&Device::Cpu, &placed, rows, &saved, by_rows).unwrap();
            let by_input = by_input(&placed, &saved, by_rows).unwrap();
            let at = |x: &[f32]| -> f64 {
                let out = oracle::mlp(&mlp, &p, x, &by).0;
                out.iter().zip(&by).map(|(o, b)| o * f64::from(*b)).sum()
            };
            // A kink of relu may lie between the two.
            if activation != Activation::Relu {
                for n in 0..x.len() {
                    let moved = |step: f32| {
                        let mut other = x.clone();
                        other[n] += step;
                        (at(&other), f64::from(other[n]))
                    };
                    let ((high, to), (low, from)) = (moved(1e-2), moved(-1e-2));
                    let want = (high - low) / (to - from);
                    let found = f64::from(by_input[n]);
                    prop_assert!((found - want).abs() <= 2e-3 * (1.0 + want.abs()), "by input {} and not {}", found, want);
                }
            }
            let out = out.download().unwrap();
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

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let mlp = Mlp { input: 3, hidden: 4, output: 2, activation: Activation::Relu };
        let p = Placed::new(&Device::Cpu, &mlp, &mlp.init(1)).unwrap();
        assert!(Placed::new(&Device::Cpu, &Mlp { input: 4, ..mlp }, &mlp.init(1)).is_err());
        let rows = |values: &'static [f32], dim| View::Cpu { values, dim };
        let x = rows(&[0.5; 6], 3);
        assert!(forward(&Device::Cpu, &p, rows(&[0.5; 6], 2)).is_err());
        assert!(forward(&Device::Cpu, &p, rows(&[0.5; 5], 3)).is_err());
        let (_, saved, _) = forward(&Device::Cpu, &p, x).unwrap();
        let by = |by| backward(&Device::Cpu, &p, x, &saved, by).is_ok();
        assert!(by(rows(&[1.0; 4], 2)) && !by(rows(&[1.0; 2], 2)) && !by(rows(&[1.0; 4], 4)));
    }
}
