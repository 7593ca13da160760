//! The recipe as text, with comments for who reads one for the first time.

use super::Draft;
use crate::data::table::{TableSettings, TimeFormat};
use crate::data::{By, Damaged, DataSettings, Kind};

/// The stages of a run on ratings, small enough for a first result on two cores.
const STAGES: &str = r#"
# What follows are the stages of a run, sized for a first result within minutes on two cores.

[rows]                       # rows that the language model sees; more of them take longer
tune = 400
valid = 120
test = 400
choice = "random"
pool = 0

[model]
path = "builtin"             # a tiny model that is built in; better: `rallrec model pull smollm2-135m`, and its name here

[describe]
source = "none"              # descriptions of items by the model: "model", with a model that can write

[embed]
source = "plain"
max_tokens = 48

[graph.lightgcn]             # learns from the ratings alone
dim = 64
epochs = 40
learning_rate = 5e-3
negative_candidates = 8      # of so many items, the one scored highest is the negative: few epochs do

[retrieve]
k = 6

[prompt]
style = "short"
list = "inline"

[collab]
wording = "verdict"

[tune]
templates = ["rerank"]
targets_per_history = 4
valid_rows = 80

[tune.lora]
learning_rate = 3e-3
batch = 8
epochs = 1

[predict]
ablation_rows = 100

[reason]
samples = 2
max_tokens = 32
valid_rows = 40
test_rows = 100
"#;

/// The stages of a run on a log without ratings.
const GRAPH: &str = r#"
# A log without ratings goes through the stages data and graph: there is no Yes and No to tune a language model on.

[model]
path = "builtin"

[describe]
source = "none"

[embed]
source = "plain"
max_tokens = 48

[graph.lightgcn]
dim = 64
epochs = 40
learning_rate = 5e-3
negative_candidates = 8      # of so many items, the one scored highest is the negative: few epochs do
"#;

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// Lines of a recipe, comments behind the values in one column.
struct Lines(String);

impl Lines {
    fn put(&mut self, key: &str, value: impl std::fmt::Display, comment: &str) {
        let line = format!("{key} = {value}");
        self.0.push_str(&if comment.is_empty() { format!("{line}\n") } else { format!("{line:<28} # {comment}\n") });
    }

    fn section(&mut self, name: &str, comment: &str) {
        let line = format!("[{name}]");
        self.0.push_str(&if comment.is_empty() {
            format!("\n{line}\n")
        } else {
            format!("\n{line:<28} # {comment}\n")
        });
    }

    fn comment(&mut self, text: &str) {
        for line in wrapped(text, 110) {
            self.0.push_str(&format!("# {line}\n"));
        }
    }
}

/// A text in lines; what would end a comment is left out.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let clean: String = word.chars().filter(|c| !c.is_control()).collect();
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + clean.len() >= width {
            lines.push(clean);
        } else {
            let gap = if lines[last].is_empty() { "" } else { " " };
            lines[last] += &format!("{gap}{clean}");
        }
    }
    lines
}

/// The recipe.
pub fn text(name: &str, source: &str, draft: &Draft) -> String {
    let (settings, none) = (&draft.settings, DataSettings::default());
    let mut out = Lines(String::new());
    out.comment(&format!("Written by `rallrec init` after a look at {}.", crate::database::without_password(source)));
    out.comment("`rallrec run FILE --print-recipe` prints every key with its meaning and range.");
    for note in &draft.notes {
        out.comment(&format!("Note: {note}."));
    }
    out.0.push('\n');
    out.put("name", quoted(name), "");
    out.section("data", "");
    out.put("kind", quoted(settings.kind.name()), "");
    if !settings.path.as_os_str().is_empty() {
        out.put("path", quoted(&settings.path.to_string_lossy()), "from the folder of this file");
    }
    if !settings.is_implicit() && (settings.min_history != none.min_history || settings.kind == Kind::TABLE) {
        out.put("min_history", settings.min_history, "fewest earlier ratings of the user of a sample");
    }
    let middle = if settings.kind == Kind::TABLE { settings.table.threshold() } else { settings.threshold() };
    match settings.threshold {
        Some(threshold) => out.put("threshold", format!("{threshold:?}"), "a rating above this is a like"),
        None if settings.kind == Kind::TABLE && !settings.is_implicit() => {
            out.comment(&format!(
                "threshold = {middle:?}: a rating above this is a like; not set: the middle of the scale"
            ));
        }
        None if settings.is_implicit() && !settings.table.weights.is_empty() => {
            out.comment("threshold = 1.0: what weighs more is relevant to the ranking; not set: everything is");
        }
        None => {}
    }
    if settings.damaged == Damaged::Skip {
        out.put("damaged", quoted("skip"), "rows that cannot be read are left out and counted");
    }
    if settings.split.by != By::Auto {
        out.section("data.split", "");
        out.put("by", quoted(settings.split.by.name()), "docs/data.md has the other rules");
    }
    if settings.kind == Kind::TABLE {
        table(&mut out, &settings.table);
        out.0.push_str("\n# [data.core]                # leaves out what is too rare to learn from\n# user_min = 5\n# item_min = 5\n");
    }
    out.0.push_str(if settings.is_implicit() { GRAPH } else { STAGES });
    out.0
}

