//! `tune`: LoRA on the tuning rows, early stop on validation rows.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;

use super::collab::Features;
use super::predict::{added, as_probability};
use super::prompts::{PromptRow, PromptRows};
use crate::config::Recipe;
use crate::content::Content;
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::{self, Score};
use crate::events::{Event, StageId};
use crate::generate::scoring::common_prefix;
use crate::lm::{LanguageModel, Local, Reading, View};
use crate::models::decoder::Config;
use crate::models::decoder::train::{Branch, Group};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{self, Projector, mean_norm};
use crate::monitor::Silent;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::Set;
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::store::peft;
use crate::tune::{self, Evaluator, SoftAdapter, SoftInputs, Training};

/// Trains a LoRA adapter on the training rows.
pub struct Tune;

/// What `tune` sees of the recipe.
#[derive(Clone, Serialize)]
pub struct TuneSettings<'r> {
    /// How often the state is stored decides nothing.
    lora: tune::LoraSettings,
    #[serde(skip)]
    checkpoint_seconds: f64,
    faithful_bos: bool,
    /// Yes, no.
    answers: [&'r str; 2],
    /// How two logits become a probability; the early stop looks at it.
    score: Score,
    /// Targets weigh as much as the causal features miss them by.
    residual: bool,
    /// The projector's, where there are soft tokens. Which tokens there are is in the prompts.
    soft: Option<&'r soft_prompt::SoftSettings>,
}

impl<'r> TuneSettings<'r> {
    /// The same for an adapter of another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.lora.seed = seed;
        self
    }

    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        Self {
            lora: tune::LoraSettings {
                checkpoint_seconds: tune::LoraSettings::default().checkpoint_seconds,
                ..recipe.tune.lora.clone()
            },
            checkpoint_seconds: recipe.tune.lora.checkpoint_seconds,
            faithful_bos: recipe.tune.faithful_bos,
            answers: [&recipe.predict.yes, &recipe.predict.no],
            score: recipe.predict.score,
            residual: recipe.tune.residual,
            soft: recipe.soft.is_on().then_some(&recipe.soft),
        }
    }
}

/// What `tune` reads.
pub struct TuneInputs<'a> {
    /// Tuning rows, and the rows that the early stop looks at.
    pub prompts: &'a Made<PromptRows>,
    /// What the causal features say of these rows, where the model learns what they do not.
    pub features: Option<&'a Made<Features>>,
    /// The model.
    pub model: View<'a>,
}

impl Inputs for TuneInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([("prompts", Some(self.prompts.content())), ("collab", self.features.map(Made::content))])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        Ok(vec![("model", self.model.identity()?)])
    }
}

/// Where a tuned adapter lies: `adapter/` is a PEFT folder, `projector.safetensors` the projector
/// of soft tokens, where there are any.
pub struct Tuned {
    artifact: Artifact,
}

impl Tuned {
    /// In a finished artifact.
    pub(super) fn of(artifact: &Artifact) -> Self {
        Self { artifact: artifact.clone() }
    }

    /// Writes an adapter where [`Self::adapter`] finds it.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn write(folder: &Path, adapter: &Adapter, config: &Config, spec: &str) -> Result<()> {
        // A try that was ended between here and the end of the stage has left one.
        let there = folder.join(ADAPTER);
        if there.exists() {
            std::fs::remove_dir_all(&there).map_err(|e| Error::io(&there, "replace the folder", &e))?;
        }
        peft::write(&there, adapter, config, spec)
    }

    /// The adapter, for the model that it was tuned on.
    ///
    /// # Errors
    /// Damaged files, an adapter of another model.
    pub fn adapter(&self, model: &Local) -> Result<Adapter> {
        peft::read(&self.artifact.file(ADAPTER), model.model.config())
    }

    /// The projector of soft tokens.
    ///
    /// # Errors
    /// As [`Self::adapter`].
    pub fn projector(&self, model: &Local) -> Result<Option<Projector>> {
        let file = self.artifact.file(PROJECTOR);
        file.exists().then(|| Projector::load(&file, model.model.config().hidden)).transpose()
    }
}

const ADAPTER: &str = "adapter";
const PROJECTOR: &str = "projector.safetensors";
const HISTORY: &str = "history.json";

