//! Gradients of attention over ragged batches, with shared pasts, against the oracle; the forward is the device's own.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::attention::Heads;
use rallrec::ops::attention::gradient::{Backward, Given, Gradients};
use rallrec::ops::attention::kernel::{Inputs, Plan, Span};
use rallrec::ops::attention::oracle;

use super::attention::behind;
use super::common::{Values, cases, close, devices, largest, same_bits, wide};

struct Case<T> {
    heads: Heads,
    window: Option<usize>,
    spans: Vec<Span>,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    by_out: Vec<T>,
}

fn run<T: Storage>(device: &KernelDevice, c: &Case<T>) -> [Vec<f32>; 3] {
    let (qw, kw) = (c.heads.query * c.heads.dim, c.heads.kv * c.heads.dim);
    let up = |x: &[T], width| DeviceRows::upload(device, width, x, "x").unwrap();
    let (q, k, v, by_out) = (up(&c.q, qw), up(&c.k, kw), up(&c.v, kw), up(&c.by_out, qw));
    let inputs = Inputs { q: &q, k: &k, v: &v };
    let mut out = DeviceRows::zeros(device, q.rows(), qw, "out").unwrap();
    let mut lse = device.zeros(q.rows() * c.heads.query, "lse").unwrap();
    let plan = Plan::new(device, &c.spans).unwrap();
    plan.forward_within(c.heads, c.window, &inputs, &mut out, Some(&mut lse)).unwrap();
    let zeros = |rows, width| DeviceRows::<f32>::zeros(device, rows, width, "gradient").unwrap();
    let (mut dq, mut dk, mut dv) = (zeros(q.rows(), qw), zeros(k.rows(), kw), zeros(k.rows(), kw));
    let given = Given { out: &out, lse: &lse, by_out: &by_out };
    let mut gradients = Gradients { q: &mut dq, k: &mut dk, v: &mut dv };
    let backward = Backward::new(device, &c.spans).unwrap();
    backward.run_within(c.heads, c.window, &inputs, &given, &mut gradients).unwrap();
    [dq, dk, dv].map(|g| g.download().unwrap())
}

/// `past` key rows that every span sees, itself a causal sequence if `learnt`; lengths are (own keys without a query, queries).
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
    // A probability is off by what its score is off by (f32 sums of this size), bf16 also by its own rounding, which the
    // difference to the mean does not cancel. A gradient sums as many terms as there are rows, of the size of 4 to 16.
    let score = largest(&q) * largest(&k) * (heads.dim as f64).sqrt();
    let unit = if T::NAME == "f32" { 2e-6 * (1.0 + score) } else { 1e-2 + 2e-6 * score };
    let terms = 4.0 + (heads.group() as f64 * queries as f64).sqrt();
    let dot = largest(&g) * largest(&v) * (heads.dim as f64).sqrt();
    let tolerance = |which: usize| match which {
        0 => unit * terms * dot * largest(&k),
        1 => unit * terms * dot * largest(&q),
        _ => unit * terms * largest(&g),
    };
    for device in devices(seed) {
        let got = run(&device, &c);
        // A window that hides nothing changes no bit.
        c.window = window.or(Some(keys.max(1)));
        for (i, (got, again)) in got.iter().zip(&run(&device, &c)).enumerate() {
            same_bits(got, again)?;
            close(["dq", "dk", "dv"][i], got, &want[i], |_| tolerance(i) + 1e-30)?;
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
    let device = KernelDevice::host(0);
    let spans = [Span::causal(0..4), Span { rows: 4..6, past: 2..4, own: 4..6, visible: 1 }];
    assert!(Backward::<f32>::new(&device, &spans).unwrap_err().to_string().contains("overlap"));
    let beyond = Span { rows: 0..4, past: 0..0, own: 0..4, visible: 2 };
    assert!(Backward::<f32>::new(&device, &[beyond]).is_err());
}
