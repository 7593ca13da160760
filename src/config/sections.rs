//! The recipe's sections. Those of a module of its own (data, alignment, retrieval, prompt, LoRA,
//! merge) are declared there; these are the ones that tie modules together.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::streams::SEED;
use crate::data::GraphEdges;
use crate::device::Choice;
use crate::eval::Score;
use crate::models::decoder::Arithmetic;
use crate::settings::{Checked, Faults};
use crate::tensor::Dtype;
use crate::text::item_text::TextSource;
use crate::text::prompts::ReasoningSettings;

/// A whole experiment: data, models, method, evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the run. Its folder is runs/NAME unless --out names another.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Seed of everything that is drawn. Each draw has a key of its own (`rows.seed`,
    /// `tune.lora.seed`, ...) that gives it another seed. The authors' shuffle (`data.shuffle =
    /// "python"`) keeps their seed, 42.
    pub seed: u64,
    /// Several seeds: `rallrec run` does the recipe once with each in the place of `seed`, in a
    /// folder of its own, and tells mean, spread and tests over seeds and users. The split, the
    /// rows and the resamples stay those of `seed`. Empty: one run.
    #[schemars(length(max = 100), extend("uniqueItems" = true))]
    pub seeds: Vec<u64>,
    /// Threads that compute; 0 means one for each core.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// Where operators run: the CPU, a GPU, the kernels' build for the CPU, or whatever is there.
    pub device: Choice,
    /// The method as the text of RALLRec+ states it: gives a value to every key where the text
    /// differs from our defaults. A key that is written wins over it. With `faithful`, both hold:
    /// they set different keys.
    pub paper: bool,
    /// Reproduce the authors' published code: turns every reproducible defect on (see
    /// docs/method-notes.md). A key that is written wins over it.
    pub faithful: bool,
    /// Raw files, filters, labels, histories, split.
    pub data: crate::data::DataSettings,
    /// Which samples are used.
    pub rows: Rows,
    /// Language models.
    pub model: ModelSettings,
    /// Item descriptions.
    pub describe: Describe,
    /// Text embeddings of items.
    pub embed: Embed,
    /// Interaction graph and LightGCN.
    pub graph: Graph,
    /// Rankers of the catalogue, their blend, and what `recommend` does with them.
    pub recommend: crate::retrieval::rankers::RecommendSettings,
    /// Contrastive alignment of text and collaborative embeddings.
    pub align: crate::models::projector::ProjectorSettings,
    /// Embedding mixture, retrieval from the user's history, rerank.
    pub retrieve: crate::retrieval::RetrievalSettings,
    /// What the language model reads.
    pub prompt: crate::text::prompts::PromptSettings,
    /// Causal features of a row (what earlier ratings say of it), in words or silent. Beyond the
    /// papers; fitted on training rows only.
    pub collab: crate::collab::CollabSettings,
    /// Embeddings as soft prompt tokens of the tuned model. Beyond the papers; off unless `source`
    /// is set.
    pub soft: crate::models::soft_prompt::SoftSettings,
    /// LoRA tuning.
    pub tune: Tune,
    /// Yes/No scoring.
    pub predict: Predict,
    /// Predictions of other programs for this run's rows, a section each: `[experts.din]` with
    /// `file`, `column`, `model` and `calibrate`. Each is a row of the tables under its name, and
    /// can take part in `merge.experts`.
    pub experts: std::collections::BTreeMap<String, crate::merge::OutsideExpert>,
    /// Reasoning samples.
    pub reason: Reason,
    /// Consistency-based merge.
    pub merge: crate::merge::MergeSettings,
    /// Tables.
    pub evaluate: crate::eval::EvalSettings,
}

/// How rows are taken from a part of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowChoice {
    /// In order of time, from the start of the part (the papers' way for test rows).
    First,
    /// A seeded draw without replacement.
    #[default]
    Random,
}

/// Which samples are tuned on, chosen on, and reported. A row is one target with the user's history
/// before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rows {
    /// Training histories that are tuned on; each carries up to `tune.targets_per_history` targets.
    /// The papers draw 8,192 rows and tune on the first 1,024.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub tune: usize,
    /// Validation rows: early stop, and the constants of the merge.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub valid: usize,
    /// Test rows in the tables. The papers score the first 10,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub test: usize,
    /// How validation and test rows are taken from the pool.
    pub choice: RowChoice,
    /// The pool: only so many rows from the start of the validation part, and of the test part, can
    /// be taken. 0 means the whole part.
    #[schemars(range(max = 1_000_000_000))]
    pub pool: usize,
    /// Seed of the choice of rows. Not set: the recipe's `seed`.
    pub seed: u64,
}

