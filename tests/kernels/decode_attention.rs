//! A decode step of samples that share prompts: against the oracle, and bit for bit against the
//! samples alone.

use half::bf16;
use proptest::prelude::*;
use rallrec::device::{DeviceRows, KernelDevice, Storage};
use rallrec::ops::attention::cases::{DIMS, score_bound, tolerance};
use rallrec::ops::attention::decode::{Plan, Prompt};
use rallrec::ops::attention::kernel::Inputs;
use rallrec::ops::attention::{Heads, oracle};

use super::common::{Values, cases, close, devices, same_bits, wide};

type Shape = (Heads, Option<usize>);

fn run<T: Storage>(device: &KernelDevice, shape: Shape, prompts: &[Prompt], q: &[T], k: &[T], v: &[T]) -> Vec<f32> {
    let (heads, window) = shape;
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let q = DeviceRows::upload(device, qw, q, "q").unwrap();
    let k = DeviceRows::upload(device, kw, k, "k").unwrap();
    let v = DeviceRows::upload(device, kw, v, "v").unwrap();
    let mut out = DeviceRows::zeros(device, q.rows(), qw, "out").unwrap();
    let plan = Plan::new(device, heads, prompts).unwrap();
    plan.forward(window, &Inputs { q: &q, k: &k, v: &v }, &mut out).unwrap();
    out.download().unwrap().iter().map(|v| v.to_f32()).collect()
}

/// The same by a plan that was made for as many samples without a key.
fn written<T: Storage>(
    device: &KernelDevice,
    (heads, window): Shape,
    prompts: &[Prompt],
    q: &[T],
    k: &[T],
    v: &[T],
) -> Vec<f32> {
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let q = DeviceRows::upload(device, qw, q, "q").unwrap();
    let k = DeviceRows::upload(device, kw, k, "k").unwrap();
    let v = DeviceRows::upload(device, kw, v, "v").unwrap();
    let mut out = DeviceRows::zeros(device, q.rows(), qw, "out").unwrap();
    let empty: Vec<Prompt> = prompts.iter().map(|p| Prompt { prefix: 0..0, own: vec![0..0; p.own.len()] }).collect();
    let seen = prompts.iter().any(|p| p.own.iter().any(|own| own.len() + p.prefix.len() > 0));
    let mut plan = Plan::<T>::with_room(device, heads, &empty, 0).unwrap();
    assert!(plan.write(prompts, k.rows()).unwrap() != seen, "no room, and it was found");
    let mut plan = Plan::with_room(device, heads, &empty, 80).unwrap();
    if seen {
        let end = prompts.iter().flat_map(|p| p.own.iter().map(|own| own.end.max(p.prefix.end))).max().unwrap_or(0);
        assert!(plan.write(prompts, end - 1).is_err(), "keys beyond the last");
    }
    assert!(plan.write(prompts, k.rows()).unwrap());
    plan.forward(window, &Inputs { q: &q, k: &k, v: &v }, &mut out).unwrap();
    out.download().unwrap().iter().map(|v| v.to_f32()).collect()
}

fn check<T: Storage>(
    (heads, window): Shape,
    shape: &[(usize, Vec<usize>)],
    scale: f32,
    seed: u64,
) -> Result<(), TestCaseError> {
    let (qw, kw) = (heads.query * heads.dim, heads.kv * heads.dim);
    let (mut keys, mut samples, mut prompts) = (0, 0, Vec::new());
    let mut take = |n: usize| {
        keys += n;
        keys - n..keys
    };
    for (prefix, own) in shape {
        samples += own.len();
        prompts.push(Prompt { prefix: take(*prefix), own: own.iter().map(|&n| take(n)).collect() });
    }
    let draw = |n: usize, at: u64, by: f32| Values::Normal.scaled::<T>(n, seed + at, by);
    let (q, k, v) = (draw(samples * qw, 0, scale), draw(keys * kw, 1, 1.0), draw(keys * kw, 2, 1.0));
    let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
    let mut want = Vec::new();
    let mut alone = Vec::new();
    let on_host = devices(seed).iter().any(|device| device.kind() == rallrec::device::Kind::Host);
    let mut row = 0;
    for p in &prompts {
        for own in &p.own {
            let both =
                |x: &[f64]| [&x[p.prefix.start * kw..p.prefix.end * kw], &x[own.start * kw..own.end * kw]].concat();
            let query = row * qw..(row + 1) * qw;
            // Without any key there is nothing to average: zeros.
            match p.prefix.len() + own.len() {
                0 => want.extend(vec![0.0; qw]),
                _ => want.extend(oracle::attention_within(&wq[query.clone()], &both(&wk), &both(&wv), heads, window)),
            }
            let one = Prompt { prefix: p.prefix.clone(), own: vec![own.clone()] };
            if on_host {
                alone.extend(run(&KernelDevice::host(seed + 9), (heads, window), &[one], &q[query], &k, &v));
            }
            row += 1;
        }
    }
    let off = tolerance(T::NAME == "bf16", score_bound(&wq, &wk, heads.dim));
    for device in devices(seed) {
        let got = run(&device, (heads, window), &prompts, &q, &k, &v);
        close("out", &got, &want, |_| off)?;
        // A window that hides nothing changes no bit.
        let window = window.or(Some(keys.max(1)));
        same_bits(&got, &written(&device, (heads, window), &prompts, &q, &k, &v))?;
        if device.kind() == rallrec::device::Kind::Host {
            same_bits(&got, &alone)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(12))]
    #[test]
    fn meets_the_oracle_and_samples_do_not_see_each_other(
        kv in 1usize..3, group in prop::sample::select(vec![1usize, 3, 4, 8]),
        dim in prop::sample::select(DIMS),
        shape in prop::collection::vec((prop::sample::select(vec![0usize, 1, 70, 257, 300]), prop::collection::vec(0usize..20, 0..7)), 0..3),
        scale in 0.1f32..6.0, window in prop::option::of(1usize..300), seed in 0u64..1_000_000,
    ) {
        let heads = Heads { query: kv * group, kv, dim };
        check::<f32>((heads, window), &shape, scale, seed)?;
        check::<bf16>((heads, window), &shape, scale, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(2))]
    #[test]
    fn more_rows_than_a_tile(samples in 17usize..40, own in 1usize..9, seed in 0u64..1_000_000) {
        let heads = Heads { query: 4, kv: 1, dim: 16 };
        check::<f32>((heads, None), &[(40, vec![own; samples])], 1.0, seed)?;
        check::<bf16>((heads, Some(44)), &[(40, vec![own; samples])], 1.0, seed)?;
    }
}
