//! The stages that take the time, each as a whole piece of work, for comparison with the tools that
//! a user would pick instead (`benches/peers`). `rallrec bench` measures single operators against
//! the machine's ceilings.
//!
//! ```text
//! cargo bench --bench stages -- prefill MODEL [--tokens 512]
//! cargo bench --bench stages -- decode MODEL [--samples 16] [--tokens 512] [--new 64]
//! cargo bench --bench stages -- lora MODEL [--rows plain|groups|ragged]
//! cargo bench --bench stages -- lightgcn TRAIN TEST [--steps 100] [--bf16]
//! cargo bench --bench stages -- quality TRAIN TEST [--epochs 40] [--seed 2020] [--bf16]
//! cargo bench --bench stages -- topk [--queries 10000] [--items 100000] [--dim 256] [--k 32]
//! cargo bench --bench stages -- infonce [--pairs 4096] [--dim 256]
//! cargo bench --bench stages -- samples ML_1M_FOLDER
//! ```
//!
//! Each prints one line of JSON: what was measured, the seconds of every run, the rate of the
//! median run with its unit, the peak memory of the process.

mod llm;
mod lora;
mod recsys;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use rallrec::Result;
use rallrec::ops::spmm::Precision;
use serde_json::json;

/// Times whole pieces of work; prints one line of JSON.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    work: Work,
    /// Timed runs, after one that is not counted.
    #[arg(long, default_value_t = 5, global = true)]
    runs: usize,
    /// Worker threads; 0 = one for each core.
    #[arg(long, default_value_t = 0, global = true)]
    threads: usize,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(clap::Subcommand)]
enum Work {
    /// One pass over a prompt, logits of the last position.
    Prefill {
        model: PathBuf,
        #[arg(long, default_value_t = 512)]
        tokens: usize,
        /// Type of the weights in memory (default: as stored), or products-bf16, or int8: products
        /// in that type.
        #[arg(long)]
        dtype: Option<String>,
    },
    /// S samples behind one shared prompt, sampling included, the prefill not.
    Decode {
        model: PathBuf,
        #[arg(long, default_value_t = 16)]
        samples: u32,
        #[arg(long, default_value_t = 512)]
        tokens: usize,
        #[arg(long, default_value_t = 64)]
        new: usize,
        #[arg(long)]
        dtype: Option<String>,
    },
    /// One LoRA step: rank 8 on q and v, 3 answer tokens a sequence, AdamW.
    Lora {
        model: PathBuf,
        /// Tokens that go through the model at once.
        #[arg(long, default_value_t = 1024)]
        micro: usize,
        #[arg(long, default_value_t = 0.0)]
        dropout: f64,
        /// What the step learns from.
        #[arg(long, value_enum, default_value = "plain")]
        rows: lora::Rows,
        /// Tokens of a plain sequence, at least 4.
        #[arg(long, default_value_t = 512)]
        length: usize,
        /// products-bf16: products with the frozen weights in bf16.
        #[arg(long)]
        dtype: Option<String>,
    },
    /// LightGCN training steps: d 64, 3 layers, batch 2048.
    Lightgcn {
        train: PathBuf,
        test: PathBuf,
        #[arg(long, default_value_t = 100)]
        steps: usize,
        /// Gather rows of 16 bits.
        #[arg(long)]
        bf16: bool,
    },
    /// Recall@20 and NDCG@20 of LightGCN by epoch.
    Quality {
        train: PathBuf,
        test: PathBuf,
        #[arg(long, default_value_t = 40)]
        epochs: u32,
        #[arg(long, default_value_t = 2020)]
        seed: u64,
        /// Gather rows of 16 bits.
        #[arg(long)]
        bf16: bool,
    },
    /// Exact inner-product search.
    Topk {
        #[arg(long, default_value_t = 10_000)]
        queries: usize,
        #[arg(long, default_value_t = 100_000)]
        items: usize,
        #[arg(long, default_value_t = 256)]
        dim: usize,
        #[arg(long, default_value_t = 32)]
        k: usize,
    },
    /// Symmetric InfoNCE, loss and gradients.
    Infonce {
        #[arg(long, default_value_t = 4096)]
        pairs: usize,
        #[arg(long, default_value_t = 256)]
        dim: usize,
    },
    /// MovieLens-1M's raw files to split samples with histories.
    Samples { folder: PathBuf },
}

/// What one piece of work gave.
struct Figure {
    /// Seconds of each run.
    seconds: Vec<f64>,
    /// Units of work of one run.
    work: f64,
    /// Their unit.
    unit: &'static str,
    /// Anything else worth knowing.
    more: serde_json::Value,
}

/// Seconds of each of `runs` calls, after one that is not counted.
fn timed(runs: usize, mut body: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    body()?;
    (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            body()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A line of /proc/self/status in MiB (Linux; null elsewhere).
fn memory(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn precision(bf16: bool) -> Precision {
    if bf16 { Precision::Bf16 } else { Precision::F32 }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.threads > 0 {
        // Only fails when the pool is there already, which it is not.
        rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().ok();
    }
    let runs = args.runs;
    // On a thread of the pool, as the stages of a run are.
    let (name, figure) = rayon::scope(|_| -> Result<_> {
        Ok(match args.work {
            Work::Prefill { model, tokens, dtype } => {
                ("prefill", llm::prefill(&model, dtype.as_deref(), tokens, runs)?)
            }
            Work::Decode { model, samples, tokens, new, dtype } => {
                ("decode", llm::decode(&model, dtype.as_deref(), samples, tokens, new, runs)?)
            }
            Work::Lora { model, micro, dropout, rows, length, dtype } => {
                let arithmetic = llm::arithmetic(dtype.as_deref());
                ("lora", lora::step(&model, lora::Step { micro, dropout, rows, length, arithmetic }, runs)?)
            }
            Work::Lightgcn { train, test, steps, bf16 } => {
                ("lightgcn", recsys::lightgcn(&train, &test, steps, precision(bf16))?)
            }
            Work::Quality { train, test, epochs, seed, bf16 } => {
                ("quality", recsys::quality(&train, &test, epochs, seed, precision(bf16))?)
            }
            Work::Topk { queries, items, dim, k } => ("topk", recsys::topk(queries, items, dim, k, runs)?),
            Work::Infonce { pairs, dim } => ("infonce", recsys::infonce(pairs, dim, runs)?),
            Work::Samples { folder } => ("samples", recsys::samples(&folder, runs)?),
        })
    })?;
    let middle = median(&figure.seconds);
    println!(
        "{}",
        json!({
            "work": name,
            "threads": rayon::current_num_threads(),
            "median_s": middle,
            "seconds": figure.seconds,
            "rate": figure.work / middle,
            "unit": figure.unit,
            "peak_mib": memory("VmHWM"),
            "more": figure.more,
        })
    );
    Ok(())
}
