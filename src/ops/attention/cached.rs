//! Attention over a cache of keys and values, which no backward follows: prompts, and the steps of
//! decoding behind them. One contract for every place.
//!
//! A row of the cache is one token's keys and values in one layer. Ranges of rows are given out by
//! whoever owns the cache; on the CPU they begin at multiples of [`ALIGN`], because keys stand in
//! blocks of so many positions there:
//!
//! ```text
//! CPU       | kv head 0: block 0 | block 1 | .. | kv head 1: block 0 | ..
//!           a block is (dim, 16); values are (row, dim) by head
//! kernels   | row 0: all kv heads | row 1 | ..
//! ```

use std::ops::Range;

use half::bf16;

use super::cpu::attend_within;
use super::{BLOCK, Heads, Item, Run, cost_of, decode, kernel, no_cap, window_arg};
use crate::device::{Device, DeviceRows, Rows, Storage, mixed};
use crate::error::{Error, Result};
use crate::ops::rows::{RowNumbers, scatter_rows};
use crate::tensor::{Cost, Dtype, Matrix};

/// Ranges of cache rows begin at multiples of this.
pub const ALIGN: usize = BLOCK;

/// Keys and values of one layer.
#[expect(clippy::large_enum_variant, reason = "few of them live at a time, and none is moved in a loop")]
#[derive(Debug)]
pub enum Cache {
    /// In this process.
    Cpu(Blocks),
    /// On a device with kernels: keys and values, a row each.
    Kernels([Rows; 2]),
}

/// Keys and values on the CPU.
#[derive(Debug)]
pub struct Blocks {
    heads: Heads,
    rows: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// For `rows` tokens, rounded up to whole blocks.
    ///
    /// # Errors
    /// Out of memory; a dtype that kernels do not take.
    pub fn new(device: &Device, dtype: Dtype, heads: Heads, rows: usize) -> Result<Self> {
        let (rows, width) = (rows.next_multiple_of(ALIGN), heads.kv * heads.dim);
        Ok(match device {
            // Zeros that nobody has written take no memory yet.
            Device::Cpu => {
                let values = || vec![0.0; rows * width];
                Cache::Cpu(Blocks { heads, rows, keys: values(), values: values() })
            }
            Device::Kernels(_) => {
                let side = || Rows::zeros(device, dtype, rows, width, "keys and values");
                Cache::Kernels([side()?, side()?])
            }
        })
    }

    /// Tokens that it holds.
    pub fn rows(&self) -> usize {
        match self {
            Cache::Cpu(blocks) => blocks.rows,
            Cache::Kernels([keys, _]) => keys.rows(),
        }
    }

    /// Puts keys and values (rows, kv heads x dim) of new tokens at `places`, which must differ.
    ///
    /// # Errors
    /// Shapes that do not fit, places beyond the cache, operands in different places.
    pub fn store(&mut self, k: &Rows, v: &Rows, places: &RowNumbers) -> Result<Cost> {
        match (self, k, v, places) {
            (Cache::Cpu(blocks), Rows::Cpu(k), Rows::Cpu(v), RowNumbers::Cpu(places)) => blocks.store(k, v, places),
            (Cache::Kernels([keys, values]), k, v, places) => {
                let mut cost = scatter_rows(k, places, keys)?;
                cost += scatter_rows(v, places, values)?;
                Ok(cost)
            }
            _ => Err(mixed("attention", &[k.place(), v.place()])),
        }
    }
}

