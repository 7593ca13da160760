//! Prefill and decoding.

use std::path::Path;
use std::time::Instant;

use rallrec::error::Error;
use rallrec::generate::{GenerateSettings, Listener, Prompt, Sample, generate};
use rallrec::models::decoder::{Arithmetic, Model};
use rallrec::models::lora::Target;
use rallrec::store::{LoadOptions, load};
use rallrec::tensor::Dtype;
use rallrec::{Result, Silent};
use serde_json::json;

use super::{Figure, timed};

/// How products are done.
pub fn arithmetic(dtype: Option<&str>) -> Arithmetic {
    match dtype {
        Some("int8") => Arithmetic::Int8,
        Some("products-bf16") => Arithmetic::Bf16,
        _ => Arithmetic::F32,
    }
}

fn open(path: &Path, dtype: Option<&str>) -> Result<Model> {
    let arithmetic = arithmetic(dtype);
    let dtype = match dtype.filter(|_| arithmetic == Arithmetic::F32) {
        None => None,
        Some("f32") => Some(Dtype::F32),
        Some("bf16") => Some(Dtype::Bf16),
        Some("f16") => Some(Dtype::F16),
        Some(other) => {
            return Err(Error::usage("--dtype", other.to_owned()).next("use f32, bf16, f16, products-bf16 or int8"));
        }
    };
    let loaded = load(path, &LoadOptions { dtype })?;
    Model::new(loaded.config, loaded.weights)?.with_arithmetic(arithmetic)
}

/// Ordinary tokens, all different at first.
fn tokens(model: &Model, n: usize) -> Vec<u32> {
    let vocabulary = model.config().vocab as u32;
    (0..n as u32).map(|i| 1000 + i * 7919 % 39_000 % (vocabulary - 1000)).collect()
}

/// Bytes of the weights that one decoding step reads, and values in the layers' matrices.
fn size(model: &Model) -> (usize, usize) {
    let w = model.weights();
    let all = w.layers.iter().flat_map(|l| Target::ALL.map(|t| &l.linear(t).weight));
    (model.layer_bytes() + w.head().bytes(), all.map(|w| w.rows() * w.cols()).sum())
}

/// How the layers' weights are stored.
fn stored(model: &Model) -> String {
    model.weights().layers.first().and_then(|l| l.down.weight.dtype()).map_or("quantised".into(), |d| format!("{d:?}"))
}

pub fn prefill(path: &Path, dtype: Option<&str>, length: usize, runs: usize) -> Result<Figure> {
    let model = open(path, dtype)?;
    let prompt = tokens(&model, length);
    let seconds = timed(runs, || model.last_logits(&[&prompt]).map(drop))?;
    let flops = 2.0 * (size(&model).1 * length) as f64;
    let more = json!({ "tokens": length, "weights": stored(&model),
        "layers_gflop_s": flops / super::median(&seconds) / 1e9 });
    Ok(Figure { seconds, work: length as f64, unit: "tokens/s", more })
}

/// Notes when the first token came and when the last.
struct Clock {
    first: Option<Instant>,
    last: Instant,
}

impl Listener for Clock {
    fn token(&mut self, _: u32, _: u32, _: u32) -> Result<()> {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        Ok(())
    }
    fn finished(&mut self, _: Sample) -> Result<()> {
        Ok(())
    }
}

pub fn decode(
    path: &Path,
    dtype: Option<&str>,
    samples: u32,
    length: usize,
    new: usize,
    runs: usize,
) -> Result<Figure> {
    if new < 2 {
        return Err(Error::usage("--new", new.to_string()).next("2 or more"));
    }
    let model = open(path, dtype)?;
    let prompt = tokens(&model, length);
    // Never the end of a text, so that the work is fixed.
    let settings = GenerateSettings { temperature: 0.6, max_new_tokens: new, ..GenerateSettings::default() };
    let mut seconds = Vec::new();
    for _ in 0..runs + 1 {
        let mut clock = Clock { first: None, last: Instant::now() };
        generate(&model, &[Prompt::new(0, prompt.clone(), samples)], &[], &settings, &Silent, &mut clock)?;
        seconds.push((clock.last - clock.first.unwrap_or(clock.last)).as_secs_f64());
    }
    seconds.remove(0);
    let work = f64::from(samples) * (new - 1) as f64;
    let more = json!({ "samples": samples, "prompt": length, "new": new, "weight_bytes": size(&model).0,
        "weights": stored(&model),
        "ms_a_step": 1e3 * super::median(&seconds) / (new - 1) as f64 });
    Ok(Figure { seconds, work, unit: "tokens/s", more })
}
