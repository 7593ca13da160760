//! Attention over packed rows that a backward follows: the keys are rows of the same pass, and each
//! row's log-sum-exp is kept. One call each way for every place.

use half::bf16;

use super::kernel::{self, Span};
use super::{Heads, gradient, no_cap, spans};
use crate::device::{Device, DeviceRows, List, Rows, Storage, mixed};
use crate::error::{Error, Result};
use crate::tensor::{Cost, Dtype};

/// Which keys each query row sees, cut for the place where the rows are.
#[derive(Debug)]
pub struct Packed(Plan);

#[derive(Debug)]
enum Plan {
    Cpu(spans::Spans),
    F32(kernel::Plan<f32>, gradient::Backward<f32>),
    Bf16(kernel::Plan<bf16>, gradient::Backward<bf16>),
}

/// Queries, keys and values as rows of heads side by side.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// (query rows, query heads x dim).
    pub q: &'a Rows,
    /// (key rows, kv heads x dim).
    pub k: &'a Rows,
    /// (key rows, kv heads x dim).
    pub v: &'a Rows,
}

/// What the forward left, and the gradient of its result.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The forward's result.
    pub out: &'a Rows,
    /// Its log-sum-exp, (query rows, query heads).
    pub lse: &'a List<f32>,
    /// Gradient of `out`.
    pub by_out: &'a Rows,
}

/// Gradients, of the shapes of q, k and v, in f32.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the queries.
    pub q: &'a mut Rows,
    /// Of the keys.
    pub k: &'a mut Rows,
    /// Of the values.
    pub v: &'a mut Rows,
}

impl Packed {
    /// Cuts `spans`, whose query rows must not overlap. Each range of key rows, `past` or `own`, is
    /// either the same as another span's or apart from it.
    ///
    /// # Errors
    /// A span whose keys do not exist or overlap another's; out of memory; a dtype that kernels do
    /// not take.
    pub fn new(device: &Device, dtype: Dtype, spans: &[Span]) -> Result<Self> {
        Ok(Self(match (device, dtype) {
            (Device::Cpu, _) => Plan::Cpu(spans::Spans::new(spans)?),
            (Device::Kernels(d), Dtype::F32) => {
                Plan::F32(kernel::Plan::new(d, spans)?, gradient::Backward::new(d, spans)?)
            }
            (Device::Kernels(d), Dtype::Bf16) => {
                Plan::Bf16(kernel::Plan::new(d, spans)?, gradient::Backward::new(d, spans)?)
            }
            (Device::Kernels(_), Dtype::F16) => {
                return Err(Error::failed("attention", "no kernel takes rows of f16").next("use f32 or bf16"));
            }
        }))
    }

    /// The same with a soft cap of the scores: `cap tanh(score / cap)`.
    ///
    /// # Errors
    /// A cap on kernels, which have none.
    pub fn with_cap(mut self, cap: Option<f64>) -> Result<Self> {
        match (&mut self.0, cap) {
            (Plan::Cpu(spans), cap) => spans.cap = cap.map(|cap| cap as f32),
            (_, None) => {}
            (_, Some(_)) => return Err(no_cap()),
        }
        Ok(self)
    }

