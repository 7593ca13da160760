//! The training loop.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::data::ItemIdx;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::matrix::Matrix;
use crate::monitor::Monitor;
use crate::ops::adam::{self, Adam};
use crate::ops::infonce::{Params, infonce};
use crate::ops::mlp::{Mlp, Tensors};
use crate::retrieval::pca::Pca;
use crate::rng::{Rng, Use};

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
    /// f(text) for every item (row `ItemIdx`), also for those without collaborative embedding; a zero row where the
    /// text row is zero.
    pub ssl: Matrix,
    /// Epoch by epoch.
    pub history: Vec<Epoch>,
    /// With the untrained f.
    pub before: Separation,
    /// With the trained f.
    pub after: Separation,
}

/// Parameters with their moments.
struct Tensor {
    m: Vec<f32>,
    v: Vec<f32>,
}

fn moments(n: usize) -> Tensor {
    Tensor { m: vec![0.0; n], v: vec![0.0; n] }
}

/// Gathers rows.
fn rows(from: &[f32], dim: usize, at: &[u32]) -> Vec<f32> {
    at.iter().flat_map(|&i| &from[i as usize * dim..(i as usize + 1) * dim]).copied().collect()
}

/// Trains f on the items in `both` (those that have a text and a collaborative embedding).
///
/// `text` and `colla` have one row an item. Stops early on the held-out items' loss and keeps the best state.
pub fn train(
    text: &Matrix,
    colla: &Matrix,
    both: &[ItemIdx],
    settings: &Settings,
    monitor: &dyn Monitor,
) -> Result<Aligned> {
    settings.validate()?;
    check(text, colla, both)?;
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
    let mut items: Vec<u32> = both.iter().map(|i| i.0).collect();
    items.sort_unstable();
    items.dedup();
    Rng::new(settings.seed, Use::Rows, 0, 0).shuffle(&mut items);
    // One held-out item has no negatives and says nothing.
    let held = (items.len() as f64 * f64::from(settings.held_out)) as usize;
    let held = if held >= 2 && items.len() - held >= 2 { held } else { 0 };
    let (held, mut used) = (items[..held].to_vec(), items[held..].to_vec());

    let mut p = mlp.init(settings.seed);
    let mut colla = colla.as_slice().to_vec();
    let mut tau = settings.tau;
    let before = separation(&mlp, &p, text, &colla, &items)?;
    let mut states: Vec<Tensor> = p.each().iter().map(|t| moments(t.len())).collect();
    let (mut colla_state, mut tau_state) =
        (moments(if settings.freeze_collaborative { 0 } else { colla.len() }), moments(1));
    let adam = Adam::new(settings.learning_rate);
    let params =
        |tau: f32| Params { similarity: settings.similarity, tau, weight: if settings.half { 0.5 } else { 1.0 } };

    let mut history: Vec<Epoch> = Vec::new();
    let (mut best, mut best_loss, mut waited, mut step) = (p.clone(), f64::INFINITY, 0, 0u64);
    let size = if settings.batch == 0 { used.len() } else { settings.batch };
    let batches = used.len().div_ceil(size);
    tell_similarity(monitor, 0, before);
    let mut told = Instant::now();
    for epoch in 1..=settings.epochs {
        used.sort_unstable();
        Rng::new(settings.seed, Use::Shuffle, epoch, 1).shuffle(&mut used);
        let (mut total, mut count) = (0.0, 0usize);
        for batch in used.chunks(size).filter(|b| b.len() >= 2 || batches == 1) {
            monitor.check()?;
            let (x, c) = (rows(text.as_slice(), input, batch), rows(&colla, dim, batch));
            let (out, saved) = mlp.forward(&p, &x)?;
            let loss = infonce(&out, &c, dim, &params(tau), true)?;
            let g = mlp.backward(&p, &x, &saved, &loss.x)?;
            step += 1;
            for ((p, g), s) in p.each_mut().into_iter().zip(g.each()).zip(&mut states) {
                adam::step(&adam, step, p, g, &mut s.m, &mut s.v);
            }
            if !settings.freeze_collaborative {
                let mut by = vec![0.0; colla.len()];
                for (&i, g) in batch.iter().zip(loss.y.chunks_exact(dim)) {
                    by[i as usize * dim..(i as usize + 1) * dim].copy_from_slice(g);
                }
                adam::step(&adam, step, &mut colla, &by, &mut colla_state.m, &mut colla_state.v);
            }
            if settings.learn_tau {
                let mut value = [tau];
                adam::step(&adam, step, &mut value, &[loss.tau as f32], &mut tau_state.m, &mut tau_state.v);
                tau = value[0].max(1e-3);
            }
            total += loss.loss * batch.len() as f64;
            count += batch.len();
        }
        let mut entry = Epoch { epoch, loss: total / count.max(1) as f64, held_out: None, tau };
        if !held.is_empty() {
            entry.held_out = Some(loss_of(&mlp, &p, text, &colla, &held, &params(tau))?);
        }
        let judged = entry.held_out.unwrap_or(entry.loss);
        let better = judged < best_loss;
        history.push(entry);
        report(monitor, settings, &entry, step, batches, better);
        if told.elapsed().as_secs_f64() >= SIMILARITY_SECONDS {
            tell_similarity(monitor, epoch, separation(&mlp, &p, text, &colla, &items)?);
            told = Instant::now();
        }
        if better {
            (best_loss, waited) = (judged, 0);
            best.clone_from(&p);
        } else {
            waited += 1;
            if settings.early_stop > 0 && waited >= settings.early_stop {
                break;
            }
        }
    }
    let after = separation(&mlp, &best, text, &colla, &items)?;
    tell_similarity(monitor, history.len() as u32 + 1, after);
    let (out, _) = mlp.forward(&best, text.as_slice())?;
    let mut ssl = Matrix::from_vec(text.rows(), dim, out)?;
    for i in (0..text.rows()).filter(|&i| text.row(i).iter().all(|&v| v == 0.0)) {
        ssl.row_mut(i).fill(0.0);
    }
    Ok(Aligned { ssl, history, before, after })
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

/// Loss over `items`, in pieces of at most `LARGEST`.
fn loss_of(mlp: &Mlp, p: &Tensors, text: &Matrix, colla: &[f32], items: &[u32], params: &Params) -> Result<f64> {
    let (mut total, dim) = (0.0, mlp.output);
    for piece in items.chunks(LARGEST) {
        let (out, _) = mlp.forward(p, &rows(text.as_slice(), mlp.input, piece))?;
        total += infonce(&out, &rows(colla, dim, piece), dim, params, false)?.loss * piece.len() as f64;
    }
    Ok(total / items.len() as f64)
}

/// Mean cosines over all pairs of `items`: sums of unit rows give the negatives without the n x n matrix.
fn separation(mlp: &Mlp, p: &Tensors, text: &Matrix, colla: &[f32], items: &[u32]) -> Result<Separation> {
    let dim = mlp.output;
    let (mut positive, mut sum_x, mut sum_y) = (0.0, vec![0.0f64; dim], vec![0.0f64; dim]);
    for piece in items.chunks(LARGEST) {
        let (out, _) = mlp.forward(p, &rows(text.as_slice(), mlp.input, piece))?;
        let c = rows(colla, dim, piece);
        for (x, y) in out.chunks_exact(dim).zip(c.chunks_exact(dim)) {
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

fn tell_similarity(monitor: &dyn Monitor, epoch: u32, now: Separation) {
    let Separation { positive, negative } = now;
    monitor.emit(Event::Similarity { stage: monitor.stage().into(), epoch, positive, negative });
}

fn report(monitor: &dyn Monitor, settings: &Settings, entry: &Epoch, step: u64, batches: usize, best: bool) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Silent;
    use crate::ops::infonce::Similarity;

    /// Text rows are a hidden linear image of the collaborative rows, with noise.
    fn planted(n: usize) -> (Matrix, Matrix, Vec<ItemIdx>) {
        let mut rng = Rng::new(5, Use::Synthetic, 0, 0);
        let (d, t) = (8, 24);
        let map: Vec<f32> = (0..d * t).map(|_| rng.normal()).collect();
        let (mut text, mut colla) = (Matrix::zeros(n, t), Matrix::zeros(n, d));
        for i in 0..n {
            for k in 0..d {
                colla.row_mut(i)[k] = rng.normal();
            }
            for j in 0..t {
                let image: f32 = (0..d).map(|k| colla.row(i)[k] * map[k * t + j]).sum();
                text.row_mut(i)[j] = image + 0.1 * rng.normal();
            }
        }
        (text, colla, (0..n as u32).map(ItemIdx).collect())
    }

    #[test]
    fn it_finds_the_planted_map() {
        let (mut text, mut colla, mut both) = planted(400);
        // The last item has no text, the one before no collaborative row.
        text.row_mut(399).fill(0.0);
        colla.row_mut(398).fill(0.0);
        both.truncate(398);
        let settings = Settings { epochs: 60, batch: 128, ..Settings::default() };
        let got = train(&text, &colla, &both, &settings, &Silent).unwrap();
        assert!(got.before.positive < 0.3, "{:?}", got.before);
        assert!(got.after.positive > 0.85 && got.after.negative.abs() < 0.1, "{:?}", got.after);
        let (first, last) = (got.history[0], got.history[got.history.len() - 1]);
        assert!(last.held_out.unwrap() < 0.5 * first.held_out.unwrap());
        assert!(got.ssl.row(399).iter().all(|&v| v == 0.0) && got.ssl.row(398).iter().any(|&v| v != 0.0));
        assert_eq!(got, train(&text, &colla, &both, &settings, &Silent).unwrap(), "not reproducible");
    }

    #[test]
    fn every_option_learns() {
        let (text, colla, both) = planted(120);
        let base = Settings { epochs: 15, learning_rate: 1e-2, ..Settings::default() };
        for settings in [
            Settings { half: true, batch: 0, held_out: 0.0, ..base.clone() },
            Settings { text_pca: 10, activation: crate::ops::mlp::Activation::Silu, ..base.clone() },
            Settings { freeze_collaborative: false, learn_tau: true, ..base.clone() },
            Settings { similarity: Similarity::InnerProduct, tau: 1.0, hidden: 40, ..base.clone() },
        ] {
            let got = train(&text, &colla, &both, &settings, &Silent).unwrap();
            let (first, last) = (got.history[0].loss, got.history[got.history.len() - 1].loss);
            assert!(last < 0.8 * first, "{settings:?}: {first} -> {last}");
        }
    }

    #[test]
    fn bad_input_is_named() {
        let (mut text, colla, both) = planted(10);
        let run = |text: &Matrix, both: &[ItemIdx], settings: &Settings| {
            train(text, &colla, both, settings, &Silent).unwrap_err().to_string()
        };
        assert!(run(&text, &both[..1], &Settings::default()).contains("fewer than two"));
        assert!(run(&text, &[ItemIdx(10)], &Settings::default()).contains("outside"));
        assert!(run(&text, &both, &Settings { tau: 0.0, ..Settings::default() }).contains("projector.tau"));
        text.row_mut(7)[2] = f32::NAN;
        assert!(run(&text, &both, &Settings::default()).contains("text embedding of item 7"));
    }
}
