//! Forward and backward in f64, plain loops.

use super::{Mlp, Tensors};

/// (output, gradients by w1, b1, w2, b2) for inputs `x` and the gradient `by` of the output.
pub fn mlp(shape: &Mlp, p: &Tensors, x: &[f32], by: &[f32]) -> (Vec<f64>, [Vec<f64>; 4]) {
    let Mlp { input, hidden, output, activation } = *shape;
    let mut out = Vec::new();
    let mut g = p.each().map(|t| vec![0.0; t.len()]);
    for (x, by) in x.chunks_exact(input).zip(by.chunks_exact(output)) {
        let pre: Vec<f64> = (0..hidden)
            .map(|h| {
                f64::from(p.b1[h]) + (0..input).map(|i| f64::from(p.w1[h * input + i]) * f64::from(x[i])).sum::<f64>()
            })
            .collect();
        let post: Vec<f64> = pre.iter().map(|&v| activation.at(v).0).collect();
        for o in 0..output {
            let w = |h: usize| f64::from(p.w2[o * hidden + h]);
            out.push(f64::from(p.b2[o]) + (0..hidden).map(|h| w(h) * post[h]).sum::<f64>());
            g[3][o] += f64::from(by[o]);
            for h in 0..hidden {
                g[2][o * hidden + h] += f64::from(by[o]) * post[h];
                let inner = f64::from(by[o]) * w(h) * activation.at(pre[h]).1;
                g[1][h] += inner;
                for i in 0..input {
                    g[0][h * input + i] += inner * f64::from(x[i]);
                }
            }
        }
    }
    (out, g)
}
