//! Training an adapter together with the projector that makes soft tokens.

use std::path::Path;

use super::settings::Settings;
use super::source::GroupSource;
use super::trainer::{Evaluator, Outcome, Run, Soft, backend};
use crate::device::Device;
use crate::models::llama::train::{Backend, Model, Packed, Parameters, Trained};
use crate::models::llama::{Config, Weights};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Inputs, Projector};
use crate::monitor::Monitor;
use crate::{Error, Result};

/// What is trained: both, as one vector of parameters, the projector's last.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftAdapter {
    /// Of the language model.
    pub adapter: Adapter,
    /// From embeddings to soft tokens.
    pub projector: Projector,
}

impl Parameters for SoftAdapter {
    fn visit_mut(&mut self, visit: &mut dyn FnMut(&str, &mut [f32])) -> Result<()> {
        self.adapter.visit_mut(visit)?;
        self.projector.visit_mut(visit)
    }
}

/// As [`super::train`], for examples that may hold the soft tokens `inputs`. The projector has a learning rate of its own;
/// the limit on the gradient's norm is for both together.
///
/// # Errors
/// As [`super::train`]; a projector that does not fit inputs or model.
#[allow(clippy::too_many_arguments)]
pub fn train_soft(
    config: &Config,
    weights: &Weights,
    start: SoftAdapter,
    inputs: (&Inputs, f64),
    source: &dyn GroupSource,
    settings: &Settings,
    evaluator: Option<Evaluator<'_, SoftAdapter>>,
    checkpoint: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Outcome<SoftAdapter>> {
    train_soft_on(&Device::Cpu, config, weights, start, inputs, source, settings, evaluator, checkpoint, monitor)
}

/// As [`train_soft`], with the model's passes on `device`; the projector, which is small, stays on the CPU.
///
/// # Errors
/// As [`train_soft`]; out of memory.
#[allow(clippy::too_many_arguments)]
pub fn train_soft_on(
    device: &Device,
    config: &Config,
    weights: &Weights,
    mut start: SoftAdapter,
    (inputs, learning_rate): (&Inputs, f64),
    source: &dyn GroupSource,
    settings: &Settings,
    evaluator: Option<Evaluator<'_, SoftAdapter>>,
    checkpoint: Option<&Path>,
    monitor: &dyn Monitor,
) -> Result<Outcome<SoftAdapter>> {
    start.adapter.check(config)?;
    start.adapter.dropout = settings.dropout;
    let (input, output) = (start.projector.input(), start.projector.output());
    if (input, output) != (inputs.matrix().cols(), config.hidden) {
        let what = format!(
            "{input} to {output}, but the embeddings have {} and the model {}",
            inputs.matrix().cols(),
            config.hidden
        );
        return Err(Error::input("soft tokens", what).next("use a projector that was made for both"));
    }
    let count = start.projector.count()?;
    let trained = Trained::Adapter { first_layer: settings.first_layer };
    let pass = |params: &SoftAdapter, engine: &mut dyn Backend, batch: &Packed, noise, scale, gradient: &mut [f32]| {
        let some = inputs.among(&batch.tokens, config.vocab)?;
        let middle = gradient.len() - count;
        let (by_adapter, by_projector) = gradient.split_at_mut(middle);
        if some.ids().is_empty() {
            let model = Model { config, weights, adapter: Some(&params.adapter), soft: None };
            return engine.gradient_with_soft(model, batch, trained, noise, scale, by_adapter, None);
        }
        let (tokens, saved) = params.projector.tokens_saved(&some)?;
        let mut by_tokens = vec![0.0; tokens.values()];
        let model = Model { config, weights, adapter: Some(&params.adapter), soft: Some(&tokens) };
        let loss = engine.gradient_with_soft(model, batch, trained, noise, scale, by_adapter, Some(&mut by_tokens))?;
        params.projector.backward(some.matrix().as_slice(), &saved, &by_tokens, by_projector)?;
        Ok(loss)
    };
    let soft = Some(Soft { inputs, count, learning_rate });
    let run = Run { config, source, settings, checkpoint, monitor, trained, soft };
    run.train(start, backend(device, config, weights)?.as_mut(), &pass, evaluator)
}
