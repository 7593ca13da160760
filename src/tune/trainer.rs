//! The training loop.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use super::checkpoint::{EvalRecord, History, State, StepRecord};
use super::settings::LoraSettings;
use super::source::{GroupSource, micro_batches};
use crate::device::Device;
use crate::events::Event;
use crate::models::decoder::train::{Engine, Group, Model, Packed, Parameters, Pass, StepDropout, Trained};
use crate::models::decoder::{Arithmetic, Config, Weights};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::Inputs;
use crate::monitor::Monitor;
use crate::ops::adamw::AdamW;
use crate::rng::{Rng, Use};
use crate::settings::Checked;
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

/// A training: where, on what, and how.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Where the passes run; optimiser and checkpoints are those of the CPU, so that a run may go
    /// on from the checkpoint of another device. The results differ by the order in which sums are
    /// taken.
    pub device: &'a Device,
    /// The model's shape.
    pub config: &'a Config,
    /// The examples.
    pub source: &'a dyn GroupSource,
    /// How.
    pub settings: &'a LoraSettings,
    /// Folder of checkpoints. With one, training goes on from the checkpoint there, and the result
    /// is bit for bit that of a run that was never interrupted.
    pub checkpoint: Option<&'a Path>,
    /// Receives what happens.
    pub monitor: &'a dyn Monitor,
    /// Of the products with frozen weights on the CPU, where an adapter is trained; as
    /// [`Arithmetic::of_training`] has it.
    pub arithmetic: Arithmetic,
}

impl<'a> Training<'a> {
    /// On the CPU in f32, without checkpoints.
    pub fn new(
        config: &'a Config,
        source: &'a dyn GroupSource,
        settings: &'a LoraSettings,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let arithmetic = Arithmetic::F32;
        Self { device: &Device::Cpu, config, source, settings, checkpoint: None, monitor, arithmetic }
    }

    /// Trains an adapter of the frozen model `weights`.
    ///
    /// # Errors
    /// Settings out of range, an unusable example, a loss or gradient that is no number, a
    /// checkpoint that is damaged or of another run, a stop that was asked for (after writing a
    /// checkpoint), or what the device can meet.
    pub fn adapter(
        &self,
        weights: &Weights,
        mut adapter: Adapter,
        evaluator: Option<Evaluator<'_, Adapter>>,
    ) -> Result<TuneOutcome> {
        adapter.check(self.config)?;
        adapter.dropout = self.settings.dropout;
        let trained = Trained::Adapter { first_layer: self.settings.first_layer };
        let mut engine = Engine::on(self.device, self.config, weights, self.arithmetic)?;
        let mut pass = |adapter: &Adapter, step: &StepPass<'_>, gradient: &mut [f32]| {
            let model = Model { config: self.config, weights, adapter: Some(adapter), soft: None };
            engine.gradient(&step.of(model, trained), gradient, None)
        };
        Run { training: *self, trained, soft: None }.train(adapter, &mut pass, evaluator)
    }

    /// Trains every weight (owned f32; see [`Weights::init`]), on the CPU; dropout does not apply.
    ///
    /// # Errors
    /// As [`Training::adapter`], weights that are not owned f32, and any device but the CPU.
    pub fn all_weights(&self, weights: Weights, evaluator: Option<Evaluator<'_, Weights>>) -> Result<Outcome<Weights>> {
        if let Device::Kernels(_) = self.device {
            return Err(Error::usage("training", "on a device, adapters alone are trained").next("use the CPU"));
        }
        let mut engine = Engine::cpu()?;
        let mut pass = |weights: &Weights, step: &StepPass<'_>, gradient: &mut [f32]| {
            let model = Model { config: self.config, weights, adapter: None, soft: None };
            engine.gradient(&step.of(model, Trained::All), gradient, None)
        };
        Run { training: *self, trained: Trained::All, soft: None }.train(weights, &mut pass, evaluator)
    }
}

/// A micro-batch of a step, on its way to the engine.
pub(super) struct StepPass<'a> {
    pub batch: &'a Packed,
    pub dropout: Option<StepDropout>,
    /// Factor of the gradient.
    pub scale: f32,
}

impl<'a> StepPass<'a> {
    /// The engine's pass over this model.
    pub fn of(&self, model: Model<'a>, trained: Trained) -> Pass<'a> {
        Pass { model, batch: self.batch, trained, dropout: self.dropout, scale: self.scale }
    }
}

/// Loss sum of a micro-batch under these parameters; adds its gradient to the flat one.
pub(super) type Gradient<'a, P> = dyn FnMut(&P, &StepPass<'_>, &mut [f32]) -> Result<f64> + 'a;

