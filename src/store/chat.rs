//! Chat templates: the model's own Jinja template, run as transformers runs it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as JinjaValue};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Tokenizer;
use super::folder::read_json;
use crate::error::{Error, Result};
use crate::sandbox::{self, Broken};

/// The longest text that a template may write, in bytes: four times a context of a million tokens.
const LONGEST_TEXT: usize = 16 << 20;

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
    /// Bytes of the text that are this program's own tags, in order. All else of a user's or a
    /// model's turn is data, which never becomes control tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Range<usize>>,
}

impl Message {
    fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tags: Vec::new() }
    }

    /// A system turn. Its words are the recipe's, so it may have control tokens.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A user turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A model turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// The same turn, in which these bytes are tags of this program.
    #[must_use]
    pub fn with_tags(mut self, tags: Vec<Range<usize>>) -> Self {
        self.tags = tags;
        self
    }

    /// Where data of this turn spells a control token.
    fn spelled(&self, tokenizer: &Tokenizer) -> Vec<usize> {
        if self.role == Role::System { Vec::new() } else { tokenizer.spelled(&self.content, &self.tags) }
    }
}

/// A text for a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The text, special tokens written out.
    pub text: String,
    /// Bytes at which data of the text spells a control token, ascending: there it stays words.
    pub words: Vec<usize>,
    /// Data becomes control tokens by another way than its spelling (see [`Tokenizer::hides`]).
    pub hidden: bool,
}

impl Rendered {
    /// Puts a text behind it, with the bytes of that text at which data spells a control token.
    pub fn push(&mut self, text: &str, words: &[usize]) {
        self.words.extend(words.iter().map(|at| at + self.text.len()));
        self.text.push_str(text);
    }
}

/// What a template sees of a turn.
#[derive(Serialize)]
struct Turn {
    role: Role,
    content: String,
}

