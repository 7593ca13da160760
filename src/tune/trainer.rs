//! The training loop.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::checkpoint::{EvalRecord, History, State, StepRecord};
use super::schedule::learning_rate;
use super::settings::Settings;
use super::source::{GroupSource, micro_batches};
use crate::device::Device;
use crate::events::Event;
use crate::models::llama::train::{Backend, DeviceEngine, Engine, Group, Model, Noise, Packed, Parameters, Trained};
use crate::models::llama::{Config, Weights};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::Inputs;
use crate::monitor::Monitor;
use crate::ops::adamw::AdamW;
use crate::rng::{Rng, Use};
use crate::{Error, Result};

/// A validation metric, asked for at the end of epochs (or every so many steps).
pub struct Evaluator<'a, P> {
    /// Name for events, e.g. `log_loss`.
    pub name: &'a str,
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// Computes it for the parameters of the moment.
    #[allow(clippy::type_complexity)]
    pub run: &'a mut dyn FnMut(&P) -> Result<f64>,
}

/// What training gives back.
#[derive(Debug, Clone)]
pub struct Outcome<P> {
    /// The parameters with the best evaluation; the last ones when nothing was evaluated.
    pub best: P,
    /// What happened.
    pub history: History,
    /// Whether patience ran out before the last step.
    pub stopped_early: bool,
}

/// Outcome of adapter training.
pub type TuneOutcome = Outcome<Adapter>;

