//! The tuned model's opinion of items that somebody has not rated. The prompts are made as the
//! stages make them.

use std::borrow::Cow;

use super::found::Found;
use super::weigh::{ModelWeight, Row};
use crate::collab::CrossFit;
use crate::config::Recipe;
use crate::data::{Dataset, ItemIdx, Rated, RawId, User, UserIdx};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::lm::{Facets, LanguageModel, Source};
use crate::monitor::Monitor;
use crate::pipeline::Run;
use crate::pipeline::chosen::{RowRequest, Set, Variant};
use crate::pipeline::soft::SoftFrom;
use crate::pipeline::stage::Made;
use crate::pipeline::stages::data::DataOutput;
use crate::pipeline::stages::predict::{PredictSettings, Predictions};
use crate::pipeline::stages::prompts::{Asked, PromptMaker, PromptsSettings};
use crate::pipeline::stages::rank::Chosen;
use crate::pipeline::stages::refit::words_for;
use crate::pipeline::stages::retrieve::{Histories, RetrieveSettings};
use crate::pipeline::stages::tune::Tuned;
use crate::pipeline::stages::{Chain, Embeddings, collab};
use crate::retrieval::rankers::{Fitted, Kept, Ranker, Ratings, Sides, Whom, normalise};

/// The tuned model of a run, loaded when it is first asked.
pub(super) struct Model {
    writer: Source,
    tuned: Made<Tuned>,
    /// Features of new rows, where the recipe wants some.
    fitted: Option<CrossFit>,
    /// Users and items as prompts tell of them, and behind the users somebody of whom nothing is
    /// known but a history.
    told: Dataset,
    /// What the answers count; `None` where no validation row was answered.
    weight: Option<ModelWeight>,
}

impl Model {
    /// Finds what the stages `collab` to `predict` have made; the last one may be missing.
    pub(super) fn find(
        run: &Run,
        recipe: &Recipe,
        found: &Found,
        chosen: &Chosen,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let chain = Chain::new(run, recipe, &Device::Cpu);
        let from = embeddings(found)?;
        let made = &found.data;
        let described = &found.words.as_ref().ok_or_else(without_words)?.described;
        let features = chain.collab(made, described, from)?;
        let shown = chain.retrieve(made, from)?;
        let prompts = chain.prompts(made, &shown, &features, from)?;
        let tuned = chain.tune(&prompts, &features)?;
        let answers = chain.tuned_answers(&prompts, &features, &tuned).ok();
        let (data, colla) = (made.output()?, found.colla.get()?);
        let [read, embedded] = collab::CollabInputs::reads_words(recipe);
        let text = embedded.then_some(&from.text.text);
        let words = collab::text_vectors(data.dataset, read.then_some(described), text)?;
        let fitted = collab::for_new_rows(recipe, data, colla, words.as_ref(), features.tune.artifact(), monitor)?;
        let weight = match answers {
            Some(answers) => weigh(recipe, found, chosen, answers.get()?, monitor)?,
            None => None,
        };
        let mut users = data.dataset.users.clone();
        users.push(User { raw: RawId(String::new()), fields: Vec::new() });
        let dataset = data.dataset;
        let told = Dataset {
            name: dataset.name.clone(),
            noun: dataset.noun.clone(),
            scale: dataset.scale,
            has_times: dataset.has_times,
            items: dataset.items.clone(),
            users,
            interactions: Vec::new(),
        };
        Ok(Self { writer: chain.into_writer(), tuned, fitted, told, weight })
    }

    /// What the answers count beside the ranker's score.
    pub(super) fn weight(&self) -> Option<ModelWeight> {
        self.weight
    }

