//! The recipe's sections. Those of a module of its own (data, alignment, retrieval, prompt, LoRA, merge) are declared
//! there; these are the ones that tie modules together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::GraphEdges;
use crate::device::Choice;
use crate::error::{Error, Result};
use crate::eval::Score;
use crate::models::decoder::Arithmetic;
use crate::tensor::Dtype;
use crate::text::item_text::TextSource;
use crate::text::prompts::{ReasoningSettings, ThinkTag};
use crate::text::ratings::Wording;

/// A whole experiment: data, models, method, evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the run; the default run folder is runs/NAME.
    pub name: String,
    /// Seed of everything that has no seed of its own.
    pub seed: u64,
    /// Worker threads; 0 = one for each core.
    pub threads: usize,
    /// Where operators run.
    pub device: Choice,
    /// Reproduce the authors' published code: turns every reproducible defect switch on (see docs/method-notes.md).
    pub faithful: bool,
    /// Raw files, filters, labels, histories, split.
    pub data: crate::data::Settings,
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
    /// Contrastive alignment of text and collaborative embeddings.
    pub align: crate::models::projector::Settings,
    /// Embedding mixture, retrieval from the user's history, rerank.
    pub retrieve: crate::retrieval::Settings,
    /// What the language model reads.
    pub prompt: crate::text::prompts::Settings,
    /// Causal features of ratings and graph, in words, an option beyond the papers; fitted on training rows only.
    pub facts: crate::collab::CollabSettings,
    /// Embeddings as soft prompt tokens of the tuned model, an option beyond the papers; off unless `source` is set.
    pub soft: crate::models::soft_prompt::Settings,
    /// LoRA tuning.
    pub tune: Tune,
    /// Yes/No scoring.
    pub predict: Predict,
    /// Reasoning samples.
    pub reason: Reason,
    /// Consistency-based merge.
    pub merge: crate::merge::Settings,
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

/// Which samples are tuned on, chosen on, and reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rows {
    /// Training histories for tuning; each carries `tune.targets_per_history` targets. The papers draw 8,192 rows and
    /// tune on the first 1,024.
    pub tune: usize,
    /// Validation rows: early stop, merge constants.
    pub valid: usize,
    /// Test rows in the tables. The papers score the first 10,000.
    pub test: usize,
    /// How validation and test rows are taken.
    pub choice: RowChoice,
    /// Rows are taken from the first this many of the part; 0 = the whole part.
    pub pool: usize,
}

impl Default for Rows {
    fn default() -> Self {
        Self { tune: 1024, valid: 1000, test: 10_000, choice: RowChoice::First, pool: 10_000 }
    }
}

/// The language models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Folder, GGUF file, a name known to `rallrec model pull`, or `builtin` for the demo's tiny model. Writes the
    /// descriptions, embeds, is tuned.
    pub path: String,
    /// Reasoning model; empty = the same model, untuned.
    pub reasoning: String,
    /// Storage of the weights in memory; not set = as stored, quantised files too. The kernels of a GPU keep weights,
    /// activations, keys and values as bf16 where this is bf16, set or stored, and as f32 otherwise.
    pub dtype: Option<Dtype>,
    /// How products with the weights are done on the CPU where nothing is learnt (`embed`, `predict`, `reason`, `describe`): in f32,
    /// or in 8 bits. Tuning and the kernels of a GPU do not change.
    pub arithmetic: Arithmetic,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { path: "smollm2-135m".into(), reasoning: String::new(), dtype: None, arithmetic: Arithmetic::F32 }
    }
}

/// Where item descriptions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DescribeSource {
    /// Written by the model (the papers' way).
    #[default]
    Model,
    /// Read from `data.descriptions`; the built-in data set brings its own.
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
    /// Longest description kept, in words; 0 = no limit.
    pub max_words: usize,
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus: sample from the smallest set of tokens with this probability.
    pub top_p: f64,
    /// Fewest new tokens.
    pub min_tokens: usize,
    /// Most new tokens.
    pub max_tokens: usize,
}

impl Default for Describe {
    fn default() -> Self {
        Self {
            source: DescribeSource::Model,
            max_words: 0,
            temperature: 0.8,
            top_p: 0.9,
            min_tokens: 10,
            max_tokens: 1024,
        }
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
    /// Which text: the description, the templated text, or both embeddings side by side (the paper's way).
    pub source: TextSource,
    /// How states become one vector.
    pub pooling: Pooling,
    /// Longest text in tokens of the model's tokenizer, a BOS included; the rest is cut off.
    pub max_tokens: usize,
    /// The same for descriptions alone, where they are to be shorter than other texts; 0 = `max_tokens` holds.
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
    /// Which interactions are edges. `leave_one_out` is the authors' graph and contains test interactions (D5).
    pub edges: GraphEdges,
    /// The model and its training.
    pub lightgcn: crate::models::lightgcn::Settings,
}

/// LoRA tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tune {
    /// Renderings of each tuning row: `high`, `sequential`, `simple`, ... The papers' mixed set is the first three.
    pub renderings: Vec<crate::retrieval::Template>,
    /// Targets that share one history: their histories are frozen at the earliest of them. 1 = the papers' way. More
    /// targets learn from the same tokens, since the history is read once.
    pub targets_per_history: usize,
    /// Select on the first test rows, as the authors do (D7).
    pub select_on_test: bool,
    /// A second BOS in front of each training prompt (where the tokenizer has one), which shifts the label mask by one,
    /// so that the prompt's last token is learnt too, as with the authors (D8).
    pub faithful_bos: bool,
    /// Validation rows looked at for early stop (0 = all of `rows.valid`).
    pub valid_rows: usize,
    /// Rank, rate, schedule, batch.
    pub lora: crate::tune::Settings,
}

