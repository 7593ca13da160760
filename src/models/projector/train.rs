//! The training loop.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::attention::Attention;
use super::checkpoint;
use super::state::{State, Weights};
use super::{Projection, ProjectorSettings};
use crate::data::ItemIdx;
use crate::device::{Device, Rows};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::monitor::Monitor;
use crate::ops::infonce::{self, Gradients, Params};
use crate::ops::mlp::{self, Mlp, Placed};
use crate::retrieval::pca::Pca;
use crate::rng::{Rng, Use};
use crate::settings::Checked;
use crate::tensor::Matrix;

/// Items beyond which a held-out or final loss is taken over batches.
const LARGEST: usize = 8192;
/// Similarities are a pass over all items: told no more often than this, and before and after.
const SIMILARITY_SECONDS: f64 = 0.5;

/// What one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Mean training loss.
    pub loss: f64,
    /// Loss over the held-out items, where there are any.
    pub held_out: Option<f64>,
    /// Temperature after the epoch.
    pub tau: f32,
}

/// Mean cosine of an item's two embeddings, and of two different items'.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Separation {
    /// Same item.
    pub positive: f64,
    /// Different items.
    pub negative: f64,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Aligned {
    /// f(text) for every item (row `ItemIdx`), also for those without collaborative embedding; a
    /// zero row where the text row is zero.
    pub ssl: Matrix,
    /// Epoch by epoch.
    pub history: Vec<Epoch>,
    /// With the untrained f.
    pub before: Separation,
    /// With the trained f.
    pub after: Separation,
}

/// A checkpoint is written about this often, in seconds: an epoch is short beside the write.
const CHECKPOINT_SECONDS: f64 = 2.0;

/// What is aligned: one row an item in both matrices, and the items that have both embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    /// Of the texts.
    pub text: &'a Matrix,
    /// Collaborative ones.
    pub colla: &'a Matrix,
    /// Items that f is trained on.
    pub both: &'a [ItemIdx],
}

/// Gathers rows.
fn rows(from: &[f32], dim: usize, at: &[u32]) -> Result<Matrix> {
    let values = at.iter().flat_map(|&i| &from[i as usize * dim..(i as usize + 1) * dim]).copied().collect();
    Matrix::from_vec(at.len(), dim, values)
}

