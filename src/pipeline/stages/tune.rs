//! `tune`: LoRA on the tuning rows, early stop on validation rows.

use super::data::Ground;
use super::language::{self, Language};
use super::predict::{as_probability, score_rows};
use super::prompts::{PromptRow, Prompts};
use super::retrieve::{Set, Variant};
use super::scorer::Scorer;
use crate::config::Recipe;
use crate::device::Device;
use crate::error::Result;
use crate::eval;
use crate::events::StageId;
use crate::generate::scoring::common_prefix;
use crate::models::decoder::train::{Branch, Group};
use crate::models::lora::Adapter;
use crate::models::soft_prompt::{Projector, mean_norm};
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::run::{Run, Work};
use crate::store::peft;
use crate::text::prompts::Prompt;
use crate::tune::{Evaluator, SoftAdapter, SoftInputs, Training};

/// The tuned adapter.
pub struct Tuned {
    /// The adapter.
    pub adapter: Adapter,
    /// The projector of soft tokens, where the recipe wants them.
    pub projector: Option<Projector>,
    /// The artifact; `adapter/` in it is a PEFT folder, `projector.safetensors` the projector.
    pub artifact: Artifact,
}

/// The projector of soft tokens.
const PROJECTOR: &str = "projector.safetensors";

/// Runs or reuses the stage.
pub fn tune(
    run: &Run,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    prompts: &Prompts,
    language: &mut super::Lazy<'_>,
) -> Result<Tuned> {
    let key = KeyBuilder::new(StageId::Tune.name(), 1)
        .input("prompts", &prompts.artifact.key)
        .settings("tune", &recipe.tune)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?
        .settings("answers", &(&recipe.predict.yes, &recipe.predict.no, recipe.predict.score))?;
    let key = if recipe.soft.is_on() { key.settings("soft", &recipe.soft)? } else { key }.finish();
    let artifact =
        run.stage(StageId::Tune, &key, |work| write(work, recipe, device, ground, prompts, language.get()?))?;
    let config = language.get()?.model.config();
    let adapter = peft::read(&artifact.file("adapter"), config)?;
    let projector =
        recipe.soft.is_on().then(|| Projector::load(&artifact.file(PROJECTOR), config.hidden)).transpose()?;
    Ok(Tuned { adapter, projector, artifact })
}

