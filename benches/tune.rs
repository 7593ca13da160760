//! One LoRA step (rank 8 on q and v, 4 sequences of 512 tokens, 3 answer tokens each, AdamW): tokens a second and peak
//! memory. `cargo bench --bench tune -- MODEL [--groups]`; the model may also be named by RALLREC_SMOLLM2. With
//! `--groups`, also the same targets behind shared histories.

use std::path::PathBuf;
use std::time::Instant;

use rallrec::Result;
use rallrec::models::llama::loader::{LoadOptions, load};
use rallrec::models::llama::train::{Branch, Engine, Group, Model, Noise, Packed, Parameters, Trained};
use rallrec::models::lora::{Adapter, Target};
use rallrec::ops::adamw::AdamW;
use rallrec::rng::{Rng, Use};

/// A line of /proc/self/status in MiB.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Seconds of processor time used so far, all threads together (Linux; 0 elsewhere). Unlike the clock, it says what a
/// step costs on a machine that is busy with other things.
fn processor_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0.0)).collect();
    fields.get(10).unwrap_or(&0.0) / 100.0 + fields.get(11).unwrap_or(&0.0) / 100.0
}

fn tokens(n: usize, salt: u32) -> Vec<u32> {
    let mut rng = Rng::new(0, Use::Synthetic, salt, 0);
    (0..n).map(|_| 1000 + rng.below(39_000)).collect()
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let named = args.iter().find(|a| !a.starts_with("--")).map(PathBuf::from);
    let Some(path) = named.or_else(|| std::env::var_os("RALLREC_SMOLLM2").map(PathBuf::from)) else {
        println!("skipped: name a model folder, or set RALLREC_SMOLLM2");
        return Ok(());
    };
    let loaded = load(&path, &LoadOptions::default())?;
    let adapter = Adapter::init(&loaded.config, 8, 16.0, &[Target::QProj, Target::VProj], 0)?;
    let plain: Vec<Group> = (0..4).map(|i| Group::plain(tokens(512, i), 509..512)).collect();
    for (dropout, micro) in [(0.0, 512), (0.0, 1024), (0.0, 2048), (0.05, 1024)] {
        run(&loaded.config, &loaded.weights, adapter.clone(), &plain, micro, dropout, "4 x 512")?;
    }
    if args.iter().any(|a| a == "--groups") {
        // Four users: 400 tokens of history, 8 targets of 112 tokens each.
        let branch = |i| Branch { tokens: tokens(112, 100 + i), learnt: 109..112, weight: 1.0 };
        let groups: Vec<Group> = (0..4)
            .map(|u| Group { prefix: tokens(400, u), branches: (0..8).map(|i| branch(8 * u + i)).collect() })
            .collect();
        run(&loaded.config, &loaded.weights, adapter, &groups, 1536, 0.05, "4 x (400 + 8 x 112)")?;
    }
    Ok(())
}

fn run(
    config: &rallrec::models::llama::Config,
    weights: &rallrec::models::llama::Weights,
    mut adapter: Adapter,
    groups: &[Group],
    micro: usize,
    dropout: f64,
    name: &str,
) -> Result<()> {
    let count = adapter.count()?;
    let (mut g, mut m, mut v) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
    let mut engine = Engine::new();
    let mut seconds = Vec::new();
    let mut processor = Vec::new();
    let total: usize = groups.iter().map(Group::tokens).sum();
    let as_plain: usize = groups.iter().flat_map(|g| g.branches.iter().map(|b| g.prefix.len() + b.tokens.len())).sum();
    let runs = std::env::var("RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(5);
    for step in 1..=runs as u64 + 1 {
        let (began, cpu) = (Instant::now(), processor_seconds());
        g.fill(0.0);
        let mut packed = Packed::default();
        let noise = (dropout > 0.0).then_some(Noise { p: dropout, seed: 1, step: step as u32 });
        for (i, group) in groups.iter().enumerate() {
            packed.push(group, i as u32);
            let full = groups.get(i + 1).is_none_or(|next| packed.rows() + next.tokens() > micro);
            if full {
                let model = Model { config, weights, adapter: Some(&adapter) };
                engine.gradient(model, &packed, Trained::Adapter { first_layer: 0 }, noise, 1.0 / 12.0, &mut g)?;
                packed.clear();
            }
        }
        let adam = AdamW { lr: 5e-4, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, step };
        let mut at = 0;
        adapter.visit_mut(&mut |_, p| {
            let span = at..at + p.len();
            adam.apply(p, &g[span.clone()], &mut m[span.clone()], &mut v[span.clone()], 1.0);
            at = span.end;
        })?;
        seconds.push(began.elapsed().as_secs_f64());
        processor.push(processor_seconds() - cpu);
    }
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    processor.remove(0);
    processor.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{name}, micro batch {micro}, dropout {dropout}: {:.0} tokens/s median ({:.0} best), {:.0} tokens/s as plain \
         sequences, {:.0} tokens a processor second, buffers {} MiB, peak {} MiB",
        total as f64 / median,
        total as f64 / seconds[0],
        as_plain as f64 / median,
        total as f64 / processor[0],
        engine.bytes() >> 20,
        memory("VmHWM").unwrap_or(0),
    );
    Ok(())
}