/// Trains f on the items of `of.both`.
///
/// Stops early on the held-out items' loss and keeps the best state.
///
/// With `folder`, the state after an epoch is kept there every few seconds; a later call with the
/// same embeddings and settings (`epochs` and `early_stop` may differ) goes on from it and ends at
/// the same bits as one that was never stopped. A checkpoint of one device is good for every other.
///
/// # Errors
/// Settings out of range, embeddings that do not fit or are not finite, a loss that is not finite,
/// a checkpoint of something else, a stop that was asked for, a device that fails.
pub fn train(
    device: &Device,
    of: Embeddings<'_>,
    settings: &ProjectorSettings,
    folder: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Aligned> {
    train_keeping(device, of, settings, folder.map(|folder| (folder, CHECKPOINT_SECONDS)), monitor)
}

/// As [`train`], with a folder and how many seconds lie between two checkpoints.
pub(super) fn train_keeping(
    device: &Device,
    of: Embeddings<'_>,
    settings: &ProjectorSettings,
    keep: Option<(&Path, f64)>,
    monitor: &dyn Monitor,
) -> Result<Aligned> {
    settings.check()?;
    let Embeddings { text, colla, both } = of;
    check(text, colla, both)?;
    let digest = checkpoint::digest(text, colla, both);
    let reduced;
    let text = if settings.text_pca > 0 {
        reduced = Pca::fit(text, settings.text_pca)?.apply(text)?;
        &reduced
    } else {
        text
    };
    let (input, dim) = (text.cols(), colla.cols());
    let hidden = if settings.hidden == 0 { 2 * dim } else { settings.hidden };
    let mlp = Mlp { input, hidden, output: dim, activation: settings.activation };
    let attention = (settings.projection == Projection::Attention)
        .then(|| Attention { dim: input, tokens: settings.tokens.min(input) });
    // Attention has no kernels.
    let device = if attention.is_some() { &Device::Cpu } else { device };
    let work = Work { device, mlp, attention, text };
    let mut items: Vec<u32> = both.iter().map(|i| i.0).collect();
    items.sort_unstable();
    items.dedup();
    Rng::new(settings.seed, Use::Rows, 0, 0).shuffle(&mut items);
    // One held-out item has no negatives and says nothing.
    let held = (items.len() as f64 * f64::from(settings.held_out)) as usize;
    let held = if held >= 2 && items.len() - held >= 2 { held } else { 0 };
    let (held, mut used) = (items[..held].to_vec(), items[held..].to_vec());

    let mixing = attention.map_or([Vec::new(), Vec::new()], |attention| attention.init());
    let p = Weights { mlp: mlp.init(settings.seed), mixing };
    let fresh = State::fresh(settings, digest, p, colla.as_slice());
    let before = work.separation(&work.place(&fresh.p)?, &fresh.colla, &items)?;
    let mut state = match keep {
        Some((folder, _)) => checkpoint::load(folder, &fresh)?.unwrap_or(fresh),
        None => fresh,
    };
    let params =
        |tau: f32| Params { similarity: settings.similarity, tau, weight: if settings.half { 0.5 } else { 1.0 } };
    let size = if settings.batch == 0 { used.len() } else { settings.batch };
    let batches = used.len().div_ceil(size);
    tell_similarity(monitor, state.progress.epoch, before);
    let (mut saved, mut told) = (Instant::now(), Instant::now());
    while state.progress.epoch < settings.epochs && !state.stopped_early(settings) {
        let epoch = state.progress.epoch + 1;
        used.sort_unstable();
        Rng::new(settings.seed, Use::Shuffle, epoch, 1).shuffle(&mut used);
        let (mut total, mut count) = (0.0, 0usize);
        for batch in used.chunks(size).filter(|b| b.len() >= 2 || batches == 1) {
            monitor.check()?;
            let (loss, g) = work.learn(&state.p, batch, &state.colla, &params(state.progress.tau))?;
            let value = loss.loss;
            if !value.is_finite() {
                return Err(Error::failed(format!("alignment epoch {epoch}"), format!("the loss is {value}"))
                    .next("use a smaller align.learning_rate or a larger align.tau"));
            }
            state.step(settings, &g, batch, loss)?;
            total += value * batch.len() as f64;
            count += batch.len();
        }
        let tau = state.progress.tau;
        let mut entry = Epoch { epoch, loss: total / count.max(1) as f64, held_out: None, tau };
        if !held.is_empty() {
            entry.held_out = Some(work.loss(&work.place(&state.p)?, &state.colla, &held, &params(tau))?);
        }
        let better = state.finish_epoch(entry);
        report(monitor, settings, &entry, state.progress.steps, batches, better);
        if told.elapsed().as_secs_f64() >= SIMILARITY_SECONDS {
            tell_similarity(monitor, epoch, work.separation(&work.place(&state.p)?, &state.colla, &items)?);
            told = Instant::now();
        }
        if let Some((folder, seconds)) = keep
            && saved.elapsed().as_secs_f64() >= seconds
        {
            checkpoint::save(folder, &state)?;
            saved = Instant::now();
        }
    }
    let best = work.place(&state.best)?;
    let after = work.separation(&best, &state.colla, &items)?;
    tell_similarity(monitor, state.progress.epoch + 1, after);
    let mut ssl = work.forward(&best, text.clone())?.into_matrix()?;
    for i in (0..text.rows()).filter(|&i| text.row(i).iter().all(|&v| v == 0.0)) {
        ssl.row_mut(i).fill(0.0);
    }
    Ok(Aligned { ssl, history: state.progress.history, before, after })
}

fn check(text: &Matrix, colla: &Matrix, both: &[ItemIdx]) -> Result<()> {
    if text.rows() != colla.rows() || text.cols() == 0 || colla.cols() == 0 {
        return Err(Error::failed(
            "projector",
            format!("text is {} x {}, collaborative {} x {}", text.rows(), text.cols(), colla.rows(), colla.cols()),
        ));
    }
    if let Some(item) = both.iter().find(|i| i.at() >= text.rows()) {
        return Err(Error::failed("projector", format!("item {} is outside the {} rows", item.0, text.rows())));
    }
    if both.len() < 2 {
        return Err(Error::input("projector", "fewer than two items have both a text and a collaborative embedding")
            .next("check that item texts and the interaction graph speak of the same items"));
    }
    for (what, matrix) in [("text", text), ("collaborative", colla)] {
        if let Some(at) = matrix.as_slice().iter().position(|v| !v.is_finite()) {
            let row = at / matrix.cols();
            return Err(Error::input(
                format!("projector: {what} embedding of item {row}"),
                "it has a value that is not finite",
            )
            .next("make the embeddings again"));
        }
    }
    Ok(())
}

/// f over text rows, on the device of the run.
struct Work<'a> {
    device: &'a Device,
    mlp: Mlp,
    attention: Option<Attention>,
    text: &'a Matrix,
}

/// f where it works.
struct PlacedWeights<'p> {
    mlp: Placed,
    of: &'p Weights,
}

