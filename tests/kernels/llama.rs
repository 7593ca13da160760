//! The decoder by launches against the decoder of the CPU: choices of ragged bundles, and the same sampled tokens.

use rallrec::device::KernelDevice;
use rallrec::generate::scoring::{Bundle, score};
use rallrec::models::llama::device::DeviceModel;
use rallrec::models::llama::{Family, Model, Part, Sequence, fixture};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::ops::linear::Dtype;
use rallrec::ops::sampling::{Cut, Sampler};
use rallrec::rng::{Rng, Use};

use super::common::devices;

fn model(family: Family) -> Model {
    let config = fixture::config(family);
    let weights = fixture::weights(&config, 7, Dtype::F32).unwrap();
    Model::new(config, weights).unwrap()
}

/// On every target but one, with a B that is not zero.
fn adapter(model: &Model) -> Adapter {
    let (c, rank) = (model.config(), 3);
    let mut rng = Rng::new(2, Use::Synthetic, 0, 0);
    let targets = vec![Target::QProj, Target::KProj, Target::VProj, Target::OProj, Target::UpProj, Target::DownProj];
    let shape = |t: Target| match t {
        Target::QProj => (c.hidden, c.q_width()),
        Target::KProj | Target::VProj => (c.hidden, c.kv_width()),
        Target::OProj => (c.q_width(), c.hidden),
        Target::GateProj | Target::UpProj => (c.hidden, c.intermediate),
        Target::DownProj => (c.intermediate, c.hidden),
    };
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() * 0.2).collect() };
    let mut pairs = Vec::new();
    for _ in 0..c.layers {
        let of = |&t: &Target| {
            let (inp, out) = shape(t);
            Pair { a: draw(rank * inp), b: draw(out * rank) }
        };
        pairs.push(targets.iter().map(of).collect());
    }
    Adapter { rank, alpha: 6.0, dropout: 0.0, targets, pairs }
}

#[test]
fn choices_are_the_same_on_every_device() {
    for (family, adapted) in [(Family::Llama, false), (Family::Qwen2, true), (Family::Qwen3, false)] {
        let plain = model(family);
        let with = if adapted { Some(adapter(&plain)) } else { None };
        let model = plain.with_adapter(with.as_ref()).unwrap();
        let beginning: Vec<u32> = (0..21).map(|i| i * 5 % 200).collect();
        let tail = |tail: &[u32]| [&beginning[..], tail].concat();
        let bundles: Vec<Bundle> =
            vec![vec![tail(&[1, 2, 3]), tail(&[9]), tail(&[1, 7, 7, 7])], vec![vec![4, 5]], vec![vec![6]]];
        let want = score(&model, &bundles, [10, 11], 1000).unwrap();
        for device in devices(6) {
            let on_device = DeviceModel::<f32>::upload(&device, &model).unwrap();
            for pass in [30, 1000] {
                let got = on_device.score(&bundles, [10, 11], pass).unwrap();
                assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
                for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                    // Logits of order 1 behind two layers in f32.
                    for (g, w) in got.logits.iter().zip(&want.logits) {
                        assert!((g - w).abs() <= 2e-5, "{family:?}: {g} and not {w}");
                    }
                    assert!((got.log_sum_exp - want.log_sum_exp).abs() <= 2e-5, "{got:?} and not {want:?}");
                }
            }
        }
    }
}

#[test]
fn sampled_tokens_are_those_of_the_cpu_and_do_not_depend_on_each_other() {
    let model = model(Family::Llama);
    let (prompt, most, stop, seed): (Vec<u32>, usize, [u32; 1], u64) =
        ((0..19).map(|i| 3 * i + 1).collect(), 6, [2], 11);
    let cut = Cut { temperature: 0.9, top_k: 50, top_p: 0.95 };
    let mut want = Vec::new();
    for sample in 0..5 {
        let (mut sequence, mut answer, mut sampler) = (Sequence::new(), Vec::new(), Sampler::default());
        let mut next = prompt.clone();
        for step in 0..most as u64 {
            let logits = model.last_logits(&mut [Part { tokens: &next, sequence: &mut sequence }]).unwrap();
            let u = Rng::new(seed, Use::Token, 4, sample).at(step).uniform_f64();
            let token = sampler.pick(logits.row(0), cut, u).unwrap();
            answer.push(token);
            if stop.contains(&token) {
                break;
            }
            next = vec![token];
        }
        want.push(answer);
    }
    for device in devices(12) {
        let on_device = DeviceModel::<f32>::upload(&device, &model).unwrap();
        let run = |samples| on_device.generate(&prompt, (4, samples), (most, &stop), (seed, cut)).unwrap();
        let got = run(5);
        assert_eq!(got, want);
        assert_eq!(run(2), want[..2], "fewer samples, other tokens");
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = model(Family::Llama);
    let on_device = DeviceModel::<f32>::upload(&KernelDevice::host(0), &model).unwrap();
    let cut = Cut { temperature: 0.0, top_k: 0, top_p: 1.0 };
    for (prompt, word) in [(vec![], "no tokens"), (vec![9999], "not in the vocabulary"), (vec![1; 4096], "do not fit")]
    {
        let error = on_device.generate(&prompt, (0, 1), (4, &[]), (0, cut)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
