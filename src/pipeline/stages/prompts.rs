//! `prompts`: what the language model reads for every row and variant, within the model's context.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::collab::Features;
use super::data::DataOutput;
use super::retrieve::Shown;
use crate::collab::CausalFeatures;
use crate::config::Recipe;
use crate::content::Content;
use crate::data::{Dataset, ItemIdx, Rated, Samples, UserIdx};
use crate::durable;
use crate::error::{Error, Kind, Result};
use crate::events::StageId;
use crate::lm::{Local, Reader, Reading, View};
use crate::models::soft_prompt::Inputs as SoftInputs;
use crate::pipeline::artifact::Artifact;
use crate::pipeline::chosen::{Set, Variant};
use crate::pipeline::matrices;
use crate::pipeline::rows::{RowFile, read_rows};
use crate::pipeline::soft::{self, SoftFrom, SoftTokens};
use crate::pipeline::stage::{Inputs, Made, Stage, Work, contents};
use crate::retrieval::Template;
use crate::tensor::Matrix;
use crate::text::prompts::{self, CutReport, Drop, Fitted, OwnTemplate, Prompt, Prompter, SoftPlaces, drop_order, fit};
use crate::text::ratings::Wording;

/// Writes the prompts.
pub struct Prompts;

/// What `prompts` sees of the recipe.
#[derive(Clone, Serialize)]
pub struct PromptsSettings<'r> {
    /// Without the place of a template file, whose content is an input.
    prompt: prompts::PromptSettings,
    /// The template file.
    #[serde(skip)]
    file: Option<&'r Path>,
    /// A rating above it is a like.
    threshold: f32,
    /// What is said of the causal features; `None` where nothing is.
    wording: Wording,
    /// Which items in which order the recipe shows.
    template: Template,
    /// Which soft tokens there are.
    soft: Option<SoftTokens>,
}

impl<'r> PromptsSettings<'r> {
    /// Takes them out of a recipe.
    pub fn of(recipe: &'r Recipe) -> Self {
        let wording = recipe.collab.wording;
        Self {
            prompt: prompts::PromptSettings { file: None, ..recipe.prompt.clone() },
            file: recipe.prompt.file.as_deref(),
            threshold: recipe.data.threshold(),
            wording: if wording.speaks() { wording } else { Wording::None },
            template: recipe.retrieve.template,
            soft: SoftTokens::of(&recipe.soft),
        }
    }

    /// The causal features are put into words.
    pub fn speaks(&self) -> bool {
        self.wording.speaks()
    }

    /// The template file that writes the prompts.
    pub fn file(&self) -> Option<&'r Path> {
        self.file
    }

    /// Which soft tokens there are.
    pub fn soft(&self) -> Option<SoftTokens> {
        self.soft
    }
}

/// What `prompts` reads.
pub struct PromptsInputs<'a> {
    /// Users and items.
    pub tables: &'a Made<Dataset>,
    /// Rows and histories.
    pub samples: &'a Made<Samples>,
    /// The history that each prompt shows.
    pub shown: &'a Made<Vec<Shown>>,
    /// Causal features, where they are put into words.
    pub features: Option<&'a Made<Features>>,
    /// Embeddings behind soft tokens.
    pub soft: SoftFrom<'a>,
    /// The model that reads the prompts: its tokens and its context.
    pub model: View<'a>,
    /// The template file that writes them.
    pub file: Option<&'a Path>,
}

impl Inputs for PromptsInputs<'_> {
    fn made(&self) -> Vec<(&'static str, Content)> {
        contents([
            ("tables", Some(self.tables.content())),
            ("samples", Some(self.samples.content())),
            ("retrieve", Some(self.shown.content())),
            ("collab", self.features.map(Made::content)),
            ("soft items", self.soft.items_content()),
            ("soft users", self.soft.users.map(Made::content)),
        ])
    }

    fn outside(&self) -> Result<Vec<(&'static str, Content)>> {
        let file = self.file.map(Content::of_path).transpose()?;
        Ok(contents([("model", Some(self.model.identity()?)), ("template", file)]))
    }
}

/// One prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PromptRow {
    /// Whether the row is tuned on, chosen on or tested on.
    pub set: Set,
    /// Index of the sample.
    pub row: usize,
    /// Index of the sample that the history is frozen at; rows of a group share it.
    pub at: usize,
    /// How the history was chosen.
    pub variant: Variant,
    /// Whether the user liked the target.
    pub label: bool,
    /// What the language model reads.
    pub prompt: Prompt,
}

/// The prompts of some rows.
pub struct PromptRows {
    /// In the order of the rows asked for.
    pub rows: Vec<PromptRow>,
    /// Embeddings behind the soft tokens, where the recipe wants them, in ascending order of their
    /// numbers.
    pub soft: Option<Matrix>,
}

impl PromptRows {
    /// The projector's inputs, where the prompts have soft tokens.
    ///
    /// # Errors
    /// Embeddings that do not belong to these prompts.
    pub fn inputs(&self, model: &Local) -> Result<Option<SoftInputs>> {
        let of = |x: &Matrix| SoftInputs::new(soft::ids(&soft::numbers(&self.rows), model), x.clone());
        self.soft.as_ref().map(of).transpose()
    }
}

/// Room left for the answer and the end of the turn.
const ANSWER_ROOM: usize = 8;

const ROWS: &str = "prompts.jsonl";
const CUTS: &str = "cuts.json";
/// The embeddings behind the soft tokens.
const SOFT: &str = "soft.safetensors";

