//! A layer of a decode step: the launches that a run makes, one behind the other, for samples
//! behind one prompt.

use crate::device::{DeviceRows, KernelDevice, Storage};
use crate::error::Result;
use crate::ops::attention::kernel::Inputs;
use crate::ops::attention::{Heads, decode};
use crate::ops::linear::cases::quantised;
use crate::ops::linear::decode::{self as few, Format, Quantised};
use crate::ops::registry::{Case, Goal, Prepared, Scale, rows};
use crate::ops::rope::Rope;
use crate::ops::rope::kernel::{DeviceAngles, Positions};
use crate::ops::rows::kernel::{Places, scatter};
use crate::ops::{rmsnorm, swiglu};
use half::bf16;

pub(super) const CASES: &[Case] = &[
    Case::kernels("decode_step", "a layer, bf16 weights", |d, s| step(d, s, SAMPLES, narrow)),
    Case::kernels("decode_step", "a layer, bf16 weights", |d, s| step(d, s, 1, narrow)),
    Case::kernels("decode_step", "a layer, Q8_0 weights", |d, s| {
        step(d, s, SAMPLES, |d, o, i| blocks(d, Format::Q8_0, o, i))
    }),
    Case::kernels("decode_step", "a layer, Q8_0 weights", |d, s| {
        step(d, s, 1, |d, o, i| blocks(d, Format::Q8_0, o, i))
    }),
    Case::kernels("decode_step", "a layer, Q4_1 weights", |d, s| {
        step(d, s, SAMPLES, |d, o, i| blocks(d, Format::Q4_1, o, i))
    }),
];

const SAMPLES: usize = 16;

/// A weight in the storage that a run takes a step with.
trait Layer {
    type Row: Storage;
    const NAME: &'static str;
    fn bytes(&self) -> f64;
    fn apply(&self, x: &DeviceRows<Self::Row>, accumulate: bool, y: &mut DeviceRows<Self::Row>) -> Result<()>;
}

struct Narrow(DeviceRows<bf16>);

fn narrow(device: &KernelDevice, out: usize, inp: usize) -> Result<Narrow> {
    rows(device, out, inp, 1).map(Narrow)
}

impl Layer for Narrow {
    type Row = bf16;
    const NAME: &'static str = "bf16";

    fn bytes(&self) -> f64 {
        2.0 * (self.0.rows() * self.0.dim()) as f64
    }

    fn apply(&self, x: &DeviceRows<bf16>, accumulate: bool, y: &mut DeviceRows<bf16>) -> Result<()> {
        few::step(x, &self.0, None, None, accumulate, y).map(drop)
    }
}

/// Activations of a run with quantised weights are f32.
struct Blocks(Quantised, f64);

fn blocks(device: &KernelDevice, format: Format, out: usize, inp: usize) -> Result<Blocks> {
    let of_a_block = match format {
        Format::Q8_0 => 34.0,
        Format::Q4_0 => 18.0,
        Format::Q4_1 => 20.0,
    };
    Ok(Blocks(quantised(device, format, out, inp)?, of_a_block / 32.0))
}

impl Layer for Blocks {
    type Row = f32;
    const NAME: &'static str = "f32";

    fn bytes(&self) -> f64 {
        self.1 * (self.0.out() * self.0.inp()) as f64
    }

    fn apply(&self, x: &DeviceRows<f32>, accumulate: bool, y: &mut DeviceRows<f32>) -> Result<()> {
        self.0.product(x, None, accumulate, y).map(drop)
    }
}

/// One layer's weights, of which there are two: together far beyond a cache.
struct Weights<L> {
    q: L,
    k: L,
    v: L,
    o: L,
    gate_up: L,
    down: L,
}

impl<L: Layer> Weights<L> {
    fn bytes(&self) -> f64 {
        [&self.q, &self.k, &self.v, &self.o, &self.gate_up, &self.down].iter().map(|w| w.bytes()).sum()
    }
}

