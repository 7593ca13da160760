//! A run's results found again: nothing is made, a stage that is not there is an error that names it.

use std::borrow::Cow;

use super::features;
use super::prompts::{least_valuable, wording};
use super::retrieve::{self, Embeddings, Variant};
use super::scorer::PASS;
use super::soft::SoftSource;
use super::{Ground, Lazy, align, data, describe, embed, graph, predict, prompts, tune};
use crate::config::Recipe;
use crate::data::{ItemIdx, Rated, UserIdx};
use crate::device::Device;
use crate::error::Result;
use crate::generate::scoring::score;
use crate::monitor::Monitor;
use crate::pipeline::run::Run;
use crate::retrieval::{Mixture, Retriever, Sources, needed, order};
use crate::text::prompts::{Prompter, drop_order, fit};

/// Data set and embeddings of a run.
pub struct Finished {
    /// Data set, samples, rows.
    pub ground: Ground,
    /// Text embeddings.
    pub text: embed::Embedded,
    /// LightGCN embeddings.
    pub colla: graph::Collaborative,
    /// Aligned text embeddings.
    pub ssl: align::AlignedItems,
}

impl Finished {
    /// The item embeddings under the names that the mixture knows.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            plain: Some(&self.text.text),
            text: Some(&self.text.text),
            colla: Some(&self.colla.items),
            ssl: Some(&self.ssl.ssl),
        }
    }
}

/// Finds what the stages `data` to `align` have made. `run` should be one of [`Run::open_finished`].
pub fn finished(run: &Run, recipe: &Recipe) -> Result<Finished> {
    let mut language = Lazy { recipe, loaded: None };
    let ground = data::data(run, recipe)?;
    let described = describe::describe(run, recipe, &Device::Cpu, &ground, &mut language)?;
    let text = embed::embed(run, recipe, &Device::Cpu, &ground, &described, &mut language)?;
    let colla = graph::graph(run, recipe, &Device::Cpu, &ground)?;
    let ssl = align::align(run, recipe, &Device::Cpu, &ground, &text, &colla)?;
    Ok(Finished { ground, text, colla, ssl })
}

/// The tuned model's probability that `user` likes each of `items`, given the whole history, prompted as in tuning.
pub fn ask_tuned(
    run: &Run,
    recipe: &Recipe,
    found: &Finished,
    user: UserIdx,
    history: &[Rated],
    items: &[ItemIdx],
    monitor: &dyn Monitor,
) -> Result<Vec<f64>> {
    let mut language = Lazy { recipe, loaded: None };
    let embeddings = Embeddings { text: &found.text, colla: &found.colla, ssl: &found.ssl };
    let retrieval = retrieve::retrieve(run, recipe, &found.ground, &embeddings)?;
    let made = prompts::prompts(run, recipe, &found.ground, &retrieval, &embeddings, &mut language)?;
    let tuned = tune::tune(run, recipe, &Device::Cpu, &found.ground, &made, &mut language)?;
    let language = language.get()?;
    let model = language.with_adapter(&tuned.adapter, None)?;
    let mut soft = SoftSource::new(recipe, &embeddings);
    let places = soft.as_mut().map(|s| s.of_candidate(user, history));
    let weights = made.artifact.file(prompts::WEIGHTS);
    let fitted = features::for_new_rows(recipe, &found.ground, &found.colla, &weights, monitor)?;
    let settings = Variant::Main.settings(recipe);
    let mixture = Mixture::build(&found.sources(), &settings)?;
    let dataset = &found.ground.dataset;
    let retriever = Retriever::new(&mixture, &settings, &dataset.items)?;
    let template = settings.template;
    let words = crate::text::prompts::Settings { order: wording(template), ..recipe.prompt.clone() };
    let prompter = Prompter::new(dataset, recipe.data.threshold(), &words)?.with_soft(places);
    let limit = language.model.config().context.saturating_sub(prompts::ANSWER_ROOM);
    let mut out = Vec::with_capacity(items.len());
    for &item in items {
        monitor.check()?;
        let retrieved = retriever.retrieve(history, item, needed(&settings))?;
        let shown: Vec<Rated> =
            order(history, item, &retrieved, &settings).into_iter().map(|p| history[p as usize]).collect();
        let known = fitted.as_ref().map(|f| f.new_row(user, item, history));
        let stated = known.and_then(|f| f.stated(recipe.collab.wording));
        let fitted = fit(
            &|keep| prompter.build_some(user, &shown, keep, item, stated.as_ref()),
            &drop_order(least_valuable(template), shown.len()),
            &|prompt| language.prompt_tokens(prompt).map(|t| t.len()),
            limit,
        )?;
        let bundle = vec![language.scoring_tokens(&fitted.prompt)?];
        let mut model = Cow::Borrowed(&model);
        if let Some((soft, projector)) = soft.as_ref().zip(tuned.projector.as_ref()) {
            let inputs = soft.inputs_of(&fitted.prompt, language)?;
            model = Cow::Owned(model.with_soft(Some(projector.tokens(&inputs)?))?);
        }
        let choices = score(&model, &[bundle], language.yes_no, PASS)?;
        out.extend(choices.iter().flatten().map(|c| predict::as_probability(c, recipe.predict.score)));
    }
    Ok(out)
}