    /// The probability that `user` likes each of `items`, given the whole history, prompted as in
    /// tuning. `None`: somebody who is not in the data.
    pub(super) fn ask(
        &self,
        recipe: &Recipe,
        found: &Found,
        user: Option<UserIdx>,
        history: &[Rated],
        items: &[ItemIdx],
        monitor: &dyn Monitor,
    ) -> Result<Vec<f64>> {
        let nobody = UserIdx(self.told.users.len() as u32 - 1);
        let user = user.unwrap_or(nobody);
        let from = embeddings(found)?;
        let (data, colla) = (found.data.output()?, found.colla.get()?);
        let data = DataOutput { dataset: &self.told, samples: data.samples };
        // A request like those of the run, so that histories are chosen by the recipe's own
        // embedding.
        let like = RowRequest { set: Set::Test, row: 0, at: 0, variant: Variant::Main };
        let retrieve = RetrieveSettings::of(recipe, vec![like]);
        let histories = Histories::new(&retrieve, data, &found.sources()?, Some(&colla.users))?;
        let settings = PromptsSettings::of(recipe);
        let mut soft = SoftFrom::of(settings.soft(), &from.text.text, from.colla, from.ssl)
            .source(settings.soft(), recipe.data.threshold())?;
        let places = soft.as_mut().map(|s| s.of_candidate(user, history));

        let view = self.writer.view(Facets::ANSWERS);
        let (local, tuned) = (view.local()?, self.tuned.get()?);
        let (adapter, projector) = (tuned.adapter(local)?, tuned.projector(local)?);
        let maker = PromptMaker::new(data.dataset, &settings, view.reader()?)?;
        let mut asked = Vec::with_capacity(items.len());
        let mut known = Vec::with_capacity(items.len());
        for &target in items {
            monitor.check()?;
            let (shown, _) = histories.choose(Variant::Main, user, None, history, target)?;
            let features = self.fitted.as_ref().map(|f| f.new_row(user, target, history));
            known.push(features.as_ref().map(|features| features.p));
            let (features, shown) = (features.as_ref(), &shown[..]);
            let made =
                maker.make(&Asked { user, target, shown, variant: Variant::Main, features, soft: places })?.prompt;
            asked.push(made);
        }

        let predict = PredictSettings::tuned(recipe);
        // Soft tokens of all prompts at once: the items' own, and the one of the user.
        let inputs = soft.as_ref().map(|s| s.inputs_of(&asked, local)).transpose()?;
        let adapted = view.adapted(&adapter, projector.as_ref().zip(inputs.as_ref()))?;
        let bundles: Vec<_> = asked.iter().map(|p| vec![predict.reading(Cow::Borrowed(p))]).collect();
        let mut out = vec![0.0; items.len()];
        adapted.open(&Device::Cpu)?.score(&bundles, predict.answers(), monitor, &mut |at, choices| {
            if let (Some(p), Some(choice)) = (out.get_mut(at), choices.first()) {
                *p = predict.probability(choice, known.get(at).copied().flatten());
            }
            Ok(())
        })?;
        Ok(out)
    }
}

/// The weight of the model's answers, by the validation rows that it has answered. The ranker is
/// fitted on the training rows for it: the one that serves may know the validation rows.
fn weigh(
    recipe: &Recipe,
    found: &Found,
    chosen: &Chosen,
    answers: &Predictions,
    monitor: &dyn Monitor,
) -> Result<Option<ModelWeight>> {
    let (data, colla) = (found.data.output()?, found.colla.get()?);
    let ratings = Ratings::training(data.dataset, data.samples, recipe.data.threshold());
    let wanted = chosen.wanted();
    let sides = Sides { graph: (&colla.users, &colla.items), words: words_for(&wanted, data.dataset) };
    let fitted = Fitted::fit(&ratings, &recipe.recommend, sides, Some(&wanted), Kept::default(), monitor)?;
    let ranker = fitted.joined(&chosen.parts, chosen.few.as_ref());
    let (rows, labels) = answers.labelled(Set::Valid);
    let mut scores = vec![0.0; ratings.items];
    let mut weighed = Vec::with_capacity(rows.len());
    for (row, label) in rows.into_iter().zip(labels) {
        monitor.check()?;
        let sample = data.sample(row);
        let history = data.history_at(row, row);
        let whom = Whom { user: Some(sample.user), history: &history };
        if !ranker.scores(whom, &mut scores) {
            fitted.popularity.scores(whom, &mut scores);
        }
        normalise(&mut scores);
        if let Some(p) = answers.p(Set::Valid, row, Variant::Main) {
            weighed.push(Row { score: f64::from(scores[sample.item.at()]), p, label });
        }
    }
    ModelWeight::choose(&weighed)
}

fn embeddings(found: &Found) -> Result<Embeddings<'_>> {
    let words = found.words.as_ref().ok_or_else(without_words)?;
    Ok(Embeddings { text: &words.text, colla: &found.colla, ssl: &words.ssl })
}

fn without_words() -> Error {
    Error::failed("recommend", "the items have no embeddings of words")
}