impl Blocks {
    fn store(&mut self, k: &Matrix, v: &Matrix, places: &[u32]) -> Result<Cost> {
        let (dim, width) = (self.heads.dim, self.heads.kv * self.heads.dim);
        let shape = (places.len(), width);
        if (k.rows(), k.cols()) != shape || (v.rows(), v.cols()) != shape {
            let what = format!("keys {} x {} and values {} x {}", k.rows(), k.cols(), v.rows(), v.cols());
            return Err(Error::failed("attention", format!("{what}, not {shape:?}")));
        }
        if let Some(place) = places.iter().find(|&&p| p as usize >= self.rows) {
            return Err(Error::failed("attention", format!("place {place} of a cache of {} rows", self.rows)));
        }
        let all = self.rows * dim;
        for (row, &place) in places.iter().enumerate() {
            let (k, v, place) = (k.row(row), v.row(row), place as usize);
            for head in 0..self.heads.kv {
                let columns = head * dim..(head + 1) * dim;
                self.values[head * all + place * dim..][..dim].copy_from_slice(&v[columns.clone()]);
                let block = &mut self.keys[head * all + place / BLOCK * BLOCK * dim..][..BLOCK * dim];
                for (i, &value) in k[columns].iter().enumerate() {
                    block[i * BLOCK + place % BLOCK] = value;
                }
            }
        }
        let values = (places.len() * width) as f64;
        Ok(Cost { bytes: 16.0 * values, flops: 0.0 })
    }

    /// The rows `range` of a kv head.
    fn run(&self, head: usize, range: &Range<usize>) -> Run<'_> {
        let (dim, from) = (self.heads.dim, (head * self.rows + range.start) * self.heads.dim);
        Run { keys: &self.keys[from..(head + 1) * self.rows * dim], values: &self.values[from..], len: range.len() }
    }
}

/// Query rows of consecutive positions, and the cache rows that they see: all of `past`, oldest
/// first, and of `own` the first `visible` for the first query row, one more for each next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Query rows.
    pub rows: Range<usize>,
    /// Keys that all of them see. Kernels take one range.
    pub past: Vec<Range<usize>>,
    /// Keys up to the causal edge.
    pub own: Range<usize>,
    /// How many of `own` the first query row sees.
    pub visible: usize,
}

impl Span {
    /// The part of the span that query rows `rows` are, counted from `first` on in a pass of their
    /// own.
    #[must_use]
    pub fn part(&self, rows: Range<usize>, first: usize) -> Self {
        let skipped = rows.start - self.rows.start;
        Self { rows: first..first + rows.len(), visible: self.visible + skipped, ..self.clone() }
    }

    /// Keys that the last query row sees.
    pub fn longest(&self) -> usize {
        self.past.iter().map(Range::len).sum::<usize>() + self.visible + self.rows.len().saturating_sub(1)
    }

    fn single_past(&self) -> Result<Range<usize>> {
        match &self.past[..] {
            [] => Ok(0..0),
            [past] => Ok(past.clone()),
            more => Err(Error::failed("attention", format!("{} ranges of past keys; kernels take one", more.len()))),
        }
    }

    fn check(&self) -> Result<()> {
        if self.visible == 0 || self.visible + self.rows.len().saturating_sub(1) > self.own.len() {
            let what =
                format!("rows {:?} see {} of {:?} first, after {:?}", self.rows, self.visible, self.own, self.past);
            return Err(Error::failed("attention", what).next("the last row's keys must exist"));
        }
        Ok(())
    }
}

/// What the query rows of a pass see, cut for the place where they are.
#[derive(Debug)]
pub struct Plan {
    heads: Heads,
    rows: usize,
    longest: usize,
    cap: Option<f32>,
    on: On,
}

#[derive(Debug)]
enum On {
    Cpu(Vec<Span>),
    F32(kernel::Plan<f32>),
    Bf16(kernel::Plan<bf16>),
    StepF32(decode::Plan<f32>),
    StepBf16(decode::Plan<bf16>),
}

fn check(heads: Heads, spans: &[Span]) -> Result<usize> {
    if heads.kv == 0 || heads.dim == 0 || !heads.query.is_multiple_of(heads.kv) {
        return Err(Error::failed("attention", format!("{heads:?}")).next("query heads are a multiple of kv heads"));
    }
    let mut next = 0;
    for span in spans {
        span.check()?;
        if span.rows.start != next {
            return Err(Error::failed("attention", format!("query rows {:?} behind {next}", span.rows)));
        }
        next = span.rows.end;
    }
    Ok(spans.iter().map(Span::longest).max().unwrap_or(0))
}