/// A compiled template with the special tokens it may write.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    source: String,
    place: String,
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
    ///
    /// # Errors
    /// It does not compile, or one turn already takes more memory or time than a template may have.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::compiled(source, tokenizer, "chat template".into())
    }

    /// The same for the template of a file, which errors name.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_file(path: &Path, source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::compiled(source, tokenizer, format!("{}: chat template", path.display()))
    }

    fn compiled(source: &str, tokenizer: &Tokenizer, place: String) -> Result<Self> {
        let owned = source.to_owned();
        let environment = match sandbox::limited(source.len(), move || compile(owned)) {
            Err(broken) => Err(broken.to_string()),
            Ok(Err(error)) => Err(format!("does not compile: {}", describe(&error))),
            Ok(Ok(environment)) => Ok(environment),
        };
        let environment =
            environment.map_err(|what| Error::input(&place, what).next("use the model's published template"))?;
        let special = tokenizer.specials().map(|(name, text)| (name, text.to_owned())).collect();
        let made =
            Self { environment: Arc::new(environment), source: source.to_owned(), place, special, fallback: false };
        // A template may refuse turns; one that does not end is no template.
        match made.write(vec![Turn { role: Role::User, content: "Q".into() }], true, None)? {
            Err(Failure::Limits(what)) => Err(made.unbounded(&what)),
            _ => Ok(made),
        }
    }

    /// The ChatML template, for a model that brings none; [`Self::is_fallback`] is true.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { fallback: true, ..Self::new(CHATML, tokenizer)? })
    }

    /// From a model folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`
    /// (a string, or a list in which the one named `default` is meant), else ChatML.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let path = folder.join("chat_template.jinja");
        let text = crate::content::read_plain(&path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
        });
        match text {
            Ok(source) => return Self::of_file(&path, &source, tokenizer),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(&path, "read the chat template", &e)),
        }
        let path = folder.join("tokenizer_config.json");
        let settings = read_json(&path)?.unwrap_or_default();
        match from_settings(&settings).map_err(|e| e.within(path.display()))? {
            Some(source) => Self::of_file(&path, &source, tokenizer),
            None => Self::chatml(tokenizer),
        }
    }

    /// The conversation as one text, special tokens written out (encode it without adding another
    /// BOS).
    ///
    /// `date` (`YYYY-MM-DD`) is what templates that print today's date see, as `strftime_now` and
    /// `date_string`; without it they fall back to the date written in them, so a prompt never
    /// changes by day.
    ///
    /// # Errors
    /// What the template refuses; more memory, time or text than a template may have.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, date: Option<&str>) -> Result<String> {
        let turns: Vec<Turn> = messages.iter().map(|m| Turn { role: m.role, content: m.content.clone() }).collect();
        self.write(turns, add_generation_prompt, date)?.map_err(|failure| match failure {
            Failure::Limits(what) => self.unbounded(&what),
            Failure::Refusal(what) => {
                Error::input(&self.place, what).next("change the messages to what this model's template allows")
            }
        })
    }

    /// As [`Self::render`], and where data spells control tokens. A template sees such a spelling
    /// with a letter of no script in it, so it takes it for words as well.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_data(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        date: Option<&str>,
        tokenizer: &Tokenizer,
    ) -> Result<Rendered> {
        let spelled: Vec<Vec<usize>> = messages.iter().map(|m| m.spelled(tokenizer)).collect();
        let hidden = messages.iter().any(|m| m.role != Role::System && tokenizer.hides(&m.content));
        if spelled.iter().all(Vec::is_empty) {
            let text = self.render(messages, add_generation_prompt, date)?;
            return Ok(Rendered { text, words: Vec::new(), hidden });
        }
        let unused = |mark: &char| !messages.iter().any(|m| m.content.contains(*mark));
        let mark = ('\u{f0000}'..='\u{ffffd}').find(unused).ok_or_else(|| {
            Error::input("prompt", "its words use every letter of a private plane").next("leave such texts out")
        })?;
        let marked: Vec<Message> = (messages.iter().zip(&spelled))
            .map(|(message, spelled)| {
                let (mut content, mut from) = (String::with_capacity(message.content.len() + 4 * spelled.len()), 0);
                for &at in spelled {
                    let behind = at + message.content[at..].chars().next().map_or(0, char::len_utf8);
                    content.push_str(&message.content[from..behind]);
                    content.push(mark);
                    from = behind;
                }
                content.push_str(&message.content[from..]);
                Message::new(message.role, content)
            })
            .collect();
        let text = self.render(&marked, add_generation_prompt, date)?;
        let mut rendered = Rendered { hidden, ..Rendered::default() };
        for (i, part) in text.split(mark).enumerate() {
            if i > 0 {
                let letter = rendered.text.chars().next_back().map_or(0, char::len_utf8);
                rendered.words.push(rendered.text.len() - letter);
            }
            rendered.text.push_str(part);
        }
        Ok(rendered)
    }

    /// Runs the template within limits. The outer error is that of `date`.
    fn write(
        &self,
        turns: Vec<Turn>,
        add_generation_prompt: bool,
        date: Option<&str>,
    ) -> Result<std::result::Result<String, Failure>> {
        let day = date.map(|date| {
            date.parse::<jiff::civil::Date>().map_err(|e| {
                Error::usage("prompt date", format!("{date:?} is no date: {e}")).next("write it as YYYY-MM-DD")
            })
        });
        let midnight = day.transpose()?.map(|day| day.at(0, 0, 0, 0));
        let (environment, special) = (Arc::clone(&self.environment), self.special.clone());
        let length = turns.iter().map(|turn| turn.content.len()).sum::<usize>();
        let written = sandbox::limited(length + self.source.len(), move || {
            let mut context = std::collections::BTreeMap::<&str, JinjaValue>::from([
                ("messages", JinjaValue::from(minijinja::value::Serde(turns))),
                ("add_generation_prompt", JinjaValue::from(add_generation_prompt)),
                ("tools", JinjaValue::from(())),
                ("documents", JinjaValue::from(())),
            ]);
            for (name, text) in special {
                context.insert(name, JinjaValue::from(text));
            }
            if let Some(midnight) = midnight {
                context.insert("date_string", JinjaValue::from(midnight.strftime("%d %b %Y").to_string()));
                let now = move |format: String| {
                    jiff::fmt::strtime::format(&format, midnight)
                        .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
                };
                context.insert("strftime_now", JinjaValue::from_function(now));
            }
            let text = environment.get_template("chat").and_then(|t| t.render(context));
            text.map_err(|e| match root(&e) {
                ErrorKind::OutOfFuel => Failure::Limits(format!("takes more than {} steps", sandbox::FUEL)),
                _ => Failure::Refusal(describe(&e)),
            })
        });
        Ok(match written {
            Ok(Ok(text)) if text.len() > LONGEST_TEXT => {
                Err(Failure::Limits(format!("writes more than {} MiB", LONGEST_TEXT >> 20)))
            }
            Ok(done) => done,
            Err(broken @ Broken::Thread(_)) => return Err(Error::failed(&self.place, broken)),
            Err(broken) => Err(Failure::Limits(broken.to_string())),
        })
    }

    fn unbounded(&self, what: &str) -> Error {
        Error::input(&self.place, what).next("use the model's published template")
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

/// Why a template wrote nothing.
enum Failure {
    /// It takes more than it may have.
    Limits(String),
    /// It fails, or refuses the turns.
    Refusal(String),
}

/// The kind of the innermost error.
fn root(error: &minijinja::Error) -> ErrorKind {
    let mut kind = error.kind();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<minijinja::Error>() {
            kind = error.kind();
        }
        cause = inner.source();
    }
    kind
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

fn compile(source: String) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |what: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
    });
    environment.add_filter("tojson", tojson);
    environment.set_fuel(Some(sandbox::FUEL));
    environment.add_template_owned("chat", source)?;
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
