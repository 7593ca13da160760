//! Training an adapter together with the projector that makes soft tokens.

use super::trainer::{Evaluator, Outcome, Run, Soft, StepPass, Training};
use crate::models::decoder::Weights;
use crate::models::decoder::train::{Engine, Model, Parameters, Trained};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Inputs, Projector};
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

/// What soft tokens stand for, and how their projector is trained.
#[derive(Clone, Copy)]
pub struct SoftInputs<'a> {
    /// What the tokens stand for.
    pub inputs: &'a Inputs,
    /// The projector's highest learning rate.
    pub learning_rate: f64,
}

impl Training<'_> {
    /// As [`Training::adapter`], for examples that may hold soft tokens. The projector, which is
    /// small, stays on the CPU and has a learning rate of its own; the limit on the gradient's norm
    /// is for both together.
    ///
    /// # Errors
    /// As [`Training::adapter`]; a projector that does not fit inputs or model.
    pub fn soft_adapter(
        &self,
        weights: &Weights,
        mut start: SoftAdapter,
        SoftInputs { inputs, learning_rate }: SoftInputs<'_>,
        evaluator: Option<Evaluator<'_, SoftAdapter>>,
    ) -> Result<Outcome<SoftAdapter>> {
        let (config, settings) = (self.config, self.settings);
        start.adapter.check(config)?;
        start.adapter.dropout = settings.dropout;
        let (input, output) = (start.projector.input(), start.projector.output());
        let width = inputs.matrix().cols();
        if (input, output) != (width, config.hidden) {
            let what = format!("{input} to {output}, but the embeddings have {width} and the model {}", config.hidden);
            return Err(Error::input("soft tokens", what).next("use a projector that was made for both"));
        }
        let count = start.projector.count()?;
        let trained = Trained::Adapter { first_layer: settings.first_layer };
        let mut engine = Engine::on(self.device, config, weights, self.arithmetic)?;
        let mut pass = |params: &SoftAdapter, step: &StepPass<'_>, gradient: &mut [f32]| {
            let some = inputs.among(&step.batch.tokens, config.vocab)?;
            let middle = gradient.len() - count;
            let (by_adapter, by_projector) = gradient.split_at_mut(middle);
            let model = Model { config, weights, adapter: Some(&params.adapter), soft: None };
            if some.ids().is_empty() {
                return engine.gradient(&step.of(model, trained), by_adapter, None);
            }
            let (tokens, saved) = params.projector.tokens_saved(&some)?;
            let mut by_tokens = vec![0.0; tokens.values()];
            let model = Model { soft: Some(&tokens), ..model };
            let loss = engine.gradient(&step.of(model, trained), by_adapter, Some(&mut by_tokens))?;
            params.projector.backward(some.matrix().as_slice(), &saved, &by_tokens, by_projector)?;
            Ok(loss)
        };
        let soft = Some(Soft { inputs, count, learning_rate });
        Run { training: *self, trained, soft }.train(start, &mut pass, evaluator)
    }
}
