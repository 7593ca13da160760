//! Attention of ragged batches: causal sequences, sequences behind shared runs, queries that are
//! the last rows of longer keys; any heads, widths that no tile divides.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::attention::Heads;
use rallrec::ops::attention::cases::{DIMS, lse_tolerance, score_bound, tolerance};
use rallrec::ops::attention::kernel::{Inputs, Plan, Span};
use rallrec::ops::attention::oracle;

use super::common::{Values, cases, close, devices, largest, same_bits, wide};

/// Rows `range` of rows of `width`.
fn rows(x: &[f64], range: std::ops::Range<usize>, width: usize) -> Vec<f64> {
    x[range.start * width..range.end * width].to_vec()
}

struct Case<T> {
    heads: Heads,
    window: Option<usize>,
    spans: Vec<Span>,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
}

fn run<T: Storage>(device: &KernelDevice, c: &Case<T>) -> (Vec<f32>, Vec<f32>) {
    let (qw, kw) = (c.heads.query * c.heads.dim, c.heads.kv * c.heads.dim);
    let q = DeviceRows::upload(device, qw, &c.q, "q").unwrap();
    let k = DeviceRows::upload(device, kw, &c.k, "k").unwrap();
    let v = DeviceRows::upload(device, kw, &c.v, "v").unwrap();
    let mut out = DeviceRows::zeros(device, q.rows(), qw, "out").unwrap();
    let mut lse = device.zeros(q.rows() * c.heads.query, "lse").unwrap();
    let plan = Plan::new(device, &c.spans).unwrap();
    plan.forward(c.heads, c.window, &Inputs { q: &q, k: &k, v: &v }, &mut out, Some(&mut lse)).unwrap();
    (out.download().unwrap().iter().map(|v| v.to_f32()).collect(), device.download(&lse).unwrap())
}

/// Spans of (own keys without a query, queries) behind `past` shared keys, query rows from `first`
/// on; with how many query rows and key rows there are in all.
pub fn behind(past: usize, first: usize, lengths: &[(usize, usize)]) -> (Vec<Span>, usize, usize) {
    let (mut queries, mut keys) = (first, past);
    let mut spans = Vec::with_capacity(lengths.len());
    for &(before, n) in lengths {
        spans.push(Span {
            rows: queries..queries + n,
            past: 0..past,
            own: keys..keys + before + n,
            visible: before + 1,
        });
        queries += n;
        keys += before + n;
    }
    (spans, queries, keys)
}

/// Lengths are (past, first own keys that have no query, queries) of each sequence; past runs are
/// shared by all.
fn check<T: Storage>(
    (heads, window): (Heads, Option<usize>),
    past: usize,
    lengths: &[(usize, usize)],
    (values, scale): (Values, f32),
    seed: u64,
) -> Result<(), TestCaseError> {
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let (spans, queries, keys) = behind(past, 0, lengths);
    let mut c = Case {
        heads,
        window,
        q: values.scaled::<T>(queries * qw, seed, scale),
        k: values.draw::<T>(keys * kw, seed + 1),
        v: Values::Normal.draw::<T>(keys * kw, seed + 2),
        spans,
    };
    let (q, k, v) = (wide(&c.q), wide(&c.k), wide(&c.v));
    let mut want = Vec::new();
    let mut log = Vec::new();
    for s in &c.spans {
        let all = |x: &[f64]| [rows(x, s.past.clone(), kw), rows(x, s.own.clone(), kw)].concat();
        let (q, k) = (rows(&q, s.rows.clone(), qw), all(&k));
        want.extend(oracle::attention_within(&q, &k, &all(&v), heads, window));
        log.extend(oracle::log_sum_exp(&q, &k, heads, window));
    }
    let score = score_bound(&q, &k, heads.dim);
    let off = tolerance(T::NAME == "bf16", score);
    for device in devices(seed) {
        let (got, lse) = run(&device, &c);
        same_bits(&got, &run(&device, &c).0)?;
        if window.is_none() {
            // A window that hides nothing changes no bit.
            c.window = Some(keys.max(1));
            same_bits(&got, &run(&device, &c).0)?;
            c.window = None;
        }
        if values == Values::Huge {
            // One key takes all, and which one may hang on the last bit: the result is one of the
            // values.
            let top = largest(&v);
            prop_assert!(got.iter().all(|g| f64::from(g.abs()) <= top * 1.01), "outside the values");
            continue;
        }
        close("out", &got, &want, |_| off)?;
        close("lse", &lse, &log, |i| lse_tolerance(log[i], score))?;
    }
    Ok(())
}

fn any_head() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..3, 1usize..4, prop::sample::select(DIMS))
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn meets_the_oracle(
        head in any_head(), past in prop::sample::select(vec![0usize, 1, 31, 64, 100]),
        lengths in prop::collection::vec((0usize..40, 0usize..70), 0..4), scale in 0.1f32..6.0, seed in 0u64..1_000_000,
        window in prop::option::of(1usize..150),
        values in prop::sample::select(vec![Values::Normal, Values::Equal, Values::Sparse, Values::Denormal, Values::Huge]),
    ) {
        let heads = Heads { query: head.0 * head.1, kv: head.0, dim: head.2 };
        check::<f32>((heads, window), past, &lengths, (values, scale), seed)?;
        check::<bf16>((heads, window), past, &lengths, (values, scale), seed)?;
    }
}

#[test]
fn keys_that_are_not_there_are_refused() {
    let device = KernelDevice::host(0);
    let span = |visible| Span { rows: 0..4, past: 0..0, own: 0..4, visible };
    assert!(Plan::<f32>::new(&device, &[span(2)]).is_err());
    let plan = Plan::<f32>::new(&device, &[span(1)]).unwrap();
    let heads = Heads { query: 1, kv: 1, dim: 8 };
    let zeros = |n| DeviceRows::<f32>::zeros(&device, n, 8, "x").unwrap();
    let (q, k) = (zeros(4), zeros(3));
    assert!(plan.forward(heads, None, &Inputs { q: &q, k: &k, v: &k }, &mut zeros(4), None).is_err());
    let windowed = plan.forward(heads, Some(0), &Inputs { q: &q, k: &q, v: &q }, &mut zeros(4), None);
    assert!(windowed.is_err(), "a window of nothing");
    let odd = Heads { query: 1, kv: 1, dim: 7 };
    assert!(plan.forward(odd, None, &Inputs { q: &q, k: &q, v: &q }, &mut zeros(4), None).is_err());
}
