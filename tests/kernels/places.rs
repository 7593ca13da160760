//! The operators of a decoder by the calls that a model makes: one signature for the CPU, the host
//! build and a GPU, in f32 and bf16, each against its f64 oracle.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{Device, Rows};
use rallrec::ops::attention::cached::{self, ALIGN, Cache, Plan, Span};
use rallrec::ops::attention::{self, Heads};
use rallrec::ops::cross_entropy::{self, Head, choose};
use rallrec::ops::linear::Weight as Matrix;
use rallrec::ops::linear::layers::{self, Forward, Layer, Pair, Side, Weight, project};
use rallrec::ops::lora::kernel::Adapters;
use rallrec::ops::rmsnorm::{self, rmsnorm, rmsnorm_in_place};
use rallrec::ops::rope::{Positions, Rope, Table};
use rallrec::ops::rows::{RowNumbers, add_rows, gather_rows, scatter_rows};
use rallrec::ops::sampling::{Cut, Draw, sample};
use rallrec::ops::{rope, swiglu};
use rallrec::rng::{Rng, Use};
use rallrec::tensor::Dtype;

use super::common::{cases, close, devices, largest, wide};

/// The CPU, and every device with kernels in both storage types; with each the rounding of a stored
/// value.
fn places(seed: u64) -> Vec<(Device, Dtype, f64)> {
    let kernels = devices(seed).into_iter().map(Device::Kernels);
    let both = kernels.flat_map(|d| [(d.clone(), Dtype::F32, 2e-6), (d, Dtype::Bf16, 1.0 / 256.0)]);
    std::iter::once((Device::Cpu, Dtype::F32, 2e-6)).chain(both).collect()
}

/// Normal values that bf16 holds exactly.
fn draw(n: usize, seed: u64, stream: u32) -> Vec<f32> {
    let mut rng = Rng::new(seed, Use::Synthetic, stream, 9);
    (0..n).map(|_| bf16::from_f32(rng.normal()).to_f32()).collect()
}

fn upload(device: &Device, dtype: Dtype, dim: usize, values: &[f32]) -> Rows {
    Rows::upload(device, dtype, dim, values, "test").unwrap()
}

