//! Two runs of one recipe row by row: prompts, probabilities, sampled answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::events::StageId;
use crate::pipeline::artifact::{MANIFEST, check_format};
use crate::pipeline::rows::read_rows;

/// What names a row in both runs.
type Name = String;

/// What two runs are compared by.
#[derive(Debug, Default)]
pub struct Rows {
    /// The turns of each prompt.
    prompts: BTreeMap<Name, Value>,
    /// Probability of "Yes" of each prompt.
    predictions: BTreeMap<Name, f64>,
    /// Text of each sampled answer, and the probability behind it.
    answers: BTreeMap<Name, (String, f64)>,
}

#[derive(Deserialize)]
struct PromptLine {
    set: String,
    row: usize,
    variant: Value,
    prompt: Value,
}

#[derive(Deserialize)]
struct PredictionLine {
    model: String,
    set: String,
    row: usize,
    variant: Value,
    p: f64,
}

#[derive(Deserialize)]
struct AnswerLine {
    set: String,
    row: usize,
    sample: u32,
    text: String,
    p: f64,
}

impl Rows {
    /// Of a finished run.
    ///
    /// # Errors
    /// A stage that is not there, or there more than once: with other settings it was done again in
    /// the same folder.
    pub fn read(run: &Path) -> Result<Self> {
        check_format(run)?;
        let file = |stage: StageId, part: &str, name: &str| Ok::<_, Error>(artifact(run, stage, part)?.join(name));
        let mut rows = Self::default();
        for part in ["tune", "score", "ablation"] {
            for line in read_rows::<PromptLine>(&file(StageId::Prompts, part, "prompts.jsonl")?)? {
                // Rows that the early stop looks at are scored too; their prompts are the same.
                rows.prompts.insert(format!("{} row {}, {}", line.set, line.row, line.variant), line.prompt);
            }
        }
        for part in ["score", "ablation", "zero_shot"] {
            for line in read_rows::<PredictionLine>(&file(StageId::Predict, part, "predictions.jsonl")?)? {
                let name = format!("{} model, {} row {}, {}", line.model, line.set, line.row, line.variant);
                rows.predictions.insert(name, line.p);
            }
        }
        let passes = [
            ("", "samples.jsonl"),
            (" without a hint", "without_hint.jsonl"),
            (" without retrieval", "without_retrieval.jsonl"),
        ];
        for (which, name) in passes {
            let path = file(StageId::Reason, "", name)?;
            // Only a recipe that asks for them has answers without a hint or without retrieval.
            if !which.is_empty() && !path.exists() {
                continue;
            }
            for line in read_rows::<AnswerLine>(&path)? {
                let name = format!("{} row {}, sample {}{which}", line.set, line.row, line.sample);
                rows.answers.insert(name, (line.text, line.p));
            }
        }
        Ok(rows)
    }
}

/// The folder of the only artifact of a stage's part.
fn artifact(run: &Path, stage: StageId, part: &str) -> Result<PathBuf> {
    let all = run.join("artifacts");
    let dot = if part.is_empty() { "" } else { "." };
    let prefix = format!("{stage}{dot}{part}-");
    let entries = std::fs::read_dir(&all)
        .map_err(|e| Error::io(&all, "read the run", &e).next("give the folder of a finished run, e.g. runs/demo"))?;
    let whole = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(&prefix).is_some_and(|key| !key.contains(['-', '.'])) && path.join(MANIFEST).exists()
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(whole).collect();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => {
            Err(Error::input(run.display(), format!("no finished stage `{stage}`"))
                .next("run the recipe to its end first"))
        }
        (Some(_), more) => Err(Error::input(run.display(), format!("{} results of the stage `{stage}`", more + 1))
            .next("compare runs made in new folders, with one recipe each")),
    }
}

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Kind {
    /// Rows of both runs, and of one alone.
    pub rows: usize,
    /// How many differ: by more than the tolerance, in their text, or by being in one run alone.
    pub differ: usize,
    /// The largest difference of a probability among rows that both have.
    pub worst: Option<f64>,
    /// The first of them, the largest difference first.
    pub which: Vec<Name>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Difference of probabilities that is allowed.
    pub tolerance: f64,
    /// Prompts: the same words.
    pub prompts: Kind,
    /// Probabilities of the models.
    pub predictions: Kind,
    /// Sampled answers: the same text, and the probability behind it.
    pub answers: Kind,
}

const ANSWERS: &str = "sampled answers";
/// Rows that are named.
const NAMED: usize = 5;