/// The floor is every weight, key and value once.
fn step<L: Layer + 'static>(
    device: &KernelDevice,
    scale: Scale,
    samples: usize,
    weight: fn(&KernelDevice, usize, usize) -> Result<L>,
) -> Result<Prepared> {
    let heads = match scale {
        Scale::Full => Heads { query: 32, kv: 8, dim: 128 },
        Scale::Tiny => Heads { query: 4, kv: 2, dim: 16 },
    };
    let (hidden, wide, narrow) = (heads.query * heads.dim, heads.query * heads.dim, heads.kv * heads.dim);
    let (inner, prefix, own) = (scale.of(14_336, 96), scale.of(4096, 20), scale.of(64, 3));
    let samples = samples.min(scale.of(samples, 3));
    let layer = |_| {
        Ok(Weights {
            q: weight(device, wide, hidden)?,
            k: weight(device, narrow, hidden)?,
            v: weight(device, narrow, hidden)?,
            o: weight(device, hidden, wide)?,
            gate_up: weight(device, 2 * inner, hidden)?,
            down: weight(device, hidden, inner)?,
        })
    };
    let layers = (0..2).map(layer).collect::<Result<Vec<_>>>()?;
    let keys = prefix + samples * own;
    let of_prompt = |i: usize| prefix + i * own..prefix + (i + 1) * own;
    let prompt = decode::Prompt { prefix: 0..prefix, own: (0..samples).map(of_prompt).collect() };
    let plan = decode::Plan::new(device, heads, &[prompt])?;
    let last: Vec<u32> = (0..samples).map(|i| (prefix + (i + 1) * own - 1) as u32).collect();
    let places = Places::upload(device, &last)?;
    let position = prefix + own;
    let angles = DeviceAngles::new(device, &Rope::new(heads.dim, 5e5, None), position + 1)?;
    let positions = Positions::upload(device, &vec![position as u32; samples])?;
    let (mut cached_k, mut cached_v) = (rows(device, keys, narrow, 2)?, rows(device, keys, narrow, 3)?);
    let zeros = |width| DeviceRows::<L::Row>::zeros(device, samples, width, "activations");
    let (mut normed, mut q, mut k, mut v) = (zeros(hidden)?, zeros(wide)?, zeros(narrow)?, zeros(narrow)?);
    let (mut attended, mut both, mut gated) = (zeros(wide)?, zeros(2 * inner)?, zeros(inner)?);
    let norm = DeviceRows::upload(device, hidden, &vec![1.0f32; hidden], "norm")?;
    let embedded: Vec<L::Row> = vec![L::Row::from_f32(0.5); samples * hidden];
    let mut x = DeviceRows::upload(device, hidden, &embedded, "hidden states")?;
    let weights = layers[0].bytes();
    let run = move |i: usize| {
        let w = &layers[i];
        x.write(&embedded)?;
        rmsnorm::kernel::forward(&mut x, None, &norm, 1e-5, &mut normed, None)?;
        w.q.apply(&normed, false, &mut q)?;
        w.k.apply(&normed, false, &mut k)?;
        w.v.apply(&normed, false, &mut v)?;
        angles.turn(&mut q, (0, heads.query), &positions, false)?;
        angles.turn(&mut k, (0, heads.kv), &positions, false)?;
        scatter(&k, &places, &mut cached_k)?;
        scatter(&v, &places, &mut cached_v)?;
        plan.forward(None, &Inputs { q: &q, k: &cached_k, v: &cached_v }, &mut attended)?;
        w.o.apply(&attended, true, &mut x)?;
        rmsnorm::kernel::forward(&mut x, None, &norm, 1e-5, &mut normed, None)?;
        w.gate_up.apply(&normed, false, &mut both)?;
        swiglu::kernel::forward(&both, &mut gated)?;
        w.down.apply(&gated, true, &mut x)
    };
    let bytes = weights + (2 * size_of::<L::Row>() * keys * narrow) as f64;
    let sizes = [("samples", samples), ("prefix", prefix), ("own", own), ("hidden", hidden), ("inner", inner)];
    Ok(Prepared::new(L::NAME, &sizes, run).sets(2).floor(bytes, 0.0).goal(Goal::Floor(0.8)))
}