fn empty(device: &Device, dtype: Dtype) -> Rows {
    Rows::zeros(device, dtype, 0, 0, "test").unwrap()
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn rmsnorm_with_and_without_a_residual(
        rows in 1usize..6, heads in 1usize..4, eight in 1usize..5, added: bool, seed in 0u64..100_000,
    ) {
        let (width, dim) = (8 * eight, 8 * eight * heads);
        let (x, add, w) = (draw(rows * dim, seed, 0), draw(rows * dim, seed, 1), draw(width, seed, 2));
        for (device, dtype, _) in places(seed) {
            // What the norm sees: a sum that is stored before.
            let sum = |(x, a): (&f32, &f32)| if dtype == Dtype::Bf16 { bf16::from_f32(x + a).to_f32() } else { x + a };
            let seen: Vec<f32> = if added { x.iter().zip(&add).map(sum).collect() } else { x.clone() };
            let want = rmsnorm::oracle::rmsnorm(&seen, &w, 1e-5);
            let (mut on_x, on_add) = (upload(&device, dtype, dim, &x), upload(&device, dtype, dim, &add));
            let on_w = upload(&device, Dtype::F32, width, &w);
            let weight = match &on_w {
                Rows::F32(w) => rmsnorm::Weight::Kernels(w),
                _ => rmsnorm::Weight::Cpu(&w),
            };
            let mut y = empty(&device, dtype);
            rmsnorm(&mut on_x, added.then_some(&on_add), weight, 1e-5, &mut y).unwrap();
            close("y", &y.download().unwrap(), &want, |i| rmsnorm::cases::tolerance(dtype == Dtype::Bf16, want[i], 0.0))?;
            close("x", &on_x.download().unwrap(), &wide(&seen), |_| 0.0)?;
            rmsnorm_in_place(&mut on_x, weight, 1e-5).unwrap();
            prop_assert_eq!(on_x.download().unwrap(), y.download().unwrap());
            prop_assert!(rmsnorm(&mut on_x, None, rmsnorm::Weight::Cpu(&w[1..]), 1e-5, &mut y).is_err());
        }
    }

    #[test]
    fn swiglu_and_rope_in_place(rows in 1usize..6, heads in 1usize..3, eight in 1usize..4, seed in 0u64..100_000) {
        let (dim, width) = (16 * eight, 16 * eight * heads);
        let (x, up) = (draw(rows * width, seed, 0), draw(rows * width, seed, 1));
        let mut rng = Rng::new(seed, Use::Synthetic, 3, 3);
        let positions: Vec<u32> = (0..rows).map(|_| rng.below(300)).collect();
        let gated = swiglu::oracle::swiglu(&x, &up);
        let turned = rope::oracle::apply(&x, heads, dim, 1e4, None, &positions);
        for (device, dtype, _) in places(seed) {
            let narrow = dtype == Dtype::Bf16;
            let off = rope::cases::tolerance(narrow, largest(&wide(&x)));
            let mut gate = upload(&device, dtype, width, &x);
            let on_up = upload(&device, dtype, width, &up);
            swiglu::swiglu_in_place(&mut gate, &on_up).unwrap();
            close("swiglu", &gate.download().unwrap(), &gated, |i| swiglu::cases::tolerance(narrow, gated[i], up[i].into()))?;
            let mut table = Table::new(&device, Rope::new(dim, 1e4, None));
            table.grow(300).unwrap();
            let mut y = upload(&device, dtype, width, &x);
            let on_positions = Positions::upload(&device, &positions).unwrap();
            table.rope(&mut y, &on_positions).unwrap();
            close("rope", &y.download().unwrap(), &turned, |_| off)?;
            table.rope_backward(&mut y, &on_positions).unwrap();
            close("back", &y.download().unwrap(), &wide(&x), |_| 2.5 * off)?;
            let mut other = upload(&device, dtype, width, &x[..(rows - 1) * width]);
            prop_assert!(table.rope(&mut other, &on_positions).is_err() && swiglu::swiglu_in_place(&mut other, &on_up).is_err());
            let beyond = Positions::upload(&device, &vec![5000; rows]).unwrap();
            prop_assert!(table.rope(&mut y, &beyond).is_err());
        }
    }

    #[test]
    fn rows_go_to_their_numbers(rows in 1usize..9, spare in 0usize..4, width in 1usize..20, seed in 0u64..100_000) {
        let mut order: Vec<u32> = (0..(rows + spare) as u32).collect();
        Rng::new(seed, Use::Synthetic, 4, 4).shuffle(&mut order);
        let order = &order[..rows];
        let (x, old) = (draw(rows * width, seed, 0), draw((rows + spare) * width, seed, 1));
        for (device, dtype, _) in places(seed) {
            let (from, numbers) = (upload(&device, dtype, width, &x), RowNumbers::upload(&device, order).unwrap());
            let mut to = upload(&device, dtype, width, &old);
            scatter_rows(&from, &numbers, &mut to).unwrap();
            let mut back = from.zeros_beside(rows, width, "back").unwrap();
            gather_rows(&to, &numbers, &mut back).unwrap();
            prop_assert_eq!(back.download().unwrap(), x.clone());
            let mut want = old.clone();
            for (row, &to) in x.chunks_exact(width).zip(order) {
                want[to as usize * width..][..width].copy_from_slice(row);
            }
            prop_assert_eq!(to.download().unwrap(), want.clone());
            if dtype == Dtype::F32 {
                add_rows(&from, &numbers, &mut to).unwrap();
                for (row, &to) in x.chunks_exact(width).zip(order) {
                    want[to as usize * width..][..width].iter_mut().zip(row).for_each(|(w, r)| *w += r);
                }
                prop_assert_eq!(to.download().unwrap(), want);
            }
            let beyond = RowNumbers::upload(&device, &vec![99; rows]).unwrap();
            prop_assert!(scatter_rows(&from, &beyond, &mut to).is_err());
        }
    }

    /// Sequences behind a shared beginning in a cache, as prompts and as a step of decoding.
    #[test]
    fn attention_over_a_cache(
        kv in 1usize..3, group in 1usize..4, eight in 1usize..4, past in 0usize..40, seed in 0u64..100_000,
        lengths in prop::collection::vec(1usize..40, 1..4),
    ) {
        let heads = Heads { query: kv * group, kv, dim: 8 * eight };
        let (qw, kw) = (heads.query * heads.dim, kv * heads.dim);
        let keys = past + lengths.iter().sum::<usize>();
        let (k, v) = (draw(keys * kw, seed, 0), draw(keys * kw, seed, 1));
        let rows: usize = lengths.iter().sum();
        let q = draw(rows * qw, seed, 2);
        // Where the tokens stand: the beginning, then each sequence at the next block.
        let mut places_of: Vec<u32> = (0..past as u32).collect();
        let (mut spans, mut steps, mut at, mut row) = (Vec::new(), Vec::new(), past.next_multiple_of(ALIGN), 0);
        let before: Vec<std::ops::Range<usize>> = (past > 0).then_some(0..past).into_iter().collect();
        let (mut want, mut last) = (Vec::new(), Vec::new());
        for (i, &n) in lengths.iter().enumerate() {
            places_of.extend((at..at + n).map(|p| p as u32));
            spans.push(Span { rows: row..row + n, past: before.clone(), own: at..at + n, visible: 1 });
            steps.push(Span { rows: i..i + 1, past: before.clone(), own: at..at + n, visible: n });
            let own = |x: &[f32]| {
                let (from, to) = ((past + row) * kw, (past + row + n) * kw);
                wide(&[&x[..past * kw], &x[from..to]].concat())
            };
            let of = attention::oracle::attention(&wide(&q[row * qw..(row + n) * qw]), &own(&k), &own(&v), heads);
            last.extend(of[(n - 1) * qw..].to_vec());
            want.extend(of);
            at = (at + n).next_multiple_of(ALIGN);
            row += n;
        }
        let ends: Vec<u32> = spans.iter().map(|s| s.rows.end as u32 - 1).collect();
        for (device, dtype, unit) in places(seed) {
            let mut cache = Cache::new(&device, dtype, heads, at).unwrap();
            let numbers = RowNumbers::upload(&device, &places_of).unwrap();
            cache.store(&upload(&device, dtype, kw, &k), &upload(&device, dtype, kw, &v), &numbers).unwrap();
            let on_q = upload(&device, dtype, qw, &q);
            let (plan, mut out) = (Plan::new(&device, dtype, heads, spans.clone()).unwrap(), empty(&device, dtype));
            cached::attention(&on_q, &cache, &plan, None, &mut out).unwrap();
            close("prompts", &out.download().unwrap(), &want, |_| 8.0 * unit)?;
            // The last rows alone, as queries of prompts and as a step.
            let mut asked = on_q.zeros_beside(ends.len(), qw, "asked").unwrap();
            gather_rows(&on_q, &RowNumbers::upload(&device, &ends).unwrap(), &mut asked).unwrap();
            let parts = |s: (usize, &Span)| s.1.part(s.1.rows.end - 1..s.1.rows.end, s.0);
            let parts: Vec<Span> = spans.iter().enumerate().map(parts).collect();
            prop_assert_eq!(&parts, &steps);
            for plan in [Plan::new(&device, dtype, heads, parts), Plan::step(&device, dtype, heads, steps.clone(), 1)] {
                cached::attention(&asked, &cache, &plan.unwrap(), None, &mut out).unwrap();
                close("last rows", &out.download().unwrap(), &last, |_| 8.0 * unit)?;
            }
            let fits = cached::attention(&asked, &cache, &plan, None, &mut out).is_ok();
            prop_assert_eq!(fits, ends.len() == rows, "another number of rows");
            // A window of as many keys as the longest row sees changes no bit.
            cached::attention(&on_q, &cache, &plan, None, &mut out).unwrap();
            let whole = out.download().unwrap();
            cached::attention(&on_q, &cache, &plan, Some(plan.longest()), &mut out).unwrap();
            prop_assert_eq!(whole, out.download().unwrap());
        }
    }

    /// A linear layer with a bias and an adapter, added to or written, as a prompt's product and as
    /// a step's; and logits.
    #[test]
    fn linear_layers_with_their_adapters(
        rows in 1usize..20, inp in 1usize..6, out in 1usize..6, rank in 1usize..4, step: bool, accumulate: bool, seed in 0u64..100_000,
    ) {
        let (inp, out, rank, scale) = (8 * inp, 8 * out, 8 * rank, 0.5f32);
        let narrow = |v: Vec<f32>, by: f32| v.into_iter().map(|x| bf16::from_f32(x * by).to_f32()).collect::<Vec<f32>>();
        let (x, w, bias) = (draw(rows * inp, seed, 0), narrow(draw(out * inp, seed, 1), 0.2), draw(out, seed, 2));
        let (a, b) = (narrow(draw(rank * inp, seed, 3), 0.2), narrow(draw(out * rank, seed, 4), 0.2));
        let old = draw(rows * out, seed, 5);
        let times = |x: &[f64], w: &[f32]| -> Vec<f64> {
            w.chunks_exact(x.len()).map(|r| r.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
        };
        let (mut want, mut plain) = (Vec::new(), Vec::new());
        for (row, x) in wide(&x).chunks_exact(inp).enumerate() {
            let (y, low) = (times(x, &w), times(&times(x, &a), &b));
            for o in 0..out {
                let before = if accumulate { f64::from(old[row * out + o]) } else { 0.0 };
                want.push(y[o] + f64::from(bias[o]) + f64::from(scale) * low[o] + before);
            }
            plain.extend(y);
        }
        for (device, dtype, unit) in places(seed) {
            let side = if step { Side::step(&device, rows) } else { Side::of(&device, rows) }.unwrap();
            let (on_x, mut y) = (upload(&device, dtype, inp, &x), upload(&device, dtype, out, &old));
            let mut logits = Rows::zeros(&device, Dtype::F32, rows, out, "logits").unwrap();
            let [on_w, on_a, on_b] =
                [(inp, &w), (inp, &a), (rank, &b)].map(|(dim, v)| upload(&device, dtype, dim, v));
            let tolerance = |i: usize| 8.0 * unit * (2.0 + want[i].abs());
            let mut run = |weight: Weight<'_>, without: Weight<'_>, pair: Pair<'_>| {
                let layer = Layer { weight, pair: Some(pair), dropout: None };
                layers::forward(&side, &on_x, &mut [Forward { layer, y: &mut y, low: None }], accumulate).unwrap();
                project(&side, &on_x, without, &mut logits).unwrap();
            };
            match (on_w, on_a, on_b, &device) {
                (Rows::F32(w), Rows::F32(a), Rows::F32(b), Device::Kernels(d)) => {
                    let bias = d.upload(&bias, "bias").unwrap();
                    let pair = Adapters { a, b, count: 1, scale };
                    run(Weight::Kernels(&w, Some(&bias)), Weight::Kernels(&w, None), Pair::Kernels(&pair));
                }
                (Rows::Bf16(w), Rows::Bf16(a), Rows::Bf16(b), Device::Kernels(d)) => {
                    let bias = d.upload(&bias, "bias").unwrap();
                    let pair = Adapters { a, b, count: 1, scale };
                    run(Weight::Bf16(&w, Some(&bias)), Weight::Bf16(&w, None), Pair::Bf16(&pair));
                }
                _ => {
                    let matrix = |r: usize, c: usize, v: &[f32]| Matrix::from_f32(r, c, v.to_vec()).unwrap();
                    let (w, a) = (matrix(out, inp, &w), matrix(rank, inp, &a));
                    let turned: Vec<f32> = (0..rank * out).map(|i| b[i % out * rank + i / out]).collect();
                    let pair = Pair::Transposed { a: &a, b: &turned, scale };
                    run(Weight::Cpu(&w, Some(&bias)), Weight::Cpu(&w, None), pair);
                }
            }
            close("y", &y.download().unwrap(), &want, tolerance)?;
            close("logits", &logits.download().unwrap(), &plain, |i| 1e-5 * (1.0 + plain[i].abs()))?;
            let (other, mut y) = (Side::of(&device, rows + 1).unwrap(), empty(&device, dtype));
            let w = matrix_of(&w, out, inp);
            let layer = Layer { weight: Weight::Cpu(&w, None), pair: None, dropout: None };
            let mut wrong = [Forward { layer, y: &mut y, low: None }];
            let refused = layers::forward(&other, &on_x, &mut wrong, false).is_err();
            prop_assert!(refused);
        }
    }

    #[test]
    fn the_choice_and_the_next_token(rows in 1usize..5, eight in 1usize..4, vocab in 2usize..300, seed in 0u64..100_000) {
        let width = 8 * eight;
        let (h, w) = (draw(rows * width, seed, 0), draw(vocab * width, seed, 1));
        let mut rng = Rng::new(seed, Use::Synthetic, 5, 5);
        let ids = [rng.below(vocab as u32), rng.below(vocab as u32)];
        let want = cross_entropy::choose::oracle::choose(&h, &w, width, ids);
        let cpu_head = matrix_of(&w, vocab, width);
        let logits = draw(rows * vocab, seed, 2);
        let draws: Vec<Draw> = (0..rows as u32).map(|row| Draw { row, sample: 1, step: 7 }).collect();
        let cut = Cut { temperature: 0.8, top_k: 0, top_p: 1.0 };
        let mut tokens = Vec::new();
        for (device, dtype, _) in places(seed) {
            let (hidden, head) = (upload(&device, dtype, width, &h), upload(&device, dtype, width, &w));
            let head = match &head {
                Rows::Cpu(_) => Head::Cpu(&cpu_head, None),
                Rows::F32(head) => Head::F32(head),
                Rows::Bf16(head) => Head::Bf16(head),
            };
            for (got, want) in choose(&hidden, head, ids).unwrap().iter().zip(&want) {
                prop_assert!(got.logits.iter().zip(want.0).all(|(g, w)| (f64::from(*g) - w).abs() <= 1e-4));
                prop_assert!((got.log_sum_exp - want.1).abs() <= 1e-4);
            }
            prop_assert!(choose(&hidden, head, [0, vocab as u32]).is_err());
            if dtype == Dtype::F32 {
                let logits = upload(&device, Dtype::F32, vocab, &logits);
                tokens.push(sample(&logits, 3, &draws, cut).unwrap());
                prop_assert!(sample(&logits, 3, &draws[1..], cut).is_err());
            }
        }
        prop_assert!(tokens.windows(2).all(|w| w[0] == w[1]), "{tokens:?}");
    }
}

fn matrix_of(values: &[f32], rows: usize, cols: usize) -> Matrix {
    Matrix::from_f32(rows, cols, values.to_vec()).unwrap()
}