/// Neighbouring rows of one past are samples of one prompt.
fn prompts(spans: &[Span]) -> Result<Vec<decode::Prompt>> {
    if let Some(span) = spans.iter().find(|s| s.rows.len() != 1 || s.visible != s.own.len()) {
        return Err(Error::failed(
            "attention",
            format!("a step of rows {:?} that see {} keys", span.rows, span.visible),
        ));
    }
    let same = spans.chunk_by(|a, b| a.past == b.past);
    same.map(|spans| {
        let own = spans.iter().map(|s| s.own.clone()).collect();
        Ok(decode::Prompt { prefix: spans[0].single_past()?, own })
    })
    .collect()
}

fn no_kernels() -> Error {
    Error::failed("attention", "no kernel takes rows of f16").next("use f32 or bf16")
}

impl Plan {
    /// Of `spans`, whose query rows follow one another.
    ///
    /// # Errors
    /// Spans whose keys do not exist; more than one range of past keys on kernels; heads that
    /// kernels do not take.
    pub fn new(device: &Device, dtype: Dtype, heads: Heads, spans: Vec<Span>) -> Result<Self> {
        let (longest, rows) = (check(heads, &spans)?, spans.last().map_or(0, |s| s.rows.end));
        let on = match (device, dtype) {
            (Device::Cpu, _) => On::Cpu(spans),
            (Device::Kernels(device), dtype) => {
                let cut = |s: &Span| {
                    let Span { rows, own, visible, .. } = s.clone();
                    Ok(kernel::Span { rows, past: s.single_past()?, own, visible })
                };
                let spans = spans.iter().map(cut).collect::<Result<Vec<_>>>()?;
                match dtype {
                    Dtype::F32 => On::F32(kernel::Plan::new(device, &spans)?),
                    Dtype::Bf16 => On::Bf16(kernel::Plan::new(device, &spans)?),
                    Dtype::F16 => return Err(no_kernels()),
                }
            }
        };
        Ok(Self { heads, rows, longest, cap: None, on })
    }

    /// Of a step of decoding: spans of one row each, those of one past next to each other, with
    /// room for `more` blocks of work so that [`Plan::write`] may find some.
    ///
    /// # Errors
    /// As [`Plan::new`]; spans of more rows.
    pub fn step(device: &Device, dtype: Dtype, heads: Heads, spans: Vec<Span>, more: usize) -> Result<Self> {
        let (longest, rows) = (check(heads, &spans)?, spans.last().map_or(0, |s| s.rows.end));
        let on = match (device, dtype) {
            (Device::Cpu, _) => On::Cpu(spans),
            (Device::Kernels(device), Dtype::F32) => {
                On::StepF32(decode::Plan::with_room(device, heads, &prompts(&spans)?, more)?)
            }
            (Device::Kernels(device), Dtype::Bf16) => {
                On::StepBf16(decode::Plan::with_room(device, heads, &prompts(&spans)?, more)?)
            }
            (Device::Kernels(_), Dtype::F16) => return Err(no_kernels()),
        };
        Ok(Self { heads, rows, longest, cap: None, on })
    }

    /// The same with a soft cap of the scores: `cap tanh(score / cap)`.
    ///
    /// # Errors
    /// A cap on kernels, which have none.
    pub fn with_cap(mut self, cap: Option<f64>) -> Result<Self> {
        if cap.is_some() && !matches!(self.on, On::Cpu(_)) {
            return Err(no_cap());
        }
        self.cap = cap.map(|cap| cap as f32);
        Ok(self)
    }

    /// Another step of as many rows in the same place, with keys below `keys`: for launches that
    /// are replayed. `false`, and nothing has changed, if there is no room.
    ///
    /// # Errors
    /// Keys beyond `keys`; a plan that is not of a step.
    pub fn write(&mut self, spans: Vec<Span>, keys: usize) -> Result<bool> {
        let longest = check(self.heads, &spans)?;
        let room = match &mut self.on {
            On::StepF32(plan) => plan.write(&prompts(&spans)?, keys)?,
            On::StepBf16(plan) => plan.write(&prompts(&spans)?, keys)?,
            _ => return Err(Error::failed("attention", "only the plan of a step on kernels is written anew")),
        };
        if room {
            self.longest = longest;
        }
        Ok(room)
    }

