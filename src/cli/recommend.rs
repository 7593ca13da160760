//! `rallrec recommend`: the whole catalogue for one user of a finished run.

use std::path::{Path, PathBuf};

use comfy_table::CellAlignment;

use super::output::{self, Interruptible};
use crate::config;
use crate::error::{Error, Result};
use crate::pipeline::progress::thousands;
use crate::pipeline::run::Run;
use crate::serve::{Recommendation, Recommendations, Request, recommend};

/// What ranks the recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Ranking {
    /// LightGCN.
    #[default]
    Graph,
    /// LightGCN chooses, the tuned language model orders.
    Llm,
}

/// Recommend items to one user of a finished run, with the parts of each score and the reasons.
///
/// Ranks every item that the user has not rated. Needs the stages data, describe, embed, graph
/// and align of the run (and, with --score llm, collab, retrieve, prompts and tune), and of a log
/// without ratings data and graph; nothing is computed again.
#[derive(clap::Args)]
#[command(after_help = "Example: rallrec recommend --run runs/demo --user 17 --top 10")]
pub struct RecommendArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Id of the user, as the data set writes it.
    #[arg(long, value_name = "ID")]
    user: String,
    /// How many items, 1 to 256.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    top: u16,
    /// Items without any rating to learn from that are listed besides, by the similarity of their
    /// text.
    #[arg(long, default_value_t = 3, value_name = "N")]
    cold: usize,
    /// What ranks the recommendations.
    #[arg(long, value_enum, default_value_t)]
    score: Ranking,
    /// Print JSON, with all parts of each score.
    #[arg(long)]
    json: bool,
}

pub fn main(args: RecommendArgs) -> Result<()> {
    let recipe = recipe_of(&args.run)?;
    let run = Run::open_finished(&args.run)?;
    let request =
        Request { user: args.user, top: usize::from(args.top), cold: args.cold, ask_model: args.score == Ranking::Llm };
    let found = recommend(&run, &recipe, &request, &Interruptible("recommend"))?;
    if args.json { output::json(&found) } else { output::text(&render(&found)) }
}

fn recipe_of(folder: &Path) -> Result<config::Recipe> {
    let path = folder.join("recipe.toml");
    if !path.is_file() {
        return Err(Error::input(folder.display(), "is not a run folder: there is no recipe.toml in it")
            .next("give the folder that `rallrec run` wrote into, e.g. runs/demo"));
    }
    output::recipe(&path, &[]).map(|read| read.recipe)
}

fn render(found: &Recommendations) -> String {
    let known = if found.implicit {
        format!("{} rows; {} other items", thousands(found.ratings as u64), thousands(found.candidates as u64))
    } else {
        format!(
            "{} ratings, {} liked; {} items not rated",
            thousands(found.ratings as u64),
            thousands(found.liked as u64),
            thousands(found.candidates as u64)
        )
    };
    let mut out = format!(
        "user {}: {known}, {}\n",
        found.user,
        if found.ranked_by == "lightgcn" {
            "ranked by LightGCN"
        } else {
            "ranked by what everybody likes (the user is not in the training graph)"
        }
    );
    out.push_str(&section(&found.items, found.implicit));
    if !found.cold.is_empty() {
        out.push_str("\nnew items, without ratings to learn from, by their text:\n");
        out.push_str(&section(&found.cold, found.implicit));
    }
    out
}

fn section(items: &[Recommendation], implicit: bool) -> String {
    if items.is_empty() {
        return "\n(no items)\n".into();
    }
    let asked = items.iter().any(|i| i.model_probability.is_some());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    let mut header = vec!["#", "item", "title", "LightGCN", "rank"];
    header.extend(asked.then_some("model"));
    // Without ratings nobody is known to dislike anything: what counts is who chose it.
    header.extend(if implicit { &["chosen by"][..] } else { &["liked by", "baseline"] });
    header.extend(["text", "graph", "SSL", ""]);
    table.set_header(&header);
    let number = |x: Option<f32>| x.map_or("-".to_string(), |x| format!("{x:.3}"));
    for (n, item) in items.iter().enumerate() {
        let parts = item.because.first().map(|b| b.parts).unwrap_or_default();
        let mut row = vec![
            (n + 1).to_string(),
            item.item.clone(),
            item.title.clone(),
            number(item.lightgcn_score),
            item.lightgcn_rank.map_or("-".into(), |r| r.to_string()),
        ];
        row.extend(asked.then(|| item.model_probability.map_or("-".into(), |p| format!("{p:.3}"))));
        row.push(format!("{:.1} %", 100.0 * item.item_mean));
        row.extend((!implicit).then(|| format!("{:.3}", item.baseline)));
        row.extend([
            number(parts.text),
            number(parts.colla),
            number(parts.ssl),
            if item.is_cold { "cold".into() } else { String::new() },
        ]);
        table.add_row(row);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if at != 2 && at + 1 != header.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("\n{table}\n\n");
    for (n, item) in items.iter().enumerate() {
        out.push_str(&format!("{:>3}. {}: {}\n", n + 1, item.title, item.reason));
    }
    out
}