/// `[data.table]`: what is not as it would be anyway, and the columns in any case.
fn table(out: &mut Lines, table: &TableSettings) {
    let none = TableSettings::default();
    out.section("data.table", "");
    let texts = |out: &mut Lines, keys: &[(&str, &String, &String, &str)]| {
        for (key, value, usual, comment) in keys {
            if value != usual {
                out.put(key, quoted(value), comment);
            }
        }
    };
    texts(
        out,
        &[
            ("database", &table.database, &none.database, "passwords come from PGPASSWORD or ~/.pgpass"),
            ("query", &table.query, &none.query, ""),
            ("item_query", &table.item_query, &none.item_query, ""),
            ("user_query", &table.user_query, &none.user_query, ""),
        ],
    );
    if table.query.is_empty() {
        out.put("ratings", quoted(&table.ratings), "");
    }
    texts(
        out,
        &[
            ("separator", &table.separator, &none.separator, "between the columns"),
            ("quote", &table.quote, &none.quote, ""),
            ("escape", &table.escape, &none.escape, ""),
            ("encoding", &table.encoding, &none.encoding, ""),
        ],
    );
    if !table.header {
        out.put("header", false, "");
    }
    if !table.columns.is_empty() {
        out.put("columns", list(&table.columns), "the first line has no names");
    }
    out.put("user", quoted(&table.user), "");
    out.put("item", quoted(&table.item), "");
    out.put(
        "rating",
        quoted(&table.rating),
        if table.rating.is_empty() { "none: every row is something that was chosen" } else { "" },
    );
    if !table.rating.is_empty() {
        let (low, high) = table.scale;
        out.put("scale", format!("[{low}, {high}]"), "smallest and largest rating");
    }
    if !table.rating_words.is_empty() {
        out.put("rating_words", list(&table.rating_words), "what each word means");
    }
    if !table.event.is_empty() {
        out.put("event", quoted(&table.event), "");
        out.put("weights", list(&table.weights), "of a user's events with an item the heaviest counts");
    }
    if !table.count.is_empty() {
        out.put("count", quoted(&table.count), "a row weighs so many times as much");
    }
    out.put("time", quoted(&table.time), if table.time.is_empty() { "none" } else { "" });
    if !table.time.is_empty() && table.time_format != TimeFormat::Auto {
        out.put("time_format", quoted(&table.time_format.to_string()), "");
    }
    texts(out, &[("part", &table.part, &none.part, "says what is for training, validation and test")]);
    if table.missing != none.missing {
        out.put("missing", list(&table.missing), "fields that say that nothing is known");
    }
    out.put("noun", quoted(&table.noun), "what an item is called in prompts");
    if table.items.is_empty() && table.item_query.is_empty() {
        out.comment("items = \"items.csv\": a file with titles and genres; docs/your-data.md has more");
    } else {
        texts(
            out,
            &[
                ("items", &table.items, &none.items, "what is known of items"),
                ("item_id", &table.item_id, &none.item_id, ""),
            ],
        );
        out.put("title", quoted(&table.title), "a template over its columns");
        texts(out, &[("genres", &table.genres, &none.genres, "")]);
        if !table.genres.is_empty() {
            texts(out, &[("genre_separator", &table.genre_separator, &none.genre_separator, "")]);
        }
    }
    texts(
        out,
        &[
            ("users", &table.users, &none.users, "what is known of users"),
            ("user_id", &table.user_id, &none.user_id, ""),
            ("user_text", &table.user_text, &none.user_text, ""),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stay_comments() {
        let long = "a\nb \u{7} ".repeat(80);
        let lines = wrapped(&long, 40);
        assert!(lines.len() > 3 && lines.iter().all(|line| line.len() <= 40 && !line.contains(char::is_control)));
        let back: toml::Table = format!("x = {}", quoted("a\"b\nc")).parse().unwrap();
        assert_eq!(back["x"].as_str(), Some("a\"b\nc"));
    }
}
