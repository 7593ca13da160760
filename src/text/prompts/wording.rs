//! The sentences, by kind of data and style.

use super::{Order, PromptSettings, Style};
use crate::data::{Dataset, User, nouns};

/// Words that depend on what the items are.
pub(super) struct Words {
    /// `movie`
    pub one: String,
    /// `movies`
    pub many: String,
    /// `watched`
    pub did: &'static str,
}

pub(super) fn words(dataset: &Dataset) -> Words {
    let noun = if dataset.noun.trim().is_empty() { "item" } else { dataset.noun.trim() };
    let did = nouns::of(noun).did;
    let many = match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if noun.ends_with('s') || noun.ends_with('x') || noun.ends_with("ch") => format!("{noun}es"),
        _ => format!("{noun}s"),
    };
    Words { one: noun.into(), many, did }
}

/// (subject, possessive), capitalised.
pub(super) fn pronouns(user: &User) -> (&'static str, &'static str) {
    match user.field("gender") {
        Some("male") => ("He", "His"),
        Some("female") => ("She", "Her"),
        _ => ("The user", "The user's"),
    }
}

fn known<'a>(user: &'a User, name: &str) -> Option<&'a str> {
    user.field(name).map(str::trim).filter(|v| !v.is_empty() && !v.eq_ignore_ascii_case("unknown"))
}

/// Who the user is; empty when nothing is known. Ends with a line break otherwise.
///
/// A user with a field `text` has their own words: a recipe's `data.table.user_text` puts them
/// there.
pub(super) fn profile(user: &User, style: Style) -> String {
    if let Some(own) = known(user, crate::data::table::TEXT) {
        return format!("{own}\n");
    }
    let (gender, job, age, country) =
        (known(user, "gender"), known(user, "occupation"), known(user, "age"), known(user, "country"));
    if style == Style::Short {
        let parts: Vec<&str> = [gender, age, job, country].into_iter().flatten().collect();
        return if parts.is_empty() { String::new() } else { format!("User: {}.\n", parts.join(", ")) };
    }
    let (_, possessive) = pronouns(user);
    let mut sentences = Vec::new();
    if let Some(gender) = gender {
        sentences.push(format!("The user is {gender}."));
    }
    if let Some(country) = country {
        sentences.push(format!("The user is from {country}."));
    }
    if let Some(job) = job {
        sentences.push(format!("{possessive} job is {job}."));
    }
    if let Some(age) = age {
        sentences.push(format!("{possessive} age is {age}."));
    }
    if sentences.is_empty() { String::new() } else { sentences.join(" ") + "\n" }
}

/// What stands before the list.
pub(super) fn introduction(user: &User, dataset: &Dataset, settings: &PromptSettings, with_profile: bool) -> String {
    let Words { one, many, did } = words(dataset);
    if settings.style == Style::Short {
        return format!("Rated {many} ({} to {}):", dataset.scale.0, dataset.scale.1);
    }
    let subject = if with_profile { pronouns(user).0 } else { "The user" };
    // "rated and rated" would be odd where there is no better verb.
    let (and, then) = if did == "rated" { ("", "") } else { (" and rated them", ",") };
    match settings.order {
        Order::InOrder => format!("{subject} {did} the following {many} in order{and}:"),
        Order::MostRelevant => {
            format!("{subject} {did} the following {many}, which are the most relevant to the new {one}{then}{and}:")
        }
        Order::Unordered => format!("{subject} {did} the following {many}{and}:"),
        Order::Relevant => {
            format!("{subject} {did} the following {many}, which are relevant to the new {one}{then}{and}:")
        }
    }
}

/// What the stars mean and when a new item counts as liked; without line break at the end, may be
/// empty.
pub(super) fn notes(dataset: &Dataset, threshold: f32, settings: &PromptSettings) -> String {
    let Words { one, .. } = words(dataset);
    let above = super::list::rating(threshold);
    match (settings.style, settings.threshold_note) {
        (Style::Paper, true) => format!(
            "More stars mean that the user liked the {one} more. A new {one} counts as liked when the user could \
             rate it above {above} stars."
        ),
        (Style::Paper, false) => format!("More stars mean that the user liked the {one} more."),
        (Style::Short, true) => format!("Liked means above {above}."),
        (Style::Short, false) => String::new(),
    }
}

/// The question, on one line, and the byte behind the title.
pub(super) fn question(dataset: &Dataset, title: &str, style: Style) -> (String, usize) {
    const END: &str = "***?";
    let Words { one, .. } = words(dataset);
    let question = match style {
        Style::Paper => format!("Will the user like the {one} ***{title}{END}"),
        Style::Short => format!("Will the user like ***{title}{END}"),
    };
    let behind = question.len() - END.len();
    (question, behind)
}

/// The order to be brief.
pub(super) fn answer_only(style: Style) -> &'static str {
    match style {
        Style::Paper => "Answer only with yes or no.",
        Style::Short => "Yes or no?",
    }
}
