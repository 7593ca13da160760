//! What is asked and answered: bodies as typed values, limits, errors. No sockets here.

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::Limits;
use crate::error::{Error, Kind};
use crate::events::Event;
use crate::monitor::Monitor;
use crate::serve::{MOST, Met, Pair, Recommendations, Recommender, Request, Score, Who};

/// Longest id, in bytes.
const LONGEST_ID: usize = 512;

/// An id as the data set writes it: a text or a whole number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an id: a text or a whole number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                if text.len() > LONGEST_ID {
                    return Err(E::custom(format!("an id of {} bytes, where {LONGEST_ID} are the most", text.len())));
                }
                Ok(Id(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Id {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "maxLength": LONGEST_ID,
            "description": "An id as the data set writes it."
        })
    }
}

/// An item that somebody met.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetItem {
    /// The item.
    pub item: Id,
    /// How it was rated, on the scale of the data; without it the item counts as liked.
    #[serde(default)]
    pub rating: Option<f32>,
}

/// A list that is asked for: of a user of the run, or of somebody with a history that is given.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// A user of the run. Either this or `history` is given.
    #[serde(default)]
    pub user: Option<Id>,
    /// What somebody met, oldest first. The run need not know more of them.
    #[serde(default)]
    pub history: Option<Vec<MetItem>>,
    /// How many items.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 256))]
    pub top: usize,
    /// How many items without training rows are listed besides, by their text.
    #[serde(default)]
    #[schemars(range(min = 0, max = 256))]
    pub cold: usize,
    /// Items that are not to be listed, besides those of the history.
    #[serde(default)]
    pub exclude: Vec<Id>,
    /// What orders the list.
    #[serde(default)]
    pub score: Scorer,
}

/// What orders a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// The ranker that is the best by validation.
    #[default]
    Best,
    /// The same chooses candidates, the tuned language model's answers count in their order. The
    /// server has to be started with --with-model. The model is asked for half of the server's time
    /// limit at most; candidates that do not fit stand behind.
    Llm,
}

fn ten() -> usize {
    10
}

/// A user and an item.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// A user of the run.
    pub user: Id,
    /// An item of the run.
    pub item: Id,
}

/// Pairs that are to be scored.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// The pairs; those of one user after the other cost least.
    pub pairs: Vec<PairRequest>,
}

/// The scores, in the order of the pairs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Scores {
    /// One a pair.
    pub scores: Vec<Score>,
}

/// One list of several: itself, or why there is none.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ListOrProblem {
    /// The list.
    List(Box<Recommendations>),
    /// Why there is none.
    Problem(Problem),
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// The error.
    pub error: Said,
}

/// An error in words.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Said {
    /// What happened.
    pub what: String,
    /// Where: a field of the request, or empty.
    #[serde(rename = "where")]
    pub place: String,
    /// What to do next.
    pub next: String,
}

/// How the server is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Health {
    /// `ok`, or `stopping`.
    pub status: &'static str,
    /// The run's name.
    pub run: String,
    /// The version of the program.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that are worked on or wait.
    pub in_flight: usize,
}

/// A status and a body of JSON.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, JSON in UTF-8.
    pub body: Vec<u8>,
    /// Lists or pairs that were asked for.
    pub entries: usize,
    /// What went wrong, for the log.
    pub error: Option<String>,
}

impl Answer {
    fn of(value: &impl Serialize, entries: usize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status: 200, body, entries, error: None },
            Err(e) => Self::problem(500, &Error::failed("the answer", e)),
        }
    }

    /// An error as an answer.
    pub fn problem(status: u16, error: &Error) -> Self {
        let problem = Problem::of(error);
        let said = format!("{}: {}", problem.error.place, problem.error.what);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        Self { status, body, entries: 0, error: Some(said) }
    }
}

