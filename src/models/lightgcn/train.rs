//! The training loop: epochs, validation, early stop, checkpoints.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Progress, Within};
use super::{Graph, LightGcnSettings, Negatives, Sampler, Trainer};
use crate::data::{ItemIdx, UserIdx};
use crate::device::Device;
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::ranking::Ranking;
use crate::events::Event;
use crate::monitor::Monitor;
use crate::ops::bpr::Batch;
use crate::ops::spmm::Lines;
use crate::ops::topk::{self, Seen};
use crate::settings::Checked;
use crate::tensor::Matrix;

/// Length of the lists that validation looks at.
const CUT: usize = 20;
/// A training event is sent about this often, in seconds.
const EVENT_SECONDS: f64 = 0.25;

/// What one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Mean over its steps.
    pub loss: f64,
    /// Validation recall@20, where it was measured.
    pub recall: Option<f64>,
    /// Validation NDCG@20, where it was measured.
    pub ndcg: Option<f64>,
}

/// The result: layer means; nodes outside the graph are zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `users x dim`, row `UserIdx`.
    pub users: Matrix,
    /// `items x dim`, row `ItemIdx`.
    pub items: Matrix,
    /// Epoch by epoch.
    pub history: Vec<Epoch>,
}

/// Trains on `graph`; of the evaluations on `valid` (a user's items that are not edges) the best by
/// recall@20 is kept, or the last state where there is nothing to evaluate.
///
/// With `folder`, the state after each epoch is kept there; a later call with the same graph and
/// settings (`epochs` and `early_stop` may differ) goes on from it and ends at the same bits as a
/// run that was never stopped. A checkpoint of one device is good for every other.
///
/// # Errors
/// Settings out of range, validation rows outside the graph, a checkpoint of something else, a stop
/// that was asked for, a device that fails.
pub fn train(
    device: &Device,
    graph: &Graph,
    valid: &[(UserIdx, Vec<ItemIdx>)],
    settings: &LightGcnSettings,
    folder: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Embeddings> {
    settings.check()?;
    for (user, items) in valid {
        if user.at() >= graph.users() || items.iter().any(|i| i.at() >= graph.items()) {
            return Err(Error::input(
                "lightgcn validation",
                format!("user {} or an item is outside the graph", user.0),
            ));
        }
    }
    let sampler = Sampler::new(graph, settings.seed, settings.draw)?;
    if sampler.left_out() > 0 {
        monitor.warn(
            &format!("{} edges belong to users who rated every item; they are not trained on", sampler.left_out()),
            "nothing to do: their users still take part in the propagation",
        );
    }
    let digest = graph.digest();
    let mut trainer = Trainer::new(device, graph, settings)?;
    let mut best = trainer.layer0()?.into_owned();
    let mut progress = Progress {
        settings: settings.clone(),
        graph: digest.clone(),
        epoch: 0,
        within: Within::default(),
        steps: 0,
        waited: 0,
        done: false,
        history: Vec::new(),
    };
    if let Some(folder) = folder
        && let Some(state) = checkpoint::load(folder, settings, &digest, graph.adjacency().nodes())?
    {
        trainer.restore([state.e0, state.m, state.v], state.progress.steps)?;
        best = state.best;
        progress = state.progress;
        progress.settings = settings.clone();
        progress.done &= settings.early_stop > 0 && progress.waited >= settings.early_stop;
    }
    let mut batch = Batch::default();
    while progress.epoch < settings.epochs && !progress.done {
        let epoch = progress.epoch + 1;
        let mut saved = Instant::now();
        let kept = progress.clone();
        let mut keep = |trainer: &mut Trainer<'_>, within: Within, stopped: bool| -> Result<()> {
            let Some(folder) = folder.filter(|_| stopped || saved.elapsed() >= durable::SYNCED) else { return Ok(()) };
            let progress = Progress { within, steps: trainer.steps(), ..kept.clone() };
            save(folder, &progress, trainer, &best, monitor)?;
            saved = Instant::now();
            Ok(())
        };
        let within = std::mem::take(&mut progress.within);
        let loss = run_epoch(&sampler, &mut trainer, &mut batch, (epoch, within), settings, monitor, &mut keep)?;
        let mut entry = Epoch { epoch, loss, recall: None, ndcg: None };
        let due = epoch.is_multiple_of(settings.eval_every) || epoch == settings.epochs;
        if due && !valid.is_empty() {
            let ranking = evaluate(device, graph, &trainer.outputs(None)?, valid)?;
            let recall = ranking.recall();
            let better = progress.history.iter().filter_map(|e| e.recall).all(|earlier| recall > earlier);
            (entry.recall, entry.ndcg) = (Some(recall), Some(ranking.ndcg()));
            if better {
                best.clone_from(&*trainer.layer0()?);
                progress.waited = 0;
            } else {
                progress.waited += 1;
                progress.done = settings.early_stop > 0 && progress.waited >= settings.early_stop;
            }
            for (metric, value) in ranking.means() {
                monitor.emit(Event::Metric {
                    stage: monitor.stage().into(),
                    name: format!("{}@{CUT}", metric.name),
                    split: "valid".into(),
                    value,
                    epoch: Some(epoch),
                    best: better,
                });
            }
        } else if valid.is_empty() {
            best.clone_from(&*trainer.layer0()?);
        }
        progress.history.push(entry);
        progress.epoch = epoch;
        progress.steps = trainer.steps();
        if let Some(folder) = folder {
            save(folder, &progress, &mut trainer, &best, monitor)?;
            monitor.checkpoint_requested();
        }
    }
    Ok(split(graph, &trainer.outputs(Some(best))?, progress.history))
}

