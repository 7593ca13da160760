//! Tokens a second of a local model: `cargo bench --bench llm -- MODEL [prompt tokens] [new tokens, 0 for prefill only] [runs]`.
//!
//! Prefill is one pass with the last position's logits; decoding is S samples behind one shared prompt, sampling
//! included, the prefill not. The floor of a decoding step is one reading of the weights at the speed of memory,
//! which is measured first.

use std::path::Path;
use std::time::Instant;

use rallrec::generate::{Listener, Prompt, Sample, Settings, generate};
use rallrec::models::llama::{LoadOptions, Model, Part, Prefix, Sequence, load};
use rallrec::{Result, Silent};
use rayon::prelude::*;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn timed(runs: usize, mut body: impl FnMut() -> Result<()>) -> Result<f64> {
    body()?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        body()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

/// Bytes a second that all threads together read from memory of the model's size.
fn bandwidth(bytes: usize) -> f64 {
    let words = vec![1u64; bytes / 8];
    let sum = || words.par_chunks(1 << 16).map(|c| c.iter().fold(0u64, |a, b| a.wrapping_add(*b))).sum::<u64>();
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        std::hint::black_box(sum());
        best = best.min(start.elapsed().as_secs_f64());
    }
    bytes as f64 / best
}

/// Notes when the first token came and when the last.
struct Clock {
    first: Option<Instant>,
    last: Instant,
    tokens: usize,
}

impl Listener for Clock {
    fn token(&mut self, _: u32, _: u32, _: u32) -> Result<()> {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        Ok(())
    }
    fn finished(&mut self, _: Sample) -> Result<()> {
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let Some(path) = args.first().cloned().or_else(|| std::env::var("RALLREC_SMOLLM2").ok()) else {
        println!("usage: cargo bench --bench llm -- MODEL [prompt tokens] [new tokens] [runs]");
        return Ok(());
    };
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (length, new, runs) = (number(1, 512), number(2, 64), number(3, 5));
    let loaded = load(Path::new(&path), &LoadOptions::default())?;
    let model = Model::new(loaded.config, loaded.weights)?;
    let (c, w) = (model.config(), model.weights());
    let layer = |l: &rallrec::models::llama::Layer| -> usize {
        [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down].iter().map(|l| l.weight.bytes()).sum()
    };
    let bytes: usize = w.layers.iter().map(layer).sum::<usize>() + w.head().bytes();
    let speed = bandwidth(bytes);
    println!(
        "{} threads, weights {:.0} MB, read at {:.1} GB/s",
        rayon::current_num_threads(),
        bytes as f64 / 1e6,
        speed / 1e9
    );

    let tokens: Vec<u32> = (0..length as u32).map(|i| 1000 + i * 7919 % 39_000 % (c.vocab as u32 - 1000)).collect();
    let seconds = timed(runs, || {
        let mut sequence = Sequence::scratch(&Prefix::default());
        model.last_logits(&mut [Part { tokens: &tokens, sequence: &mut sequence }]).map(drop)
    })?;
    let macs: usize = w.layers.iter().map(layer).sum::<usize>() / w.embed.dtype().size();
    let gflops = 2.0 * (macs * length) as f64 / seconds / 1e9;
    println!(
        "prefill {length}: {:.1} ms, {:.1} tokens/s, {gflops:.0} GFLOP/s in the layers",
        seconds * 1e3,
        length as f64 / seconds
    );

    if new < 2 {
        return Ok(());
    }
    for samples in [1u32, 8, 16, 64] {
        let settings = Settings { temperature: 0.6, max_new_tokens: new, ..Settings::default() };
        let mut steps = Vec::new();
        for _ in 0..runs.max(3) - 2 {
            let mut clock = Clock { first: None, last: Instant::now(), tokens: 0 };
            generate(&model, &[Prompt::new(0, tokens.clone(), samples)], &[], &settings, &Silent, &mut clock)?;
            let first = clock.first.unwrap_or(clock.last);
            steps.push((clock.last - first).as_secs_f64() / (new - 1) as f64);
        }
        let step = median(steps);
        let floor = bytes as f64 / speed;
        println!(
            "decode {samples} samples behind {length}: {:.2} ms a step, {:.1} tokens/s, {:.0} % of the weights' floor",
            step * 1e3,
            f64::from(samples) / step,
            100.0 * floor / step
        );
    }
    Ok(())
}