impl Stage for Tune {
    const ID: StageId = StageId::Tune;
    const VERSION: u32 = 2;
    const NOTES: &'static [&'static str] = &[HISTORY];
    type Settings<'r> = TuneSettings<'r>;
    type Inputs<'a> = TuneInputs<'a>;
    type Output = Tuned;

    fn run(settings: &TuneSettings<'_>, inputs: &TuneInputs<'_>, work: &Work<'_>) -> Result<()> {
        write(settings, inputs, work)
    }

    fn load(artifact: &Artifact) -> Result<Tuned> {
        Ok(Tuned::of(artifact))
    }
}

fn write(settings: &TuneSettings<'_>, inputs: &TuneInputs<'_>, work: &Work<'_>) -> Result<()> {
    let (model, prompts) = (inputs.model.local()?, inputs.prompts.get()?);
    let features = inputs.features.map(Made::get).transpose()?;
    let groups = groups(settings, &prompts.rows, model, features)?;
    let watched: Vec<&PromptRow> = prompts.rows.iter().filter(|r| r.set != Set::Tune).collect();
    let labels: Vec<bool> = watched.iter().map(|r| r.label).collect();
    // The prompts of tuning, also where scoring has others (defect D8).
    let bundles: Vec<_> = watched.iter().map(|r| vec![Reading::Prompt(Cow::Borrowed(&r.prompt))]).collect();
    let soft_inputs = prompts.inputs(model)?;
    let log_loss = |adapter: &Adapter, projector: Option<&Projector>| -> Result<f64> {
        let adapted = inputs.model.adapted(adapter, projector.zip(soft_inputs.as_ref()))?;
        let mut p = Vec::with_capacity(bundles.len());
        // Bundles of one prompt each, in order.
        adapted.open(work.device)?.score(&bundles, settings.answers, &Silent, &mut |_, choices| {
            for choice in choices {
                let features = features.zip(watched.get(p.len())).and_then(|(f, row)| f.p(row.set, row.row));
                p.push(features.map_or_else(|| as_probability(choice, settings.score), |f| added(f, choice)));
            }
            Ok(())
        })?;
        work.monitor.check()?;
        if let Some(auc) = eval::auc(&labels, &p)? {
            work.monitor.emit(Event::Metric {
                stage: StageId::Tune.into(),
                name: "auc".into(),
                split: "valid".into(),
                value: auc,
                epoch: None,
                best: false,
            });
        }
        eval::log_loss(&labels, &p)
    };
    let lora = &tune::LoraSettings { checkpoint_seconds: settings.checkpoint_seconds, ..settings.lora.clone() };
    let (config, weights) = (model.model.config(), model.model.weights());
    let adapter = Adapter::init(config, lora.rank, lora.alpha, &lora.targets, lora.seed)?;
    let (name, higher_is_better) = ("log_loss", false);
    let folder = work.folder.join("checkpoint");
    let checkpoint = Some(folder.as_path());
    let (device, monitor) = (work.device, work.monitor);
    let arithmetic = inputs.model.learns_in();
    let training = Training { device, config, source: &groups, settings: lora, checkpoint, monitor, arithmetic };
    let (adapter, history) = match soft_inputs.as_ref().zip(settings.soft) {
        None => {
            let mut run = |adapter: &Adapter| log_loss(adapter, None);
            let evaluator = Some(Evaluator { name, higher_is_better, run: &mut run });
            let done = training.adapter(weights, adapter, evaluator)?;
            (done.best, done.history)
        }
        Some((inputs, soft)) => {
            let norm = soft.scale * mean_norm(&weights.embed);
            let projector = Projector::init(soft, inputs.matrix(), config.hidden, norm, lora.seed)?;
            let mut run = |both: &SoftAdapter| log_loss(&both.adapter, Some(&both.projector));
            let evaluator = Some(Evaluator { name, higher_is_better, run: &mut run });
            let with = SoftInputs { inputs, learning_rate: soft.learning_rate };
            let done = training.soft_adapter(weights, SoftAdapter { adapter, projector }, with, evaluator)?;
            done.best.projector.save(&work.folder.join(PROJECTOR))?;
            (done.best.adapter, done.history)
        }
    };
    Tuned::write(work.folder, &adapter, config, inputs.model.spec())?;
    let json = serde_json::to_vec_pretty(&history).map_err(|e| Error::failed(HISTORY, e))?;
    durable::write(&work.folder.join(HISTORY), &json)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "remove the folder", &e))?;
    }
    Ok(())
}

