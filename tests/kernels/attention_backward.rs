//! Gradients of attention over ragged batches, with shared pasts, against the oracle, on the CPU
//! and by kernels through one call; the forward is that of the same place.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{Device, KernelDevice, List, Rows, Storage};
use rallrec::ops::attention::cases::gradient_tolerance;
use rallrec::ops::attention::kernel::Span;
use rallrec::ops::attention::packed::{Given, Gradients, Inputs};
use rallrec::ops::attention::{Heads, Packed, oracle};
use rallrec::tensor::Dtype;

use super::attention::behind;
use super::common::{Values, cases, close, devices, same_bits, wide};

struct Case<T> {
    heads: Heads,
    window: Option<usize>,
    spans: Vec<Span>,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    by_out: Vec<T>,
}

fn run<T: Storage>(device: &Device, c: &Case<T>) -> [Vec<f32>; 3] {
    let dtype = if T::NAME == "f32" { Dtype::F32 } else { Dtype::Bf16 };
    let (qw, kw) = (c.heads.query * c.heads.dim, c.heads.kv * c.heads.dim);
    let up = |x: &[T], width| {
        let x: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
        Rows::upload(device, dtype, width, &x, "x").unwrap()
    };
    let (q, k, v, by_out) = (up(&c.q, qw), up(&c.k, kw), up(&c.v, kw), up(&c.by_out, qw));
    let inputs = Inputs { q: &q, k: &k, v: &v };
    let mut out = Rows::zeros(device, dtype, q.rows(), qw, "out").unwrap();
    let mut lse = List::zeros(device, q.rows() * c.heads.query, "lse").unwrap();
    let packed = Packed::new(device, dtype, &c.spans).unwrap();
    packed.attention(c.heads, c.window, inputs, &mut out, &mut lse).unwrap();
    let zeros = |rows, width| Rows::zeros(device, Dtype::F32, rows, width, "gradient").unwrap();
    let (mut dq, mut dk, mut dv) = (zeros(q.rows(), qw), zeros(k.rows(), kw), zeros(k.rows(), kw));
    let given = Given { out: &out, lse: &lse, by_out: &by_out };
    let mut short = zeros(q.rows() + 1, qw);
    let mut wrong = Gradients { q: &mut short, k: &mut dk, v: &mut dv };
    assert!(packed.attention_backward(c.heads, c.window, inputs, given, &mut wrong, &mut Vec::new()).is_err());
    let mut gradients = Gradients { q: &mut dq, k: &mut dk, v: &mut dv };
    packed.attention_backward(c.heads, c.window, inputs, given, &mut gradients, &mut Vec::new()).unwrap();
    [dq, dk, dv].map(|g| g.download().unwrap())
}

/// `past` key rows that every span sees, itself a causal sequence if `learnt`; lengths are (own
/// keys without a query, queries).
fn check<T: Storage>(
    (heads, window): (Heads, Option<usize>),
    (past, learnt): (usize, bool),
    lengths: &[(usize, usize)],
    (values, scale): (Values, f32),
    seed: u64,
) -> Result<(), TestCaseError> {
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let (mut spans, queries, keys) = behind(past, if learnt { past } else { 0 }, lengths);
    if learnt {
        spans.insert(0, Span::causal(0..past));
    }
    let mut c = Case {
        heads,
        window,
        q: values.scaled::<T>(queries * qw, seed, scale),
        k: values.draw::<T>(keys * kw, seed + 1),
        v: Values::Normal.draw::<T>(keys * kw, seed + 2),
        by_out: Values::Normal.draw::<T>(queries * qw, seed + 3),
        spans,
    };
    let (q, k, v, g) = (wide(&c.q), wide(&c.k), wide(&c.v), wide(&c.by_out));
    let mut want = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    for s in &c.spans {
        let key_rows: Vec<usize> = s.past.clone().chain(s.own.clone()).collect();
        let all = |x: &[f64]| key_rows.iter().flat_map(|r| x[r * kw..(r + 1) * kw].to_vec()).collect::<Vec<_>>();
        let mine = s.rows.start * qw..s.rows.end * qw;
        let [dq, dk, dv] =
            oracle::gradients_within(&q[mine.clone()], &all(&k), &all(&v), &g[mine.clone()], (heads, window));
        want[0][mine].copy_from_slice(&dq);
        for (to, from) in [(1, dk), (2, dv)] {
            for (row, from) in key_rows.iter().zip(from.chunks_exact(kw)) {
                want[to][row * kw..(row + 1) * kw].iter_mut().zip(from).for_each(|(t, f)| *t += f);
            }
        }
    }
    let off = gradient_tolerance(T::NAME == "bf16", heads, queries, [&q, &k, &v, &g]);
    let cpu = (T::NAME == "f32").then_some(Device::Cpu);
    for device in cpu.into_iter().chain(devices(seed).into_iter().map(Device::Kernels)) {
        let got = run(&device, &c);
        // A window that hides nothing changes no bit.
        c.window = window.or(Some(keys.max(1)));
        for (i, (got, again)) in got.iter().zip(&run(&device, &c)).enumerate() {
            same_bits(got, again)?;
            close(["dq", "dk", "dv"][i], got, &want[i], |_| off[i])?;
        }
        c.window = window;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(5))]
    #[test]
    fn meets_the_oracle(
        head in (1usize..3, 1usize..3, prop::sample::select(vec![8usize, 24, 64])),
        past in prop::sample::select(vec![(0usize, false), (1, true), (31, true), (40, false)]),
        lengths in prop::collection::vec((0usize..20, 0usize..36), 0..3), scale in 0.1f32..2.0, seed in 0u64..1_000_000,
        window in prop::option::of(1usize..60),
        values in prop::sample::select(vec![Values::Normal, Values::Equal, Values::Sparse, Values::Denormal]),
    ) {
        let heads = Heads { query: head.0 * head.1, kv: head.0, dim: head.2 };
        check::<f32>((heads, window), past, &lengths, (values, scale), seed)?;
        check::<bf16>((heads, window), past, &lengths, (values, scale), seed)?;
    }
}

#[test]
fn wide_heads_and_more_rows_than_a_tile() {
    let wide = Heads { query: 3, kv: 1, dim: 72 };
    let wide = (wide, None);
    check::<f32>(wide, (3, false), &[(2, 5), (0, 1)], (Values::Normal, 1.0), 1).unwrap();
    check::<bf16>(wide, (3, false), &[(2, 5), (0, 1)], (Values::Normal, 1.0), 2).unwrap();
    check::<bf16>((Heads { query: 1, kv: 1, dim: 8 }, Some(40)), (70, true), &[(5, 66)], (Values::Normal, 1.0), 3)
        .unwrap();
}

#[test]
fn ranges_that_overlap_are_refused() {
    let host = Device::Kernels(KernelDevice::host(0));
    let spans = [Span::causal(0..4), Span { rows: 4..6, past: 2..4, own: 4..6, visible: 1 }];
    assert!(Packed::new(&host, Dtype::F32, &spans).unwrap_err().to_string().contains("overlap"));
    let beyond = Span { rows: 0..4, past: 0..0, own: 0..4, visible: 2 };
    let nothing = Span { rows: 0..1, past: 0..0, own: 0..4, visible: 0 };
    for device in [Device::Cpu, host] {
        for span in [&beyond, &nothing] {
            assert!(Packed::new(&device, Dtype::F32, std::slice::from_ref(span)).is_err());
        }
    }
}
