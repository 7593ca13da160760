//! Backwards through their one call, on the CPU and by kernels, against the oracles; and what they
//! refuse.

use proptest::prelude::*;
use rallrec::device::{Device, DeviceRows, List, Rows};
use rallrec::ops::linear;
use rallrec::ops::linear::cases::tolerance;
use rallrec::ops::linear::layers::{self, Backward, By, Forward, Layer, Pair, Side, Weight};
use rallrec::ops::lora::Dropout;
use rallrec::ops::lora::kernel::{Adapters, Gradients};
use rallrec::ops::rmsnorm::cases::EPS;
use rallrec::ops::rmsnorm::{self, Kept, rmsnorm_again, rmsnorm_backward, rmsnorm_kept};
use rallrec::tensor::Dtype;

use super::common::{Values, cases, close, devices};

fn places(seed: u64) -> impl Iterator<Item = Device> {
    std::iter::once(Device::Cpu).chain(devices(seed).into_iter().map(Device::Kernels))
}

fn up(device: &Device, width: usize, x: &[f32]) -> Rows {
    Rows::upload(device, Dtype::F32, width, x, "x").unwrap()
}

fn zeros(device: &Device, rows: usize, width: usize) -> Rows {
    Rows::zeros(device, Dtype::F32, rows, width, "x").unwrap()
}

/// A layer with an adapter, a second one without, and what they are applied to.
struct Layers {
    inp: usize,
    outs: [usize; 2],
    rank: usize,
    scale: f32,
    x: Vec<f32>,
    w: [Vec<f32>; 2],
    a: Vec<f32>,
    b: Vec<f32>,
    dy: [Vec<f32>; 2],
    /// Of the adapter's input.
    factors: Vec<f32>,
}

impl Layers {
    /// The first layer's result, and the gradients of x, A and B; `by` is applied to every value,
    /// so that with `f32::abs` these are the sizes of what is summed.
    fn oracle(&self, by: fn(f32) -> f32) -> [Vec<f64>; 4] {
        let Self { inp, outs, rank, .. } = *self;
        let of = |m: &[f32], i: usize| f64::from(by(m[i]));
        let (scale, rows) = (f64::from(self.scale), self.x.len() / inp);
        let dropped = |i: usize, k: usize| of(&self.x, i * inp + k) * of(&self.factors, i * inp + k);
        let low = |i: usize, r: usize| (0..inp).map(|k| dropped(i, k) * of(&self.a, r * inp + k)).sum::<f64>();
        let by_low = |i: usize, r: usize| {
            (0..outs[0]).map(|o| of(&self.dy[0], i * outs[0] + o) * of(&self.b, o * rank + r)).sum::<f64>() * scale
        };
        let (mut y, mut dx) = (Vec::new(), vec![0.0; rows * inp]);
        let (mut da, mut db) = (vec![0.0; rank * inp], vec![0.0; outs[0] * rank]);
        for i in 0..rows {
            let (z, dz): (Vec<f64>, Vec<f64>) = (0..rank).map(|r| (low(i, r), by_low(i, r))).unzip();
            for o in 0..outs[0] {
                let base: f64 = (0..inp).map(|k| of(&self.x, i * inp + k) * of(&self.w[0], o * inp + k)).sum();
                y.push(base + scale * (0..rank).map(|r| z[r] * of(&self.b, o * rank + r)).sum::<f64>());
                (0..rank).for_each(|r| db[o * rank + r] += scale * of(&self.dy[0], i * outs[0] + o) * z[r]);
            }
            for k in 0..inp {
                let base = |n: usize| -> f64 {
                    (0..outs[n]).map(|o| of(&self.dy[n], i * outs[n] + o) * of(&self.w[n], o * inp + k)).sum()
                };
                let by_pair: f64 = (0..rank).map(|r| dz[r] * of(&self.a, r * inp + k)).sum();
                dx[i * inp + k] = base(0) + base(1) + by_pair * of(&self.factors, i * inp + k);
                (0..rank).for_each(|r| da[r * inp + k] += dz[r] * dropped(i, k));
            }
        }
        [y, dx, da, db]
    }
}