/// Prompts of one history and one rendering become one group: their common tokens once, then a
/// branch for each target.
///
/// With `features`, whose probability of a row is p, a target weighs 1 - p if it is liked and p if
/// not. Then the best odds that the model can give are `odds(truth) / odds(p)`: what has to be
/// added to the log odds of p.
fn groups(
    settings: &TuneSettings<'_>,
    prompts: &[PromptRow],
    model: &Local,
    features: Option<&Features>,
) -> Result<Vec<Group>> {
    let [yes, no] = settings.answers;
    let answer = |word: &str| model.answer_tokens(&format!("{word}."), settings.lora.train_end_of_turn);
    let answers = [answer(no)?, answer(yes)?];
    let mut out = Vec::new();
    let rows: Vec<&PromptRow> = prompts.iter().filter(|r| r.set == Set::Tune).collect();
    for same in rows.chunk_by(|a, b| a.at == b.at && a.variant == b.variant) {
        let mut tokens = Vec::with_capacity(same.len());
        for row in same {
            let prompt = model.prompt_tokens(&row.prompt)?;
            tokens.push(if settings.faithful_bos { model.extra_bos(prompt) } else { prompt });
        }
        let prefix = if same.len() > 1 { common_prefix(&tokens) } else { 0 };
        let branches = same
            .iter()
            .zip(&tokens)
            .map(|(row, tokens)| {
                let answer = &answers[usize::from(row.label)];
                let branch = [&tokens[prefix..], answer].concat();
                let first = branch.len() - answer.len();
                // The second BOS shifts the authors' mask by one: the prompt's last token is a
                // target too.
                let shifted = settings.faithful_bos && model.tokenizer.bos().is_some() && first + prefix > 1;
                let targets = if shifted { first.saturating_sub(1) } else { first }..branch.len();
                let p = features.and_then(|features| features.p(row.set, row.row));
                let missed = p.map(|p| if row.label { 1.0 - p } else { p });
                // Twice that, so that a target of which the features know nothing weighs 1.
                let weight = missed.map_or(1.0, |missed| (2.0 * missed).max(1e-3) as f32);
                Branch { tokens: branch, targets, weight }
            })
            .collect();
        out.push(Group { prefix: tokens[0][..prefix].to_vec(), branches });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::Options;
    use crate::models::decoder::Family;
    use crate::pipeline::chosen::Variant;
    use crate::store::chat::Message;
    use crate::store::{fixture, save_hf};
    use crate::tensor::Dtype;
    use crate::text::prompts::Prompt;

    fn model(bos: bool) -> Local {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { bos: bos.then_some(3), ..fixture::config(Family::LLAMA) };
        let weights = fixture::weights(&config, 5, Dtype::F32).unwrap();
        let tokenizer = fixture::tokenizer_json(bos).unwrap();
        save_hf(folder.path(), &config, &weights, Dtype::F32, &tokenizer, Some(fixture::CHAT_TEMPLATE)).unwrap();
        Local::load(folder.path().to_str().unwrap(), &Options::default()).unwrap()
    }

    /// Two targets behind one history.
    fn rows() -> Vec<PromptRow> {
        let row = |target: &str, label| PromptRow {
            set: Set::Tune,
            row: usize::from(label),
            at: 0,
            variant: Variant::Main,
            label,
            prompt: Prompt {
                messages: vec![Message::system("Be kind."), Message::user(format!("Seen: Heat. Next: {target}?"))],
                split: 0,
                shown: vec![0],
                soft: Vec::new(),
            },
        };
        vec![row("Alien", false), row("Up", true)]
    }

    /// Whole token sequences with their targets.
    fn targets(groups: &[Group]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let of =
            |g: &Group, b: &Branch| ([&g.prefix[..], &b.tokens[..]].concat(), b.tokens[b.targets.clone()].to_vec());
        groups.iter().flat_map(|g| g.branches.iter().map(|b| of(g, b))).collect()
    }

    #[test]
    fn d8_a_second_bos_shifts_the_label_mask_by_one() {
        let correct = Recipe::default();
        let mut theirs = Recipe::default();
        theirs.tune.faithful_bos = true;
        let with_bos = model(true);
        let bos = with_bos.tokenizer.bos().unwrap();
        for rows in [&rows()[..1], &rows()[..]] {
            let ours = targets(&groups(&TuneSettings::of(&correct), rows, &with_bos, None).unwrap());
            let faithful = targets(&groups(&TuneSettings::of(&theirs), rows, &with_bos, None).unwrap());
            assert_eq!(ours.len(), rows.len());
            for ((tokens, answer), (more, shifted)) in ours.iter().zip(&faithful) {
                assert_eq!(*more, [&[bos][..], tokens].concat());
                assert_eq!(shifted[1..], answer[..]);
                let last_of_prompt = tokens[tokens.len() - answer.len() - 1];
                assert_eq!(shifted[0], last_of_prompt);
            }
        }
        let without = model(false);
        let both =
            [&correct, &theirs].map(|r| targets(&groups(&TuneSettings::of(r), &rows(), &without, None).unwrap()));
        assert_eq!(both[0], both[1], "a tokenizer that adds no BOS adds no second one");
    }

    #[test]
    fn a_residual_weighs_targets_by_what_the_features_miss() {
        let (language, rows) = (model(false), rows());
        let features = Features::of_rows([(Set::Tune, 0, 0.9), (Set::Tune, 1, 0.8)]);
        let made = groups(&TuneSettings::of(&Recipe::default()), &rows, &language, Some(&features)).unwrap();
        let weights: Vec<f32> = made[0].branches.iter().map(|b| b.weight).collect();
        // Not liked at 0.9: missed by 0.9; liked at 0.8: by 0.2.
        assert!((weights[0] - 1.8).abs() <= 1e-6 && (weights[1] - 0.4).abs() <= 1e-6, "{weights:?}");
        let plain = groups(&TuneSettings::of(&Recipe::default()), &rows, &language, None).unwrap();
        assert!(plain[0].branches.iter().all(|b| (b.weight - 1.0).abs() <= 1e-9));
    }

    #[test]
    fn soft_tokens_go_between_the_tokens_of_the_text() {
        use crate::text::prompts::Mark;
        for bos in [false, true] {
            let language = model(bos);
            let vocab = language.model.config().vocab as u32;
            let plain = rows()[0].prompt.clone();
            let behind = |word: &str| plain.user().find(word).unwrap() + word.len();
            let marks = [(0, 7), (behind("Heat"), 3), (behind("Alien"), 5)].map(|(at, token)| Mark { at, token });
            let marked = Prompt { soft: marks.to_vec(), ..plain.clone() };
            let (with, without) = (language.prompt_tokens(&marked).unwrap(), language.prompt_tokens(&plain).unwrap());
            let hard: Vec<u32> = with.iter().copied().filter(|&t| t < vocab).collect();
            assert_eq!(hard, without);
            assert_eq!(with.iter().copied().filter(|&t| t >= vocab).collect::<Vec<_>>(), [7, 3, 5].map(|n| vocab + n));
            for (token, before) in [(7, "user\n"), (3, "Seen: Heat"), (5, "Next: Alien")] {
                let at = with.iter().position(|&t| t == vocab + token).unwrap();
                let hard: Vec<u32> = with[..at].iter().copied().filter(|&t| t < vocab).collect();
                let text = language.tokenizer.decode(&hard, false).unwrap();
                assert!(text.ends_with(before), "{token} behind {text:?}");
            }
            assert_eq!(language.prompt_tokens(&marked.without_soft()).unwrap(), without);
        }
    }

    #[test]
    fn prompts_of_one_history_share_soft_tokens_in_their_beginning() {
        use crate::text::prompts::Mark;
        let language = model(false);
        let vocab = language.model.config().vocab as u32;
        let mut rows = rows();
        for (row, target) in rows.iter_mut().zip([4, 5]) {
            let at = row.prompt.user().len() - 1;
            row.prompt.soft = vec![Mark { at: 0, token: 9 }, Mark { at: 10, token: 1 }, Mark { at, token: target }];
        }
        let made = groups(&TuneSettings::of(&Recipe::default()), &rows, &language, None).unwrap();
        let soft = |tokens: &[u32]| tokens.iter().filter(|&&t| t >= vocab).map(|t| t - vocab).collect::<Vec<_>>();
        assert_eq!(made.len(), 1);
        assert_eq!(soft(&made[0].prefix), [9, 1]);
        assert_eq!(made[0].branches.iter().map(|b| soft(&b.tokens)).collect::<Vec<_>>(), [[4], [5]]);
    }
}
