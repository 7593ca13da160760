//! SmolLM2-135M against reference outputs of PyTorch and of an independent f64 forward.

use crate::shared::{Tensors, assert_close, golden, smollm2, wide};
use rallrec::Silent;
use rallrec::generate::scoring::score;
use rallrec::generate::{GenerateSettings, Pooling, Prompt, Sample, embed, generate};
use rallrec::models::decoder::Model;
use rallrec::models::decoder::layer::Stage;
use rallrec::models::lora::{Adapter, Pair, Target};

const LOGITS: f64 = 5e-4;
const STATES: f64 = 5e-5;

fn open() -> Option<(Model, Tensors)> {
    let file = golden("smollm2.safetensors")?;
    let loaded = smollm2()?;
    Some((Model::new(loaded.config, loaded.weights).unwrap(), Tensors::open(&file)))
}

fn last(model: &Model, tokens: &[u32]) -> Vec<f32> {
    model.last_logits(&[tokens]).unwrap().into_vec()
}

#[test]
fn logits_states_and_choices() {
    let Some((model, t)) = open() else { return };
    for n in 0..6 {
        let tokens = t.ids(&format!("prompt{n}.input_ids"));
        let logits = last(&model, &tokens);
        let want = t.f64(&format!("prompt{n}.last_logits_f64"));
        let worst = assert_close(&format!("prompt {n} logits"), &logits, &want, LOGITS);
        assert_close("f32 logits", &logits, &wide(&t.f32(&format!("prompt{n}.last_logits"))), LOGITS);
        println!("prompt {n}: logits within {worst:.1e}");
        for (pooling, name) in [(Pooling::Mean, "mean_hidden_f64"), (Pooling::Last, "last_hidden")] {
            let got = embed(&model, &[], &[&tokens], pooling).unwrap();
            let name = format!("prompt{n}.{name}");
            let want = if pooling == Pooling::Mean { t.f64(&name) } else { wide(&t.f32(&name)) };
            assert_close(&name, got.as_slice(), &want, STATES);
        }
        let choice = score(&model, &[vec![tokens.clone()]], [10539, 5230], 4096).unwrap()[0][0];
        assert_eq!(choice.logits, [logits[10539], logits[5230]], "the same product, the same bits");
        let top = want.iter().copied().fold(f64::MIN, f64::max);
        let log_sum = top + want.iter().map(|l| (l - top).exp()).sum::<f64>().ln();
        assert!((choice.log_sum_exp - log_sum).abs() <= 2e-4, "{} {log_sum}", choice.log_sum_exp);
        let p = 1.0 / (1.0 + (want[5230] - want[10539]).exp());
        assert!((choice.two_way() - p).abs() <= 1e-4, "{} {p}", choice.two_way());
    }
}

#[test]
fn every_layer_of_a_short_prompt() {
    let Some((model, t)) = open() else { return };
    let tokens = t.ids("prompt0.input_ids");
    let layers = t.f32("trace.layer_out");
    let mut seen = 0;
    let mut tracer = |layer: usize, stage: Stage, values: &[f32]| {
        let name = match stage {
            Stage::Embedding => "trace.embed",
            Stage::LayerOutput => {
                let want = &layers[layer * values.len()..(layer + 1) * values.len()];
                // A few coordinates of the stream grow very large; the reference is f32 itself, so
                // the bound is relative to the largest value.
                let scale = f64::from(want.iter().fold(1.0f32, |a, b| a.max(b.abs())));
                assert_close(&format!("layer {layer}"), values, &wide(want), 1e-5 * scale);
                seen += 1;
                return;
            }
            _ if layer > 0 => return,
            Stage::AttentionNorm => "trace.layer0.input_layernorm",
            Stage::Queries => "trace.layer0.q_proj",
            Stage::Keys => "trace.layer0.k_proj",
            Stage::Values => "trace.layer0.v_proj",
            Stage::Attention => "trace.layer0.attention_before_o_proj",
            Stage::MlpNorm => "trace.layer0.post_attention_layernorm",
        };
        assert_close(name, values, &wide(&t.f32(name)), 2e-5);
        seen += 1;
    };
    let hidden = model.trace(&tokens, &mut tracer).unwrap();
    assert_close("final norm", hidden.as_slice(), &wide(&t.f32("trace.final_norm")), 1e-4);
    assert_eq!(seen, 30 + 1 + 6);
}

#[test]
fn greedy_tokens_of_six_prompts_in_one_batch() {
    let Some((model, t)) = open() else { return };
    let prompts: Vec<Prompt> = (0..6).map(|n| Prompt::new(n, t.ids(&format!("prompt{n}.input_ids")), 1)).collect();
    let greedy = GenerateSettings { temperature: 0.0, max_new_tokens: 32, ..GenerateSettings::default() };
    let mut answers: Vec<Sample> = Vec::new();
    generate(&model, &prompts, &[], &greedy, &Silent, &mut answers).unwrap();
    assert_eq!(answers.len(), 6);
    for answer in answers {
        let n = answer.row;
        assert_eq!(answer.tokens, t.ids(&format!("prompt{n}.greedy_ids")), "prompt {n}");
    }
}

#[test]
fn lora_logits() {
    let Some((model, t)) = open() else { return };
    let pair = |layer: usize, target: &str| Pair {
        a: t.f32(&format!("lora.{layer}.{target}.A")),
        b: t.f32(&format!("lora.{layer}.{target}.B")),
    };
    let mut adapter = Adapter {
        rank: 8,
        alpha: 16.0,
        dropout: 0.0,
        targets: vec![Target::QProj, Target::VProj],
        pairs: (0..30).map(|l| vec![pair(l, "q_proj"), pair(l, "v_proj")]).collect(),
    };
    let adapted = model.with_adapter(Some(&adapter)).unwrap();
    for n in [0, 2, 3] {
        let tokens = t.ids(&format!("prompt{n}.input_ids"));
        let want = t.f64(&format!("lora_prompt{n}.last_logits_f64"));
        assert_close(&format!("prompt {n} with the adapter"), &last(&adapted, &tokens), &want, LOGITS);
    }
    let tokens = t.ids("prompt0.input_ids");
    let base = last(&model, &tokens);
    assert_eq!(last(&adapted.with_adapter(None).unwrap(), &tokens), base);
    adapter.pairs.iter_mut().flatten().for_each(|p| p.b.fill(0.0));
    assert_eq!(last(&model.with_adapter(Some(&adapter)).unwrap(), &tokens), base, "B = 0 changes no bit");
}