/// Compares rows by name. `apart` is the difference of two rows' probabilities, 0 for rows without
/// any, or infinite for another text.
fn kind<T>(a: &BTreeMap<Name, T>, b: &BTreeMap<Name, T>, tolerance: f64, apart: impl Fn(&T, &T) -> f64) -> Kind {
    let mut names: Vec<&Name> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let distance = |name: &Name| match (a.get(name), b.get(name)) {
        (Some(a), Some(b)) => apart(a, b),
        _ => f64::INFINITY,
    };
    let all: Vec<(f64, &Name)> = names.iter().map(|name| (distance(name), *name)).collect();
    // NaN is beyond any tolerance.
    let mut beyond: Vec<&(f64, &Name)> =
        all.iter().filter(|(d, _)| !matches!(d.partial_cmp(&tolerance), Some(o) if o.is_le())).collect();
    beyond.sort_by(|x, y| y.0.total_cmp(&x.0));
    Kind {
        rows: all.len(),
        differ: beyond.len(),
        worst: all.iter().map(|(d, _)| *d).filter(|d| d.is_finite()).max_by(f64::total_cmp),
        which: beyond.iter().take(NAMED).map(|(_, name)| (*name).clone()).collect(),
    }
}

/// Compares two runs.
pub fn compare(a: &Rows, b: &Rows, tolerance: f64) -> Found {
    let same = |equal: bool| if equal { 0.0 } else { f64::INFINITY };
    Found {
        tolerance,
        prompts: kind(&a.prompts, &b.prompts, tolerance, |a, b| same(a == b)),
        predictions: kind(&a.predictions, &b.predictions, tolerance, |a, b| (a - b).abs()),
        answers: kind(
            &a.answers,
            &b.answers,
            tolerance,
            |a, b| if a.0 == b.0 { (a.1 - b.1).abs() } else { f64::INFINITY },
        ),
    }
}

impl Found {
    fn kinds(&self) -> [(&'static str, &Kind); 3] {
        [("prompts", &self.prompts), ("predictions", &self.predictions), (ANSWERS, &self.answers)]
    }

    /// What is wrong with the first kind of rows of which more than `share` differ.
    pub fn too_many(&self, share: f64) -> Option<String> {
        self.kinds().into_iter().find_map(|(name, kind)| {
            // A recipe may sample nothing; one that predicts nothing has nothing to compare.
            if kind.rows == 0 && name != ANSWERS {
                return Some(format!("there are no {name}"));
            }
            let wrong = kind.differ as f64 > share * kind.rows as f64;
            wrong.then(|| format!("{} of {} {name} differ, e.g. {}", kind.differ, kind.rows, kind.which.join("; ")))
        })
    }

    /// A line for each kind.
    pub fn text(&self) -> String {
        let line = |(name, kind): (&str, &Kind)| {
            let worst = kind.worst.map_or(String::new(), |w| format!(", largest difference {w:.2e}"));
            format!("{name}: {} of {} differ{worst}\n", kind.differ, kind.rows)
        };
        self.kinds().into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(p: f64, text: &str) -> Rows {
        let mut rows = Rows::default();
        for row in 0..4 {
            rows.prompts.insert(format!("{row}"), Value::from("words"));
            rows.predictions.insert(format!("{row}"), 0.25);
            rows.answers.insert(format!("{row}"), ("so yes".into(), 0.5));
        }
        rows.predictions.insert("3".into(), p);
        rows.answers.insert("3".into(), (text.into(), 0.5));
        rows
    }

    #[test]
    fn what_differs_is_counted_named_and_held_to_its_share() {
        let a = rows(0.25, "so yes");
        let near = compare(&a, &rows(0.2509765625, "so yes"), 0.0009765625);
        assert_eq!((near.predictions.differ, near.predictions.worst), (0, Some(0.0009765625)));
        assert_eq!(near.too_many(0.0), None);
        let far = compare(&a, &rows(0.375, "so yes"), 0.1);
        assert_eq!((far.predictions.differ, far.predictions.worst), (1, Some(0.125)));
        assert_eq!(far.predictions.which, ["3"]);
        assert!(far.too_many(0.24).is_some_and(|what| what.contains("1 of 4 predictions")));
        assert_eq!(far.too_many(0.25), None);
        let other = compare(&a, &rows(0.25, "so no"), 1.0);
        assert!(other.too_many(0.0).is_some_and(|what| what.contains("sampled answers")), "{other:?}");
    }

    #[test]
    fn rows_that_lack_and_nan_differ_whatever_is_allowed() {
        let (a, mut b) = (rows(0.25, "so yes"), rows(0.25, "so yes"));
        b.prompts.remove("2");
        assert_eq!(compare(&a, &b, 1.0).prompts.differ, 1);
        assert_eq!(compare(&b, &a, 1.0).prompts.differ, 1);
        let nan = compare(&a, &rows(f64::NAN, "so yes"), 1.0);
        assert_eq!((nan.predictions.differ, nan.predictions.worst), (1, Some(0.0)));
        assert!(compare(&Rows::default(), &Rows::default(), 1.0).too_many(1.0).is_some(), "nothing is not the same");
    }
}
