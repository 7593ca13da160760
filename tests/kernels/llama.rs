//! The decoder by launches against the decoder of the CPU: choices of ragged bundles, and the same sampled tokens.

use rallrec::Matrix;
use rallrec::device::KernelDevice;
use rallrec::generate::scoring::{Bundle, score};
use rallrec::generate::{Finish, Prompt, Sample, Settings, generate};
use rallrec::models::llama::device::DeviceModel;
use rallrec::models::llama::{Family, Model, SoftTokens, fixture};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::monitor::Silent;
use rallrec::ops::linear::Dtype;
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
        let mut rng = Rng::new(6, Use::Synthetic, 0, 0);
        let vectors = (0..2 * plain.config().hidden).map(|_| rng.normal()).collect();
        let vectors = Matrix::from_vec(2, plain.config().hidden, vectors).unwrap();
        let soft = SoftTokens::new(vec![264, 270], vectors).unwrap();
        let model = plain.with_adapter(with.as_ref()).unwrap().with_soft(Some(soft)).unwrap();
        let mut beginning: Vec<u32> = (0..21).map(|i| i * 5 % 200).collect();
        beginning[4] = 264;
        let tail = |tail: &[u32]| [&beginning[..], tail].concat();
        let bundles: Vec<Bundle> =
            vec![vec![tail(&[1, 270, 3]), tail(&[9]), tail(&[1, 7, 7, 7])], vec![vec![4, 5]], vec![vec![6]]];
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
    let prompts = vec![
        Prompt::new(4, (0..19).map(|i| 3 * i + 1).collect(), 5),
        Prompt { row: 9, tokens: vec![77, 5], samples: vec![6, 2] },
    ];
    let settings = Settings {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.95,
        min_new_tokens: 2,
        max_new_tokens: 6,
        seed: 11,
        max_rows: 4,
    };
    // Half of the vocabulary ends an answer, so that some end early.
    let stop: Vec<u32> = (0..264).step_by(2).collect();
    let sorted = |mut answers: Vec<Sample>| {
        answers.sort_by_key(|a| (a.row, a.sample));
        answers
    };
    let mut want: Vec<Sample> = Vec::new();
    generate(&model, &prompts, &stop, &settings, &Silent, &mut want).unwrap();
    let want = sorted(want);
    assert!(want.iter().any(|a| a.finish == Finish::Stop) && want.iter().any(|a| a.tokens.len() > 2));
    for device in devices(12) {
        let on_device = DeviceModel::<f32>::upload(&device, &model).unwrap();
        let run = |settings: &Settings| {
            let mut got: Vec<Sample> = Vec::new();
            on_device.generate(&prompts, &stop, settings, &Silent, &mut got).unwrap();
            sorted(got)
        };
        assert_eq!(run(&settings), want);
        assert_eq!(run(&Settings { max_rows: 1, ..settings.clone() }), want, "alone, other tokens");
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = model(Family::Llama);
    let on_device = DeviceModel::<f32>::upload(&KernelDevice::host(0), &model).unwrap();
    for (prompt, word) in [(vec![], "no tokens"), (vec![9999], "not in the vocabulary"), (vec![1; 4096], "do not fit")]
    {
        let prompts = [Prompt::new(3, prompt, 1)];
        let heard = &mut Vec::<Sample>::new();
        let error = on_device.generate(&prompts, &[], &Settings::default(), &Silent, heard).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("row 3"), "{error}");
    }
}