impl Default for Rows {
    fn default() -> Self {
        Self { tune: 1024, valid: 1000, test: 10_000, choice: RowChoice::First, pool: 10_000, seed: SEED }
    }
}

/// The language models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// The language model: it writes the descriptions, embeds, and is tuned. A folder, a GGUF file,
    /// a name known to `rallrec model pull`, or `builtin` for the demo's tiny model.
    #[schemars(length(min = 1))]
    pub path: String,
    /// The reasoning model, named as in `path`. Empty: the same model, untuned.
    pub reasoning: String,
    /// The model that embeds the texts of the items, named as in `path`. Empty: the same model.
    pub embedding: String,
    /// Storage of the weights in memory. Not set: as in the file, quantised files too. On a GPU,
    /// `bf16` also stores activations, keys and values as bf16; anything else there is f32.
    pub dtype: Option<Dtype>,
    /// Arithmetic of products with the weights on the CPU in `embed`, `predict`, `reason` and
    /// `describe`: 32-bit numbers, bf16, or 8-bit codes. `tune` is in bf16 with `bf16`, and in
    /// 32-bit numbers otherwise. The kernels of a GPU do not change.
    pub arithmetic: Arithmetic,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            path: "smollm2-135m".into(),
            reasoning: String::new(),
            embedding: String::new(),
            dtype: None,
            arithmetic: Arithmetic::F32,
        }
    }
}

/// Where item descriptions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DescribeSource {
    /// Written by the model (the papers' way).
    #[default]
    Model,
    /// Read from `describe.file`; the built-in data set brings its own.
    File,
    /// None: items have their templated text only.
    None,
}

/// Item descriptions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Describe {
    /// Written by the model, read from a file, or none.
    pub source: DescribeSource,
    /// The file, for the source `file`: a JSON object `{"id": "text"}` or JSON lines `{"item":
    /// "id", "text": "..."}`, plain or gzip-compressed.
    pub file: Option<PathBuf>,
    /// Descriptions are cut after this many words; 0 keeps them whole.
    #[schemars(range(max = 1_000_000))]
    pub words: usize,
    /// Sampling temperature of written descriptions; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f32,
    /// Nucleus of written descriptions: sample from the smallest set of tokens that has this
    /// probability.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
    /// Fewest tokens of a written description.
    #[schemars(range(max = 1_000_000))]
    pub min_tokens: usize,
    /// Most tokens of a written description.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: usize,
    /// Share of each description's words that are replaced by words of other items' descriptions: a
    /// test of how much the method leans on them.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub noise: f64,
    /// Share of the descriptions that stand at another item.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub swapped: f64,
    /// Seed of the tokens of written descriptions, and of what is replaced and swapped. Not set:
    /// the recipe's `seed`.
    pub seed: u64,
}

impl Default for Describe {
    fn default() -> Self {
        Self {
            source: DescribeSource::Model,
            file: None,
            words: 0,
            temperature: 0.8,
            top_p: 0.9,
            min_tokens: 10,
            max_tokens: 1024,
            noise: 0.0,
            swapped: 0.0,
            seed: SEED,
        }
    }
}

impl Checked for Describe {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        faults.unless(
            self.min_tokens <= self.max_tokens,
            "min_tokens",
            format!("{} is above max_tokens = {}", self.min_tokens, self.max_tokens),
            "lower it, or raise max_tokens",
        );
        let file = self.file.as_ref().is_none_or(|file| !file.as_os_str().is_empty());
        faults.unless(file, "file", "it is empty", "name a file, or leave the key out");
        faults
    }
}

/// How hidden states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over the text's tokens.
    #[default]
    Mean,
    /// The last token's state.
    Last,
}

/// Text embeddings of items: the final normed hidden state of the language model, pooled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Embed {
    /// Which text: the description, the templated text, or two embeddings side by side, of the
    /// templated text or the title (the paper's way) and of the description.
    pub source: TextSource,
    /// How the states of a text's tokens become one vector.
    pub pooling: Pooling,
    /// Longest text in tokens of the model's tokenizer, a BOS included; the rest is cut off.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: usize,
    /// Longest description in tokens, where descriptions are to be shorter than other texts; 0
    /// means `max_tokens`.
    #[schemars(range(max = 1_000_000))]
    pub description_tokens: usize,
}

