//! Chat templates: the model's own Jinja template, run as transformers runs it.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as JinjaValue};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Tokenizer;
use super::folder::read_json;
use crate::error::{Error, Result};

/// Used when a model brings no template.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The question.
    User,
    /// The model's answer.
    Assistant,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Message {
    /// A system turn.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }

    /// A user turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A model turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// A compiled template with the special tokens it may write.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: Vec<(&'static str, String)>,
    fallback: bool,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).field("fallback", &self.fallback).finish()
    }
}

impl ChatTemplate {
    /// Compiles a template. The tokenizer gives `bos_token`, `eos_token`, ...
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let environment = compile(source).map_err(|e| {
            Error::input("chat template", format!("does not compile: {}", describe(&e)))
                .next("use the model's published template")
        })?;
        let special = tokenizer.specials().map(|(name, text)| (name, text.to_owned())).collect();
        Ok(Self { environment, source: source.to_owned(), special, fallback: false })
    }

    /// The ChatML template, for a model that brings none; [`Self::is_fallback`] is true.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { fallback: true, ..Self::new(CHATML, tokenizer)? })
    }

    /// From a model folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`
    /// (a string, or a list in which the one named `default` is meant), else ChatML.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let path = folder.join("chat_template.jinja");
        match std::fs::read_to_string(&path) {
            Ok(source) => return Self::new(&source, tokenizer).map_err(|e| e.within(path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(&path, "read the chat template", &e)),
        }
        let path = folder.join("tokenizer_config.json");
        let settings = read_json(&path)?.unwrap_or_default();
        match from_settings(&settings).map_err(|e| e.within(path.display()))? {
            Some(source) => Self::new(&source, tokenizer).map_err(|e| e.within(path.display())),
            None => Self::chatml(tokenizer),
        }
    }

    /// The conversation as one text, special tokens written out (encode it without adding another
    /// BOS).
    ///
    /// `date` (`YYYY-MM-DD`) is what templates that print today's date see, as `strftime_now` and
    /// `date_string`; without it they fall back to the date written in them, so a prompt never
    /// changes by day.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, date: Option<&str>) -> Result<String> {
        let fail = |e: minijinja::Error| {
            Error::input("chat template", describe(&e)).next("change the messages to what this model's template allows")
        };
        let mut context = std::collections::BTreeMap::<&str, JinjaValue>::from([
            ("messages", JinjaValue::from(minijinja::value::Serde(messages))),
            ("add_generation_prompt", JinjaValue::from(add_generation_prompt)),
            ("tools", JinjaValue::from(())),
            ("documents", JinjaValue::from(())),
        ]);
        for &(name, ref text) in &self.special {
            context.insert(name, JinjaValue::from(text.as_str()));
        }
        if let Some(date) = date {
            let day: jiff::civil::Date = date.parse().map_err(|e| {
                Error::usage("prompt date", format!("{date:?} is no date: {e}")).next("write it as YYYY-MM-DD")
            })?;
            let midnight = day.at(0, 0, 0, 0);
            context.insert("date_string", JinjaValue::from(midnight.strftime("%d %b %Y").to_string()));
            let now = move |format: String| {
                jiff::fmt::strtime::format(&format, midnight)
                    .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
            };
            context.insert("strftime_now", JinjaValue::from_function(now));
        }
        self.environment.get_template("chat").and_then(|t| t.render(context)).map_err(fail)
    }

    /// What the template writes behind an answer that closes a conversation: the end-of-turn token
    /// and whatever follows it (e.g. `<|im_end|>\n`).
    pub fn after_answer(&self) -> Result<String> {
        const MARK: &str = "ANSWER";
        let text = self.render(&[Message::user("Q"), Message::assistant(MARK)], false, None)?;
        match text.rfind(MARK) {
            Some(at) => Ok(text[at + MARK.len()..].to_owned()),
            None => Err(Error::input("chat template", "leaves the answer out").next("use the model's own template")),
        }
    }

    /// True when the model brought no template and ChatML stands in.
    pub fn is_fallback(&self) -> bool {
        self.fallback
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// The template text in a `tokenizer_config.json`.
fn from_settings(settings: &Value) -> Result<Option<String>> {
    match settings.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(list)) => {
            let named = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
            let source = list.iter().find(named).and_then(|t| t.get("template")).and_then(Value::as_str);
            source.map(|s| Some(s.to_owned())).ok_or_else(|| {
                Error::input("chat_template", "has no template named default").next("add a chat_template.jinja")
            })
        }
        Some(_) => Err(Error::input("chat_template", "is neither a string nor a list").next("the file is damaged")),
    }
}

fn compile(source: &str) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |what: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
    });
    environment.add_filter("tojson", tojson);
    environment.add_template_owned("chat", source.to_owned())?;
    Ok(environment)
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`: no HTML escapes, and a space
/// behind `,` and `:`.
fn tojson(value: &JinjaValue, args: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let bad = |e: serde_json::Error| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string());
    let indent: Option<usize> = args.get("indent")?;
    let _: (Option<bool>, Option<bool>) = (args.get("ensure_ascii")?, args.get("sort_keys")?);
    args.assert_all_used()?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(bad)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(bad)?,
    }
    String::from_utf8(out).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// JSON with Python's default separators.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

/// The message with its line.
fn describe(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}
