//! The decoder against its f64 oracle on tiny random models of every family, and the equalities
//! that callers rely on.

use crate::shared::assert_close;
use proptest::prelude::*;
use rallrec::generate::scoring::score;
use rallrec::generate::{Pooling, embed};
use rallrec::models::decoder::cache::aligned;
use rallrec::models::decoder::families::Activation;
use rallrec::models::decoder::{Cache, Config, Family, Model, Texts, Wanted, Weights, families, oracle};
use rallrec::models::lora::{Adapter, Pair, Target};
use rallrec::ops::rope::Scaling;
use rallrec::rng::{Rng, Use};
use rallrec::store::fixture;
use rallrec::tensor::Dtype;

const SCALING: Scaling = Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };

/// Every family, tied and untied; scaled rope; a window shorter than the texts.
fn configs() -> Vec<Config> {
    let mut all = Vec::new();
    for family in families::ALL {
        for tied in [true, false] {
            all.push(Config { tied, ..fixture::config(family) });
        }
    }
    all.push(Config { rope_scaling: Some(SCALING), ..fixture::config(Family::LLAMA) });
    all.push(Config { window: Some(20), ..fixture::config(Family::MISTRAL) });
    all
}

fn build(config: &Config, dtype: Dtype) -> Model {
    Model::new(config.clone(), fixture::weights(config, 7, dtype).unwrap()).unwrap()
}

fn tokens(n: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::new(seed, Use::Synthetic, 1, 0);
    (0..n).map(|_| rng.below(264)).collect()
}

fn adapter(config: &Config, zero: bool) -> Adapter {
    let mut rng = Rng::new(5, Use::Synthetic, 2, 0);
    let (h, q, kv, inner) = (config.hidden, config.q_width(), config.kv_width(), config.intermediate);
    let shapes = [(h, q), (h, kv), (h, kv), (q, h), (h, inner), (h, inner), (inner, h)];
    let mut pairs = Vec::new();
    for _ in 0..config.layers {
        let pair = |&(inp, out): &(usize, usize)| Pair {
            a: (0..4 * inp).map(|_| rng.normal() * 0.2).collect(),
            b: (0..4 * out).map(|_| if zero { 0.0 } else { rng.normal() * 0.2 }).collect(),
        };
        pairs.push(shapes.iter().map(pair).collect());
    }
    Adapter { rank: 4, alpha: 8.0, dropout: 0.0, targets: Target::ALL.to_vec(), pairs }
}

fn all_logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    model.all_logits(tokens).unwrap().into_vec()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_family_is_the_oracle() {
    for config in configs() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let model = build(&config, dtype);
            let tokens = tokens(90, 3);
            let want = oracle::forward(&config, model.weights(), None, &tokens);
            let what = format!("{:?} tied {} {dtype:?}", config.family, config.tied);
            assert_close(&what, &all_logits(&model, &tokens), &want.logits.concat(), 5e-5);
            let mean = embed(&model, &[], &[&tokens], Pooling::Mean).unwrap();
            let sum = |i: usize| want.hidden.iter().map(|h| h[i]).sum::<f64>() / 90.0;
            let mean_want: Vec<f64> = (0..config.hidden).map(sum).collect();
            assert_close(&format!("{what} mean"), mean.as_slice(), &mean_want, 1e-5);
        }
    }
}

/// What is scored are the logits, capped where the family caps them.
#[test]
fn scored_answers_are_the_logits() {
    for config in configs() {
        let model = build(&config, Dtype::F32);
        let text = tokens(30, 8);
        let logits = model.last_logits(&[&text]).unwrap();
        let choice = score(&model, &[vec![text]], [10, 11], 64).unwrap()[0][0];
        let lse = logits.row(0).iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        let what = format!("{:?} tied {}", config.family, config.tied);
        assert_close(&what, &choice.logits, &[f64::from(logits.row(0)[10]), f64::from(logits.row(0)[11])], 1e-5);
        assert!((choice.log_sum_exp - lse).abs() <= 1e-5, "{what}: {} and not {lse}", choice.log_sum_exp);
    }
}