impl Default for Tune {
    fn default() -> Self {
        use crate::retrieval::Template::{High, Sequential, Simple};
        Self {
            renderings: vec![High, Sequential, Simple],
            targets_per_history: 1,
            select_on_test: false,
            faithful_bos: false,
            valid_rows: 0,
            lora: crate::tune::Settings::default(),
        }
    }
}

/// Yes/No scoring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Predict {
    /// How two logits become a probability; `double_softmax` is the authors' (D4).
    pub score: Score,
    /// The answer words; each must be one token.
    pub yes: String,
    /// See `yes`.
    pub no: String,
    /// System message in scoring; not set = that of tuning (`prompt.system`). The authors of RALLRec+ leave it empty,
    /// also for the tuned model, which was tuned with one (D8).
    pub system: Option<String>,
    /// Test rows for the rows of the ablation table (no retrieval, text, collaborative, mix, mix3); 0 = all.
    pub ablation_rows: usize,
    /// Test rows for the untuned model; 0 = all.
    pub zero_shot_rows: usize,
}

impl Default for Predict {
    fn default() -> Self {
        Self {
            score: Score::TwoWay,
            yes: "Yes".into(),
            no: "No".into(),
            system: None,
            ablation_rows: 0,
            zero_shot_rows: 0,
        }
    }
}

/// Reasoning samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reason {
    /// Samples per prompt, S. The authors take 16 without and 6 with the hint.
    pub samples: usize,
    /// Put the tuned model's opinion into the prompt (knowledge hint).
    pub hint: bool,
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus; 1 = everything.
    pub top_p: f64,
    /// Only the k likeliest tokens; 0 = all.
    pub top_k: usize,
    /// Most new tokens of one sample.
    pub max_tokens: usize,
    /// Validation rows that are reasoned about (the merge is chosen on them); 0 = all.
    pub valid_rows: usize,
    /// Test rows that are reasoned about; 0 = all.
    pub test_rows: usize,
    /// How the reasoning model is prompted.
    pub prompt: ReasoningSettings,
    /// How sure the tuned model must be for the stronger wordings of the hint.
    pub certainty: crate::text::hint::Settings,
    /// What counts as yes or no in a hard answer.
    pub matching: crate::text::answer::Match,
    /// Reason about the test rows once more without the hint, for the table: what does the hint add?
    pub ablation: bool,
}

impl Default for Reason {
    fn default() -> Self {
        Self {
            samples: 6,
            hint: true,
            temperature: 0.6,
            top_p: 1.0,
            top_k: 0,
            max_tokens: 4800,
            valid_rows: 0,
            test_rows: 0,
            prompt: ReasoningSettings::default(),
            certainty: Default::default(),
            matching: Default::default(),
            ablation: false,
        }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "run".into(),
            seed: 42,
            threads: 0,
            device: Choice::Auto,
            faithful: false,
            data: Default::default(),
            rows: Default::default(),
            model: Default::default(),
            describe: Default::default(),
            embed: Default::default(),
            graph: Default::default(),
            align: Default::default(),
            retrieve: Default::default(),
            prompt: Default::default(),
            facts: Default::default(),
            soft: Default::default(),
            tune: Default::default(),
            predict: Default::default(),
            reason: Default::default(),
            merge: Default::default(),
            evaluate: Default::default(),
        }
    }
}

impl Recipe {
    /// Applies `faithful` and checks what single fields cannot.
    pub fn resolve(mut self) -> Result<Self> {
        if self.faithful {
            self.data.make_faithful();
            self.graph.edges = GraphEdges::LeaveOneOut;
            self.predict.score = Score::DoubleSoftmax;
            self.predict.system = Some(String::new());
            self.tune.select_on_test = true;
            self.tune.faithful_bos = true;
            self.reason.prompt.think_tag = ThinkTag::User;
            self.retrieve = self.retrieve.faithful(self.data.kind == crate::data::Kind::MovieLens1m);
            self.merge.tuned_mean = crate::merge::TunedMean::First;
            self.tune.lora.train_end_of_turn = false;
        }
        let bad = |key: &str, what: &str| Err(Error::usage(key, what).next("mend the recipe, or use --set"));
        if self.name.is_empty() || self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            return bad("name", "must be a plain folder name");
        }
        if self.describe.source == DescribeSource::File
            && self.data.descriptions.is_none()
            && self.data.kind != crate::data::Kind::Synthetic
        {
            return bad("data.descriptions", "describe.source = \"file\" needs a file of descriptions");
        }
        self.facts.check()?;
        if self.merge.experts.contains(&crate::merge::Expert::Collaborative) && self.facts.wording == Wording::None {
            return bad("merge.experts", "`collaborative` needs facts: set facts.knowledge, e.g. \"silent\"");
        }
        self.soft.check()?;
        if self.reason.samples == 0 {
            return bad("reason.samples", "must be at least 1");
        }
        if self.tune.targets_per_history == 0 || self.tune.renderings.is_empty() {
            return bad("tune", "targets_per_history must be at least 1, and renderings must not be empty");
        }
        if self.rows.valid == 0 || self.rows.test == 0 {
            return bad("rows", "valid and test must be at least 1: every choice is made on validation rows");
        }
        Ok(self)
    }
}
