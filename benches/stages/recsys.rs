//! LightGCN, search, contrastive loss, samples.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use rallrec::data::{self, ItemIdx, Kind, UserIdx};
use rallrec::device::Device;
use rallrec::error::Error;
use rallrec::events::Event;
use rallrec::models::lightgcn::{self, Graph, LightGcnSettings, Negatives, Sampler, Trainer};
use rallrec::monitor::Monitor;
use rallrec::ops::spmm::Precision;
use rallrec::ops::{bpr, infonce as contrast, topk as search};
use rallrec::rng::{Rng, Use};
use rallrec::{Result, Silent};
use serde_json::json;

use super::{Figure, timed};

type Lists = Vec<(UserIdx, Vec<ItemIdx>)>;

/// LightGCN's own layout: `user item item ...` a line.
fn read(path: &Path) -> Result<Lists> {
    let failed = |e: &std::io::Error| Error::io(path, "read", e);
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    let reader: Box<dyn BufRead> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(BufReader::new(flate2::read::GzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut out = Vec::new();
    for line in reader.lines() {
        let line = line.map_err(|e| failed(&e))?;
        let mut ids = line.split_whitespace().map(|w| w.parse::<u32>().expect("an id"));
        if let Some(user) = ids.next() {
            out.push((UserIdx(user), ids.map(ItemIdx).collect()));
        }
    }
    Ok(out)
}

fn open(train: &Path, test: &Path) -> Result<(Graph, Lists)> {
    let (train, test) = (read(train)?, read(test)?);
    let all = || train.iter().chain(&test);
    let users = all().map(|(u, _)| u.0 + 1).max().unwrap_or(0) as usize;
    let items = all().flat_map(|(_, i)| i).map(|i| i.0 + 1).max().unwrap_or(0) as usize;
    let edges: Vec<_> = train.iter().flat_map(|(u, i)| i.iter().map(|&i| (*u, i))).collect();
    Ok((Graph::new(users, items, &edges)?, test))
}

fn settings() -> LightGcnSettings {
    LightGcnSettings { dim: 64, early_stop: 0, ..LightGcnSettings::default() }
}

pub fn lightgcn(train: &Path, test: &Path, steps: usize, precision: Precision) -> Result<Figure> {
    let (graph, settings) = (open(train, test)?.0, LightGcnSettings { precision, ..settings() });
    let sampler = Sampler::new(&graph, settings.seed, settings.draw)?;
    let mut trainer = Trainer::new(&Device::Cpu, &graph, &settings)?;
    let start = Instant::now();
    let order = sampler.order(1);
    let shuffle = start.elapsed().as_secs_f64();
    let mut batch = bpr::Batch::default();
    let mut seconds = Vec::new();
    for step in 0..=steps {
        let start = Instant::now();
        let stream = sampler.batch(&order, step % sampler.steps(settings.batch), settings.batch, &mut batch);
        std::hint::black_box(trainer.step(&batch, Negatives::Drawn(stream))?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.remove(0);
    let epoch = sampler.steps(settings.batch);
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let more = json!({ "steps_an_epoch": epoch, "epoch_s": mean * epoch as f64 + shuffle, "shuffle_s": shuffle,
        "ms_a_step": 1e3 * super::median(&seconds) });
    Ok(Figure { seconds, work: settings.batch as f64, unit: "edges/s", more })
}

/// Keeps metrics as they come.
#[derive(Default)]
struct Keep(std::sync::Mutex<Vec<(u32, String, f64)>>);

impl Monitor for Keep {
    fn emit(&self, event: Event) {
        if let Event::Metric { name, value, epoch, .. } = event {
            eprintln!("epoch {} {name} {value:.5}", epoch.unwrap_or(0));
            self.0.lock().expect("one writer").push((epoch.unwrap_or(0), name, value));
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

pub fn quality(train: &Path, test: &Path, epochs: u32, seed: u64, precision: Precision) -> Result<Figure> {
    let (graph, test) = open(train, test)?;
    let settings = LightGcnSettings { epochs, seed, eval_every: 5, precision, ..settings() };
    let (keep, start) = (Keep::default(), Instant::now());
    let result = lightgcn::train(&Device::Cpu, &graph, &test, &settings, None, &keep)?;
    let seconds = vec![start.elapsed().as_secs_f64()];
    let metrics = keep.0.into_inner().expect("one writer");
    let more = json!({ "seed": seed, "metrics": metrics, "last_loss": result.history.last().map(|e| e.loss) });
    Ok(Figure { seconds, work: f64::from(epochs), unit: "epochs/s", more })
}

fn normals(n: usize, stream: u32) -> Vec<f32> {
    let mut rng = Rng::new(1, Use::Synthetic, stream, 0);
    (0..n).map(|_| rng.normal()).collect()
}

pub fn topk(queries: usize, items: usize, dim: usize, k: usize, runs: usize) -> Result<Figure> {
    let (q, x) = (normals(queries * dim, 0), normals(items * dim, 1));
    let seconds = timed(runs, || {
        search::topk(&Device::Cpu, (&q[..], dim).into(), (&x[..], dim).into(), k, &search::Nothing).map(drop)
    })?;
    let more = json!({ "queries": queries, "items": items, "dim": dim, "k": k });
    Ok(Figure { seconds, work: search::cost(queries, items, dim).flops / 1e9, unit: "GFLOP/s", more })
}

pub fn infonce(pairs: usize, dim: usize, runs: usize) -> Result<Figure> {
    let x = normals(pairs * dim, 0);
    let y: Vec<f32> = x.iter().zip(normals(pairs * dim, 1)).map(|(x, e)| 0.5 * x + e).collect();
    let before = super::memory("VmRSS");
    let params = contrast::Params { similarity: contrast::Similarity::Cosine, tau: 0.07, weight: 1.0 };
    let seconds =
        timed(runs, || contrast::infonce(&Device::Cpu, (&x[..], dim).into(), (&y[..], dim).into(), &params).map(drop))?;
    let more = json!({ "pairs": pairs, "dim": dim, "before_mib": before });
    Ok(Figure { seconds, work: contrast::cost(pairs, dim).flops / 1e9, unit: "GFLOP/s", more })
}

pub fn samples(folder: &Path, runs: usize) -> Result<Figure> {
    let settings = data::DataSettings { kind: Kind::ML_1M, path: folder.to_owned(), ..data::DataSettings::default() };
    let mut count = 0;
    let seconds = timed(runs, || {
        let dataset = data::open(&settings, &Silent)?;
        count = data::build_samples(&dataset, &settings)?.samples.len();
        Ok(())
    })?;
    Ok(Figure { seconds, work: count as f64, unit: "samples/s", more: json!({ "samples": count }) })
}
