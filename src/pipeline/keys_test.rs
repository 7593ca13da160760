//! Every key of a recipe, changed to another legal value, does again exactly the stages that depend
//! on it.
//!
//! The data stage is the real one, on a few invented ratings; every other stage is a stand-in whose
//! result is a hash of all that it sees and reads. So a stage is done again here whenever its key
//! changes, and what it makes changes with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rallrec_events::StageId::{self, *};
use serde_json::Value;

use super::artifact::Origin;
use super::progress::Verbosity;
use super::run::{Run, Span};
use super::stages::data::{samples_settings, tables_settings};
use super::stages::{Chain, Reached, Unseen};
use crate::config::{self, Recipe};
use crate::content::Content;
use crate::device::Device;
use crate::error::{Error, Result};

/// What the changes start from.
const BASE: &str = r#"
name = "keys"
[data.synthetic]
users = 40
items = 40
ratings = 700
[rows]
tune = 6
valid = 10
test = 12
choice = "first"
pool = 0
[model]
path = "builtin"
[collab]
wording = "verdict"
[tune]
templates = ["rerank"]
targets_per_history = 2
valid_rows = 6
[predict]
ablation_rows = 4
zero_shot_rows = 5
[reason]
valid_rows = 4
test_rows = 5
[merge.sweep]
alpha = [0.1, 1.0]
"#;

/// The base with other keys, where the changed key acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Base {
    /// As it is.
    Plain,
    /// With these.
    With(&'static [&'static str]),
    /// With these, and only the settings of the tables are looked at: there are no such files.
    Tables(&'static [&'static str]),
}
use Base::{Plain, Tables, With};

const SILENT: Base = With(&[
    "collab.wording=silent",
    "collab.fold_in.sources=['ratings', 'lightgcn']",
    "merge.experts=['tuned', 'collaborative']",
]);
const SPOKEN: Base = With(&["collab.fold_in.sources=['ratings', 'lightgcn']"]);
const SOFT: Base = With(&["soft.source=ssl"]);
const SCORE: Base = With(&["retrieve.rule=score"]);
const PAPER_RULE: Base = With(&["retrieve.rule=paper"]);
const BORROWS: Base = With(&["retrieve.similar_user=add"]);
const MIX2: Base = With(&["retrieve.embedding=mix2"]);
const TXT: Base = With(&["retrieve.embedding=txt"]);
/// Nothing that is tuned on depends on a text's embedding.
const BY_GRAPH: Base = With(&["retrieve.embedding=colla", "describe.source=none"]);
const TABLE: Base = Tables(&["data.kind=table", "data.path=somewhere", "data.table.items=items.csv"]);

/// The rows of queries count, and not how they were asked for.
const QUERY: Base =
    Tables(&["data.kind=table", "data.table.database=shop.db", "data.table.query='SELECT * FROM ratings'"]);

type Stages = &'static [StageId];

