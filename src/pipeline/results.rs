//! What a run ends with: tables, the merge that was chosen, times and memory.

use rallrec_events::metric::{METRICS, Metric, Shown};
use serde::{Deserialize, Serialize};

use super::cost::AnswerCosts;
use super::progress::clock;
use super::stages::baselines::Cost;
use crate::eval::ranking::RankingTable;
use crate::eval::{Published, Slice, Table, ThoughtTables, slices};
use crate::merge::Cell;

/// Layout of `results.json` that this program writes and reads.
pub const VERSION: u32 = rallrec_events::folder::RESULTS_VERSION;

/// `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Layout version.
    pub version: u32,
    /// Name of the recipe.
    pub recipe: String,
    /// Program version.
    pub program: String,
    /// Device in words.
    pub device: String,
    /// How two logits became a probability.
    pub score: String,
    /// The tables, the main one first.
    pub tables: Vec<Section>,
    /// How well items are ranked, part by part.
    #[serde(default)]
    pub ranking: Vec<RankingTable>,
    /// What the baselines of the tables took.
    #[serde(default)]
    pub costs: Vec<Cost>,
    /// What the answers of the language models took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerCosts>,
    /// What the reasoning samples' length and agreement say of their answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thoughts: Option<ThoughtTables>,
    /// The merge.
    pub merge: Option<MergeSummary>,
    /// Things worth knowing about the numbers.
    pub notes: Vec<String>,
    /// (stage, seconds, reused).
    pub stages: Vec<StageTime>,
    /// Seconds of this process; less than the sum of the stages when some were reused.
    pub seconds: f64,
    /// Peak resident memory of this process, bytes.
    pub peak_memory: u64,
}

/// A table with its title.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Title.
    pub title: String,
    /// Rows with metrics and intervals.
    pub table: Table,
    /// What others published of the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// The rows apart by how many training ratings their item has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// Time of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Name.
    pub stage: String,
    /// Seconds of work when it was made.
    pub seconds: f64,
    /// An earlier artifact was reused in this process.
    pub reused: bool,
}

/// How the models were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeSummary {
    /// The grid on the validation rows.
    pub cells: Vec<Cell>,
    /// The same grid on the test rows; nothing is chosen by it.
    #[serde(default)]
    pub test_cells: Vec<Cell>,
    /// Metric of the grid.
    pub metric: String,
    /// Validation rows it was chosen on.
    pub valid_rows: usize,
    /// Chosen trust in the reasoning model.
    pub alpha: f64,
    /// Chosen constant on the variances.
    pub epsilon: f64,
    /// Chosen number of samples; 0 = all.
    pub samples: u32,
    /// Mean share of the reasoning model in the weights, test rows.
    pub mean_share: f64,
    /// Largest share of the reasoning model, test rows.
    pub largest_share: f64,
    /// Mean variance over the samples, test rows.
    pub mean_variance: f64,
    /// Mean length of a reasoning sample in tokens.
    pub mean_tokens: f64,
    /// Share of samples whose hard answer was neither yes nor no.
    pub unparsed: f64,
}

impl Results {
    /// For a terminal.
    pub fn render(&self) -> String {
        let width = terminal_width();
        let mut out = String::new();
        for Section { title, table, published, .. } in &self.tables {
            out.push_str(&format!("\n{title}\n{}\n", table.to_text_beside(width, published.as_ref()).trim_end()));
        }
        for table in &self.ranking {
            out.push_str(&format!("\n{}\n{}\n", table.title(), table.to_text(width).trim_end()));
        }
        out.push_str(&self.footer());
        out
    }

    /// `results.md`.
    pub fn markdown(&self) -> String {
        let mut out =
            format!("# {}\n\nrallrec {}, {}, score {}.\n", self.recipe, self.program, self.device, self.score);
        for Section { title, table, published, slices } in &self.tables {
            out.push_str(&format!("\n## {title}\n\n{}\n", table.to_markdown_beside(published.as_ref()).trim_end()));
            if !slices.is_empty() {
                out.push_str(&format!("\n{}", slices::markdown(slices)));
            }
        }
        for table in &self.ranking {
            out.push_str(&format!("\n## {}\n\n{}\n", table.title(), table.to_markdown().trim_end()));
        }
        if !self.costs.is_empty() {
            out.push_str("\n## Costs of the baselines\n\n| model | seconds | MiB |\n| --- | ---: | ---: |\n");
            for Cost { name, seconds, bytes } in &self.costs {
                out.push_str(&format!("| {name} | {seconds:.2} | {:.1} |\n", *bytes as f64 / f64::from(1 << 20)));
            }
        }
        let answers = self.answers.as_ref().map(AnswerCosts::markdown).unwrap_or_default();
        if !answers.is_empty() {
            out.push_str(&format!("\n## Costs of the answers\n\n{answers}"));
        }
        let thoughts = self.thoughts.as_ref().map(ThoughtTables::markdown).unwrap_or_default();
        if !thoughts.is_empty() {
            out.push_str(&format!("\n## Reasoning samples by length and agreement, test rows\n\n{thoughts}"));
        }
        if let Some(grid) = self.merge.as_ref().and_then(MergeSummary::grid) {
            out.push_str(&format!("\n## The merge's settings\n\n{grid}\n"));
        }
        out.push_str(&format!("\n## Merge, notes, times\n\n```text\n{}\n```\n", self.footer().trim_matches('\n')));
        out
    }