fn write(
    work: &Work<'_>,
    recipe: &Recipe,
    device: &Device,
    ground: &Ground,
    prompts: &Prompts,
    language: &Language,
) -> Result<()> {
    let groups = groups(recipe, &prompts.rows, language)?;
    let set = if recipe.tune.select_on_test { Set::Test } else { Set::Valid };
    let mut watched: Vec<&PromptRow> =
        prompts.rows.iter().filter(|r| r.set == set && r.variant == Variant::Main).collect();
    if recipe.tune.valid_rows > 0 {
        watched.truncate(recipe.tune.valid_rows);
    }
    let labels: Vec<bool> = watched.iter().map(|r| ground.sample(r.row).label).collect();
    let inputs = prompts.inputs(language)?;
    let log_loss = |adapter: &Adapter, projector: Option<&Projector>| -> Result<f64> {
        let model = language.with_adapter(adapter, projector.zip(inputs.as_ref()))?;
        // The prompts of tuning, also where scoring has others (defect D8).
        let tokens = |prompt: &Prompt| language.prompt_tokens(prompt);
        let choices = score_rows(language, &Scorer::new(device, &model)?, &watched, &tokens, &crate::monitor::Silent)?;
        let p: Vec<f64> = choices.iter().map(|c| as_probability(c, recipe.predict.score)).collect();
        work.monitor.check()?;
        if let Some(auc) = eval::auc(&labels, &p)? {
            work.monitor.emit(crate::events::Event::Metric {
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
    let settings = &recipe.tune.lora;
    let config = language.model.config();
    let adapter = Adapter::init(config, settings.rank, settings.alpha, &settings.targets, settings.seed)?;
    let (name, higher_is_better, weights) = ("log_loss", false, language.model.weights());
    let folder = work.folder.join("checkpoint");
    let checkpoint = Some(folder.as_path());
    let training = Training { device, config, source: &groups, settings, checkpoint, monitor: work.monitor };
    let (adapter, history) = match &inputs {
        None => {
            let mut run = |adapter: &Adapter| log_loss(adapter, None);
            let evaluator = Some(Evaluator { name, higher_is_better, run: &mut run });
            let done = training.adapter(weights, adapter, evaluator)?;
            (done.best, done.history)
        }
        Some(inputs) => {
            let soft = &recipe.soft;
            let norm = soft.scale * mean_norm(&weights.embed);
            let projector = Projector::init(soft, inputs.matrix(), config.hidden, norm, settings.seed)?;
            let mut run = |both: &SoftAdapter| log_loss(&both.adapter, Some(&both.projector));
            let evaluator = Some(Evaluator { name, higher_is_better, run: &mut run });
            let with = SoftInputs { inputs, learning_rate: soft.learning_rate };
            let done = training.soft_adapter(weights, SoftAdapter { adapter, projector }, with, evaluator)?;
            done.best.projector.save(&work.folder.join(PROJECTOR))?;
            (done.best.adapter, done.history)
        }
    };
    peft::write(&work.folder.join("adapter"), &adapter, config, &recipe.model.path)?;
    let json = serde_json::to_vec_pretty(&history).map_err(|e| crate::Error::failed("history.json", e))?;
    write_atomically(&work.folder.join("history.json"), &json)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| crate::Error::io(&folder, "remove the folder", &e))?;
    }
    Ok(())
}

/// Prompts of one history and one rendering become one group: their common tokens once, then a branch for each target.
fn groups(recipe: &Recipe, prompts: &[PromptRow], language: &Language) -> Result<Vec<Group>> {
    let answer = |label: bool| {
        let word = if label { &recipe.predict.yes } else { &recipe.predict.no };
        language.answer_tokens(&format!("{word}."), recipe.tune.lora.train_end_of_turn)
    };
    let answers = [answer(false)?, answer(true)?];
    let mut out = Vec::new();
    let rows: Vec<&PromptRow> = prompts.iter().filter(|r| r.set == Set::Tune).collect();
    for same in rows.chunk_by(|a, b| a.at == b.at && a.variant == b.variant) {
        let mut tokens = Vec::with_capacity(same.len());
        for row in same {
            let prompt = language.prompt_tokens(&row.prompt)?;
            tokens.push(if recipe.tune.faithful_bos { language.extra_bos(prompt) } else { prompt });
        }
        let prefix = if same.len() > 1 { common_prefix(&tokens) } else { 0 };
        let branches = same
            .iter()
            .zip(&tokens)
            .map(|(row, tokens)| {
                let answer = &answers[usize::from(row.label)];
                let branch = [&tokens[prefix..], answer].concat();
                let first = branch.len() - answer.len();
                // The second BOS shifts the authors' mask by one: the prompt's last token is learnt too.
                let shifted = recipe.tune.faithful_bos && language.tokenizer.bos().is_some() && first + prefix > 1;
                let learnt = if shifted { first.saturating_sub(1) } else { first }..branch.len();
                Branch { tokens: branch, learnt, weight: 1.0 }
            })
            .collect();
        out.push(Group { prefix: tokens[0][..prefix].to_vec(), branches });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::decoder::{Config, Family};
    use crate::store::chat::Message;
    use crate::store::{fixture, save_hf};
    use crate::tensor::Dtype;

    fn language(recipe: &Recipe, bos: bool) -> Language {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { bos: bos.then_some(3), ..fixture::config(Family::LLAMA) };
        let weights = fixture::weights(&config, 5, Dtype::F32).unwrap();
        let tokenizer = fixture::tokenizer_json(bos).unwrap();
        save_hf(folder.path(), &config, &weights, Dtype::F32, &tokenizer, Some(fixture::CHAT_TEMPLATE)).unwrap();
        Language::load(folder.path().to_str().unwrap(), recipe).unwrap()
    }

    /// Two targets behind one history.
    fn rows() -> Vec<PromptRow> {
        let row = |target: &str, label| PromptRow {
            set: Set::Tune,
            row: usize::from(label),
            at: 0,
            variant: Variant::Main,
            label,
            facts_p: None,
            prompt: Prompt {
                messages: vec![Message::system("Be kind."), Message::user(format!("Seen: Heat. Next: {target}?"))],
                split: 0,
                shown: vec![0],
                soft: Vec::new(),
            },
        };
        vec![row("Alien", false), row("Up", true)]
    }

    /// Whole token sequences with the tokens that are learnt.
    fn learnt(groups: &[Group]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let of = |g: &Group, b: &Branch| ([&g.prefix[..], &b.tokens[..]].concat(), b.tokens[b.learnt.clone()].to_vec());
        groups.iter().flat_map(|g| g.branches.iter().map(|b| of(g, b))).collect()
    }

    #[test]
    fn d8_a_second_bos_shifts_the_label_mask_by_one() {
        let correct = Recipe::default();
        let mut theirs = Recipe::default();
        theirs.tune.faithful_bos = true;
        let with_bos = language(&correct, true);
        let bos = with_bos.tokenizer.bos().unwrap();
        for rows in [&rows()[..1], &rows()[..]] {
            let ours = learnt(&groups(&correct, rows, &with_bos).unwrap());
            let faithful = learnt(&groups(&theirs, rows, &with_bos).unwrap());
            assert_eq!(ours.len(), rows.len());
            for ((tokens, answer), (more, shifted)) in ours.iter().zip(&faithful) {
                assert_eq!(*more, [&[bos][..], tokens].concat());
                assert_eq!(shifted[1..], answer[..]);
                let last_of_prompt = tokens[tokens.len() - answer.len() - 1];
                assert_eq!(shifted[0], last_of_prompt);
            }
        }
        let without = language(&correct, false);
        let both = [&correct, &theirs].map(|r| learnt(&groups(r, &rows(), &without).unwrap()));
        assert_eq!(both[0], both[1], "a tokenizer that adds no BOS adds no second one");
    }

    #[test]
    fn d8_scoring_has_another_system_message_where_the_recipe_says_so() {
        let prompt = &rows()[0].prompt;
        let ours = language(&Recipe::default(), true);
        assert_eq!(ours.scoring_tokens(prompt).unwrap(), ours.prompt_tokens(prompt).unwrap());
        let theirs = language(&Recipe { faithful: true, ..Recipe::default() }.faithfully(), true);
        assert_eq!(theirs.prompt_tokens(prompt).unwrap(), ours.prompt_tokens(prompt).unwrap(), "tuning keeps its own");
        let empty = [Message::system(""), prompt.messages[1].clone()];
        assert_eq!(theirs.scoring_tokens(prompt).unwrap(), ours.chat_tokens(&empty).unwrap());
        let bare = Prompt { messages: vec![prompt.messages[1].clone()], ..prompt.clone() };
        assert_eq!(theirs.scoring_tokens(&bare).unwrap(), ours.prompt_tokens(&bare).unwrap(), "no turn is added");
    }

    #[test]
    fn soft_tokens_go_between_the_tokens_of_the_text() {
        use crate::text::prompts::Mark;
        for bos in [false, true] {
            let language = language(&Recipe::default(), bos);
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
            assert_eq!(language.scoring_tokens(&marked).unwrap(), with);
            assert_eq!(language.prompt_tokens(&marked.without_soft()).unwrap(), without);
        }
    }

    #[test]
    fn prompts_of_one_history_share_soft_tokens_in_their_beginning() {
        use crate::text::prompts::Mark;
        let recipe = Recipe::default();
        let language = language(&recipe, false);
        let vocab = language.model.config().vocab as u32;
        let mut rows = rows();
        for (row, target) in rows.iter_mut().zip([4, 5]) {
            let at = row.prompt.user().len() - 1;
            row.prompt.soft = vec![Mark { at: 0, token: 9 }, Mark { at: 10, token: 1 }, Mark { at, token: target }];
        }
        let made = groups(&recipe, &rows, &language).unwrap();
        let soft = |tokens: &[u32]| tokens.iter().filter(|&&t| t >= vocab).map(|t| t - vocab).collect::<Vec<_>>();
        assert_eq!(made.len(), 1);
        assert_eq!(soft(&made[0].prefix), [9, 1]);
        assert_eq!(made[0].branches.iter().map(|b| soft(&b.tokens)).collect::<Vec<_>>(), [[4], [5]]);
    }
}
