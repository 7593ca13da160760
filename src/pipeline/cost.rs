//! What the answers of a language model cost, as the stages that asked it measured it. A note
//! beside the artifact: nothing is made of it, and it is no part of what the artifact is known by.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::artifact::Artifact;
use crate::durable;
use crate::error::{Error, Result};

/// The note.
pub const FILE: &str = "cost.json";

/// What was asked in one process, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct AskedCost {
    /// Rows.
    pub rows: u64,
    /// Samples of them; 0 where answers are scored and none is written.
    pub samples: u64,
    /// Tokens of the samples.
    pub tokens: u64,
    /// Seconds of asking, without loading the model.
    pub seconds: f64,
}

impl AskedCost {
    /// Writes the note, where anything was asked.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let json = serde_json::to_vec(self).map_err(|e| Error::failed(FILE, e))?;
        durable::write(&folder.join(FILE), &json)
    }

    /// Reads it; `None` where nothing was asked.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(artifact: &Artifact) -> Result<Option<Self>> {
        if !artifact.file(FILE).exists() {
            return Ok(None);
        }
        artifact.json(FILE, "remove this file").map(Some)
    }

    /// Seconds of a row.
    pub fn of_row(&self) -> f64 {
        self.seconds / self.rows.max(1) as f64
    }
}

/// Plain scoring beside reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerCosts {
    /// The tuned model, which scores a row's two answers.
    pub plain: Option<AskedCost>,
    /// The reasoning model, which writes samples and scores the answers behind them.
    pub reasoning: Option<AskedCost>,
    /// Most samples of a row (`reason.samples`).
    pub most_samples: usize,
    /// Most tokens of a sample (`reason.max_tokens`).
    pub most_tokens: usize,
}

impl AnswerCosts {
    /// How many times a row of plain scoring a row of reasoning takes.
    pub fn factor(&self) -> Option<f64> {
        let (plain, reasoning) = (self.plain?, self.reasoning?);
        (plain.seconds > 0.0).then(|| reasoning.of_row() / plain.of_row())
    }

    /// As Markdown; empty where nothing was asked.
    pub fn markdown(&self) -> String {
        let line = |name: &str, cost: &AskedCost, samples: String, tokens: String, factor: String| {
            format!("| {name} | {} | {samples} | {tokens} | {:.4} | {factor} |\n", cost.rows, cost.of_row())
        };
        let per = |a: u64, b: u64| a as f64 / b.max(1) as f64;
        let mut lines = String::new();
        if let Some(plain) = &self.plain {
            lines += &line("tuned, plain scoring", plain, "-".into(), "-".into(), "1".into());
        }
        if let Some(own) = &self.reasoning {
            let samples = format!("{:.2} of at most {}", per(own.samples, own.rows), self.most_samples);
            let tokens = format!("{:.1} of at most {}", per(own.tokens, own.samples), self.most_tokens);
            let factor = self.factor().map_or("-".into(), |factor| format!("{factor:.2}"));
            lines += &line("reasoning", own, samples, tokens, factor);
        }
        if lines.is_empty() {
            return lines;
        }
        format!(
            "| answers | rows asked | samples a row | tokens a sample | seconds a row | times plain scoring |\n\
             | --- | ---: | ---: | ---: | ---: | ---: |\n{lines}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_by_row_and_nothing_is_told_of_nothing() {
        let plain = AskedCost { rows: 200, samples: 0, tokens: 0, seconds: 20.0 };
        let reasoning = AskedCost { rows: 50, samples: 150, tokens: 4800, seconds: 15.0 };
        let mut costs =
            AnswerCosts { plain: Some(plain), reasoning: Some(reasoning), most_samples: 4, most_tokens: 32 };
        assert!((costs.factor().unwrap() - 3.0).abs() <= 1e-12);
        let text = costs.markdown();
        assert!(text.contains("| 3.00 of at most 4 | 32.0 of at most 32 | 0.3000 | 3.00 |"), "{text}");
        costs.plain = None;
        assert!(costs.factor().is_none() && costs.markdown().contains("| - |"));
        costs.reasoning = None;
        assert!(costs.markdown().is_empty());
    }
}
