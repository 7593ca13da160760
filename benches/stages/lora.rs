//! One optimiser step of LoRA training.

use std::path::Path;
use std::time::Instant;

use rallrec::Result;
use rallrec::device::Device;
use rallrec::models::decoder::Arithmetic;
use rallrec::models::decoder::train::Parameters;
use rallrec::models::decoder::train::{Branch, Engine, Group, Model, Packed, Pass, StepDropout, Trained};
use rallrec::models::lora::{Adapter, Target};
use rallrec::ops::adamw::AdamW;
use rallrec::rng::{Rng, Use};
use rallrec::store::loader::{LoadOptions, load};
use serde_json::json;

use super::{Figure, memory};

fn tokens(n: usize, salt: u32) -> Vec<u32> {
    let mut rng = Rng::new(0, Use::Synthetic, salt, 0);
    (0..n).map(|_| 1000 + rng.below(39_000)).collect()
}

/// What a step learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rows {
    /// 4 sequences of `--length` tokens.
    Plain,
    /// 4 users with 400 tokens of history and 8 targets of 112 tokens each.
    Groups,
    /// 16 prompts of real lengths, each by itself.
    Ragged,
}

/// Tokens of 16 tuning prompts of `configs/ml-1m-quick.toml` with `retrieve.k = 30`, drawn at
/// random.
const RAGGED: [usize; 16] = [280, 440, 440, 439, 428, 174, 448, 211, 486, 452, 411, 465, 444, 481, 455, 391];

fn work(rows: Rows, length: usize) -> Vec<Group> {
    let branch = |i| Branch { tokens: tokens(112, 100 + i), targets: 109..112, weight: 1.0 };
    let shared = |u| Group { prefix: tokens(400, u), branches: (0..8).map(|i| branch(8 * u + i)).collect() };
    let plain = |i, n| Group::plain(tokens(n, i), n - 3..n);
    match rows {
        Rows::Plain => (0..4).map(|i| plain(i, length)).collect(),
        Rows::Groups => (0..4).map(shared).collect(),
        Rows::Ragged => (0..).zip(RAGGED).map(|(i, n)| plain(i, n)).collect(),
    }
}

/// What a step is like.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub micro: usize,
    pub dropout: f64,
    pub rows: Rows,
    pub length: usize,
    pub arithmetic: Arithmetic,
}

pub fn step(path: &Path, of: Step, runs: usize) -> Result<Figure> {
    let Step { micro, dropout, rows, length, arithmetic } = of;
    let loaded = load(path, &LoadOptions::default())?;
    let mut adapter = Adapter::init(&loaded.config, 8, 16.0, &[Target::QProj, Target::VProj], 0)?;
    let groups = work(rows, length);
    let before = memory("VmRSS");
    let count = adapter.count()?;
    let (mut g, mut m, mut v) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
    let mut engine = Engine::on(&Device::Cpu, &loaded.config, &loaded.weights, arithmetic)?;
    let mut seconds = Vec::new();
    let total: usize = groups.iter().map(Group::tokens).sum();
    let apart: usize = groups.iter().flat_map(|g| g.branches.iter().map(|b| g.prefix.len() + b.tokens.len())).sum();
    let mut loss = 0.0;
    for step in 1..=runs as u64 + 1 {
        let began = Instant::now();
        g.fill(0.0);
        loss = 0.0;
        let mut packed = Packed::default();
        let dropout = (dropout > 0.0).then_some(StepDropout { p: dropout, seed: 1, step: step as u32 });
        for (i, group) in groups.iter().enumerate() {
            packed.push(group, i as u32);
            let full = groups.get(i + 1).is_none_or(|next| packed.rows() + next.tokens() > micro);
            if full {
                let model =
                    Model { config: &loaded.config, weights: &loaded.weights, adapter: Some(&adapter), soft: None };
                let trained = Trained::Adapter { first_layer: 0 };
                let pass = Pass { model, batch: &packed, trained, dropout, scale: 1.0 / 12.0 };
                loss += engine.gradient(&pass, &mut g, None)?;
                packed.clear();
            }
        }
        let adam = AdamW { lr: 5e-4, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, step };
        let (mut at, mut updated) = (0, Ok(()));
        adapter.visit_mut(&mut |_, p| {
            let span = at..at + p.len();
            let done = adam.apply(p, &g[span.clone()], &mut m[span.clone()], &mut v[span.clone()], 1.0);
            updated = std::mem::replace(&mut updated, Ok(())).and(done.map(drop));
            at = span.end;
        })?;
        updated?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.remove(0);
    let more = json!({ "micro": micro, "dropout": dropout, "tokens": total, "tokens_as_plain_sequences": apart,
        "buffers_mib": engine.bytes() >> 20, "before_mib": before, "loss": loss });
    Ok(Figure { seconds, work: total as f64, unit: "tokens/s", more })
}
