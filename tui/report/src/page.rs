//! The page.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use rallrec_events::scatter::Scatter;
use rallrec_events::view::{Example, Prompt, RunView};
use rallrec_events::{Follow, HistoryItem};
use serde::Serialize;
use serde_json::Value;

use crate::plot::short;
use crate::plots::{self, Figure};
use crate::tables;

/// Retrieval examples and prompts on the page.
const EXAMPLES: usize = 6;

#[derive(Serialize)]
struct Item {
    title: String,
    genres: String,
    rating: String,
    position: u32,
    retrieved: String,
    shown: String,
    similarity: String,
    parts: [String; 3],
}

#[derive(Serialize)]
struct ExampleView {
    row: u64,
    target: String,
    label: &'static str,
    embedding: String,
    length: usize,
    items: Vec<Item>,
}

fn liked(label: Option<bool>) -> &'static str {
    match label {
        Some(true) => "liked",
        Some(false) => "disliked",
        None => "label unknown",
    }
}

/// The items that matter, the nearest first, then what recency brought in.
fn example(e: &Example) -> ExampleView {
    let place = |p: Option<u32>| p.map_or(String::new(), |p| p.to_string());
    let number = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.3}"));
    let mut items: Vec<&HistoryItem> =
        e.history.iter().filter(|h| h.retrieved.is_some() || h.shown.is_some()).collect();
    items.sort_by_key(|h| (h.retrieved.unwrap_or(u32::MAX), h.shown.unwrap_or(u32::MAX)));
    let items = items
        .into_iter()
        .take(16)
        .map(|h| Item {
            title: h.item.title.clone(),
            genres: h.item.genres.join(", "),
            rating: format!("{}", h.rating),
            position: h.position,
            retrieved: place(h.retrieved),
            shown: place(h.shown),
            similarity: number(h.similarity),
            parts: [number(h.text), number(h.collaborative), number(h.aligned)],
        })
        .collect();
    ExampleView {
        row: e.row,
        target: e.target.title.clone(),
        label: liked(e.label),
        embedding: e.embedding.clone(),
        length: e.history.len(),
        items,
    }
}

#[derive(Serialize)]
struct AnswerView {
    sample: u32,
    p: String,
    said: &'static str,
    tokens: u32,
    text: String,
}

