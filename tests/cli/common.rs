//! A tiny random model, a tiny recipe, and the program started on them.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use rallrec::models::decoder::Family;
use rallrec::store::{fixture, save_hf};
use rallrec::tensor::Dtype;

/// Seconds that a command may take before the test gives up on it.
const PATIENCE: u64 = 300;

/// The program, with an empty model store and no settings from the environment.
pub fn rallrec() -> Command {
    let mut command = Command::cargo_bin("rallrec").expect("the program is built");
    command.env("RALLREC_MODELS", "/nonexistent/rallrec-models").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.timeout(std::time::Duration::from_secs(PATIENCE));
    command
}

/// Exit code, standard output and standard error.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Panics, showing what was said, unless the program ended with `code`.
    #[track_caller]
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn err_has(self, words: &str) -> Self {
        assert!(self.err.contains(words), "no {words:?} in\n{}", self.err);
        self
    }

    #[track_caller]
    pub fn out_has(self, words: &str) -> Self {
        assert!(self.out.contains(words), "no {words:?} in\n{}", self.out);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in\n{}", self.out))
    }
}

/// Runs the program with these arguments.
pub fn say(arguments: &[&str]) -> Said {
    Said::of(&rallrec().args(arguments).output().expect("it starts"))
}

/// What a test works with; removed at its end.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// A random model as a Hugging Face folder `name`; `context` is its longest sequence.
    pub fn model(&self, name: &str, context: usize, change: impl Fn(String) -> String) -> String {
        let mut config = fixture::config(Family::LLAMA);
        config.context = context;
        let weights = fixture::weights(&config, 5, Dtype::F32).expect("weights");
        let tokenizer = change(fixture::tokenizer_json(false).expect("a tokenizer"));
        let template = Some(fixture::CHAT_TEMPLATE);
        save_hf(&self.at(name), &config, &weights, Dtype::F32, &tokenizer, template).expect("a model folder");
        self.text(name)
    }

    /// A recipe of the whole chain that takes seconds; written as `recipe.toml`, with the model
    /// beside it.
    pub fn recipe(&self) -> String {
        let model = self.model("model", 4096, |t| t);
        let path = self.text("recipe.toml");
        std::fs::write(&path, recipe(&model)).expect("written");
        path
    }
}

/// See [`Place::recipe`].
pub fn recipe(model: &str) -> String {
    format!(
        r#"name = "tiny"
threads = 2
[data]
kind = "synthetic"
[data.synthetic]
users = 40
items = 40
ratings = 700
[rows]
tune = 6
valid = 10
test = 12
[model]
path = "{model}"
[describe]
source = "file"
words = 12
[embed]
max_tokens = 64
[graph.lightgcn]
dim = 16
batch = 256
epochs = 4
eval_every = 2
[align]
epochs = 5
[retrieve]
k = 4
pca = 8
[prompt]
style = "short"
list = "lines"
profile = false
[tune]
templates = ["high"]
[tune.lora]
rank = 2
batch = 3
epochs = 1
[predict]
ablation_rows = 2
zero_shot_rows = 4
[reason]
samples = 2
max_tokens = 6
valid_rows = 4
test_rows = 4
ablation = true
[merge.sweep]
alpha = [0.1, 1.0]
[evaluate]
bootstrap = 50
"#
    )
}

/// `results.json` without what differs from run to run: times and memory.
pub fn results(folder: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join("results.json")).expect("results");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let map = value.as_object_mut().expect("an object");
    for key in ["stages", "seconds", "peak_memory", "costs"] {
        map.remove(key).expect(key);
    }
    // There is none where nothing was asked of a model.
    map.remove("answers");
    value
}
