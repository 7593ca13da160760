//! The perceptron: its name, what it is checked on and measured with. Its kernels are those of `linear`.

use super::{Activation, Mlp, Placed, backward, cost, forward, kernel, oracle};
use crate::device::{Device, KernelDevice, Rows};
use crate::error::Result;
use crate::ops::registry::{Case, Check, Operator, Prepared, Scale, Shape, draw, errors, normals, rotated, rows};
use crate::tensor::Dtype;

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "mlp",
    room: "mlp",
    sources: &[],
    arguments: &[],
    kernels: &[],
    checks: &[Check::new("mlp", ["rows", "hidden", "in"], check).one_storage()],
    cases: &[
        Case::cpu("mlp", "1,024 rows, 1,152 to 128 to 64, with gradients", || on_cpu(1024, 1152, 128, 64)),
        Case::kernels("mlp", "forward and backward", |d, s| by_kernels(d, s, 4096)),
        Case::kernels("mlp", "forward and backward", |d, s| by_kernels(d, s, 65_536)),
    ],
};

/// What may stand between the layers.
pub const ACTIVATIONS: &[Activation] = &[Activation::Relu, Activation::Tanh, Activation::Silu, Activation::Identity];

/// What a value of the output may be off by.
pub const OUTPUT: f64 = 2e-5;
/// What a value of a gradient may be off by.
pub fn gradient_tolerance(want: f64) -> f64 {
    2e-4 * (1.0 + want.abs())
}

fn check(device: &Device, [count, hidden, input]: Shape, _: bool, seed: u64) -> Result<Vec<f64>> {
    let activation = ACTIVATIONS[seed as usize % ACTIVATIONS.len()];
    let (output, mlp) = (9, Mlp { input, hidden, output: 9, activation });
    let p = mlp.init(seed);
    let (x, by): (Vec<f32>, Vec<f32>) = (draw(count * input, seed, 0), draw(count * output, seed, 1));
    let want = oracle::mlp(&mlp, &p, &x, &by);
    let placed = Placed::new(device, &mlp, &p)?;
    let place = |values, dim| Rows::upload(device, Dtype::F32, dim, values, "rows");
    let (x, by) = (place(&x, input)?, place(&by, output)?);
    let (out, saved, _) = forward(device, &placed, (&x).into())?;
    let (g, _) = backward(device, &placed, (&x).into(), &saved, (&by).into())?;
    let mut all = errors(&out.download()?, &want.0, |_| OUTPUT);
    for (g, want) in g.each().into_iter().zip(&want.1) {
        all.extend(errors(g, want, |i| gradient_tolerance(want[i])));
    }
    Ok(all)
}

fn on_cpu(count: usize, input: usize, hidden: usize, output: usize) -> Result<Prepared> {
    let mlp = Mlp { input, hidden, output, activation: Activation::Relu };
    let (tensors, by_out) = (mlp.init(1), normals(count * output, 9));
    let x: Vec<_> = (0..4).map(|s| normals(count * input, s)).collect();
    Ok(Prepared::of(cost(&mlp, count), x.len(), move |i| {
        let (x, by) = ((&x[i][..], input).into(), (&by_out[..], output).into());
        let placed = Placed::new(&Device::Cpu, &mlp, &tensors)?;
        let (_, saved, _) = forward(&Device::Cpu, &placed, x)?;
        std::hint::black_box(backward(&Device::Cpu, &placed, x, &saved, by)?);
        Ok(())
    }))
}

/// Five products: two forward, the gradients of both weights and of what lies between.
fn by_kernels(device: &KernelDevice, scale: Scale, n: usize) -> Result<Prepared> {
    let shape = match scale {
        Scale::Full => Mlp { input: 1152, hidden: 128, output: 64, activation: Activation::Relu },
        Scale::Tiny => Mlp { input: 40, hidden: 20, output: 12, activation: Activation::Relu },
    };
    let n = scale.of(n, 30);
    let p = kernel::DeviceTensors::upload(device, &shape, &shape.init(1))?;
    let mut g = kernel::DeviceTensors::zeros(device, &shape)?;
    let x = rotated::<f32>(device, scale, (n, shape.input), 1)?;
    let (sets, by_out) = (x.len(), rows::<f32>(device, n, shape.output, 2)?);
    let run = move |i: usize| {
        let (_, saved, _) = kernel::forward(&shape, &p, &x[i])?;
        kernel::backward(&shape, &p, &x[i], &saved, &by_out, &mut g).map(drop)
    };
    let Mlp { input, hidden, output, .. } = shape;
    let [nf, first, second] = [n, input * hidden, hidden * output].map(|n| n as f64);
    let sizes = [("rows", n), ("in", input), ("hidden", hidden), ("out", output)];
    let bytes = 4.0 * (2.0 * nf * input as f64 + 2.0 * nf * output as f64 + 3.0 * (first + second));
    Ok(Prepared::new("f32", &sizes, run).sets(sets).floor(bytes, nf * (4.0 * first + 6.0 * second)))
}