#[test]
fn families_differ_from_each_other() {
    // If scaling, biases or norms were ignored, the oracle test would still have to be wrong in the
    // same way.
    let plain = fixture::config(Family::LLAMA);
    let scaled = Config { rope_scaling: Some(SCALING), ..plain.clone() };
    let tokens = tokens(40, 4);
    let weights = fixture::weights(&plain, 7, Dtype::F32).unwrap();
    let a = oracle::forward(&plain, &weights, None, &tokens).logits.concat();
    let b = oracle::forward(&scaled, &weights, None, &tokens).logits.concat();
    assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-2));
}

/// Whatever a family says of itself is heard: with another datum logits are others.
#[test]
fn every_datum_of_gemma_moves_the_logits() {
    let tokens = tokens(40, 4);
    for family in [Family::GEMMA2, Family::GEMMA3] {
        let own = fixture::config(family);
        let weights = fixture::weights(&own, 7, Dtype::F32).unwrap();
        let logits = |config: Config| all_logits(&Model::new(config, weights.clone()).unwrap(), &tokens);
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = own.clone();
            change(&mut config);
            logits(config)
        };
        // A family lives as long as the program.
        let family = |changed: Family| logits(Config { family: Box::leak(Box::new(changed)), ..own.clone() });
        let own_logits = logits(own.clone());
        let mut others = vec![
            ("query_scalar", with(&|c| c.query_scalar = None)),
            ("full_every", with(&|c| c.full_every = None)),
            ("window", with(&|c| c.window = None)),
            ("scaled_embeddings", family(Family { scaled_embeddings: false, ..*own.family })),
            ("activation", family(Family { activation: Activation::SwiGlu, ..*own.family })),
        ];
        if own.score_cap.is_some() {
            others.push(("score_cap", with(&|c| c.score_cap = None)));
            others.push(("logit_cap", with(&|c| c.logit_cap = None)));
        }
        if own.local_rope_theta.is_some() {
            others.push(("local_rope_theta", with(&|c| c.local_rope_theta = None)));
        }
        for (datum, other) in others {
            let moved = own_logits.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(moved > 1e-2, "{:?} without its {datum}: {moved}", own.family);
        }
        let bare = rallrec::models::decoder::Layer { mlp_post_norm: None, ..weights.layers[0].clone() };
        let layers = vec![bare, weights.layers[1].clone()];
        let error = Model::new(own.clone(), Weights { layers, ..weights.clone() }).err().unwrap().to_string();
        assert!(error.contains("mlp_post_norm is missing") || error.contains("mlp_post_norm: is missing"), "{error}");
    }
}

