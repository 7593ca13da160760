//! Prompts in the words of a template file: minijinja, run with limits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::list::one_line;
use super::{Order, PromptSettings, wording};
use crate::data::{Dataset, Item, Rated, User};
use crate::durable;
use crate::error::{Error, Result};
use crate::sandbox;
use crate::settings::nearest;

/// Longest template, in bytes.
const LONGEST: usize = 1 << 20;

/// What a template can say, and what it means. `list`, `introduction`, `profile`, `notes`,
/// `question` and `answer_only` are the texts that the built-in prompt is made of.
pub const VARIABLES: [(&str, &str); 18] = [
    ("user", "the fields that the data knows of the user: `{{ user.age }}`, `{{ user.gender }}`, ..."),
    ("items", "the history items shown, in order; each has `title`, `rating`, `liked`, `genres`, and its own fields"),
    ("target", "the item asked about: `title`, `genres`, and its own fields"),
    ("list", "the history as `prompt.list` writes it; empty without history"),
    ("ratings", "the sentences that `collab.wording` asks for; empty without"),
    ("profile", "the sentences on the user; empty where `prompt.profile` is off or nothing is known"),
    ("introduction", "the sentence before the list"),
    ("notes", "what stars mean, and when an item counts as liked"),
    ("question", "the question, with the title of the target"),
    ("answer_only", "the order to answer only yes or no"),
    ("order", "what the order of the items means: `in_order`, `most_relevant`, `relevant` or `unordered`"),
    ("noun", "what an item is called: `movie`"),
    ("nouns", "what items are called: `movies`"),
    ("did", "what users do with items: `watched`"),
    ("threshold", "a rating above it is a like"),
    ("lowest", "the lowest rating of the scale"),
    ("highest", "the highest rating of the scale"),
    ("k", "how many history items are shown"),
];

/// A compiled template.
#[derive(Clone)]
pub struct OwnTemplate {
    place: String,
    environment: Arc<Environment<'static>>,
}

/// An item, as a template sees it.
#[derive(Serialize)]
struct Seen {
    title: String,
    genres: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liked: Option<bool>,
    #[serde(flatten)]
    fields: BTreeMap<String, String>,
}

/// What a prompt is about, in words.
pub(super) struct About<'a> {
    pub dataset: &'a Dataset,
    pub user: &'a User,
    pub shown: &'a [Rated],
    pub target: &'a Item,
    pub threshold: f32,
    pub settings: &'a PromptSettings,
    pub list: &'a str,
    pub ratings: &'a str,
    pub profile: &'a str,
    pub introduction: &'a str,
    pub notes: &'a str,
    pub question: &'a str,
}

#[derive(Serialize)]
struct Values {
    user: BTreeMap<String, String>,
    items: Vec<Seen>,
    target: Seen,
    list: String,
    ratings: String,
    profile: String,
    introduction: String,
    notes: String,
    question: String,
    answer_only: &'static str,
    order: Order,
    noun: String,
    nouns: String,
    did: &'static str,
    threshold: Number,
    lowest: Number,
    highest: Number,
    k: usize,
}

/// A number that prints without needless decimals.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Real(f64),
}

impl From<f32> for Number {
    fn from(x: f32) -> Self {
        if x.fract() == 0.0 && x.abs() < 1e9 { Self::Whole(x as i64) } else { Self::Real(f64::from(x)) }
    }
}

