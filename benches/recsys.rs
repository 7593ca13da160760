//! LightGCN: time of a step, and quality by epoch, on LightGCN's own file layout (`user item item ...` lines).
//!
//! ```text
//! cargo bench --bench recsys -- time    --train TRAIN.txt.gz --test TEST.txt.gz [--steps 100] [--dim 64]
//! cargo bench --bench recsys -- quality --train TRAIN.txt.gz --test TEST.txt.gz [--epochs 40] [--seed 2020] [--dim 64]
//! cargo bench --bench recsys -- kernels
//! ```

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::Instant;

use rallrec::data::{ItemIdx, UserIdx};
use rallrec::events::Event;
use rallrec::models::lightgcn::{self, Graph, Sampler, Settings, Trainer};
use rallrec::monitor::Monitor;
use rallrec::ops::{bpr, infonce, spmm, topk};
use rallrec::rng::{Rng, Use};

type Lists = Vec<(UserIdx, Vec<ItemIdx>)>;

fn read(path: &str) -> Lists {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let reader: Box<dyn BufRead> = if path.ends_with(".gz") {
        Box::new(BufReader::new(flate2::read::GzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut out = Vec::new();
    for (n, line) in reader.lines().enumerate() {
        let line = line.unwrap_or_else(|e| panic!("{path}:{}: {e}", n + 1));
        let mut ids =
            line.split_whitespace().map(|w| w.parse::<u32>().unwrap_or_else(|e| panic!("{path}:{}: {e}", n + 1)));
        if let Some(user) = ids.next() {
            out.push((UserIdx(user), ids.map(ItemIdx).collect()));
        }
    }
    out
}

/// Prints metrics as they come.
struct Print(Instant);

impl Monitor for Print {
    fn emit(&self, event: Event) {
        if let Event::Metric { name, value, epoch, .. } = event {
            println!("epoch {} {name} {value:.5} after {:.1} s", epoch.unwrap_or(0), self.0.elapsed().as_secs_f64());
        }
    }
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        false
    }
    fn stage(&self) -> &str {
        "graph"
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn repeat(n: usize, mut work: impl FnMut()) -> f64 {
    median(
        (0..n)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            })
            .collect(),
    )
}

fn load(options: &HashMap<String, String>) -> (Graph, Lists) {
    let (train, test) = (read(&options["train"]), read(&options["test"]));
    let all = || train.iter().chain(&test);
    let users = all().map(|(u, _)| u.0 + 1).max().unwrap_or(0) as usize;
    let items = all().flat_map(|(_, i)| i).map(|i| i.0 + 1).max().unwrap_or(0) as usize;
    let edges: Vec<_> = train.iter().flat_map(|(u, i)| i.iter().map(|&i| (*u, i))).collect();
    (Graph::new(users, items, &edges).expect("a graph"), test)
}

fn time(graph: &Graph, settings: &Settings, steps: usize) {
    let sampler = Sampler::new(graph, settings.seed).expect("edges");
    let mut trainer = Trainer::new(graph, settings);
    let start = Instant::now();
    let order = sampler.order(1);
    let shuffle = start.elapsed().as_secs_f64();
    let (mut batch, mut times) = (bpr::Batch::default(), Vec::new());
    for step in 0..steps {
        let start = Instant::now();
        sampler.batch(&order, step % sampler.steps(settings.batch), settings.batch, &mut batch);
        std::hint::black_box(trainer.step(&batch));
        times.push(start.elapsed().as_secs_f64());
    }
    let epoch = sampler.steps(settings.batch);
    let (mean, middle) = (times.iter().sum::<f64>() / steps as f64, median(times));
    println!(
        "step: median {:.3} ms, mean {:.3} ms; epoch of {epoch} steps: {:.2} s (shuffle {:.1} ms)",
        middle * 1e3,
        mean * 1e3,
        mean * epoch as f64 + shuffle,
        shuffle * 1e3
    );
    let (x, nodes) = (trainer.layer0().clone(), graph.adjacency().nodes());
    let (mut space, mut out) = (spmm::Workspace::new(nodes, settings.dim), x.clone());
    let seconds = repeat(21, || spmm::propagate(graph.adjacency(), &x, settings.layers, None, &mut space, &mut out));
    let cost = spmm::cost(graph.adjacency(), settings.dim, settings.layers);
    println!(
        "propagate: {:.3} ms for {} layers, {:.1} GB/s gathered",
        seconds * 1e3,
        settings.layers,
        cost.bytes / seconds / 1e9
    );
    let seconds = repeat(5, || {
        sampler.batch(&order, 3, settings.batch, &mut batch);
        std::hint::black_box(&batch);
    });
    println!("sampling a batch: {:.3} ms", seconds * 1e3);
}

fn kernels() {
    let mut rng = Rng::new(1, Use::Synthetic, 0, 0);
    let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
    let (q, i) = (normal(1024 * 64), normal(20_000 * 64));
    let seconds = repeat(5, || drop(topk::topk(&q, &i, 64, 20, &topk::Nothing).expect("scores")));
    let cost = topk::cost(1024, 20_000, 64);
    println!(
        "top-20 of 20,000 x 64 for 1,024 queries: {:.2} ms, {:.1} GFLOP/s",
        seconds * 1e3,
        cost.flops / seconds / 1e9
    );
    let params = infonce::Params { similarity: infonce::Similarity::Cosine, tau: 0.1, weight: 1.0 };
    for (n, d) in [(1024, 128), (4096, 64)] {
        let (x, y) = (normal(n * d), normal(n * d));
        let seconds = repeat(3, || drop(infonce::infonce(&x, &y, d, &params, true).expect("a loss")));
        let rate = infonce::cost(n, d).flops / seconds / 1e9;
        println!("InfoNCE with gradients, {n} pairs x {d}: {:.2} ms, {rate:.1} GFLOP/s", seconds * 1e3);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    let options: HashMap<String, String> =
        words.windows(2).filter_map(|w| w[0].strip_prefix("--").map(|key| (key.to_owned(), w[1].clone()))).collect();
    let number = |key: &str, default: u64| options.get(key).map_or(default, |v| v.parse().expect("a number"));
    let settings = Settings {
        dim: number("dim", 64) as usize,
        epochs: number("epochs", 40) as u32,
        seed: number("seed", 2020),
        eval_every: number("eval-every", 5) as u32,
        early_stop: 0,
        ..Settings::default()
    };
    match words.first().map(String::as_str) {
        Some("time") => time(&load(&options).0, &settings, number("steps", 100) as usize),
        Some("quality") => {
            let (graph, test) = load(&options);
            let start = Instant::now();
            let result = lightgcn::train(&graph, &test, &settings, None, &Print(start)).expect("training");
            let last = result.history.last().map(|e| e.loss);
            println!("{} epochs in {:.1} s, last loss {last:?}", settings.epochs, start.elapsed().as_secs_f64());
        }
        Some("kernels") => kernels(),
        _ => println!("time | quality | kernels; see the head of benches/recsys.rs"),
    }
}