impl Default for Embed {
    fn default() -> Self {
        Self { source: TextSource::Both, pooling: Pooling::Mean, max_tokens: 512, description_tokens: 0 }
    }
}

/// The interaction graph and LightGCN.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Graph {
    /// Which interactions are edges. `leave_one_out` is the authors' graph and contains test
    /// interactions (D5).
    pub edges: GraphEdges,
    /// The model and its training.
    pub lightgcn: crate::models::lightgcn::LightGcnSettings,
}

/// LoRA tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tune {
    /// Templates (see `retrieve.template`) by which each tuning row is shown: one prompt each. The
    /// papers' mixed set is `high`, `sequential`, `simple`.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub templates: Vec<crate::retrieval::Template>,
    /// Targets that share one history, which is frozen at the earliest of them. 1 is the papers'
    /// way. More targets learn from the same tokens, since the history is read once.
    #[schemars(range(min = 1, max = 10_000))]
    pub targets_per_history: usize,
    /// Seeds of further adapters, each tuned as the first but for its seed. Every one is one more
    /// run of the tuned model in the merge, so that its variance says something. The rest of the
    /// tables has the first one.
    #[schemars(extend("uniqueItems" = true))]
    pub more_seeds: Vec<u64>,
    /// Select on the first test rows, as the authors do (D7).
    pub select_on_test: bool,
    /// Put a second BOS in front of each training prompt (where the tokenizer has one), as the
    /// authors do (D8). It shifts the label mask by one, so that the prompt's last token is learnt
    /// too.
    pub faithful_bos: bool,
    /// Tune the model to say what the causal features do not: each target weighs as much as they
    /// miss its label by, and the model's log odds are added to theirs. Beyond the papers; needs
    /// `collab.wording`.
    pub residual: bool,
    /// Validation rows that early stop looks at; 0 means all of `rows.valid`.
    #[schemars(range(max = 1_000_000_000))]
    pub valid_rows: usize,
    /// Rank, rate, schedule, batch.
    pub lora: crate::tune::LoraSettings,
}

impl Default for Tune {
    fn default() -> Self {
        use crate::retrieval::Template::{High, Sequential, Simple};
        Self {
            templates: vec![High, Sequential, Simple],
            targets_per_history: 1,
            more_seeds: Vec::new(),
            select_on_test: false,
            faithful_bos: false,
            residual: false,
            valid_rows: 0,
            lora: crate::tune::LoraSettings::default(),
        }
    }
}

/// Histories of the papers' tables that the ablation table can have besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoreHistory {
    /// Hybrid-Score: by text and LightGCN, the two similarities averaged (`mix2`), shown as the
    /// recipe shows.
    HybridScore,
    /// ReLLa: by text, most similar first. With `tune.templates` of three renderings its model is
    /// tuned on the mixed set, as published.
    Rella,
}

/// Yes/No scoring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Predict {
    /// How the two logits become a probability; `double_softmax` is the authors' (D4).
    pub score: Score,
    /// The word that says yes; one token of the model's tokenizer.
    #[schemars(length(min = 1))]
    pub yes: String,
    /// The word that says no; one token of the model's tokenizer.
    #[schemars(length(min = 1))]
    pub no: String,
    /// System message in scoring. Not set: that of tuning (`prompt.system`). The authors of
    /// RALLRec+ leave it empty, also for the tuned model, which was tuned with one (D8).
    pub system: Option<String>,
    /// Templates (see `retrieve.template`) by which the tuned model sees each row once more. Every
    /// one is one more run of the tuned model in the merge. The rest of the tables has the recipe's
    /// own template.
    #[schemars(extend("uniqueItems" = true))]
    pub renderings: Vec<crate::retrieval::Template>,
    /// Further rows of the ablation table, as the papers' tables have them.
    #[schemars(extend("uniqueItems" = true))]
    pub more_histories: Vec<MoreHistory>,
    /// Test rows in the ablation table (no retrieval, text, collaborative, mix, mix3); 0 means all.
    #[schemars(range(max = 1_000_000_000))]
    pub ablation_rows: usize,
    /// Test rows that the untuned model scores; 0 means all.
    #[schemars(range(max = 1_000_000_000))]
    pub zero_shot_rows: usize,
}