impl OwnTemplate {
    /// Reads a template file.
    ///
    /// # Errors
    /// A file that cannot be read, is no template, or names a variable that there is none of; each
    /// with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = durable::read(path).map_err(|e| Error::io(path, "read the template", &e))?;
        let place = path.display().to_string();
        if bytes.len() > LONGEST {
            return Err(Error::input(place, format!("{} bytes are too long for a prompt", bytes.len()))
                .next("name a template of at most 1 MiB"));
        }
        let source = String::from_utf8(bytes).map_err(|_| {
            Error::input(&place, "it is no UTF-8 text").next("save the template as UTF-8, or name another file")
        })?;
        Self::new(&place, source)
    }

    /// Compiles a template; `place` names it in errors.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) that do not concern the file.
    pub fn new(place: &str, source: String) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::failed(place, e))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // What is not there is an error where it is printed, and false where it is asked for.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(sandbox::FUEL));
        environment.add_template_owned("prompt", source.clone()).map_err(|e| broken(place, &e))?;
        let wanted = environment.get_template("prompt").map_err(|e| broken(place, &e))?.undeclared_variables(false);
        let known = |name: &str| VARIABLES.iter().any(|(known, _)| *known == name);
        let is_global = |name: &str| environment.globals().any(|(global, _)| global == name);
        let mut unknown: Vec<(usize, String)> = (wanted.into_iter())
            .filter(|name| !known(name) && !is_global(name))
            .map(|name| (1 + source.lines().position(|line| has_word(line, &name)).unwrap_or(0), name))
            .collect();
        unknown.sort();
        if let Some((line, name)) = unknown.first() {
            let near = nearest(name, VARIABLES.iter().map(|(known, _)| *known));
            let next = match near {
                Some(near) => format!("did you mean `{near}`? `rallrec explain prompt.file` lists all variables"),
                None => "`rallrec explain prompt.file` lists all variables".into(),
            };
            let what = format!("there is no variable `{name}`");
            return Err(Error::input(format!("{place}:{line}"), what).next(next));
        }
        Ok(Self { place: place.to_owned(), environment: Arc::new(environment) })
    }

    /// The user's turn.
    ///
    /// # Errors
    /// A template that fails, says nothing, or goes beyond its limits.
    pub(super) fn render(&self, about: &About<'_>) -> Result<String> {
        let values = about.values();
        let environment = Arc::clone(&self.environment);
        let length = about.list.len() + about.shown.len() * 256;
        let rendered = sandbox::limited(length, move || {
            environment.get_template("prompt").and_then(|template| template.render(minijinja::value::Serde(values)))
        });
        let text = match rendered {
            Ok(said) => said.map_err(|e| broken(&self.place, &e))?,
            Err(e) => return Err(Error::input(&self.place, e).next("make the template shorter, and its loops finite")),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::input(&self.place, "the template says nothing")
                .next("let it say at least `{{ question }}` for every row"));
        }
        Ok(text.to_owned())
    }
}

/// A template's error with its line.
fn broken(place: &str, error: &minijinja::Error) -> Error {
    let what = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    let place = error.line().map_or_else(|| place.to_owned(), |line| format!("{place}:{line}"));
    let next = match error.kind() {
        minijinja::ErrorKind::UndefinedError => {
            "not every user or item has this field: write {% if user.age %}{{ user.age }}{% endif %}"
        }
        minijinja::ErrorKind::OutOfFuel => "make its loops finite",
        _ => "mend the template; docs/recipe.md has an example",
    };
    Error::input(place, format!("the template fails: {what}")).next(next)
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.split(|c| !inside(c)).any(|piece| piece == word)
}

impl About<'_> {
    fn seen(&self, item: &Item, rating: Option<f32>) -> Seen {
        // A field that is called as one of ours gives way.
        let own = ["title", "genres", "rating", "liked"];
        let fields = item.fields.iter().filter(|f| !own.contains(&f.name.as_str()) && !f.value.is_empty());
        Seen {
            title: one_line(&item.title),
            genres: item.genres.clone(),
            rating: rating.map(Number::from),
            liked: rating.map(|r| r > self.threshold),
            fields: fields.map(|f| (f.name.clone(), one_line(&f.value))).collect(),
        }
    }

    fn values(&self) -> Values {
        let wording::Words { one, many, did } = wording::words(self.dataset);
        let items = self.shown.iter().filter_map(|r| Some((self.dataset.items.get(r.item.at())?, r.rating)));
        let known = self.user.fields.iter().filter(|f| !f.value.trim().is_empty());
        Values {
            user: known.map(|f| (f.name.clone(), one_line(&f.value))).collect(),
            items: items.map(|(item, rating)| self.seen(item, Some(rating))).collect(),
            target: self.seen(self.target, None),
            list: self.list.to_owned(),
            ratings: self.ratings.trim_end().to_owned(),
            profile: self.profile.trim_end().to_owned(),
            introduction: self.introduction.to_owned(),
            notes: self.notes.trim_end().to_owned(),
            question: self.question.to_owned(),
            answer_only: wording::answer_only(self.settings.style),
            order: self.settings.order,
            noun: one,
            nouns: many,
            did,
            threshold: self.threshold.into(),
            lowest: self.dataset.scale.0.into(),
            highest: self.dataset.scale.1.into(),
            k: self.shown.len(),
        }
    }
}