impl Problem {
    fn of(error: &Error) -> Self {
        // Places of the command line are fields here.
        let place = match error.place() {
            "--user" => "user",
            "--history" => "history",
            "--exclude" => "exclude",
            "--top" => "top",
            other => other,
        };
        let next = error.next_step().replace("(--history)", "(history)");
        Self { error: Said { what: error.what().to_owned(), place: place.to_owned(), next } }
    }

    fn within(mut self, place: &str) -> Self {
        self.error.place =
            if self.error.place.is_empty() { place.to_owned() } else { format!("{place}.{}", self.error.place) };
        self
    }
}

/// Stops what takes too long.
struct Deadline(Instant);

impl Monitor for Deadline {
    fn emit(&self, _: Event) {}
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn stop_requested(&self) -> bool {
        Instant::now() >= self.0
    }
    fn stage(&self) -> &str {
        "serve"
    }
}

/// Answers what is asked of a run.
pub struct Api {
    recommender: Arc<Recommender>,
    limits: Limits,
}

impl Api {
    /// Over a run.
    pub fn new(recommender: Arc<Recommender>, limits: Limits) -> Self {
        Self { recommender, limits }
    }

    /// What it allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// `POST /recommend`: a list for an object, as many for an array of them.
    pub fn recommend(&self, body: &[u8]) -> Answer {
        let deadline = Deadline(Instant::now() + self.limits.time);
        if body.trim_ascii_start().first() != Some(&b'[') {
            let request = match parse::<ListRequest>(body) {
                Ok(request) => request,
                Err(error) => return Answer::problem(422, &error),
            };
            return match self.list(request, &deadline) {
                Ok(list) => Answer::of(&list, 1),
                Err(error) => Answer::problem(status(&error), &self.late(error)),
            };
        }
        let requests = match parse::<Vec<ListRequest>>(body).and_then(|all| self.few("the array", all)) {
            Ok(requests) => requests,
            Err(error) => return Answer::problem(422, &error),
        };
        let entries = requests.len();
        let mut lists = Vec::with_capacity(entries);
        for (at, request) in requests.into_iter().enumerate() {
            if deadline.stop_requested() {
                return Answer::problem(503, &self.late(Error::stopped("")));
            }
            lists.push(match self.list(request, &deadline) {
                Ok(list) => ListOrProblem::List(Box::new(list)),
                Err(error) if error.kind() == Kind::Stopped => return Answer::problem(503, &self.late(error)),
                // One wrong entry is no reason to lose the others.
                Err(error) => ListOrProblem::Problem(Problem::of(&error).within(&format!("[{at}]"))),
            });
        }
        Answer::of(&lists, entries)
    }

    /// `POST /score`.
    pub fn score(&self, body: &[u8]) -> Answer {
        let deadline = Deadline(Instant::now() + self.limits.time);
        let asked = parse::<ScoreRequest>(body).and_then(|asked| self.few("pairs", asked.pairs));
        let pairs: Vec<Pair> = match asked {
            Ok(pairs) => pairs.into_iter().map(|pair| Pair { user: pair.user.0, item: pair.item.0 }).collect(),
            Err(error) => return Answer::problem(422, &error),
        };
        match self.recommender.score(&pairs, &deadline) {
            Ok(scores) => Answer::of(&Scores { scores }, pairs.len()),
            Err(error) => {
                let mut answer = Answer::problem(status(&error), &self.late(error));
                answer.entries = pairs.len();
                answer
            }
        }
    }