/// Trains an adapter of a frozen model. With a checkpoint folder, goes on from the checkpoint there, and the result
/// is bit for bit that of a run that was never interrupted.
///
/// # Errors
/// Settings out of range, an unusable example, a loss or gradient that is no number, a checkpoint that is damaged or
/// of another run, or a stop that was asked for (after writing a checkpoint).
#[allow(clippy::too_many_arguments)]
pub fn train(
    config: &Config,
    weights: &Weights,
    adapter: Adapter,
    source: &dyn GroupSource,
    settings: &Settings,
    evaluator: Option<Evaluator<'_, Adapter>>,
    checkpoint: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<TuneOutcome> {
    train_on(&Device::Cpu, config, weights, adapter, source, settings, evaluator, checkpoint, monitor)
}

/// As [`train`], with the passes on `device`; optimiser and checkpoints are those of the CPU, so that a run may go on
/// from the other's checkpoint. The results differ by the order in which sums are taken.
///
/// # Errors
/// As [`train`]; out of memory.
#[allow(clippy::too_many_arguments)]
pub fn train_on(
    device: &Device,
    config: &Config,
    weights: &Weights,
    mut adapter: Adapter,
    source: &dyn GroupSource,
    settings: &Settings,
    evaluator: Option<Evaluator<'_, Adapter>>,
    checkpoint: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<TuneOutcome> {
    adapter.check(config)?;
    adapter.dropout = settings.dropout;
    let trained = Trained::Adapter { first_layer: settings.first_layer };
    let pass = |adapter: &Adapter, engine: &mut dyn Backend, batch: &Packed, noise, scale, gradient: &mut [f32]| {
        let model = Model { config, weights, adapter: Some(adapter), soft: None };
        engine.gradient_with_soft(model, batch, trained, noise, scale, gradient, None)
    };
    let run = Run { config, source, settings, checkpoint, monitor, trained, soft: None };
    run.train(adapter, backend(device, config, weights)?.as_mut(), &pass, evaluator)
}

/// The passes on a device, with the frozen weights where they are needed.
pub(super) fn backend(device: &Device, config: &Config, weights: &Weights) -> Result<Box<dyn Backend>> {
    Ok(match device {
        Device::Cpu => Box::new(Engine::new()),
        Device::Kernels(device) => Box::new(DeviceEngine::upload(device, config, weights)?),
    })
}

/// Trains every weight (owned f32; see [`Weights::init`]). As [`train`] otherwise; dropout does not apply.
///
/// # Errors
/// As [`train`], and weights that are not owned f32.
pub fn train_all(
    config: &Config,
    weights: Weights,
    source: &dyn GroupSource,
    settings: &Settings,
    evaluator: Option<Evaluator<'_, Weights>>,
    checkpoint: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Outcome<Weights>> {
    let pass = |weights: &Weights, engine: &mut dyn Backend, batch: &Packed, noise, scale, gradient: &mut [f32]| {
        let model = Model { config, weights, adapter: None, soft: None };
        engine.gradient_with_soft(model, batch, Trained::All, noise, scale, gradient, None)
    };
    let run = Run { config, source, settings, checkpoint, monitor, trained: Trained::All, soft: None };
    run.train(weights, &mut Engine::new(), &pass, evaluator)
}

/// Loss sum of a batch under these parameters; `scale` times its gradient is added to the flat one.
pub(super) type Pass<'a, P> = dyn Fn(&P, &mut dyn Backend, &Packed, Option<Noise>, f32, &mut [f32]) -> Result<f64> + 'a;

/// What training with soft tokens has besides.
pub(super) struct Soft<'a> {
    /// What the tokens stand for.
    pub inputs: &'a Inputs,
    /// The last so many parameters are the projector's.
    pub count: usize,
    /// Their highest learning rate.
    pub learning_rate: f64,
}

pub(super) struct Run<'a> {
    pub config: &'a Config,
    pub source: &'a dyn GroupSource,
    pub settings: &'a Settings,
    pub checkpoint: Option<&'a Path>,
    pub monitor: &'a dyn Monitor,
    pub trained: Trained,
    pub soft: Option<Soft<'a>>,
}

fn read_all(params: &mut impl Parameters) -> Result<Vec<f32>> {
    let mut flat = Vec::new();
    params.visit_mut(&mut |_, v| flat.extend_from_slice(v))?;
    Ok(flat)
}

fn write_all(params: &mut impl Parameters, flat: &[f32]) -> Result<()> {
    let mut at = 0;
    params.visit_mut(&mut |_, v| {
        v.copy_from_slice(&flat[at..at + v.len()]);
        at += v.len();
    })
}

/// Norm of the gradient, in f64, summed in an order that only the length decides.
fn norm(gradient: &[f32]) -> f64 {
    let parts: Vec<f64> =
        gradient.par_chunks(1 << 14).map(|c| c.iter().map(|&g| f64::from(g) * f64::from(g)).sum()).collect();
    parts.iter().sum::<f64>().sqrt()
}

impl Run<'_> {
    pub(super) fn train<P: Parameters>(
        &self,
        mut params: P,
        engine: &mut dyn Backend,
        pass: &Pass<'_, P>,
        mut evaluator: Option<Evaluator<'_, P>>,
    ) -> Result<Outcome<P>> {
        self.settings.check()?;
        if self.source.is_empty() {
            return Err(Error::input("training examples", "there are none").next("check the split and the filters"));
        }
        let start = read_all(&mut params)?;
        let (count, fingerprint) = (start.len(), self.fingerprint(&start)?);
        let mut state = match self.checkpoint {
            Some(folder) => State::load(folder, &fingerprint, count)?,
            None => None,
        }
        .unwrap_or_else(|| State {
            params: start,
            m: vec![0.0; count],
            v: vec![0.0; count],
            ..State::default()
        });
        write_all(&mut params, &state.params)?;
        let save = |state: &State, why: &str| -> Result<()> {
            let Some(folder) = self.checkpoint else { return Ok(()) };
            let began = Instant::now();
            state.save(folder, &fingerprint)?;
            self.monitor.emit(Event::CheckpointWritten {
                stage: self.monitor.stage().into(),
                step: state.step,
                seconds: Some(began.elapsed().as_secs_f64()),
                bytes: None,
                why: why.into(),
            });
            Ok(())
        };
        let (total, per_epoch) = self.steps();
        let mut gradient = vec![0.0f32; count];
        let mut saved = Instant::now();
        while !state.finished {
            if let Some(evaluator) = &mut evaluator
                && self.evaluation_due(&state, total, per_epoch)
            {
                let value = (evaluator.run)(&params).inspect_err(|_| drop(save(&state, "stop")))?;
                self.record(&mut state, value, evaluator.name, evaluator.higher_is_better, per_epoch)?;
                save(
                    &state,
                    if state.history.evaluations.last().is_some_and(|e| e.best) { "best" } else { "schedule" },
                )?;
                saved = Instant::now();
                if state.finished {
                    break;
                }
            }
            if state.step == total {
                state.finished = true;
                break;
            }
            if self.monitor.stop_requested() {
                save(&state, "stop")?;
                self.monitor.check()?;
            }
            if self.monitor.checkpoint_requested() {
                save(&state, "asked")?;
                saved = Instant::now();
            }
            match self.step(&mut state, &mut params, pass, engine, &mut gradient, total, per_epoch) {
                Err(e) if e.kind() == crate::Kind::Stopped => {
                    save(&state, "stop")?;
                    return Err(e);
                }
                other => other?,
            }
            if saved.elapsed().as_secs_f64() >= self.settings.checkpoint_seconds {
                save(&state, "schedule")?;
                saved = Instant::now();
            }
        }
        save(&state, "schedule")?;
        if !state.best.is_empty() {
            write_all(&mut params, &state.best)?;
        }
        Ok(Outcome { best: params, stopped_early: state.step < total, history: state.history })
    }

    /// (steps in all, steps of an epoch).
    fn steps(&self) -> (u64, u64) {
        let per_epoch = self.source.len().div_ceil(self.settings.batch) as u64;
        let all = per_epoch * u64::from(self.settings.epochs);
        (if self.settings.max_steps > 0 { all.min(self.settings.max_steps) } else { all }, per_epoch)
    }

    /// What a checkpoint must agree with; the times of checkpoints do not matter.
    fn fingerprint(&self, start: &[f32]) -> Result<String> {
        let settings = Settings { checkpoint_seconds: 0.0, ..self.settings.clone() };
        let text = serde_json::to_string(&(settings, self.config, self.source.len()))
            .map_err(|e| Error::failed("checkpoint", e))?;
        let mut hash = blake3::Hasher::new();
        hash.update(text.as_bytes()).update(bytemuck::cast_slice(start));
        if let Some(soft) = &self.soft {
            hash.update(&soft.learning_rate.to_le_bytes());
            hash.update(bytemuck::cast_slice(soft.inputs.ids()));
            hash.update(bytemuck::cast_slice(soft.inputs.matrix().as_slice()));
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    fn evaluation_due(&self, state: &State, total: u64, per_epoch: u64) -> bool {
        let every = if self.settings.eval_steps > 0 { self.settings.eval_steps } else { per_epoch };
        let done = state.history.evaluations.last().is_some_and(|e| e.step == state.step);
        state.step > 0 && !done && (state.step.is_multiple_of(every) || state.step == total)
    }

    fn record(&self, state: &mut State, value: f64, name: &str, higher: bool, per_epoch: u64) -> Result<()> {
        if value.is_nan() {
            return Err(Error::failed(format!("validation {name}"), format!("not a number after step {}", state.step))
                .next(format!("lower tune.learning_rate (now {})", self.settings.learning_rate)));
        }
        let best = state.history.best().is_none_or(|b| if higher { value > b.value } else { value < b.value });
        state.history.evaluations.push(EvalRecord { step: state.step, value, best });
        if best {
            state.best.clone_from(&state.params);
        }
        self.monitor.emit(Event::Metric {
            stage: self.monitor.stage().into(),
            name: name.into(),
            split: "valid".into(),
            value,
            epoch: Some(state.step.div_ceil(per_epoch) as u32),
            best,
        });
        let since = state.history.evaluations.iter().rev().take_while(|e| !e.best).count();
        let patience = self.settings.early_stop_patience as usize;
        state.finished = patience > 0 && since >= patience;
        Ok(())
    }

    /// The examples of a step, in order.
    fn examples(&self, step: u64, per_epoch: u64) -> Result<Vec<Group>> {
        let mut order: Vec<u32> = (0..self.source.len() as u32).collect();
        Rng::new(self.settings.seed, Use::Shuffle, (step / per_epoch) as u32, 0).shuffle(&mut order);
        let from = (step % per_epoch) as usize * self.settings.batch;
        let chosen = &order[from..order.len().min(from + self.settings.batch)];
        let check = |&i: &u32| {
            let group = self.source.group(i as usize)?;
            let (vocab, context) = (self.config.vocab, self.config.context);
            let soft = self.soft.as_ref().map_or(&[][..], |s| s.inputs.ids());
            group.check_with(vocab, soft, context).map_err(|e| e.within(format!("example {i}")))?;
            Ok(group)
        };
        chosen.iter().map(check).collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn step<P: Parameters>(
        &self,
        state: &mut State,
        params: &mut P,
        pass: &Pass<'_, P>,
        engine: &mut dyn Backend,
        gradient: &mut [f32],
        total: u64,
        per_epoch: u64,
    ) -> Result<()> {
        let (began, settings) = (Instant::now(), self.settings);
        let groups = self.examples(state.step, per_epoch)?;
        let weight: f64 = groups.iter().map(Group::weight).sum();
        let adapted = matches!(self.trained, Trained::Adapter { .. });
        let noise = (adapted && settings.dropout > 0.0).then_some(Noise {
            p: settings.dropout,
            seed: settings.seed,
            step: state.step as u32,
        });
        gradient.fill(0.0);
        let mut loss = 0.0;
        micro_batches(&groups, settings.micro_tokens, |batch| {
            self.monitor.check()?;
            loss += pass(params, engine, batch, noise, (1.0 / weight) as f32, gradient)?;
            Ok(())
        })?;
        loss /= weight;
        let length = norm(gradient);
        self.check_finite(loss, length, state.step)?;
        let rate = learning_rate(settings, state.step, total);
        let clip = if settings.clip > 0.0 { (settings.clip / (length + 1e-6)).min(1.0) } else { 1.0 };
        let adam = AdamW {
            lr: rate,
            betas: (settings.beta1, settings.beta2),
            eps: settings.epsilon,
            weight_decay: settings.weight_decay,
            step: state.step + 1,
        };
        let State { params: flat, m, v, .. } = state;
        let mut apply = |adam: AdamW, at: Range<usize>| {
            let (g, m, v) = (&gradient[at.clone()], &mut m[at.clone()], &mut v[at.clone()]);
            adam.apply(&mut flat[at], g, m, v, clip as f32);
        };
        // The projector's parameters are the last ones.
        let end = gradient.len() - self.soft.as_ref().map_or(0, |s| s.count);
        let from = match self.trained {
            // Frozen layers must not move by weight decay either.
            Trained::Adapter { first_layer } => end / self.config.layers * first_layer.min(self.config.layers - 1),
            Trained::All => 0,
        };
        apply(adam, from..end);
        if let Some(soft) = &self.soft {
            let own = Settings { learning_rate: soft.learning_rate, ..settings.clone() };
            apply(AdamW { lr: learning_rate(&own, state.step, total), ..adam }, end..gradient.len());
        }
        write_all(params, flat)?;
        state.step += 1;
        state.history.steps.push(StepRecord { step: state.step, loss, learning_rate: rate, gradient_norm: length });
        let tokens: usize = groups.iter().map(Group::tokens).sum();
        self.monitor.emit(Event::TrainStep {
            stage: self.monitor.stage().into(),
            epoch: ((state.step - 1) / per_epoch + 1) as u32,
            step: state.step,
            steps: total,
            loss,
            learning_rate: rate,
            gradient_norm: Some(length),
            rate: Some(tokens as f64 / began.elapsed().as_secs_f64()),
        });
        self.monitor.progress(state.step, total, "steps");
        Ok(())
    }

    fn check_finite(&self, loss: f64, norm: f64, step: u64) -> Result<()> {
        if loss.is_finite() && norm.is_finite() {
            return Ok(());
        }
        let what = if loss.is_finite() { "the gradient" } else { "the loss" };
        let next = if step == 0 {
            "the model's weights give no finite value: check the model file".to_string()
        } else {
            let rate = self.settings.learning_rate;
            format!("lower tune.learning_rate (now {rate}), or set tune.warmup_steps, or lower tune.clip")
        };
        Err(Error::failed(self.monitor.stage(), format!("{what} is not finite at step {}", step + 1)).next(next))
    }
}