#[derive(Serialize)]
struct PromptView {
    row: u64,
    target: String,
    label: &'static str,
    right: Option<bool>,
    numbers: Vec<(&'static str, String)>,
    hint: String,
    prompt: String,
    answers: Vec<AnswerView>,
}

fn prompt(p: &Prompt) -> PromptView {
    let mut numbers = Vec::new();
    let mut add = |name, value: Option<String>| numbers.extend(value.map(|v| (name, v)));
    add("untuned", p.zero_shot.map(|x| format!("{x:.3}")));
    add("tuned", p.tuned.map(|x| format!("{x:.3}")));
    add("mean of the samples", p.moments().map(|m| format!("{:.3}", m.0)));
    add("variance", p.moments().map(|m| format!("{:.4}", m.1)));
    add("merged", p.merged.map(|m| format!("{:.3}", m.p)));
    add("share of reasoning", p.merged.map(|m| format!("{:.2} %", 100.0 * m.share_reasoning)));
    let answers = p.answers.iter().take(4).map(|a| AnswerView {
        sample: a.sample,
        p: format!("{:.3}", a.p),
        said: match a.answer {
            Some(true) => "yes",
            Some(false) => "no",
            None => "neither yes nor no",
        },
        tokens: a.tokens,
        text: a.text.trim().to_string(),
    });
    PromptView {
        row: p.row,
        target: p.target.as_ref().map_or(String::new(), |t| t.title.clone()),
        label: liked(p.label),
        right: p.verdict().zip(p.label).map(|(v, l)| (v > 0.5) == l),
        numbers,
        hint: p.hint.clone().unwrap_or_default(),
        prompt: p.prompt.clone().unwrap_or_default(),
        answers: answers.collect(),
    }
}

/// Some of the test prompts, evenly spread over them.
fn prompts(view: &RunView) -> Vec<PromptView> {
    let answered = || view.prompts.iter().filter(|p| !p.answers.is_empty());
    let mut all: Vec<&Prompt> = answered().filter(|p| p.set.as_deref() == Some("test")).collect();
    if all.is_empty() {
        all = answered().filter(|p| p.merged.is_some()).collect();
    }
    let step = all.len().div_ceil(EXAMPLES).max(1);
    all.into_iter().step_by(step).map(prompt).collect()
}

/// Facts above the fold: (name, value).
fn facts(follow: &Follow, results: Option<&Value>) -> Vec<(&'static str, String)> {
    let view = &follow.view;
    let mut out = Vec::new();
    let state = match &view.run.outcome {
        Some(o) if o.message.is_empty() => o.word.clone(),
        Some(o) => format!("{}: {}", o.word, o.message),
        None if follow.folder.is_alive() => "still at work".into(),
        None => "ended without a word (it was killed, or the machine went down)".into(),
    };
    out.push(("outcome", state));
    out.push(("recipe", view.run.recipe.clone()));
    out.push(("device", view.run.device.clone()));
    out.push(("program", format!("rallrec {}", view.run.program)));
    out.push(("began", date(view.run.first_ms)));
    out.push(("last event", date(view.run.last_ms)));
    if let Some(o) = &view.run.outcome {
        out.push(("time of the last process", tables::clock(o.seconds)));
    }
    if view.run.processes > 1 {
        out.push(("processes", view.run.processes.to_string()));
    }
    if let Some(peak) = view.system.peak {
        out.push(("peak memory", tables::bytes(peak)));
    }
    if let Some(score) = results.and_then(|r| r.get("score")).and_then(Value::as_str) {
        out.push(("score", score.replace('_', " ")));
    }
    let s = &view.sampling;
    if s.answers > 0 {
        let share = 100.0 * s.unparsed as f64 / s.answers as f64;
        out.push(("sampled answers", format!("{}, {share:.1} % of them without a yes or no", s.answers)));
    }
    if let Some(mass) = s.mass.value() {
        out.push(("P(Yes) + P(No)", format!("{mass:.3} on average, smallest {:.3}", s.mass.min.unwrap_or(mass))));
    }
    if let Some(ratio) = s.cost_ratio() {
        out.push(("cost of reasoning", format!("{ratio:.0} times a plain answer")));
    }
    out
}

/// Milliseconds since the Unix epoch as a date and time in UTC (Howard Hinnant's days-to-civil).
fn date(ms: u64) -> String {
    let seconds = ms / 1000;
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {h:02}:{m:02} UTC")
}

/// Everything that the template shows.
/// The chosen cell of the sweep, in words.
#[derive(Serialize)]
struct Chosen {
    alpha: String,
    epsilon: String,
    samples: u32,
}

#[derive(Serialize)]
struct Page<'a> {
    name: String,
    facts: Vec<(&'static str, String)>,
    machine: &'a [(String, String)],
    gaps: Vec<String>,
    notes: Vec<String>,
    warnings: Vec<(&'a str, &'a str, &'a str, u64)>,
    tables: Vec<tables::TableView>,
    stages: Vec<tables::StageRow>,
    merge: Vec<Figure>,
    chosen: Option<Chosen>,
    training: Vec<Figure>,
    embeddings: Vec<Figure>,
    examples: Vec<ExampleView>,
    sampling: Vec<Figure>,
    prompts: Vec<PromptView>,
    roofline: Option<Figure>,
    operators: Vec<tables::OperatorRow>,
    system: Vec<Figure>,
    recipe: String,
    style: &'static str,
}

/// Fills the page.
pub fn render(follow: &Follow, scatter: io::Result<Option<Scatter>>) -> io::Result<String> {
    let view = &follow.view;
    let results = follow.folder.results();
    let mut gaps = Vec::new();
    if let Err(e) = &results {
        gaps.push(format!("results.json cannot be read: {e}"));
    }
    let results = results.ok().flatten();
    let embeddings: Vec<Figure> = match scatter {
        Ok(Some(scatter)) => plots::embeddings::figures(&scatter),
        Ok(None) => Vec::new(),
        Err(e) => {
            gaps.push(format!("scatter.json cannot be read: {e}"));
            Vec::new()
        }
    };
    if let Some(sampled) = &view.sampled {
        let kinds: Vec<String> =
            sampled.kinds.iter().map(|(k, n, read)| format!("{read} of {n} {}", k.replace('_', " "))).collect();
        gaps.push(format!("the event file is very long: its beginning was sampled ({})", kinds.join(", ")));
    }
    let counts = follow.tail.counts();
    if counts.damaged > 0 {
        gaps.push(format!("{} lines of events.jsonl are damaged and were skipped", counts.damaged));
    }
    if !counts.unknown.is_empty() {
        let kinds: Vec<&str> = counts.unknown.keys().map(String::as_str).collect();
        gaps.push(format!("events of kinds that this version does not know were skipped: {}", kinds.join(", ")));
    }
    let notes: Vec<String> = results
        .as_ref()
        .and_then(|r| r.get("notes"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|n| n.as_str().map(str::to_string))
        .collect();
    let warnings = view.stages.warnings.iter().map(|w| (w.stage.as_str(), w.what.as_str(), w.next.as_str(), w.count));
    let warnings = warnings.collect();
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let failed = |e: minijinja::Error| io::Error::other(format!("report template: {e}"));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
    environment.set_syntax(syntax);
    environment.add_template("page", include_str!("page.html")).map_err(failed)?;
    let page = environment.get_template("page").map_err(failed)?;
    let page_data = Page {
        name: follow.folder.name(),
        facts: facts(follow, results.as_ref()),
        machine: &view.run.machine,
        gaps,
        notes,
        warnings,
        tables: tables::results(view, results.as_ref()),
        stages: tables::stages(view, &follow.folder),
        merge: plots::merge::figures(&view.merge),
        chosen: view.merge.chosen().map(|c| Chosen {
            alpha: short(c.alpha),
            epsilon: short(c.epsilon),
            samples: c.samples,
        }),
        training: plots::training::figures(&view.training),
        embeddings,
        examples: view.retrieval.examples.iter().take(EXAMPLES).map(example).collect(),
        sampling: plots::sampling::figures(&view.sampling),
        prompts: prompts(view),
        roofline: plots::operators::roofline(&view.operators),
        operators: tables::operators(view),
        system: plots::system::figures(&view.system),
        recipe: follow.folder.recipe_text().unwrap_or_default(),
        style: include_str!("page.css"),
    };
    page.render(minijinja::Value::from(Serde(&page_data))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_709_251_199_000), "2024-02-29 23:59 UTC");
        assert_eq!(date(1_709_251_200_000), "2024-03-01 00:00 UTC");
    }
}