    fn list(&self, asked: ListRequest, monitor: &dyn Monitor) -> crate::Result<Recommendations> {
        let range = |field: &str, value: usize, least: usize| {
            if (least..=MOST).contains(&value) {
                return Ok(());
            }
            Err(Error::usage(field, format!("{value} is out of range"))
                .next(format!("give a number from {least} to {MOST}")))
        };
        range("top", asked.top, 1)?;
        range("cold", asked.cold, 0)?;
        let long = |field: &str, length: usize| {
            if length <= self.limits.history {
                return Ok(());
            }
            Err(Error::usage(field, format!("has {length} entries, where {} are the most", self.limits.history))
                .next("give the latest ones, or start the server with a larger --max-history"))
        };
        long("exclude", asked.exclude.len())?;
        let who = match (asked.user, asked.history) {
            (Some(user), None) => Who::User(user.0),
            (None, Some(history)) => {
                long("history", history.len())?;
                Who::History(history.into_iter().map(|met| Met { item: met.item.0, rating: met.rating }).collect())
            }
            (Some(_), Some(_)) => {
                return Err(Error::usage("history", "there is a user as well").next("give either user or history"));
            }
            (None, None) => {
                return Err(Error::usage("", "nobody is named whose list it is").next("give user or history"));
            }
        };
        let exclude = asked.exclude.into_iter().map(|id| id.0).collect();
        let ask_model = asked.score == Scorer::Llm;
        if ask_model && !self.recommender.has_model() {
            return Err(Error::usage("score", "this server has not loaded the tuned model")
                .next("start it with --with-model, or leave score out"));
        }
        // The rest of the time is for the last candidates that are asked together.
        let budget = 0.5 * self.limits.time.as_secs_f64();
        let own = self.recommender.model_seconds();
        let model_seconds = Some(if own > 0.0 { own.min(budget) } else { budget });
        let request = Request { who, top: asked.top, cold: asked.cold, exclude, ask_model, model_seconds };
        self.recommender.recommend(&request, monitor)
    }

    fn few<T>(&self, field: &str, all: Vec<T>) -> crate::Result<Vec<T>> {
        if all.len() <= self.limits.batch {
            return Ok(all);
        }
        Err(Error::usage(field, format!("has {} entries, where {} are the most", all.len(), self.limits.batch))
            .next("send it in parts, or start the server with a larger --max-batch"))
    }

    /// The error of work that was stopped by its deadline.
    fn late(&self, error: Error) -> Error {
        if error.kind() != Kind::Stopped {
            return error;
        }
        Error::failed("", format!("the work took longer than {} s", self.limits.time.as_secs_f64()))
            .next("ask for less at once, or start the server with a larger --timeout")
    }
}

/// The status of an error.
fn status(error: &Error) -> u16 {
    match error.kind() {
        Kind::Usage | Kind::Input => 422,
        Kind::Stopped => 503,
        Kind::Failed => 500,
    }
}

/// A body as a typed value.
fn parse<T: DeserializeOwned>(body: &[u8]) -> crate::Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        let place = format!("body, line {} column {}", e.line(), e.column());
        let what = e.to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        Error::usage(place, what).next("send JSON as /openapi.json describes it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_any_kind_are_read_or_refused() {
        let read = |text: &str| parse::<ListRequest>(text.as_bytes());
        let one = read(r#"{"user": 17}"#).unwrap();
        assert_eq!((one.user, one.top, one.cold), (Some(Id("17".into())), 10, 0));
        assert_eq!(
            read(r#"{"user": "a", "top": 3, "exclude": ["x", 4]}"#).unwrap().exclude,
            [Id("x".into()), Id("4".into())]
        );
        let given = read(r#"{"history": [{"item": 1}, {"item": "b", "rating": 4.5}]}"#).unwrap();
        assert_eq!(given.history.unwrap()[1].rating, Some(4.5));
        let long = format!(r#"{{"user": "{}"}}"#, "x".repeat(LONGEST_ID + 1));
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "null",
            "17",
            r#"{"user": 1.5}"#,
            r#"{"usr": 1}"#,
            r#"{"top": -1, "user": 1}"#,
            &long,
            &deep,
            "\u{0}",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.place().starts_with("body, line") && !error.next_step().is_empty(), "{error}");
        }
        assert!(parse::<ListRequest>(&[0xff, 0xfe]).is_err());
    }
}
