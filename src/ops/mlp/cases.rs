//! The perceptron: its name, what it is checked on and measured with. Its kernels are those of
//! `linear`.

use super::{Activation, Mlp, Placed, Tensors, backward, cost, forward, kernel, oracle};
use crate::device::{Device, KernelDevice, Rows};
use crate::error::Result;
use crate::ops::registry::{Case, Check, Operator, Prepared, Scale, Shape, draw, errors, normals, rotated, rows};
use crate::tensor::Dtype;

/// The operator.
pub const OPERATOR: Operator = Operator {
    name: "mlp",
    room: "mlp",
    checks: &[Check::new("mlp", ["rows", "hidden", "in"], check).one_storage()],
    cases: &[
        Case::cpu("mlp", "1,024 rows, 1,152 to 128 to 64, with gradients", || on_cpu(1024, 1152, 128, 64)),
        Case::kernels("mlp", "forward and backward", |d, s| by_kernels(d, s, 4096)),
        Case::kernels("mlp", "forward and backward", |d, s| by_kernels(d, s, 65_536)),
    ],
    counted: &[Case::cpu("mlp", "64 rows, 1,152 to 128 to 64, with gradients", || on_cpu(64, 1152, 128, 64))],
    ..Operator::BARE
};

/// What may stand between the layers.
pub const ACTIVATIONS: &[Activation] = &[Activation::Relu, Activation::Tanh, Activation::Silu, Activation::Identity];

/// What each value of the output and of the gradients (w1, b1, w2, b2) may be off by: by the sizes
/// of the terms that are summed, whatever they cancel to. No activation is larger than its input,
/// and no slope than 1.1. Where an input of [`Activation::Relu`] lies within rounding of 0, the
/// slope may be 0 or 1.
pub fn tolerances(mlp: &Mlp, p: &Tensors, x: &[f32], by: &[f32]) -> (Vec<f64>, [Vec<f64>; 4]) {
    let sizes = |v: &[f32]| v.iter().map(|v| v.abs()).collect::<Vec<f32>>();
    let Mlp { input, hidden, output, activation } = *mlp;
    let [w1, b1, w2, b2] = p.each().map(|t| sizes(t));
    let (p_size, x_size) = (Tensors { w1, b1, w2, b2 }, sizes(x));
    let plain = Mlp { activation: Activation::Identity, ..*mlp };
    let (mut out, mut g) = oracle::mlp(&plain, &p_size, &x_size, &sizes(by));
    out.iter_mut().chain(g.iter_mut().flatten()).for_each(|size| *size = 5e-6 * *size + 1e-30);
    if activation != Activation::Relu {
        return (out, g);
    }
    for ((x, x_size), by) in x.chunks_exact(input).zip(x_size.chunks_exact(input)).zip(by.chunks_exact(output)) {
        for h in 0..hidden {
            let sum = |p: &Tensors, x: &[f32]| {
                let of = |(w, x): (&f32, &f32)| f64::from(*w) * f64::from(*x);
                f64::from(p.b1[h]) + p.w1[h * input..][..input].iter().zip(x).map(of).sum::<f64>()
            };
            if sum(p, x).abs() <= 3e-6 * sum(&p_size, x_size) {
                let step: f64 = by.iter().enumerate().map(|(o, &by)| f64::from(by * p.w2[o * hidden + h]).abs()).sum();
                g[1][h] += step;
                g[0][h * input..][..input].iter_mut().zip(x_size).for_each(|(g, &x)| *g += step * f64::from(x));
            }
        }
    }
    (out, g)
}

fn check(device: &Device, [count, hidden, input]: Shape, _: bool, seed: u64) -> Result<Vec<f64>> {
    let activation = ACTIVATIONS[seed as usize % ACTIVATIONS.len()];
    let (output, mlp) = (9, Mlp { input, hidden, output: 9, activation });
    let p = mlp.init(seed);
    let (x, by): (Vec<f32>, Vec<f32>) = (draw(count * input, seed, 0), draw(count * output, seed, 1));
    let (want, off) = (oracle::mlp(&mlp, &p, &x, &by), tolerances(&mlp, &p, &x, &by));
    let placed = Placed::new(device, &mlp, &p)?;
    let place = |values, dim| Rows::upload(device, Dtype::F32, dim, values, "rows");
    let (x, by) = (place(&x, input)?, place(&by, output)?);
    let (out, saved, _) = forward(device, &placed, (&x).into())?;
    let (g, _) = backward(device, &placed, (&x).into(), &saved, (&by).into())?;
    let mut all = errors(&out.download()?, &want.0, |i| off.0[i]);
    for ((g, want), off) in g.each().into_iter().zip(&want.1).zip(&off.1) {
        all.extend(errors(g, want, |i| off[i]));
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