impl Stage for Prompts {
    const ID: StageId = StageId::Prompts;
    const VERSION: u32 = 2;
    const NOTES: &'static [&'static str] = &[CUTS];
    type Settings<'r> = PromptsSettings<'r>;
    type Inputs<'a> = PromptsInputs<'a>;
    type Output = PromptRows;

    fn run(settings: &PromptsSettings<'_>, inputs: &PromptsInputs<'_>, work: &Work<'_>) -> Result<()> {
        let path = work.folder.join(ROWS);
        let mut file = RowFile::<PromptRow>::anew(&path)?;
        let data = DataOutput { dataset: inputs.tables.get()?, samples: inputs.samples.get()? };
        let features = inputs.features.map(Made::get).transpose()?;
        let mut soft = inputs.soft.source(settings.soft, settings.threshold)?;
        let maker = PromptMaker::new(data.dataset, settings, inputs.model.reader()?)?;
        let mut cuts = CutReport::default();
        let shown = inputs.shown.get()?;
        for (n, Shown { request, items, .. }) in shown.iter().enumerate() {
            if n % 256 == 0 {
                work.monitor.check()?;
            }
            let sample = data.sample(request.row);
            let fitted = maker.make(&Asked {
                user: sample.user,
                target: sample.item,
                shown: items,
                variant: request.variant,
                features: features.and_then(|f| f.of(request.set, request.row)),
                soft: soft.as_mut().map(|s| s.places(data, request.row, request.at)),
            })?;
            cuts.add(fitted.dropped);
            file.append(&PromptRow {
                set: request.set,
                row: request.row,
                at: request.at,
                variant: request.variant,
                label: sample.label,
                prompt: fitted.prompt,
            })?;
            work.monitor.progress(n as u64 + 1, shown.len() as u64, "prompts");
        }
        if cuts.cut > 0 {
            let what = format!(
                "{} of {} prompts were too long for the model: {} history items left out",
                cuts.cut, cuts.prompts, cuts.items
            );
            work.monitor.warn(&what, "lower retrieve.k, or use a model with a longer context");
        }
        if let Some(soft) = &soft {
            let embeddings = soft.matrix(&soft::numbers(&read_rows(&path)?))?;
            matrices::write(&work.folder.join(SOFT), &[("embeddings", &embeddings)])?;
        }
        let json = serde_json::to_vec_pretty(&cuts).map_err(|e| Error::failed(CUTS, e))?;
        durable::write(&work.folder.join(CUTS), &json)
    }

    fn load(artifact: &Artifact) -> Result<PromptRows> {
        let soft = artifact.file(SOFT);
        let soft = soft.exists().then(|| matrices::read(&soft, "embeddings")).transpose()?;
        Ok(PromptRows { rows: read_rows(&artifact.file(ROWS))?, soft })
    }
}

/// What a prompt is about.
pub struct Asked<'a> {
    /// Whose history.
    pub user: UserIdx,
    /// The item that is asked about.
    pub target: ItemIdx,
    /// History items in the order shown.
    pub shown: &'a [Rated],
    /// How they were chosen.
    pub variant: Variant,
    /// What ratings and graph say of the row.
    pub features: Option<&'a CausalFeatures>,
    /// Its soft tokens.
    pub soft: Option<SoftPlaces>,
}

/// Makes the prompts of a recipe, of rows and of what is asked of a finished run alike.
pub struct PromptMaker<'a> {
    dataset: &'a Dataset,
    settings: &'a PromptsSettings<'a>,
    reader: &'a dyn Reader,
    own: Option<OwnTemplate>,
}

impl<'a> PromptMaker<'a> {
    /// `dataset` has users and items, `settings` the wording; `reader` is the model that reads the
    /// prompts.
    ///
    /// # Errors
    /// A template file that cannot be read, or is none.
    pub fn new(dataset: &'a Dataset, settings: &'a PromptsSettings<'a>, reader: &'a dyn Reader) -> Result<Self> {
        let own = settings.file.map(OwnTemplate::read).transpose()?;
        Ok(Self { dataset, settings, reader, own })
    }

    /// The prompt with as many history items as the model's context holds.
    ///
    /// # Errors
    /// A prompt that is too long even without history; users or items that are not in the data set.
    pub fn make(&self, asked: &Asked<'_>) -> Result<Fitted> {
        let template = asked.variant.template(self.settings.template);
        let settings = self.settings.prompt.of_template(template, self.dataset);
        let prompter = Prompter::new(self.dataset, self.settings.threshold, &settings)?
            .with_soft(asked.soft)
            .with_own(self.own.as_ref());
        let stated = asked.features.and_then(|f| f.stated(self.settings.wording));
        let limit = self.reader.context().saturating_sub(ANSWER_ROOM);
        fit(
            &|keep| prompter.build_some(asked.user, asked.shown, keep, asked.target, stated.as_ref()),
            &drop_order(least_valuable(template), asked.shown.len()),
            &|prompt| self.reader.count(&Reading::Prompt(Cow::Borrowed(prompt))),
            limit,
        )
        .map_err(|e| {
            if e.kind() != Kind::Usage {
                return e;
            }
            Error::input(e.place(), format!("{}: the model reads {} tokens", e.what(), limit + ANSWER_ROOM))
                .next("use a model with a longer context, or a shorter wording: prompt.style = \"short\"")
        })
    }
}

/// Which end of the list matters least.
fn least_valuable(template: Template) -> Drop {
    match template {
        Template::Simple | Template::Sequential | Template::Low => Drop::Front,
        Template::High | Template::Rerank => Drop::Back,
    }
}