    /// Keys that the row which sees most sees.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// `out = softmax(q k^T / sqrt(dim)) v` for q (query rows, query heads x dim) over the keys that
/// `plan` names; with `window` each row sees no more than so many of its last keys. `out` takes the
/// shape of q.
///
/// # Errors
/// Shapes that do not fit, keys beyond the cache, operands in different places.
pub fn attention(q: &Rows, cache: &Cache, plan: &Plan, window: Option<usize>, out: &mut Rows) -> Result<Cost> {
    let places = [q.place(), out.place()];
    if q.rows() != plan.rows {
        return Err(Error::failed("attention", format!("{} query rows, planned for {}", q.rows(), plan.rows)));
    }
    window_arg(window)?;
    out.fit(q.rows(), q.dim(), "activations")?;
    match (q, cache, &plan.on, out) {
        (Rows::Cpu(q), Cache::Cpu(blocks), On::Cpu(spans), Rows::Cpu(out)) => {
            on_cpu(q, blocks, (plan.heads, window, plan.cap), spans, out)
        }
        (Rows::F32(q), Cache::Kernels([Rows::F32(k), Rows::F32(v)]), On::F32(plan_of), Rows::F32(out)) => {
            plan_of.forward(plan.heads, window, &kernel::Inputs { q, k, v }, out, None)
        }
        (Rows::Bf16(q), Cache::Kernels([Rows::Bf16(k), Rows::Bf16(v)]), On::Bf16(plan_of), Rows::Bf16(out)) => {
            plan_of.forward(plan.heads, window, &kernel::Inputs { q, k, v }, out, None)
        }
        (Rows::F32(q), Cache::Kernels([Rows::F32(k), Rows::F32(v)]), On::StepF32(plan), Rows::F32(out)) => {
            step((plan, window), q, (k, v), out)
        }
        (Rows::Bf16(q), Cache::Kernels([Rows::Bf16(k), Rows::Bf16(v)]), On::StepBf16(plan), Rows::Bf16(out)) => {
            step((plan, window), q, (k, v), out)
        }
        _ => Err(mixed("attention", &places)),
    }
}

fn step<T: Storage>(
    (plan, window): (&decode::Plan<T>, Option<usize>),
    q: &DeviceRows<T>,
    (k, v): (&DeviceRows<T>, &DeviceRows<T>),
    out: &mut DeviceRows<T>,
) -> Result<Cost> {
    plan.forward(window, &kernel::Inputs { q, k, v }, out)
}

fn on_cpu(
    q: &Matrix,
    blocks: &Blocks,
    (heads, window, cap): (Heads, Option<usize>, Option<f32>),
    spans: &[Span],
    out: &mut Matrix,
) -> Result<Cost> {
    let rows = spans.last().map_or(0, |s| s.rows.end);
    if heads != blocks.heads || (q.rows(), q.cols()) != (rows, heads.query * heads.dim) {
        let what = format!("{} x {} queries for {rows} rows of {heads:?}", q.rows(), q.cols());
        return Err(Error::failed("attention", format!("{what}, a cache of {:?}", blocks.heads)));
    }
    let mut items = Vec::with_capacity(spans.len());
    for span in spans {
        let own = span.own.start..span.own.start + span.visible + span.rows.len() - 1;
        let ranges: Vec<Range<usize>> = span.past.iter().cloned().chain([own]).collect();
        if let Some(wrong) = ranges.iter().find(|r| r.end > blocks.rows || !r.start.is_multiple_of(ALIGN)) {
            return Err(Error::failed("attention", format!("keys {wrong:?} of a cache of {} rows", blocks.rows)));
        }
        let runs = |head: usize| ranges.iter().map(|range| blocks.run(head, range)).collect();
        items.push(Item { rows: span.rows.len(), runs: (0..heads.kv).map(runs).collect() });
    }
    attend_within(q.as_slice(), heads, (window, cap), &items, out.as_mut_slice(), None);
    Ok(cost_of(heads, &items))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle;
    use super::*;
    use crate::rng::{Rng, Use};

    fn noise(rows: usize, cols: usize, seed: u64) -> Matrix {
        let mut rng = Rng::new(seed, Use::Synthetic, 0, 0);
        Matrix::from_vec(rows, cols, (0..rows * cols).map(|_| rng.normal()).collect()).unwrap()
    }

    fn wide(m: &Matrix) -> Vec<f64> {
        m.as_slice().iter().map(|&v| f64::from(v)).collect()
    }

    /// A sequence of `past` and `own` tokens in a cache of ranges that do not touch, and what its
    /// rows see.
    fn run(heads: Heads, past: &[usize], own: usize, window: Option<usize>, seed: u64) -> (Vec<f32>, Vec<f64>) {
        let keys: usize = past.iter().sum::<usize>() + own;
        let width = heads.kv * heads.dim;
        let (k, v, q) =
            (noise(keys, width, seed), noise(keys, width, seed + 1), noise(own, heads.query * heads.dim, seed + 2));
        let (mut ranges, mut places, mut at) = (Vec::new(), Vec::new(), ALIGN);
        for &n in past.iter().chain([&own]) {
            ranges.push(at..at + n);
            places.extend((at..at + n).map(|p| p as u32));
            at = (at + n).next_multiple_of(ALIGN) + ALIGN;
        }
        let own_range = ranges.pop().unwrap();
        let mut cache = Cache::new(&Device::Cpu, Dtype::F32, heads, at).unwrap();
        let (k_rows, v_rows) = (Rows::Cpu(k.clone()), Rows::Cpu(v.clone()));
        cache.store(&k_rows, &v_rows, &RowNumbers::Cpu(places)).unwrap();
        let span = Span { rows: 0..own, past: ranges, own: own_range, visible: 1 };
        let plan = Plan::new(&Device::Cpu, Dtype::F32, heads, vec![span]).unwrap();
        let mut out = Rows::Cpu(Matrix::zeros(0, 0));
        attention(&Rows::Cpu(q.clone()), &cache, &plan, window, &mut out).unwrap();
        let mut want = Vec::new();
        for row in 0..own {
            let end = keys - own + row + 1;
            let from = window.map_or(0, |w| end.saturating_sub(w));
            let cut = |m: &Matrix| wide(m)[from * width..end * width].to_vec();
            want.extend(oracle::attention(&wide(&q)[row * q.cols()..(row + 1) * q.cols()], &cut(&k), &cut(&v), heads));
        }
        (out.download().unwrap(), want)
    }

    proptest! {
        #![proptest_config(crate::testing::cases(32))]
        /// A cache cut into ranges gives what the oracle says of each row and the keys in its
        /// window.
        #[test]
        fn a_window_hides_all_but_the_last_keys(
            group in 1usize..4, past in prop::collection::vec(1usize..90, 0..3), own in 1usize..40,
            window in prop::option::of(1usize..150), seed in 0u64..1000,
        ) {
            let heads = Heads { query: 2 * group, kv: 2, dim: 8 };
            let (got, want) = run(heads, &past, own, window, seed);
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                prop_assert!((f64::from(*g) - w).abs() <= 1e-5, "{i}: {g} {w}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let heads = Heads { query: 2, kv: 1, dim: 4 };
        let span = |own: Range<usize>, visible| Span { rows: 0..2, past: Vec::new(), own, visible };
        let plan = |span| Plan::new(&Device::Cpu, Dtype::F32, heads, vec![span]);
        assert!(plan(span(0..2, 0)).is_err() && plan(span(0..2, 2)).is_err(), "keys that do not exist");
        assert!(Plan::new(&Device::Cpu, Dtype::F32, Heads { query: 3, kv: 2, dim: 4 }, vec![]).is_err());
        let cache = Cache::new(&Device::Cpu, Dtype::F32, heads, 16).unwrap();
        let q = |rows| Rows::Cpu(Matrix::zeros(rows, 8));
        let run = |q: Rows, span| attention(&q, &cache, &plan(span).unwrap(), None, &mut Rows::Cpu(Matrix::default()));
        assert!(run(q(2), span(0..2, 1)).is_ok());
        assert!(run(q(3), span(0..2, 1)).is_err(), "another number of rows");
        assert!(run(q(2), span(16..18, 1)).is_err(), "beyond the cache");
        assert!(run(q(2), span(3..5, 1)).is_err(), "in the middle of a block");
    }
}