/// Writes a checkpoint, and says so.
fn save(
    folder: &Path,
    progress: &Progress,
    trainer: &mut Trainer<'_>,
    best: &Lines,
    monitor: &dyn Monitor,
) -> Result<()> {
    let [e0, m, v] = &trainer.tensors()?;
    let tensors = [("e0", &**e0), ("m", &**m), ("v", &**v), ("best", best)];
    let began = Instant::now();
    checkpoint::save(folder, progress, tensors)?;
    monitor.emit(Event::CheckpointWritten {
        stage: monitor.stage().into(),
        step: progress.steps,
        seconds: Some(began.elapsed().as_secs_f64()),
        bytes: None,
        why: "schedule".into(),
    });
    Ok(())
}

/// The steps of one epoch that are not made yet; the mean loss of all. `keep` may write a
/// checkpoint after each, and does where the run is stopped.
fn run_epoch(
    sampler: &Sampler<'_>,
    trainer: &mut Trainer<'_>,
    batch: &mut Batch,
    (epoch, within): (u32, Within),
    settings: &LightGcnSettings,
    monitor: &dyn Monitor,
    keep: &mut dyn FnMut(&mut Trainer<'_>, Within, bool) -> Result<()>,
) -> Result<f64> {
    let order = sampler.order(epoch);
    let steps = sampler.steps(settings.batch);
    let all = u64::from(settings.epochs) * sampler.edges() as u64;
    let all_steps = u64::from(settings.epochs) * steps as u64;
    let (mut total, mut recent, mut since, mut clock) = (f64::from_bits(within.loss), 0.0, 0u64, Instant::now());
    let mut edges = 0u64;
    for step in within.steps..steps {
        if let Err(stopped) = monitor.check() {
            keep(trainer, Within { steps: step, loss: total.to_bits() }, true)?;
            return Err(stopped);
        }
        let rate = settings.learning_rate * settings.schedule.share(trainer.steps(), 0, all_steps) as f32;
        trainer.set_learning_rate(rate);
        let stream = sampler.batch(&order, step, settings.batch, batch);
        let loss = trainer.step(batch, Negatives::Drawn(stream))?;
        if !loss.is_finite() {
            return Err(Error::failed(
                format!("LightGCN epoch {epoch}, step {}", step + 1),
                format!("the loss is {loss}"),
            )
            .next("use a smaller lightgcn.learning_rate or lightgcn.init_std"));
        }
        total += loss;
        recent += loss;
        since += 1;
        edges += batch.users.len() as u64;
        let done = u64::from(epoch - 1) * sampler.edges() as u64
            + (step as u64 * settings.batch as u64 + batch.users.len() as u64);
        monitor.progress(done, all, "edges");
        let seconds = clock.elapsed().as_secs_f64();
        if seconds >= EVENT_SECONDS || step + 1 == steps {
            monitor.emit(Event::TrainStep {
                stage: monitor.stage().into(),
                epoch,
                step: trainer.steps(),
                steps: all_steps,
                loss: recent / since as f64,
                learning_rate: f64::from(rate),
                gradient_norm: None,
                rate: Some(edges as f64 / seconds.max(1e-9)),
            });
            (recent, since, edges, clock) = (0.0, 0, 0, Instant::now());
        }
        if step + 1 < steps {
            keep(trainer, Within { steps: step + 1, loss: total.to_bits() }, false)?;
        }
    }
    Ok(total / steps as f64)
}

/// Items a listed user has edges to, as item rows.
struct Edges<'a>(&'a [(UserIdx, Vec<ItemIdx>)], Vec<Vec<u32>>);

impl Seen for Edges<'_> {
    fn of(&self, query: usize) -> &[u32] {
        &self.1[self.0[query].0.at()]
    }
}

/// Recall@20 and NDCG@20 of the full ranking of all items, items with an edge to the user left out.
pub(super) fn evaluate(
    device: &Device,
    graph: &Graph,
    outputs: &Lines,
    valid: &[(UserIdx, Vec<ItemIdx>)],
) -> Result<Ranking> {
    let items = outputs.to_matrix(graph.users()..graph.users() + graph.items());
    let mut queries = Vec::with_capacity(valid.len() * outputs.dim());
    let mut seen = vec![Vec::new(); graph.users()];
    for (user, _) in valid {
        queries.extend_from_slice(&outputs.row(user.at())[..outputs.dim()]);
        seen[user.at()] = graph.items_of(*user).map(|i| i.0).collect();
    }
    let queries = (&queries[..], outputs.dim()).into();
    let (hits, _) = topk::topk(device, queries, (&items).into(), CUT, &Edges(valid, seen))?;
    let mut ranking = Ranking::default();
    for (hits, (_, relevant)) in hits.iter().zip(valid) {
        let ranked: Vec<ItemIdx> = hits.iter().map(|h| ItemIdx(h.index)).collect();
        ranking.add(&ranked, relevant, CUT);
    }
    Ok(ranking)
}

fn split(graph: &Graph, outputs: &Lines, history: Vec<Epoch>) -> Embeddings {
    let mut users = outputs.to_matrix(0..graph.users());
    let mut items = outputs.to_matrix(graph.users()..graph.users() + graph.items());
    for u in (0..graph.users()).filter(|&u| graph.nodes_of(UserIdx(u as u32)).is_empty()) {
        users.row_mut(u).fill(0.0);
    }
    for i in (0..graph.items()).filter(|&i| !graph.has_item(ItemIdx(i as u32))) {
        items.row_mut(i).fill(0.0);
    }
    Embeddings { users, items, history }
}