/// Other tables: everything.
const ALL: Stages = &StageId::ALL;
/// Other samples of the same items.
const SAMPLES: Stages = &[Data, Graph, Align, Collab, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
const DESCRIBE: Stages = &[Describe, Embed, Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
const EMBED: Stages = &[Embed, Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
const GRAPH: Stages = &[Graph, Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
const ALIGN: Stages = &[Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
/// Features that prompts put into words.
const COLLAB: Stages = &[Collab, Prompts, Tune, Predict, Reason, Merge, Evaluate];
/// Features that only the tables and the merge look at.
const UNSAID: Stages = &[Collab, Merge, Evaluate];
const RETRIEVE: Stages = &[Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
const PROMPTS: Stages = &[Prompts, Tune, Predict, Reason, Merge, Evaluate];
const TUNE: Stages = &[Tune, Predict, Reason, Merge, Evaluate];
const PREDICT: Stages = &[Predict, Reason, Merge, Evaluate];
const REASON: Stages = &[Reason, Merge, Evaluate];
const MERGE: Stages = &[Merge, Evaluate];
/// Other rows are tuned on, or watched while tuning.
const TUNED: Stages = &[Collab, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate];
/// Other rows are scored: nothing is tuned again.
const SCORED: Stages = &[Collab, Retrieve, Prompts, Predict, Reason, Merge, Evaluate];
const NONE: Stages = &[];

/// (key, another value, where it acts, what is done again). A key may stand here more than once.
const CASES: &[(&str, &str, Base, Stages)] = &[
    ("name", "other", Plain, NONE),
    ("seed", "7", Plain, ALL),
    ("seeds", "[1, 2]", Plain, NONE),
    ("threads", "1", Plain, NONE),
    ("device", "cpu", Plain, NONE),
    ("paper", "true", Plain, EMBED),
    ("faithful", "true", Plain, SAMPLES),
    // Data: what concerns the items alone, and what concerns the samples.
    ("data.kind", "amazon-csv", Tables(&["data.path=somewhere"]), &[Data]),
    ("data.path", "elsewhere", TABLE, NONE),
    ("data.category", "Books", Tables(&["data.kind=amazon", "data.path=somewhere"]), &[Data]),
    ("data.min_history", "6", Plain, SAMPLES),
    ("data.threshold", "2.5", Plain, SAMPLES),
    ("data.implicit", "drop", Tables(&["data.kind=book-crossing", "data.path=somewhere"]), &[Data]),
    ("data.implicit", "drop", Plain, NONE),
    ("data.damaged", "skip", TABLE, &[Data]),
    ("data.damaged_limit", "0.2", TABLE, &[Data]),
    ("data.targets", "last", Plain, SAMPLES),
    // The invented ratings have times and no repeats: the samples come out as they were.
    ("data.shuffle", "python", Plain, &[Data]),
    ("data.seed", "7", Plain, &[Data]),
    ("data.repeats", "keep", Plain, &[Data]),
    ("data.core.known", "title", Plain, &[Data]),
    ("data.core.known_after", "true", Plain, &[Data]),
    ("data.core.user_min", "15", Plain, ALL),
    ("data.core.user_max", "20", Plain, ALL),
    ("data.core.item_min", "16", Plain, ALL),
    ("data.core.item_max", "20", Plain, ALL),
    ("data.core.items_only", "true", Plain, &[Data]),
    ("data.core.top_items", "30", Plain, ALL),
    ("data.core.last_user_min", "15", Plain, ALL),
    ("data.split.by", "user_time", Plain, SAMPLES),
    ("data.split.train", "0.7", Plain, SAMPLES),
    ("data.split.valid", "0.12", Plain, SAMPLES),
    ("data.split.last", "2", With(&["data.split.by=last"]), SAMPLES),
    ("data.split.last", "2", Plain, &[Data]),
    ("data.table.database", "other.db", QUERY, NONE),
    ("data.table.query", "SELECT * FROM liked", QUERY, NONE),
    ("data.table.item_query", "SELECT * FROM songs", QUERY, NONE),
    ("data.table.user_query", "SELECT * FROM people", QUERY, NONE),
    ("data.table.ratings", "other.csv", TABLE, &[Data]),
    ("data.table.user", "who", TABLE, &[Data]),
    ("data.table.item", "what", TABLE, &[Data]),
    ("data.table.test", "test.csv", TABLE, &[Data]),
    (
        "data.table.valid",
        "valid.csv",
        Tables(&["data.kind=table", "data.path=somewhere", "data.table.test=test.csv"]),
        &[Data],
    ),
    ("data.table.part", "part", TABLE, &[Data]),
    ("data.table.rating", "stars", TABLE, &[Data]),
    ("data.table.event", "kind", TABLE, &[Data]),
    (
        "data.table.weights",
        "['view = 1']",
        Tables(&["data.kind=table", "data.path=somewhere", "data.table.event=kind"]),
        &[Data],
    ),
    ("data.table.count", "plays", TABLE, &[Data]),
    ("data.table.time", "when", TABLE, &[Data]),
    ("data.table.time_format", "seconds", TABLE, &[Data]),
    ("data.table.scale", "[1.0, 9.0]", TABLE, &[Data]),
    ("data.table.noun", "song", TABLE, &[Data]),
    ("data.table.separator", ";", TABLE, &[Data]),
    ("data.table.escape", "'\\'", TABLE, &[Data]),
    ("data.table.quote", "", TABLE, &[Data]),
    ("data.table.comment", "%", TABLE, &[Data]),
    ("data.table.header", "false", TABLE, &[Data]),
    ("data.table.columns", "['user', 'item', 'rating', 'time']", TABLE, &[Data]),
    ("data.table.item_columns", "['item', 'title']", TABLE, &[Data]),
    ("data.table.user_columns", "['user', 'town']", TABLE, &[Data]),
    ("data.table.encoding", "latin1", TABLE, &[Data]),
    ("data.table.missing", "['-']", TABLE, &[Data]),
    ("data.table.rating_words", "['yes = 5']", TABLE, &[Data]),
    ("data.table.items", "songs.csv", TABLE, &[Data]),
    ("data.table.item_id", "id", TABLE, &[Data]),
    ("data.table.title", "{{ name }}", TABLE, &[Data]),
    ("data.table.genres", "tags", TABLE, &[Data]),
    ("data.table.genre_separator", "/", TABLE, &[Data]),
    ("data.table.item_text", "A song.", TABLE, &[Data]),
    ("data.table.users", "users.csv", TABLE, &[Data]),
    ("data.table.user_id", "id", TABLE, &[Data]),
    ("data.table.user_text", "A listener.", TABLE, &[Data]),
    ("data.table.user_text", "A listener.", Plain, NONE),
    ("data.synthetic.seed", "7", Plain, ALL),
    ("data.synthetic.users", "41", Plain, ALL),
    ("data.synthetic.items", "41", Plain, ALL),
    ("data.synthetic.ratings", "710", Plain, ALL),
    ("data.synthetic.noise", "0.5", Plain, ALL),
    ("data.synthetic.drift", "0.4", Plain, ALL),
    ("data.synthetic.cold", "0.2", Plain, ALL),
    ("data.synthetic.repeats", "0.1", Plain, ALL),
    // Rows: scoring more of them never tunes again.
    ("rows.tune", "7", Plain, TUNED),
    ("rows.valid", "11", Plain, SCORED),
    ("rows.test", "13", Plain, SCORED),
    ("rows.choice", "random", Plain, TUNED),
    ("rows.pool", "9", Plain, SCORED),
    ("rows.seed", "7", Plain, TUNED),
    // Models.
    ("model.path", "MODEL", Plain, DESCRIBE),
    ("model.reasoning", "MODEL", Plain, REASON),
    ("model.embedding", "MODEL", Plain, EMBED),
    ("model.dtype", "f32", Plain, DESCRIBE),
    ("model.dtype", "f32", BY_GRAPH, &[Embed, Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate]),
    ("model.arithmetic", "int8", Plain, DESCRIBE),
    ("model.arithmetic", "bf16", Plain, DESCRIBE),
    ("model.arithmetic", "int8", BY_GRAPH, &[Embed, Align, Retrieve, Prompts, Predict, Reason, Merge, Evaluate]),
    ("model.arithmetic", "bf16", BY_GRAPH, &[Embed, Align, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate]),
    ("describe.source", "none", Plain, DESCRIBE),
    ("describe.file", "FILE", With(&["describe.source=file"]), DESCRIBE),
    ("describe.file", "FILE", Plain, NONE),
    ("describe.words", "5", Plain, DESCRIBE),
    ("describe.words", "5", With(&["describe.source=file"]), DESCRIBE),
    ("describe.temperature", "0.5", Plain, DESCRIBE),
    ("describe.temperature", "0.5", With(&["describe.source=file"]), NONE),
    ("describe.top_p", "0.5", Plain, DESCRIBE),
    ("describe.min_tokens", "5", Plain, DESCRIBE),
    ("describe.max_tokens", "50", Plain, DESCRIBE),
    ("describe.seed", "7", Plain, DESCRIBE),
    ("describe.noise", "0.3", Plain, DESCRIBE),
    ("describe.swapped", "0.3", Plain, DESCRIBE),
    ("describe.seed", "7", With(&["describe.source=file", "describe.noise=0.3"]), DESCRIBE),
    ("embed.source", "description", Plain, EMBED),
    ("embed.source", "title_description", Plain, EMBED),
    ("embed.pooling", "last", Plain, EMBED),
    ("embed.max_tokens", "50", Plain, EMBED),
    ("embed.description_tokens", "50", Plain, EMBED),
    ("embed.description_tokens", "50", With(&["embed.source=plain"]), NONE),
    ("graph.edges", "leave_one_out", Plain, GRAPH),
    ("graph.lightgcn.dim", "16", Plain, GRAPH),
    (
        "graph.lightgcn.dim",
        "16",
        SPOKEN,
        &[Graph, Align, Collab, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate],
    ),
    ("graph.lightgcn.layers", "2", Plain, GRAPH),
    ("graph.lightgcn.learning_rate", "0.01", Plain, GRAPH),
    ("graph.lightgcn.lambda", "0.01", Plain, GRAPH),
    ("graph.lightgcn.batch", "100", Plain, GRAPH),
    ("graph.lightgcn.negative_candidates", "2", Plain, GRAPH),
    ("graph.lightgcn.draw", "users", Plain, GRAPH),
    ("graph.lightgcn.schedule", "linear", Plain, GRAPH),
    ("graph.lightgcn.epochs", "7", Plain, GRAPH),
    ("graph.lightgcn.early_stop", "7", Plain, GRAPH),
    ("graph.lightgcn.eval_every", "7", Plain, GRAPH),
    ("graph.lightgcn.init_std", "0.2", Plain, GRAPH),
    ("graph.lightgcn.seed", "7", Plain, GRAPH),
    ("graph.lightgcn.precision", "bf16", Plain, GRAPH),
    // Rankers are judged and fitted; nothing else is made of them.
    ("recommend.ease_ridge", "200.0", Plain, &[Graph]),
    ("recommend.ease_memory", "512", Plain, &[Graph]),
    ("recommend.neighbours", "50", Plain, &[Graph]),
    ("recommend.half_life", "0.2", Plain, &[Graph]),
    ("recommend.factors.dim", "16", Plain, &[Graph]),
    ("recommend.factors.ridge", "0.1", Plain, &[Graph]),
    ("recommend.factors.unseen_weight", "0.2", Plain, &[Graph]),
    ("recommend.factors.sweeps", "4", Plain, &[Graph]),
    ("recommend.blend_users", "100", Plain, &[Graph]),
    ("recommend.fit", "all", Plain, &[Graph]),
    ("recommend.fit", "training", Plain, NONE),
    ("recommend.candidates", "20", Plain, NONE),
    ("recommend.model_seconds", "5.0", Plain, NONE),
    ("align.similarity", "inner_product", Plain, ALIGN),
    ("align.tau", "0.2", Plain, ALIGN),
    ("align.learn_tau", "true", Plain, ALIGN),
    ("align.projection", "attention", Plain, ALIGN),
    ("align.tokens", "7", With(&["align.projection=attention"]), ALIGN),
    ("align.tokens", "7", Plain, NONE),
    ("align.hidden", "7", Plain, ALIGN),
    ("align.activation", "silu", Plain, ALIGN),
    ("align.batch", "100", Plain, ALIGN),
    ("align.epochs", "7", Plain, ALIGN),
    ("align.learning_rate", "0.01", Plain, ALIGN),
    ("align.freeze_collaborative", "false", Plain, ALIGN),
    ("align.text_pca", "7", Plain, ALIGN),
    ("align.half", "true", Plain, ALIGN),
    ("align.held_out", "0.2", Plain, ALIGN),
    ("align.early_stop", "7", Plain, ALIGN),
    ("align.seed", "7", Plain, ALIGN),
    ("align.seed", "7", With(&["retrieve.embedding=mix"]), &[Align, Retrieve, Prompts, Predict, Evaluate]),
    ("retrieve.k", "7", Plain, RETRIEVE),
    ("retrieve.embedding", "mix", Plain, RETRIEVE),
    // The embedding of the plain texts alone is made where it is asked for.
    ("retrieve.embedding", "txt", Plain, &[Embed, Retrieve, Prompts, Tune, Predict, Reason, Merge, Evaluate]),
    ("retrieve.scale", "unit_rows", Plain, RETRIEVE),
    ("retrieve.pca", "7", Plain, RETRIEVE),
    ("retrieve.pca_plain", "true", TXT, RETRIEVE),
    ("retrieve.pca_plain", "true", Plain, NONE),
    ("retrieve.similarity", "inner_product", Plain, RETRIEVE),
    ("retrieve.softmax_over", "history", MIX2, RETRIEVE),
    ("retrieve.softmax_over", "history", Plain, NONE),
    ("retrieve.similar_user", "add", Plain, RETRIEVE),
    ("retrieve.similar_items", "2", BORROWS, RETRIEVE),
    ("retrieve.similar_items", "2", Plain, NONE),
    ("retrieve.template", "high", Plain, RETRIEVE),
    ("retrieve.rule", "amazon", Plain, RETRIEVE),
    ("retrieve.rule", "learned", Plain, RETRIEVE),
    ("retrieve.gamma", "0.4", SCORE, RETRIEVE),
    ("retrieve.gamma", "0.4", PAPER_RULE, RETRIEVE),
    ("retrieve.gamma", "0.4", Plain, NONE),
    ("retrieve.beta", "0.4", SCORE, RETRIEVE),
    ("retrieve.beta", "0.4", PAPER_RULE, RETRIEVE),
    ("retrieve.beta", "0.4", Plain, NONE),
    ("retrieve.faithful_off_by_one", "true", Plain, RETRIEVE),
    ("retrieve.faithful_target_in_history", "true", Plain, RETRIEVE),
    ("retrieve.faithful_walk_back", "true", Plain, RETRIEVE),
    ("prompt.style", "short", Plain, PROMPTS),
    ("prompt.list", "lines", Plain, PROMPTS),
    ("prompt.file", "FILE", Plain, PROMPTS),
    ("prompt.numbered", "true", Plain, PROMPTS),
    ("prompt.threshold_note", "false", Plain, PROMPTS),
    ("prompt.profile", "false", Plain, PROMPTS),
    ("prompt.placement", "first", Plain, PROMPTS),
    ("prompt.system", "Be kind.", Plain, PROMPTS),
    ("prompt.system_turn", "false", Plain, PROMPTS),
    // Chat templates print it, also where descriptions are written.
    ("prompt.date", "2024-05-17", Plain, DESCRIBE),
    ("prompt.date", "2024-05-17", With(&["describe.source=file"]), PROMPTS),
    // A title may spell a control token wherever a model reads it.
    ("prompt.control_tokens_in_data", "true", Plain, DESCRIBE),
    ("prompt.faithful_order", "true", Plain, PROMPTS),
    ("collab.wording", "item", Plain, PROMPTS),
    ("collab.wording", "none", Plain, COLLAB),
    ("collab.folds", "4", Plain, COLLAB),
    ("collab.folds", "4", SILENT, UNSAID),
    ("collab.folds", "4", With(&["collab.wording=none"]), NONE),
    ("collab.item_shrinkage", "7.0", Plain, COLLAB),
    ("collab.item_shrinkage", "7.0", SILENT, UNSAID),
    ("collab.history_shrinkage", "7.0", Plain, COLLAB),
    ("collab.history_shrinkage", "7.0", SILENT, UNSAID),
    ("collab.affinity", "true", Plain, COLLAB),
    ("collab.affinity", "true", SILENT, UNSAID),
    ("collab.content", "tfidf", Plain, COLLAB),
    ("collab.content", "embedding", SILENT, UNSAID),
    ("collab.content", "both", SILENT, UNSAID),
    ("collab.content_ridge", "7.0", With(&["collab.content=tfidf"]), COLLAB),
    ("collab.content_ridge", "7.0", Plain, NONE),
    ("collab.seed", "7", Plain, COLLAB),
    ("collab.seed", "7", SILENT, UNSAID),
    ("collab.fold_in.sources", "['ratings']", Plain, COLLAB),
    ("collab.fold_in.sources", "['ratings']", SILENT, UNSAID),
    ("collab.fold_in.lightgcn_ridge", "7.0", SPOKEN, COLLAB),
    ("collab.fold_in.lightgcn_ridge", "7.0", SILENT, UNSAID),
    ("collab.fold_in.lightgcn_ridge", "7.0", Plain, NONE),
    ("collab.fold_in.ratings.dim", "7", SPOKEN, COLLAB),
    ("collab.fold_in.ratings.dim", "7", Plain, NONE),
    ("collab.fold_in.ratings.ridge", "7.0", SPOKEN, COLLAB),
    ("collab.fold_in.ratings.sweeps", "7", SPOKEN, COLLAB),
    ("collab.fold_in.ratings.seed", "7", SPOKEN, COLLAB),
    ("soft.source", "ssl", Plain, PROMPTS),
    ("soft.items", "all", SOFT, PROMPTS),
    ("soft.items", "all", Plain, NONE),
    ("soft.user", "liked", SOFT, PROMPTS),
    ("soft.hidden", "7", SOFT, TUNE),
    ("soft.hidden", "7", Plain, NONE),
    ("soft.activation", "relu", SOFT, TUNE),
    ("soft.learning_rate", "0.01", SOFT, TUNE),
    ("soft.scale", "2.0", SOFT, TUNE),
    ("tune.templates", "['high']", Plain, RETRIEVE),
    ("tune.targets_per_history", "3", Plain, TUNED),
    // The hint and the tables have the first adapter.
    ("tune.more_seeds", "[7]", Plain, &[Tune, Predict, Merge, Evaluate]),
    ("tune.select_on_test", "true", Plain, TUNED),
    ("tune.faithful_bos", "true", Plain, TUNE),
    ("tune.residual", "true", Plain, TUNE),
    ("tune.valid_rows", "7", Plain, TUNED),
    ("tune.lora.rank", "7", Plain, TUNE),
    ("tune.lora.alpha", "7.0", Plain, TUNE),
    ("tune.lora.dropout", "0.1", Plain, TUNE),
    ("tune.lora.targets", "['q_proj']", Plain, TUNE),
    ("tune.lora.first_layer", "1", Plain, TUNE),
    ("tune.lora.learning_rate", "0.01", Plain, TUNE),
    ("tune.lora.warmup_steps", "7", Plain, TUNE),
    ("tune.lora.schedule", "constant", Plain, TUNE),
    ("tune.lora.weight_decay", "0.1", Plain, TUNE),
    ("tune.lora.beta1", "0.8", Plain, TUNE),
    ("tune.lora.beta2", "0.9", Plain, TUNE),
    ("tune.lora.epsilon", "1e-6", Plain, TUNE),
    ("tune.lora.clip", "2.0", Plain, TUNE),
    ("tune.lora.batch", "7", Plain, TUNE),
    ("tune.lora.micro_tokens", "700", Plain, TUNE),
    ("tune.lora.epochs", "7", Plain, TUNE),
    ("tune.lora.max_steps", "7", Plain, TUNE),
    ("tune.lora.eval_steps", "7", Plain, TUNE),
    ("tune.lora.early_stop_patience", "7", Plain, TUNE),
    ("tune.lora.seed", "7", Plain, TUNE),
    ("tune.lora.train_end_of_turn", "false", Plain, TUNE),
    // How often the state is stored decides nothing.
    ("tune.lora.checkpoint_seconds", "7.0", Plain, NONE),
    // The early stop looks at probabilities, so they are the tuning's matter too.
    ("predict.score", "double_softmax", Plain, TUNE),
    ("predict.yes", "yes", Plain, TUNE),
    ("predict.no", "no", Plain, TUNE),
    ("predict.system", "Be kind.", Plain, PREDICT),
    ("predict.renderings", "['high']", Plain, &[Retrieve, Prompts, Predict, Merge, Evaluate]),
    ("predict.more_histories", "['rella']", Plain, &[Retrieve, Prompts, Predict, Evaluate]),
    ("predict.ablation_rows", "5", Plain, &[Retrieve, Prompts, Predict, Evaluate]),
    ("predict.zero_shot_rows", "6", Plain, &[Predict, Evaluate]),
    ("reason.samples", "3", Plain, REASON),
    ("reason.tuned_by", "answer", Plain, REASON),
    ("reason.tuned_by", "reward", Plain, REASON),
    ("reason.hint", "false", Plain, REASON),
    ("reason.temperature", "0.5", Plain, REASON),
    ("reason.top_p", "0.5", Plain, REASON),
    ("reason.top_k", "7", Plain, REASON),
    ("reason.max_tokens", "70", Plain, REASON),
    ("reason.valid_rows", "5", Plain, REASON),
    ("reason.test_rows", "6", Plain, REASON),
    ("reason.adaptive", "0.1", Plain, REASON),
    ("reason.adaptive_step", "3", With(&["reason.adaptive=0.1"]), REASON),
    ("reason.adaptive_step", "3", Plain, NONE),
    ("reason.stop_at_answer", "true", Plain, REASON),
    ("reason.seed", "7", Plain, REASON),
    ("reason.matching", "substring", Plain, REASON),
    ("reason.ablation", "true", Plain, REASON),
    ("reason.without_retrieval", "true", With(&["predict.ablation_rows=0"]), REASON),
    ("reason.prompt.system", "Be kind.", Plain, REASON),
    ("reason.prompt.think_tag", "none", Plain, REASON),
    ("reason.prompt.second_pass", "assistant", Plain, REASON),
    ("reason.prompt.answer_position", "2", Plain, REASON),
    ("reason.certainty.wording", "might", Plain, REASON),
    ("reason.certainty.strong", "0.45", Plain, REASON),
    ("reason.certainty.middle", "0.1", Plain, REASON),
    ("merge.alpha", "0.2", Plain, MERGE),
    ("merge.epsilon", "0.01", Plain, MERGE),
    ("merge.tau_reasoning", "2.0", Plain, MERGE),
    ("merge.tau_tuned", "2.0", Plain, MERGE),
    ("merge.samples", "2", Plain, MERGE),
    ("merge.tuned_mean", "first", Plain, MERGE),
    ("merge.plain_mean", "true", Plain, MERGE),
    ("merge.experts", "['tuned', 'collaborative']", Plain, MERGE),
    ("merge.weights", "[0.0, 1.0]", Plain, MERGE),
    ("merge.sweep.alpha", "[0.2]", Plain, MERGE),
    ("merge.sweep.epsilon", "[0.01]", Plain, MERGE),
    ("merge.sweep.samples", "[1]", Plain, MERGE),
    ("merge.sweep.metric", "auc", Plain, MERGE),
    ("evaluate.bootstrap", "70", Plain, &[Evaluate]),
    ("evaluate.seed", "7", Plain, &[Evaluate]),
    ("evaluate.bins", "7", Plain, &[Evaluate]),
    ("evaluate.window", "7", Plain, &[Evaluate]),
    ("evaluate.reference", "tuned", Plain, &[Evaluate]),
];

/// Keys that say how and where a run works, or where its files lie: nothing of a result depends on
/// them.
const NOTHING: [&str; 12] = [
    "recommend.candidates",
    "recommend.model_seconds",
    "name",
    "seeds",
    "threads",
    "device",
    "data.path",
    "data.table.database",
    "data.table.query",
    "data.table.item_query",
    "data.table.user_query",
    "tune.lora.checkpoint_seconds",
];

fn stand_in(origin: &Origin, folder: &Path) -> Result<()> {
    // The key is a hash of all settings and inputs.
    fs::write(folder.join("seen"), origin.key.to_string()).map_err(|e| Error::io(folder, "write", &e))
}

/// Folders with a model and with descriptions.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("model")).unwrap();
        fs::write(folder.path().join("model/config.json"), "{}").unwrap();
        fs::write(folder.path().join("descriptions.json"), "{}").unwrap();
        Self(folder)
    }

    fn value(&self, value: &str) -> String {
        let at = |name: &str| format!("'{}'", self.0.path().join(name).display());
        match value {
            "MODEL" => at("model"),
            "FILE" => at("descriptions.json"),
            value => value.to_owned(),
        }
    }
}

fn recipe(base: Base, change: Option<(&str, &str)>) -> Recipe {
    let (Plain | With(_) | Tables(_)) = base;
    let others: &[&str] = match base {
        Plain => &[],
        With(others) | Tables(others) => others,
    };
    let mut sets: Vec<String> = others.iter().map(|s| (*s).to_owned()).collect();
    sets.extend(change.map(|(key, value)| format!("{key}={value}")));
    config::parse(BASE, "base", &sets).unwrap_or_else(|e| panic!("{sets:?}: {e}"))
}

/// The stages that are done in `folder` for this recipe.
fn done(folder: &Path, recipe: &Recipe) -> BTreeSet<StageId> {
    let run = Run::open(folder, Span::default(), Verbosity::Quiet).unwrap().with_stand_in(stand_in);
    let reached = Chain::new(&run, recipe, &Device::Cpu).all(&Unseen).unwrap();
    assert!(matches!(reached, Reached::All(_)), "every stage is done");
    let times = run.times();
    assert_eq!(times.len(), StageId::ALL.len(), "every stage is reported once");
    times.iter().filter(|t| !t.reused).map(|t| StageId::named(&t.stage).unwrap()).collect()
}

/// Names of the artifacts in a run folder.
fn artifacts(folder: &Path) -> BTreeSet<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("artifacts")).unwrap().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// Keys of all sections, those without a value too.
fn keys(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    let Value::Object(map) = value else {
        out.insert(path.to_owned());
        return;
    };
    for (name, value) in map {
        keys(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, out);
    }
}

#[test]
fn every_key_has_its_place_in_the_table_and_none_is_dead() {
    let mut all = BTreeSet::new();
    keys(&serde_json::to_value(recipe(Plain, None)).unwrap(), "", &mut all);
    // What is printed is what there is.
    let printed = config::annotated(&recipe(Plain, None)).unwrap();
    for key in &all {
        let name = key.rsplit('.').next().unwrap();
        assert!(printed.contains(&format!("{name} =")), "{key} is not printed");
    }
    let known: BTreeSet<String> = CASES.iter().map(|c| c.0.to_owned()).collect();
    let missing: Vec<_> = all.difference(&known).collect();
    let unknown: Vec<_> = known.difference(&all).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "without a case: {missing:?}; no keys: {unknown:?}");
    for key in &all {
        let acts = CASES.iter().any(|c| c.0 == key && !c.3.is_empty());
        assert_eq!(acts, !NOTHING.contains(&key.as_str()), "{key} does nothing");
    }
}

#[test]
fn explain_names_the_first_stage_that_a_key_acts_on() {
    let keys: BTreeSet<&str> = CASES.iter().map(|c| c.0).collect();
    for key in keys {
        let stages = CASES.iter().filter(|c| c.0 == key).flat_map(|c| c.3).copied();
        assert_eq!(config::explain::first_stage(key), stages.min(), "{key}");
    }
}

#[test]
fn every_key_does_again_exactly_what_depends_on_it() {
    let files = Files::new();
    let mut bases: Vec<Base> = CASES.iter().map(|c| c.2).collect();
    bases.dedup();
    let mut wrong = Vec::new();
    let mut seen: Vec<Base> = Vec::new();
    for base in bases {
        if seen.contains(&base) || matches!(base, Tables(_)) {
            continue;
        }
        seen.push(base);
        let folder = tempfile::tempdir().unwrap();
        done(folder.path(), &recipe(base, None));
        let before = artifacts(folder.path());
        assert!(done(folder.path(), &recipe(base, None)).is_empty(), "{base:?} is reused whole");
        for (key, value, _, stages) in CASES.iter().filter(|c| c.2 == base) {
            let value = files.value(value);
            let changed = recipe(base, Some((key, &value)));
            if changed == recipe(base, None) {
                wrong.push(format!("{key} = {value}: the base's own value"));
                continue;
            }
            let found = done(folder.path(), &changed);
            let expected: BTreeSet<StageId> = stages.iter().copied().collect();
            if found != expected {
                let more: Vec<_> = found.difference(&expected).map(|s| s.name()).collect();
                let fewer: Vec<_> = expected.difference(&found).map(|s| s.name()).collect();
                wrong.push(format!("{key} = {value} ({base:?}): too many {more:?}, too few {fewer:?}"));
            }
            // The next key starts from the base again.
            for artifact in artifacts(folder.path()).difference(&before) {
                fs::remove_dir_all(artifact).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn keys_of_other_data_sets_reach_the_tables_and_nothing_else() {
    for (key, value, base, stages) in CASES {
        let Tables(_) = base else { continue };
        let (before, after) = (recipe(*base, None), recipe(*base, Some((key, value))));
        assert_ne!(before, after, "{key}");
        let tables = |r: &Recipe| Content::of(&tables_settings(r)).unwrap();
        assert_eq!(tables(&before) != tables(&after), *stages == [Data], "{key}");
        // The scale, and events, move the threshold of a like.
        let samples = |r: &Recipe| Content::of(&samples_settings(r)).unwrap();
        let moves = ["data.table.scale", "data.table.event", "data.table.count", "data.kind"].contains(key);
        assert!(moves || samples(&before) == samples(&after), "{key}");
    }
}

/// The place of a model or of raw files is no part of any key; their content is.
#[test]
fn a_renamed_folder_reuses_everything_and_another_content_does_not() {
    let place = tempfile::tempdir().unwrap();
    let model = |name: &str, config: &str| {
        let folder = place.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
        format!("'{}'", folder.display())
    };
    let out = place.path().join("run");
    let with = |path: &str| done(&out, &recipe(Plain, Some(("model.path", path))));
    assert_eq!(with(&model("one", "{}")).len(), StageId::ALL.len());
    assert!(with(&model("two", "{}")).is_empty());
    assert_eq!(with(&model("two", "{ }")), DESCRIBE.iter().copied().collect());

    let words = |name: &str, text: &str| {
        fs::write(place.path().join(name), text).unwrap();
        format!("'{}'", place.path().join(name).display())
    };
    let out = place.path().join("words");
    let with = |file: &str| done(&out, &recipe(Plain, Some(("prompt.file", file))));
    assert_eq!(with(&words("one.jinja", "{{ question }}")).len(), StageId::ALL.len());
    assert!(with(&words("two.jinja", "{{ question }}")).is_empty());
    assert_eq!(with(&words("two.jinja", "{{ list }} {{ question }}")), PROMPTS.iter().copied().collect());

    let ratings: String = (0..24u32)
        .flat_map(|user| (0..10u32).map(move |n| format!("u{user},i{},{},{}\n", (user + n * 3) % 14, n % 5 + 1, n)))
        .collect();
    let data = |name: &str, more: &str| {
        let folder = place.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ratings.csv"), format!("user,item,rating,time\n{ratings}{more}")).unwrap();
        format!("data.path='{}'", folder.display())
    };
    let out = place.path().join("table");
    let with = |path: String| {
        let sets = ["data.kind=table".to_owned(), "data.table.title='{{ item }}'".to_owned(), path];
        done(&out, &config::parse(BASE, "base", &sets).unwrap())
    };
    assert_eq!(with(data("here", "")).len(), StageId::ALL.len());
    assert!(with(data("there", "")).is_empty());
    assert_eq!(with(data("there", "u1,i1,5,99\n")).len(), StageId::ALL.len());
}
