//! Generation: answers are a function of (model, prompt, settings, row, sample) and of nothing
//! else.

use proptest::prelude::*;
use rallrec::Silent;
use rallrec::generate::{Finish, GenerateSettings, Listener, Prompt, Sample, generate};
use rallrec::models::decoder::{Config, Family, Model, families};
use rallrec::rng::{Rng, Use};
use rallrec::store::fixture;
use rallrec::tensor::Dtype;

fn model() -> Model {
    let config = fixture::config(Family::LLAMA);
    Model::new(config.clone(), fixture::weights(&config, 3, Dtype::Bf16).unwrap()).unwrap()
}

fn prompt(row: u32, length: usize, begin: &[u32], samples: u32) -> Prompt {
    let mut rng = Rng::new(9, Use::Synthetic, row, 0);
    let tokens = begin.iter().copied().chain((0..length).map(|_| rng.below(264))).collect();
    Prompt::new(row, tokens, samples)
}

fn all(model: &Model, prompts: &[Prompt], stop: &[u32], settings: &GenerateSettings) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    generate(model, prompts, stop, settings, &Silent, &mut samples).unwrap();
    samples.sort_by_key(|s| (s.row, s.sample));
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn an_answer_does_not_depend_on_its_company(
        lengths in prop::collection::vec(1usize..60, 1..5), begin in 0usize..80, samples in 1u32..5,
        max_rows in 1usize..9, top_k in prop::sample::select(vec![0usize, 5]), top_p in prop::sample::select(vec![1.0, 0.8]),
        seed in 0u64..50,
    ) {
        let model = model();
        let begin: Vec<u32> = (0..begin as u32).collect();
        let prompts: Vec<Prompt> =
            lengths.iter().enumerate().map(|(i, &n)| prompt(i as u32 * 3, n, &begin, samples)).collect();
        // About one token in nine ends an answer, so that rows leave and join at different times.
        let stop: Vec<u32> = (0..30).collect();
        let settings =
            GenerateSettings { temperature: 1.0, top_k, top_p, max_new_tokens: 12, max_rows, seed, ..GenerateSettings::default() };
        let together = all(&model, &prompts, &stop, &settings);
        prop_assert_eq!(together.len(), lengths.len() * samples as usize);
        let mut apart = Vec::new();
        for p in &prompts {
            for &s in &p.samples {
                let one = Prompt { samples: vec![s], ..p.clone() };
                apart.extend(all(&model, &[one], &stop, &GenerateSettings { max_rows: 1, ..settings.clone() }));
            }
        }
        prop_assert_eq!(together, apart);
    }
}

