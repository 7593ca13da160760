//! `tune`: LoRA on the tuning rows, early stop on validation rows.

use super::data::Ground;
use super::language::{self, Language};
use super::predict::{as_probability, score_rows};
use super::prompts::{PromptRow, Prompts};
use super::retrieve::{Set, Variant};
use crate::config::Recipe;
use crate::error::Result;
use crate::eval;
use crate::generate::scoring::common_prefix;
use crate::models::llama::train::{Branch, Group};
use crate::models::lora::Adapter;
use crate::models::peft;
use crate::pipeline::artifact::{Artifact, write_atomically};
use crate::pipeline::key::KeyBuilder;
use crate::pipeline::run::{Run, Work};
use crate::tune::{Evaluator, train};

/// The tuned adapter.
pub struct Tuned {
    /// The adapter.
    pub adapter: Adapter,
    /// The artifact; `adapter/` in it is a PEFT folder.
    pub artifact: Artifact,
}

/// Runs or reuses the stage.
pub fn tune(
    run: &Run,
    recipe: &Recipe,
    ground: &Ground,
    prompts: &Prompts,
    language: &mut super::Lazy<'_>,
) -> Result<Tuned> {
    let key = KeyBuilder::new("tune", 1).input("prompts", &prompts.artifact.key).settings("tune", &recipe.tune)?;
    let key = language::add_to_key(key, "model", &recipe.model.path, &recipe.model)?
        .settings("answers", &(&recipe.predict.yes, &recipe.predict.no, recipe.predict.score))?
        .finish();
    let artifact = run.stage("tune", &key, |work| write(work, recipe, ground, prompts, language.get()?))?;
    let adapter = peft::read(&artifact.file("adapter"), language.get()?.model.config())?;
    Ok(Tuned { adapter, artifact })
}

fn write(work: &Work<'_>, recipe: &Recipe, ground: &Ground, prompts: &Prompts, language: &Language) -> Result<()> {
    let groups = groups(recipe, prompts, language)?;
    let set = if recipe.tune.select_on_test { Set::Test } else { Set::Valid };
    let mut watched: Vec<&PromptRow> =
        prompts.rows.iter().filter(|r| r.set == set && r.variant == Variant::Main).collect();
    if recipe.tune.valid_rows > 0 {
        watched.truncate(recipe.tune.valid_rows);
    }
    let labels: Vec<bool> = watched.iter().map(|r| ground.sample(r.row).label).collect();
    let mut log_loss = |adapter: &Adapter| -> Result<f64> {
        let model = language.with_adapter(adapter)?;
        let choices = score_rows(language, &model, &watched, &crate::monitor::Silent)?;
        let p: Vec<f64> = choices.iter().map(|c| as_probability(c, recipe.predict.score)).collect();
        work.monitor.check()?;
        if let Some(auc) = eval::auc(&labels, &p)? {
            work.monitor.emit(crate::events::Event::Metric {
                stage: "tune".into(),
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
    let evaluator = Evaluator { name: "log_loss", higher_is_better: false, run: &mut log_loss };
    let checkpoint = work.folder.join("checkpoint");
    let outcome = train(
        config,
        language.model.weights(),
        adapter,
        &groups,
        settings,
        Some(evaluator),
        Some(&checkpoint),
        work.monitor,
    )?;
    peft::write(&work.folder.join("adapter"), &outcome.best, config, &recipe.model.path)?;
    let json = serde_json::to_vec_pretty(&outcome.history).map_err(|e| crate::Error::failed("history.json", e))?;
    write_atomically(&work.folder.join("history.json"), &json)?;
    if checkpoint.exists() {
        std::fs::remove_dir_all(&checkpoint).map_err(|e| crate::Error::io(&checkpoint, "remove the folder", &e))?;
    }
    Ok(())
}

/// Prompts of one history and one rendering become one group: their common tokens once, then a branch for each target.
fn groups(recipe: &Recipe, prompts: &Prompts, language: &Language) -> Result<Vec<Group>> {
    let answer = |label: bool| {
        let word = if label { &recipe.predict.yes } else { &recipe.predict.no };
        language.answer_tokens(&format!("{word}."), recipe.tune.lora.train_end_of_turn)
    };
    let answers = [answer(false)?, answer(true)?];
    let mut out = Vec::new();
    let rows: Vec<&PromptRow> = prompts.rows.iter().filter(|r| r.set == Set::Tune).collect();
    for same in rows.chunk_by(|a, b| a.at == b.at && a.variant == b.variant) {
        let mut tokens = Vec::with_capacity(same.len());
        for row in same {
            tokens.push(language.prompt_tokens(&row.prompt)?);
        }
        let prefix = if same.len() > 1 { common_prefix(&tokens) } else { 0 };
        let branches = same
            .iter()
            .zip(&tokens)
            .map(|(row, tokens)| {
                let answer = &answers[usize::from(row.label)];
                let branch = [&tokens[prefix..], answer].concat();
                let learnt = branch.len() - answer.len()..branch.len();
                Branch { tokens: branch, learnt, weight: 1.0 }
            })
            .collect();
        out.push(Group { prefix: tokens[0][..prefix].to_vec(), branches });
    }
    Ok(out)
}