proptest! {
    #![proptest_config(cases(8))]

    /// The gradient of a norm's weight on the CPU, the forward once more, and what does not fit.
    #[test]
    fn norms(rows in 1usize..50, heads in 1usize..3, vectors in 1usize..5, accumulate: bool, seed in 0u64..1_000_000) {
        let (dim, n) = (8 * vectors, rows * heads * 8 * vectors);
        let (width, draw) = (heads * dim, |n, salt| Values::Normal.draw::<f32>(n, seed + salt));
        let (x, w, dy, old) = (draw(n, 0), draw(dim, 1), draw(n, 2), draw(n, 3));
        let (dx, dw) = rmsnorm::oracle::backward(&x, &w, f64::from(EPS), &dy);
        let (dx_size, dw_size) = rmsnorm::oracle::sizes(&x, &w, f64::from(EPS), &dy);
        let before = |i: usize| if accumulate { f64::from(old[i]) } else { 0.0 };
        let want: Vec<f64> = dx.iter().enumerate().map(|(i, d)| d + before(i)).collect();
        for device in places(seed) {
            let placed = up(&device, dim, &w);
            let weight = rmsnorm::Weight::of(&placed).unwrap();
            let mut x = up(&device, width, &x);
            let (mut y, mut again) = (zeros(&device, rows, width), zeros(&device, rows, width));
            let mut rstd = List::zeros(&device, rows * heads, "rstd").unwrap();
            rmsnorm_kept(&mut x, None, weight, EPS, &mut y, &mut rstd).unwrap();
            rmsnorm_again(&mut x, &rstd, weight, EPS, &mut again).unwrap();
            prop_assert_eq!(again.download().unwrap(), y.download().unwrap());
            let (mut dy, mut dx, mut got) = (up(&device, width, &dy), up(&device, width, &old), vec![0.0; dim]);
            let (kept, on_cpu) = (Kept { x: &x, rstd: &rstd }, matches!(device, Device::Cpu));
            let mut more = zeros(&device, rows + 1, width);
            prop_assert!(rmsnorm_backward(kept, weight, &mut more, (&mut dx, true), None).is_err());
            let by = on_cpu.then_some(&mut got[..]);
            rmsnorm_backward(kept, weight, &mut dy, (&mut dx, accumulate), by).unwrap();
            let off = |i: usize| rmsnorm::cases::tolerance(false, want[i], dx_size[i] + before(i).abs());
            close("dx", &dx.download().unwrap(), &want, off)?;
            if on_cpu {
                close("dw", &got, &dw, |i| rmsnorm::cases::tolerance(false, dw[i], dw_size[i]))?;
            }
        }
    }

    /// Two layers of one input, the first with an adapter whose input is dropped from, the second
    /// without.
    #[test]
    fn layers_with_adapters(
        rows in 1usize..150, inp in 1usize..5, outs in (1usize..5, 1usize..5), rank in 1usize..4,
        p in prop::sample::select(vec![0.0, 0.3]), seed in 0u64..1_000_000,
    ) {
        let (inp, outs, scale) = (8 * inp, [8 * outs.0, 8 * outs.1], 0.5f32);
        let draw = |n, salt| Values::Normal.draw::<f32>(n, seed + salt);
        let names: Vec<u64> = (0..rows as u64).map(|r| r * 3 + 1).collect();
        let mask = (p > 0.0).then(|| Dropout::new(p, 5, 1, 2));
        let mut factors = vec![1.0f32; rows * inp];
        if let Some(mask) = mask {
            factors.chunks_exact_mut(inp).zip(&names).for_each(|(f, &n)| mask.factors(n, f));
        }
        let (x, w) = (draw(rows * inp, 0), outs.map(|out| draw(out * inp, 1 + out as u64)));
        let (a, b, dy) = (draw(rank * inp, 30), draw(outs[0] * rank, 31), outs.map(|out| draw(rows * out, 40 + out as u64)));
        let c = Layers { inp, outs, rank, scale, x, w, a, b, dy, factors };
        let (want, size) = (c.oracle(|v| v), c.oracle(f32::abs));
        for device in places(seed) {
            let on_cpu = [0, 1].map(|n| linear::Weight::from_f32(outs[n], inp, c.w[n].clone()).unwrap());
            let placed = [0, 1].map(|n| up(&device, inp, &c.w[n]));
            let weight = |n: usize| match &placed[n] {
                Rows::F32(w) => Weight::Kernels(w, None),
                _ => Weight::Cpu(&on_cpu[n], None),
            };
            let adapters = match &device {
                Device::Cpu => None,
                Device::Kernels(d) => {
                    let up = |width, m: &[f32]| DeviceRows::upload(d, width, m, "pair").unwrap();
                    Some(Adapters { a: up(inp, &c.a), b: up(rank, &c.b), count: 1, scale })
                }
            };
            let pair = adapters.as_ref().map_or(Pair::Cpu { a: &c.a, b: &c.b, rank, scale }, Pair::Kernels);
            let both = [
                Layer { weight: weight(0), pair: Some(pair), dropout: mask },
                Layer { weight: weight(1), pair: None, dropout: None },
            ];
            let (side, x) = (Side::upload(&device, &names).unwrap(), up(&device, inp, &c.x));
            let mut y = outs.map(|out| zeros(&device, rows, out));
            let mut low = [zeros(&device, 0, 0), zeros(&device, 0, 0)];
            let parts = both.into_iter().zip(&mut y).zip(&mut low);
            let mut products: Vec<Forward<'_>> =
                parts.map(|((layer, y), low)| Forward { layer, y, low: Some(low) }).collect();
            layers::forward(&side, &x, &mut products, false).unwrap();
            drop(products);
            let (mut da, mut db) = (vec![0.0; c.a.len()], vec![0.0; c.b.len()]);
            let mut on_device = adapters.as_ref().map(|pair| {
                let zeros = |of: &DeviceRows<f32>| DeviceRows::zeros(of.device(), of.rows(), of.dim(), "by").unwrap();
                Gradients { a: zeros(&pair.a), b: zeros(&pair.b) }
            });
            let by = match &mut on_device {
                Some(g) => By::Kernels(g),
                None => By::Pair(&mut da, &mut db),
            };
            let dys = [0, 1].map(|n| up(&device, outs[n], &c.dy[n]));
            let mut dx = zeros(&device, rows, inp);
            let mut products = [
                Backward { layer: both[0], dy: &dys[0], low: &low[0], by: Some(by) },
                Backward { layer: both[1], dy: &dys[1], low: &low[1], by: None },
            ];
            prop_assert!(layers::backward(&side, None, &mut products, None).is_err(), "a pair without its input");
            layers::backward(&side, Some(&x), &mut products, Some(&mut dx)).unwrap();
            if let Some(g) = &on_device {
                (da, db) = (g.a.download().unwrap(), g.b.download().unwrap());
            }
            let got = [y[0].download().unwrap(), dx.download().unwrap(), da, db];
            for (n, name) in ["y", "dx", "dA", "dB"].into_iter().enumerate() {
                close(name, &got[n], &want[n], |i| tolerance(false, want[n][i], size[n][i]))?;
            }
        }
    }
}