    /// `out = softmax(q k^T / sqrt(dim)) v`, and `lse` (query rows x heads), the log of each
    /// denominator; with `window` each row sees no more than so many of its last keys.
    ///
    /// # Errors
    /// Shapes that do not fit, operands in different places, a window of nothing.
    pub fn attention(
        &self,
        heads: Heads,
        window: Option<usize>,
        inputs: Inputs<'_>,
        out: &mut Rows,
        lse: &mut List<f32>,
    ) -> Result<Cost> {
        let places = [inputs.q.place(), inputs.k.place(), inputs.v.place(), out.place()];
        match (&self.0, inputs.q, inputs.k, inputs.v, out) {
            (Plan::Cpu(plan), Rows::Cpu(q), Rows::Cpu(k), Rows::Cpu(v), Rows::Cpu(out)) => {
                let inputs = spans::Inputs { q: q.as_slice(), k: k.as_slice(), v: v.as_slice() };
                spans::forward(plan, (heads, window), inputs, out.as_mut_slice(), lse.cpu_mut("attention")?)
            }
            (Plan::F32(plan, _), Rows::F32(q), Rows::F32(k), Rows::F32(v), Rows::F32(out)) => {
                plan.forward(heads, window, &kernel::Inputs { q, k, v }, out, Some(lse.kernels_mut("attention")?))
            }
            (Plan::Bf16(plan, _), Rows::Bf16(q), Rows::Bf16(k), Rows::Bf16(v), Rows::Bf16(out)) => {
                plan.forward(heads, window, &kernel::Inputs { q, k, v }, out, Some(lse.kernels_mut("attention")?))
            }
            _ => Err(mixed("attention", &places)),
        }
    }

    /// Writes the gradients. Those of keys that no span names are zero on the CPU and stay what
    /// they were on kernels. `scratch` is the CPU's, grown as needed.
    ///
    /// # Errors
    /// Shapes that do not fit, operands in different places.
    pub fn attention_backward(
        &self,
        heads: Heads,
        window: Option<usize>,
        inputs: Inputs<'_>,
        given: Given<'_>,
        g: &mut Gradients<'_>,
        scratch: &mut Vec<f32>,
    ) -> Result<Cost> {
        let places = [inputs.q, inputs.k, inputs.v, given.out, given.by_out].map(Rows::place);
        let Gradients { q: dq, k: dk, v: dv } = g;
        match (&self.0, inputs.q, inputs.k, inputs.v, given.out, given.by_out) {
            (Plan::Cpu(plan), Rows::Cpu(q), Rows::Cpu(k), Rows::Cpu(v), Rows::Cpu(out), Rows::Cpu(by_out)) => {
                let (Rows::Cpu(dq), Rows::Cpu(dk), Rows::Cpu(dv)) = (dq, dk, dv) else {
                    return Err(mixed("attention backward", &places));
                };
                let inputs = spans::Inputs { q: q.as_slice(), k: k.as_slice(), v: v.as_slice() };
                let lse = given.lse.cpu("attention backward")?;
                let given = spans::Given { out: out.as_slice(), lse, by_out: by_out.as_slice() };
                let mut g = spans::Gradients { q: dq.as_mut_slice(), k: dk.as_mut_slice(), v: dv.as_mut_slice() };
                spans::backward(plan, (heads, window), inputs, given, &mut g, scratch)
            }
            (Plan::F32(_, plan), Rows::F32(q), Rows::F32(k), Rows::F32(v), Rows::F32(out), Rows::F32(by_out)) => {
                on_kernels(plan, (heads, window), kernel::Inputs { q, k, v }, (out, given.lse, by_out), [dq, dk, dv])
            }
            (Plan::Bf16(_, plan), Rows::Bf16(q), Rows::Bf16(k), Rows::Bf16(v), Rows::Bf16(out), Rows::Bf16(by_out)) => {
                on_kernels(plan, (heads, window), kernel::Inputs { q, k, v }, (out, given.lse, by_out), [dq, dk, dv])
            }
            _ => Err(mixed("attention backward", &places)),
        }
    }
}

fn on_kernels<T: Storage>(
    plan: &gradient::Backward<T>,
    (heads, window): (Heads, Option<usize>),
    inputs: kernel::Inputs<'_, T>,
    (out, lse, by_out): (&DeviceRows<T>, &List<f32>, &DeviceRows<T>),
    [dq, dk, dv]: [&mut Rows; 3],
) -> Result<Cost> {
    let (Rows::F32(q), Rows::F32(k), Rows::F32(v)) = (dq, dk, dv) else {
        return Err(Error::failed("attention backward", "the gradients are f32 rows on the device"));
    };
    let given = gradient::Given { out, lse: lse.kernels("attention backward")?, by_out };
    plan.run(heads, window, &inputs, &given, &mut gradient::Gradients { q, k, v })
}