/// Steps of the optimiser, and steps of an epoch.
#[derive(Clone, Copy)]
struct Steps {
    total: u64,
    per_epoch: u64,
}

/// What training with soft tokens has besides.
pub(super) struct Soft<'a> {
    /// What the tokens stand for.
    pub inputs: &'a Inputs,
    /// The last so many parameters are the projector's.
    pub count: usize,
    /// Their highest learning rate.
    pub learning_rate: f64,
}

/// A training of one kind of parameters.
pub(super) struct Run<'a> {
    pub training: Training<'a>,
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
        pass: &mut Gradient<'_, P>,
        mut evaluator: Option<Evaluator<'_, P>>,
    ) -> Result<Outcome<P>> {
        self.training.settings.check()?;
        if self.training.source.is_empty() {
            return Err(Error::input("training examples", "there are none").next("check the split and the filters"));
        }
        let start = read_all(&mut params)?;
        let (count, fingerprint) = (start.len(), self.fingerprint(&start)?);
        let mut state = match self.training.checkpoint {
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
            let Some(folder) = self.training.checkpoint else { return Ok(()) };
            let began = Instant::now();
            state.save(folder, &fingerprint)?;
            self.training.monitor.emit(Event::CheckpointWritten {
                stage: self.training.monitor.stage().into(),
                step: state.step,
                seconds: Some(began.elapsed().as_secs_f64()),
                bytes: None,
                why: why.into(),
            });
            Ok(())
        };
        let steps = self.steps();
        let mut gradient = vec![0.0f32; count];
        let mut saved = Instant::now();
        // The first step of a process is kept at once, so that a run that is killed again and again
        // gets further whenever it reaches one.
        let mut kept = false;
        while !state.finished {
            if let Some(evaluator) = &mut evaluator
                && self.evaluation_due(&state, steps)
            {
                let value = (evaluator.run)(&params).inspect_err(|_| drop(save(&state, "stop")))?;
                self.record(&mut state, value, (evaluator.name, evaluator.higher_is_better), steps)?;
                save(
                    &state,
                    if state.history.evaluations.last().is_some_and(|e| e.best) { "best" } else { "schedule" },
                )?;
                saved = Instant::now();
                if state.finished {
                    break;
                }
            }
            if state.step == steps.total {
                state.finished = true;
                break;
            }
            if self.training.monitor.stop_requested() {
                save(&state, "stop")?;
                self.training.monitor.check()?;
            }
            if self.training.monitor.checkpoint_requested() {
                save(&state, "asked")?;
                saved = Instant::now();
            }
            match self.step(&mut state, &mut params, pass, &mut gradient, steps) {
                Err(e) if e.kind() == crate::Kind::Stopped => {
                    save(&state, "stop")?;
                    return Err(e);
                }
                other => other?,
            }
            if !kept || saved.elapsed().as_secs_f64() >= self.training.settings.checkpoint_seconds {
                save(&state, "schedule")?;
                (kept, saved) = (true, Instant::now());
            }
        }
        save(&state, "schedule")?;
        if !state.best.is_empty() {
            write_all(&mut params, &state.best)?;
        }
        Ok(Outcome { best: params, stopped_early: state.step < steps.total, history: state.history })
    }

    fn steps(&self) -> Steps {
        let per_epoch = self.training.source.len().div_ceil(self.training.settings.batch) as u64;
        let all = per_epoch * u64::from(self.training.settings.epochs);
        let total = if self.training.settings.max_steps > 0 { all.min(self.training.settings.max_steps) } else { all };
        Steps { total, per_epoch }
    }

    /// What a checkpoint must agree with; the times of checkpoints do not matter.
    fn fingerprint(&self, start: &[f32]) -> Result<String> {
        let settings = LoraSettings { checkpoint_seconds: 0.0, ..self.training.settings.clone() };
        let text = serde_json::to_string(&(settings, self.training.config, self.training.source.len()))
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

    fn evaluation_due(&self, state: &State, steps: Steps) -> bool {
        let every =
            if self.training.settings.eval_steps > 0 { self.training.settings.eval_steps } else { steps.per_epoch };
        let done = state.history.evaluations.last().is_some_and(|e| e.step == state.step);
        state.step > 0 && !done && (state.step.is_multiple_of(every) || state.step == steps.total)
    }

    fn record(&self, state: &mut State, value: f64, (name, higher): (&str, bool), steps: Steps) -> Result<()> {
        if value.is_nan() {
            return Err(Error::failed(format!("validation {name}"), format!("not a number after step {}", state.step))
                .next(format!("lower tune.lora.learning_rate (now {})", self.training.settings.learning_rate)));
        }
        let best = state.history.best().is_none_or(|b| if higher { value > b.value } else { value < b.value });
        state.history.evaluations.push(EvalRecord { step: state.step, value, best });
        if best {
            state.best.clone_from(&state.params);
        }
        self.training.monitor.emit(Event::Metric {
            stage: self.training.monitor.stage().into(),
            name: name.into(),
            split: "valid".into(),
            value,
            epoch: Some(state.step.div_ceil(steps.per_epoch) as u32),
            best,
        });
        let since = state.history.evaluations.iter().rev().take_while(|e| !e.best).count();
        let patience = self.training.settings.early_stop_patience as usize;
        state.finished = patience > 0 && since >= patience;
        Ok(())
    }

    /// The examples of a step, in order.
    fn examples(&self, step: u64, per_epoch: u64) -> Result<Vec<Group>> {
        let mut order: Vec<u32> = (0..self.training.source.len() as u32).collect();
        Rng::new(self.training.settings.seed, Use::Shuffle, (step / per_epoch) as u32, 0).shuffle(&mut order);
        let from = (step % per_epoch) as usize * self.training.settings.batch;
        let chosen = &order[from..order.len().min(from + self.training.settings.batch)];
        let check = |&i: &u32| {
            let group = self.training.source.group(i as usize)?;
            let (vocab, context) = (self.training.config.vocab, self.training.config.context);
            let soft = self.soft.as_ref().map_or(&[][..], |s| s.inputs.ids());
            group.check_with(vocab, soft, context).map_err(|e| e.within(format!("example {i}")))?;
            Ok(group)
        };
        chosen.iter().map(check).collect()
    }

    fn step<P: Parameters>(
        &self,
        state: &mut State,
        params: &mut P,
        pass: &mut Gradient<'_, P>,
        gradient: &mut [f32],
        Steps { total, per_epoch }: Steps,
    ) -> Result<()> {
        let (began, settings) = (Instant::now(), self.training.settings);
        let groups = self.examples(state.step, per_epoch)?;
        let weight: f64 = groups.iter().map(Group::weight).sum();
        let adapted = matches!(self.trained, Trained::Adapter { .. });
        let dropout = (adapted && settings.dropout > 0.0).then_some(StepDropout {
            p: settings.dropout,
            seed: settings.seed,
            step: state.step as u32,
        });
        gradient.fill(0.0);
        let mut loss = 0.0;
        micro_batches(&groups, settings.micro_tokens, |batch| {
            self.training.monitor.check()?;
            loss += pass(params, &StepPass { batch, dropout, scale: (1.0 / weight) as f32 }, gradient)?;
            Ok(())
        })?;
        loss /= weight;
        let length = norm(gradient);
        self.check_finite(loss, length, state.step)?;
        let share = settings.schedule.share(state.step, settings.warmup_steps, total);
        let rate = settings.learning_rate * share;
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
            adam.apply(&mut flat[at], g, m, v, clip as f32)
        };
        // The projector's parameters are the last ones.
        let end = gradient.len() - self.soft.as_ref().map_or(0, |s| s.count);
        let from = match self.trained {
            // Frozen layers must not move by weight decay either.
            Trained::Adapter { first_layer } => {
                end / self.training.config.layers * first_layer.min(self.training.config.layers - 1)
            }
            Trained::All => 0,
        };
        apply(adam, from..end)?;
        if let Some(soft) = &self.soft {
            apply(AdamW { lr: soft.learning_rate * share, ..adam }, end..gradient.len())?;
        }
        write_all(params, flat)?;
        state.step += 1;
        state.history.steps.push(StepRecord { step: state.step, loss, learning_rate: rate, gradient_norm: length });
        let tokens: usize = groups.iter().map(Group::tokens).sum();
        self.training.monitor.emit(Event::TrainStep {
            stage: self.training.monitor.stage().into(),
            epoch: ((state.step - 1) / per_epoch + 1) as u32,
            step: state.step,
            steps: total,
            loss,
            learning_rate: rate,
            gradient_norm: Some(length),
            rate: Some(tokens as f64 / began.elapsed().as_secs_f64()),
        });
        self.training.monitor.progress(state.step, total, "steps");
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
            let rate = self.training.settings.learning_rate;
            format!(
                "lower tune.lora.learning_rate (now {rate}), or set tune.lora.warmup_steps, or lower tune.lora.clip"
            )
        };
        Err(Error::failed(self.training.monitor.stage(), format!("{what} is not finite at step {}", step + 1))
            .next(next))
    }
}