    fn footer(&self) -> String {
        let mut out = String::new();
        if let Some(m) = &self.merge {
            out.push_str(&format!(
                "\nmerge: alpha {}, epsilon {}, {} samples, chosen by {} on {} validation rows\n\
                 reasoning model's share of the weight: mean {:.1} %, largest {:.1} %; variance over samples {:.4}; \
                 {:.0} tokens a sample; {:.1} % without a yes or no\n",
                m.alpha,
                m.epsilon,
                if m.samples == 0 { "all".to_string() } else { m.samples.to_string() },
                m.metric,
                m.valid_rows,
                100.0 * m.mean_share,
                100.0 * m.largest_share,
                m.mean_variance,
                m.mean_tokens,
                100.0 * m.unparsed
            ));
        }
        for note in &self.notes {
            out.push_str(&format!("note: {note}\n"));
        }
        let times: Vec<_> = self
            .stages
            .iter()
            .map(|s| format!("{} {}{}", s.stage, clock(s.seconds), if s.reused { " (reused)" } else { "" }))
            .collect();
        out.push_str(&format!(
            "\nstages: {}\ntotal {}, peak memory {:.2} GiB\n",
            times.join(", "),
            clock(self.seconds),
            self.peak_memory as f64 / (1u64 << 30) as f64
        ));
        out
    }
}

impl MergeSummary {
    /// The grid in words and figures: validation rows, by which it was chosen, beside test rows.
    /// `None` without a search.
    fn grid(&self) -> Option<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["samples", "alpha", "epsilon", "validation", "test", "chosen"]);
        for (n, cell) in self.cells.iter().enumerate() {
            table.add_row([
                if cell.samples == 0 { "all".to_string() } else { cell.samples.to_string() },
                cell.alpha.to_string(),
                cell.epsilon.to_string(),
                format!("{:.4}", cell.value),
                self.test_cells.get(n).map_or("-".to_string(), |test| format!("{:.4}", test.value)),
                if cell.chosen { "yes" } else { "" }.to_string(),
            ]);
        }
        (!self.cells.is_empty())
            .then(|| format!("{} by setting; chosen on {} validation rows.\n\n{table}", self.metric, self.valid_rows))
    }
}

/// The main tables of several runs, one row a (run, model).
pub fn side_by_side(all: &[(String, &Results)]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    let rows = |results: &Results| results.tables.first().map_or(Vec::new(), |s| s.table.rows.clone());
    let known = |m: &Metric| all.iter().flat_map(|(_, r)| rows(r)).any(|row| row.metrics.get(m.name).is_some());
    let metrics: Vec<&Metric> =
        METRICS.into_iter().filter(|m| m.overview && (m.shown < Shown::Wide || known(m))).collect();
    table.set_header(["run", "model", "n"].into_iter().chain(metrics.iter().map(|m| m.title)));
    let shown = |e: Option<crate::eval::Estimate>| {
        e.map_or("n/a".to_string(), |e| match (e.low, e.high) {
            (Some(low), Some(high)) => format!("{:.4} [{low:.4}, {high:.4}]", e.value),
            _ => format!("{:.4}", e.value),
        })
    };
    for (run, results) in all {
        for row in rows(results) {
            let mut line = vec![run.clone(), row.name.clone(), row.n.to_string()];
            line.extend(metrics.iter().map(|m| shown(row.metrics.get(m.name))));
            table.add_row(line);
        }
    }
    // What others published of a data set stands once, behind the runs.
    let mut told: Vec<&Published> = Vec::new();
    for published in all.iter().filter_map(|(_, r)| r.tables.first()?.published.as_ref()) {
        if told.iter().all(|known| known.data != published.data) {
            told.push(published);
        }
    }
    let mut captions = String::new();
    for published in told {
        for row in &published.rows {
            let mut line = vec!["published".to_string(), row.name.clone(), String::new()];
            line.extend(metrics.iter().map(|m| row.metrics.get(m.name).map_or(String::new(), |e| shown(Some(e)))));
            table.add_row(line);
        }
        captions += &format!("\n{}", published.caption());
    }
    format!("{table}{captions}")
}

/// Columns of the terminal on standard output; `None` when it is a file or a pipe.
fn terminal_width() -> Option<u16> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns)
}