impl Work<'_> {
    fn place<'p>(&self, p: &'p Weights) -> Result<PlacedWeights<'p>> {
        Ok(PlacedWeights { mlp: Placed::new(self.device, &self.mlp, &p.mlp)?, of: p })
    }

    /// Rows of `from` on the device.
    fn rows(&self, from: &[f32], dim: usize, at: &[u32], label: &'static str) -> Result<Rows> {
        Rows::from_matrix(self.device, rows(from, dim, at)?, label)
    }

    /// Text rows of `items`.
    fn texts(&self, items: &[u32]) -> Result<Matrix> {
        rows(self.text.as_slice(), self.mlp.input, items)
    }

    /// What the perceptron reads of text rows, on the device.
    fn read(&self, p: &Weights, x: Matrix) -> Result<Rows> {
        let x = match &self.attention {
            Some(attention) => attention.forward(&x, &p.mixing)?,
            None => x,
        };
        Rows::from_matrix(self.device, x, "texts")
    }

    /// f(x).
    fn forward(&self, p: &PlacedWeights<'_>, x: Matrix) -> Result<Rows> {
        let x = self.read(p.of, x)?;
        Ok(mlp::forward(self.device, &p.mlp, (&x).into())?.0)
    }

    /// The loss of a batch with its gradients by f(x), the collaborative rows and tau, and by f.
    fn learn(&self, p: &Weights, batch: &[u32], colla: &[f32], params: &Params) -> Result<(Gradients, Weights)> {
        let (placed, texts) = (self.place(p)?, self.texts(batch)?);
        let x = self.read(p, texts.clone())?;
        let c = self.rows(colla, self.mlp.output, batch, "collaborative rows")?;
        let (out, saved, _) = mlp::forward(self.device, &placed.mlp, (&x).into())?;
        let loss = infonce::infonce(self.device, (&out).into(), (&c).into(), params)?;
        let (g, _) = mlp::backward(self.device, &placed.mlp, (&x).into(), &saved, (&loss.x).into())?;
        let mixing = match &self.attention {
            Some(attention) => {
                let by = mlp::by_input(&placed.mlp, &saved, (&loss.x).into())?;
                attention.backward(&texts, &p.mixing, &by)
            }
            None => [Vec::new(), Vec::new()],
        };
        Ok((loss, Weights { mlp: g, mixing }))
    }

    /// Loss over `items`, in pieces of at most `LARGEST`.
    fn loss(&self, p: &PlacedWeights<'_>, colla: &[f32], items: &[u32], params: &Params) -> Result<f64> {
        let mut total = 0.0;
        for piece in items.chunks(LARGEST) {
            let out = self.forward(p, self.texts(piece)?)?;
            let c = self.rows(colla, self.mlp.output, piece, "collaborative rows")?;
            let (loss, _) = infonce::loss(self.device, (&out).into(), (&c).into(), params)?;
            total += loss * piece.len() as f64;
        }
        Ok(total / items.len() as f64)
    }

    /// Mean cosines over all pairs of `items`: sums of unit rows give the negatives without the n x
    /// n matrix.
    fn separation(&self, p: &PlacedWeights<'_>, colla: &[f32], items: &[u32]) -> Result<Separation> {
        let dim = self.mlp.output;
        let (mut positive, mut sum_x, mut sum_y) = (0.0, vec![0.0f64; dim], vec![0.0f64; dim]);
        for piece in items.chunks(LARGEST) {
            let (out, c) = (self.forward(p, self.texts(piece)?)?.into_matrix()?, rows(colla, dim, piece)?);
            for (x, y) in out.as_slice().chunks_exact(dim).zip(c.as_slice().chunks_exact(dim)) {
                let inverse = |v: &[f32]| {
                    let norm = v.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>().sqrt();
                    if norm > 0.0 { 1.0 / norm } else { 0.0 }
                };
                let (a, b) = (inverse(x), inverse(y));
                for k in 0..dim {
                    let (x, y) = (f64::from(x[k]) * a, f64::from(y[k]) * b);
                    positive += x * y;
                    sum_x[k] += x;
                    sum_y[k] += y;
                }
            }
        }
        let n = items.len() as f64;
        let all: f64 = sum_x.iter().zip(&sum_y).map(|(a, b)| a * b).sum();
        Ok(Separation { positive: positive / n, negative: (all - positive) / (n * (n - 1.0)).max(1.0) })
    }
}

fn tell_similarity(monitor: &dyn Monitor, epoch: u32, now: Separation) {
    let Separation { positive, negative } = now;
    monitor.emit(Event::Similarity { stage: monitor.stage().into(), epoch, positive, negative });
}

fn report(monitor: &dyn Monitor, settings: &ProjectorSettings, entry: &Epoch, step: u64, batches: usize, best: bool) {
    monitor.progress(u64::from(entry.epoch), u64::from(settings.epochs), "epochs");
    monitor.emit(Event::TrainStep {
        stage: monitor.stage().into(),
        epoch: entry.epoch,
        step,
        steps: u64::from(settings.epochs) * batches as u64,
        loss: entry.loss,
        learning_rate: f64::from(settings.learning_rate),
        gradient_norm: None,
        rate: None,
    });
    if let Some(value) = entry.held_out {
        monitor.emit(Event::Metric {
            stage: monitor.stage().into(),
            name: "loss".into(),
            split: "held_out".into(),
            value,
            epoch: Some(entry.epoch),
            best,
        });
    }
}
