//! The tuned model's opinion of items that a user has not rated. The prompts are made as the stages
//! make them.

use std::borrow::Cow;

use super::Finished;
use crate::config::Recipe;
use crate::data::{ItemIdx, Rated, UserIdx};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::lm::{Facets, LanguageModel};
use crate::monitor::Monitor;
use crate::pipeline::chosen::{RowRequest, Set, Variant};
use crate::pipeline::soft::SoftFrom;
use crate::pipeline::stages::collab;
use crate::pipeline::stages::predict::PredictSettings;
use crate::pipeline::stages::prompts::{Asked, PromptMaker, PromptsSettings};
use crate::pipeline::stages::retrieve::{Histories, RetrieveSettings};
use crate::pipeline::stages::{Chain, Embeddings};

/// The tuned model's probability that `user` likes each of `items`, given the whole history,
/// prompted as in tuning.
pub(super) fn ask_tuned(
    chain: &Chain<'_>,
    recipe: &Recipe,
    found: &Finished,
    user: UserIdx,
    history: &[Rated],
    items: &[ItemIdx],
    monitor: &dyn Monitor,
) -> Result<Vec<f64>> {
    let made = &found.data;
    let words =
        found.words.as_ref().ok_or_else(|| Error::failed("recommend", "the items have no embeddings of words"))?;
    let from = Embeddings { text: &words.text, colla: &found.colla, ssl: &words.ssl };
    let features = chain.collab(made, &found.colla)?;
    let shown = chain.retrieve(made, from)?;
    let prompts = chain.prompts(made, &shown, &features, from)?;
    let tuned = chain.tune(&prompts)?;

    let (data, colla) = (made.output()?, found.colla.get()?);
    let fitted = collab::for_new_rows(recipe, data, colla, features.tune.artifact(), monitor)?;
    // A request like those of the run, so that histories are chosen by the recipe's own embedding.
    let like = RowRequest { set: Set::Test, row: 0, at: 0, variant: Variant::Main };
    let retrieve = RetrieveSettings::of(recipe, vec![like]);
    let histories = Histories::new(&retrieve, data, &found.sources()?, Some(&colla.users))?;
    let settings = PromptsSettings::of(recipe);
    let mut soft = SoftFrom::of(settings.soft(), &words.text.text, from.colla, from.ssl)
        .source(settings.soft(), recipe.data.threshold())?;
    let places = soft.as_mut().map(|s| s.of_candidate(user, history));

    let view = chain.writer().view(Facets::ANSWERS);
    let (local, tuned) = (view.local()?, tuned.get()?);
    let (adapter, projector) = (tuned.adapter(local)?, tuned.projector(local)?);
    let maker = PromptMaker { dataset: data.dataset, settings: &settings, reader: view.reader()? };
    let mut asked = Vec::with_capacity(items.len());
    for &target in items {
        monitor.check()?;
        let (shown, _) = histories.choose(Variant::Main, user, None, history, target)?;
        let features = fitted.as_ref().map(|f| f.new_row(user, target, history));
        let (features, shown) = (features.as_ref(), &shown[..]);
        asked.push(maker.make(&Asked { user, target, shown, variant: Variant::Main, features, soft: places })?.prompt);
    }

    let predict = PredictSettings::tuned(recipe);
    // Soft tokens of all prompts at once: the items' own, and the one of the user.
    let inputs = soft.as_ref().map(|s| s.inputs_of(&asked, local)).transpose()?;
    let adapted = view.adapted(&adapter, projector.as_ref().zip(inputs.as_ref()))?;
    let bundles: Vec<_> = asked.iter().map(|p| vec![predict.reading(Cow::Borrowed(p))]).collect();
    let mut out = Vec::with_capacity(items.len());
    adapted.open(&Device::Cpu)?.score(&bundles, predict.answers(), monitor, &mut |_, choices| {
        out.extend(choices.iter().map(|c| predict.probability(c)));
        Ok(())
    })?;
    Ok(out)
}