impl Default for Predict {
    fn default() -> Self {
        Self {
            score: Score::TwoWay,
            yes: "Yes".into(),
            no: "No".into(),
            system: None,
            renderings: Vec::new(),
            more_histories: Vec::new(),
            ablation_rows: 0,
            zero_shot_rows: 0,
        }
    }
}

impl Checked for Predict {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        faults.unless(self.yes != self.no, "no", "it is the same word as `yes`", "choose two words, e.g. Yes and No");
        faults
    }
}

/// What a reasoning model was tuned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TunedBy {
    /// It is as published.
    #[default]
    Nothing,
    /// Yes and No of the tuning rows: it reasons with the tuned model's adapter.
    Answer,
    /// Its own thoughts about the tuning rows, those that lead to the right answer.
    Reward,
}

/// Reasoning samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reason {
    /// What the reasoning model was tuned on: nothing, the answers alone (the adapter of `tune`;
    /// `model.reasoning` stays empty), or by reward on its own thoughts about the tuning rows: of
    /// each row the best of `samples`, if it leads to the right answer. The latter by the settings
    /// of `tune.lora`.
    pub tuned_by: TunedBy,
    /// Samples of each prompt, S. The authors take 16 without and 6 with the hint.
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: usize,
    /// Put the tuned model's opinion into the prompt (knowledge hint).
    pub hint: bool,
    /// Sampling temperature; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f32,
    /// Nucleus: sample from the smallest set of tokens that has this probability; 1 keeps all.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
    /// Sample from the so many likeliest tokens; 0 keeps all.
    #[schemars(range(max = 10_000_000))]
    pub top_k: usize,
    /// Most new tokens of one sample.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: usize,
    /// Validation rows that are reasoned about (the merge is chosen on them); 0 means all.
    #[schemars(range(max = 1_000_000_000))]
    pub valid_rows: usize,
    /// Test rows that are reasoned about; 0 means all.
    #[schemars(range(max = 1_000_000_000))]
    pub test_rows: usize,
    /// Stop sampling a row once the standard error of the mean of its samples' P(Yes) is at most
    /// this; 0 takes all samples of every row. What a row's samples are does not change, only how
    /// many there are.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub adaptive: f64,
    /// With `adaptive`: samples that a row has at least, and after how many more it is looked at
    /// again.
    #[schemars(range(min = 2, max = 10_000))]
    pub adaptive_step: usize,
    /// End a thought at the first Yes or No in it (`predict.yes`, `predict.no`, as they are
    /// written), instead of where the model ends it.
    pub stop_at_answer: bool,
    /// Seed of the tokens of the samples. Not set: the recipe's `seed`.
    pub seed: u64,
    /// How the reasoning model is prompted.
    pub prompt: ReasoningSettings,
    /// How the hint is worded.
    pub certainty: crate::text::hint::HintSettings,
    /// What counts as yes or no in an answer in words.
    pub matching: crate::text::answer::Match,
    /// Reason about the test rows once more without the hint, for a row of the table that shows
    /// what the hint adds.
    pub ablation: bool,
    /// Reason about the test rows once more with the newest items of the history instead of
    /// retrieved ones, without the hint: a row of the table that shows what retrieval adds to the
    /// reasoning model. It stands beside the row without the hint (`ablation`).
    pub without_retrieval: bool,
}

impl Default for Reason {
    fn default() -> Self {
        Self {
            tuned_by: TunedBy::Nothing,
            samples: 6,
            hint: true,
            temperature: 0.6,
            top_p: 1.0,
            top_k: 0,
            max_tokens: 4800,
            valid_rows: 0,
            test_rows: 0,
            adaptive: 0.0,
            adaptive_step: 2,
            stop_at_answer: false,
            seed: SEED,
            prompt: ReasoningSettings::default(),
            certainty: Default::default(),
            matching: Default::default(),
            ablation: false,
            without_retrieval: false,
        }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "run".into(),
            seed: SEED,
            seeds: Vec::new(),
            threads: 0,
            device: Choice::Auto,
            paper: false,
            faithful: false,
            data: Default::default(),
            rows: Default::default(),
            model: Default::default(),
            describe: Default::default(),
            embed: Default::default(),
            graph: Default::default(),
            recommend: Default::default(),
            align: Default::default(),
            retrieve: Default::default(),
            prompt: Default::default(),
            collab: Default::default(),
            soft: Default::default(),
            tune: Default::default(),
            predict: Default::default(),
            experts: Default::default(),
            reason: Default::default(),
            merge: Default::default(),
            evaluate: Default::default(),
        }
    }
}