/// Decode steps give every family the tokens that a fresh pass over all of the text finds
/// likeliest, behind short prompts and behind those that are read piece by piece.
#[test]
fn greedy_answers_of_every_family_follow_the_logits() {
    for (family, length) in families::ALL.into_iter().flat_map(|f| [(f, 12), (f, 1100)]) {
        let config = fixture::config(family);
        let model = Model::new(config.clone(), fixture::weights(&config, 3, Dtype::F32).unwrap()).unwrap();
        let prompt = prompt(1, length, &[], 1);
        let settings = GenerateSettings { temperature: 0.0, max_new_tokens: 8, ..GenerateSettings::default() };
        let answer = all(&model, std::slice::from_ref(&prompt), &[], &settings).remove(0).tokens;
        let mut text = prompt.tokens;
        for token in answer {
            let logits = model.last_logits(&[&text]).unwrap();
            let largest = logits.row(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // The same bits on the CPU; ties are improbable.
            let behind = text.len();
            assert_eq!(logits.row(0)[token as usize].to_bits(), largest.to_bits(), "{family:?} behind {behind} tokens");
            text.push(token);
        }
        assert_eq!(text.len(), length + 8);
    }
}

#[test]
fn samples_differ_and_seeds_matter() {
    let (model, prompts) = (model(), [prompt(1, 20, &[], 4)]);
    let settings = GenerateSettings { temperature: 1.0, max_new_tokens: 16, ..GenerateSettings::default() };
    let a = all(&model, &prompts, &[], &settings);
    assert!(a.iter().all(|s| s.tokens.len() == 16 && s.finish == Finish::Length));
    assert!(a.windows(2).all(|w| w[0].tokens != w[1].tokens));
    let b = all(&model, &prompts, &[], &GenerateSettings { seed: 43, ..settings.clone() });
    assert!(a.iter().zip(&b).all(|(a, b)| a.tokens != b.tokens));
    let greedy = all(&model, &prompts, &[], &GenerateSettings { temperature: 0.0, ..settings });
    assert!(greedy.windows(2).all(|w| w[0].tokens == w[1].tokens));
}

#[test]
fn stop_tokens_wait_for_the_minimum_and_are_not_part_of_the_answer() {
    let (model, prompts) = (model(), [prompt(1, 5, &[], 8)]);
    let stop: Vec<u32> = (0..260).collect();
    let settings =
        GenerateSettings { temperature: 1.0, min_new_tokens: 3, max_new_tokens: 50, ..GenerateSettings::default() };
    for s in all(&model, &prompts, &stop, &settings) {
        assert!(s.tokens.len() >= 3 && s.tokens.iter().all(|t| *t >= 260), "{s:?}");
        assert_eq!(s.finish, Finish::Stop);
    }
}

#[test]
fn the_context_ends_an_answer_and_too_long_a_prompt_is_an_error() {
    let config = Config { context: 16, ..fixture::config(Family::LLAMA) };
    let model = Model::new(config.clone(), fixture::weights(&config, 3, Dtype::F32).unwrap()).unwrap();
    let settings = GenerateSettings { max_new_tokens: 50, ..GenerateSettings::default() };
    let got = all(&model, &[prompt(0, 10, &[], 1)], &[], &settings);
    assert_eq!((got[0].finish, got[0].tokens.len()), (Finish::Context, 6));
    for (length, row) in [(16, 7), (0, 8)] {
        let mut none: Vec<Sample> = Vec::new();
        let error = generate(&model, &[prompt(row, length, &[], 1)], &[], &settings, &Silent, &mut none).unwrap_err();
        assert!(error.place().contains(&row.to_string()) && !error.next_step().is_empty(), "{error}");
    }
}

#[test]
fn nan_weights_and_bad_settings_are_errors() {
    let config = fixture::config(Family::LLAMA);
    let mut weights = fixture::weights(&config, 3, Dtype::F32).unwrap();
    weights.norm[0] = f32::NAN;
    let broken = Model::new(config, weights).unwrap();
    let mut none: Vec<Sample> = Vec::new();
    let error =
        generate(&broken, &[prompt(4, 3, &[], 1)], &[], &GenerateSettings::default(), &Silent, &mut none).unwrap_err();
    assert!(error.what().contains("NaN") && error.place().contains("row 4"), "{error}");
    for bad in [
        GenerateSettings { max_new_tokens: 0, ..GenerateSettings::default() },
        GenerateSettings { max_rows: 0, ..GenerateSettings::default() },
        GenerateSettings { top_p: 1.5, ..GenerateSettings::default() },
        GenerateSettings { min_new_tokens: 9, max_new_tokens: 8, ..GenerateSettings::default() },
    ] {
        assert!(generate(&model(), &[], &[], &bad, &Silent, &mut none).is_err(), "{bad:?}");
    }
}

#[test]
fn the_listener_hears_every_token_and_can_end_it() {
    #[derive(Default)]
    struct Ear {
        tokens: Vec<u32>,
        finished: Vec<Sample>,
        limit: usize,
    }
    impl Listener for Ear {
        fn token(&mut self, _: u32, _: u32, token: u32) -> rallrec::Result<()> {
            self.tokens.push(token);
            if self.tokens.len() == self.limit { Err(rallrec::Error::stopped("test")) } else { Ok(()) }
        }
        fn finished(&mut self, sample: Sample) -> rallrec::Result<()> {
            self.finished.push(sample);
            Ok(())
        }
    }
    let settings = GenerateSettings { max_new_tokens: 9, ..GenerateSettings::default() };
    let mut ear = Ear::default();
    generate(&model(), &[prompt(0, 4, &[], 1)], &[], &settings, &Silent, &mut ear).unwrap();
    assert_eq!(ear.tokens, ear.finished[0].tokens);
    let mut ear = Ear { limit: 3, ..Ear::default() };
    assert!(generate(&model(), &[prompt(0, 4, &[], 1)], &[], &settings, &Silent, &mut ear).is_err());
    assert!(ear.finished.is_empty());
}