#[test]
fn a_window_hides_old_tokens_and_a_wide_one_changes_no_bit() {
    let narrow = fixture::config(Family::MISTRAL);
    let with = |window| build(&Config { window, ..narrow.clone() }, Dtype::F32);
    let (tokens, none) = (tokens(40, 4), with(None));
    let logits = all_logits(&none, &tokens);
    assert_eq!(bits(&all_logits(&with(Some(40)), &tokens)), bits(&logits));
    assert_eq!(bits(&all_logits(&with(Some(narrow.context)), &tokens)), bits(&logits));
    let off = |window| {
        let other = all_logits(&with(Some(window)), &tokens);
        logits.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(off(5) > 1e-2 && off(39) > 0.0, "{} {}", off(5), off(39));
}

#[test]
fn adapters_on_all_targets_are_the_oracle_and_zero_b_changes_no_bit() {
    for config in configs() {
        let model = build(&config, Dtype::Bf16);
        let (tokens, given) = (tokens(50, 6), adapter(&config, false));
        let adapted = model.with_adapter(Some(&given)).unwrap();
        let want = oracle::forward(&config, model.weights(), Some(&given), &tokens).logits.concat();
        assert_close("adapted", &all_logits(&adapted, &tokens), &want, 1e-4);
        let base = all_logits(&model, &tokens);
        assert!(base.iter().zip(&want).any(|(a, b)| (f64::from(*a) - b).abs() > 1e-2), "the adapter acts");
        let zero = model.with_adapter(Some(&adapter(&config, true))).unwrap();
        assert_eq!(bits(&all_logits(&zero, &tokens)), bits(&base));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a text is cut into passes, and whatever stands beside it, its last logits have the
    /// same bits.
    #[test]
    fn cache_batch_and_sharing_do_not_show(
        which in 0usize..14, lengths in prop::collection::vec(1usize..100, 1..5), prefix in 1usize..150,
        cut in 0.0f64..1.0, seed in 0u64..100,
    ) {
        let config = &configs()[which];
        let model = build(config, Dtype::Bf16);
        let head = tokens(prefix, seed);
        let tails: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| tokens(n, seed + 10 + i as u64)).collect();
        let whole: Vec<Vec<u32>> = tails.iter().map(|t| [head.clone(), t.clone()].concat()).collect();
        let alone: Vec<Vec<u32>> =
            whole.iter().map(|t| bits(model.last_logits(&[t]).unwrap().as_slice())).collect();
        // All in one batch.
        let all: Vec<&[u32]> = whole.iter().map(Vec::as_slice).collect();
        let batch = model.last_logits(&all).unwrap();
        for (i, want) in alone.iter().enumerate() {
            prop_assert_eq!(&bits(batch.row(i)), want);
        }
        // Behind one shared prefix, itself read in two passes and cut into two ranges of the cache.
        let at = (prefix as f64 * cut) as usize;
        let logits = |cache: &mut Cache, texts: &Texts, rows: &[u32]| {
            let hidden = model.read(texts, cache, Wanted::These(rows)).unwrap();
            model.logits(&hidden).unwrap().into_matrix().unwrap()
        };
        let room = aligned(prefix) + aligned(at) + tails.iter().map(|t| aligned(t.len())).sum::<usize>();
        let mut cache = model.cache(room + aligned(whole[0].len())).unwrap();
        let mut past = Vec::new();
        let mut place = 0;
        for piece in [&head[..at], &head[at..]] {
            if !piece.is_empty() {
                let mut texts = Texts::default();
                texts.add(piece, &past, place, 0);
                model.read(&texts, &mut cache, Wanted::All).unwrap();
                past.push(place..place + piece.len());
                place += aligned(piece.len());
            }
        }
        let (mut texts, mut rows) = (Texts::default(), Vec::new());
        for tail in &tails {
            rows.push(texts.add(tail, &past, place, 0).end as u32 - 1);
            place += aligned(tail.len());
        }
        let behind = logits(&mut cache, &texts, &rows);
        for (i, want) in alone.iter().enumerate() {
            prop_assert_eq!(&bits(behind.row(i)), want);
        }
        // Packed behind the prefix in one pass that keeps nothing.
        let (mut texts, mut rows) = (Texts::default(), Vec::new());
        let (_, shared) = texts.pack(&head, &[]);
        for tail in &tails {
            rows.push(texts.pack(tail, std::slice::from_ref(&shared)).0.end as u32 - 1);
        }
        let packed = logits(&mut model.scratch(texts.cache_rows()).unwrap(), &texts, &rows);
        for (i, want) in alone.iter().enumerate() {
            prop_assert_eq!(&bits(packed.row(i)), want);
        }
        // Token by token, behind the first part of the prefix.
        let first: Vec<_> = (at > 0).then_some(0..at).into_iter().collect();
        let mut last = None;
        for (seen, &token) in whole[0][at..].iter().enumerate() {
            let mut texts = Texts::default();
            texts.add(&[token], &first, place, seen);
            last = Some(logits(&mut cache, &texts, &[0]));
        }
        prop_assert_eq!(&bits(last.unwrap().as_slice()), &alone[0]);
    }
}

#[test]
fn unusable_input_is_an_error_with_a_remedy() {
    let config = Config { context: 8, ..fixture::config(Family::LLAMA) };
    let model = build(&config, Dtype::F32);
    let run = |tokens: &[u32]| model.last_logits(&[tokens]);
    for bad in [&[][..], &[264], &[u32::MAX], &[1; 9]] {
        let error = run(bad).unwrap_err();
        assert!(!error.place().is_empty() && !error.next_step().is_empty(), "{error}");
    }
    assert!(run(&[1; 8]).is_ok());
    let error = score(&model, &[vec![vec![1]]], [1, 264], 64).unwrap_err();
    assert!(error.what().contains("264") && !error.next_step().is_empty(), "{error}");
    let mut wrong = adapter(&config, false);
    wrong.pairs[1][3].b.pop();
    assert!(model.with_adapter(Some(&wrong)).is_err());
    wrong.pairs.pop();
    assert!(model.with_adapter(Some(&wrong)).is_err());
    let weights = fixture::weights(&config, 7, Dtype::F32).unwrap();
    for wrong in [Config { hidden: 16, ..config.clone() }, Config { layers: 3, ..config.clone() }] {
        assert!(Model::new(wrong, weights.clone()).is_err());
    }
}
