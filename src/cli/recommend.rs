//! `rallrec recommend`: the whole catalogue for users of a finished run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use comfy_table::CellAlignment;

use super::output::{self, Interruptible};
use crate::data::delimited::{Dialect, Records};
use crate::error::{Error, Result};
use crate::export::{Column, Kind, Target, Value, Writer};
use crate::pipeline::progress::thousands;
use crate::pipeline::run::Run;
use crate::serve::{Met, Recommendation, Recommendations, Request, Who};
use crate::terminal::say;

/// What orders the recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Ranking {
    /// The ranker that is the best by validation.
    #[default]
    #[value(alias = "graph")]
    Best,
    /// The same chooses candidates, the tuned language model's answers count in their order.
    Llm,
}

/// Recommend items to users of a finished run, with the parts of each score and the reasons.
///
/// Ranks every item that a user has not rated, by the ranker that is the best by validation. Needs
/// the stages data, describe, embed, graph and align of the run (and, with --score llm, collab,
/// retrieve, prompts and tune), and of a log without ratings data and graph. People who are not in
/// the data are served by what they have rated (--history).
#[derive(clap::Args)]
#[command(after_long_help = help())]
pub struct RecommendArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Id of a user, as the data set writes it; may be given several times.
    #[arg(long, value_name = "ID", required_unless_present_any = ["history", "all_users"])]
    user: Vec<String>,
    /// Somebody who rated these: "ID:RATING,ID,..." (a row without a rating is a like), or a CSV
    /// file with the columns item and, where there are some, rating; oldest first.
    #[arg(long, value_name = "LIST|FILE", conflicts_with_all = ["user", "all_users"])]
    history: Option<String>,
    /// All users of the run, written as they are ranked.
    #[arg(long, requires = "to", conflicts_with = "user")]
    all_users: bool,
    /// Ids of items that are not to be listed, separated by commas; may be given several times.
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    exclude: Vec<String>,
    /// How many items, 1 to 256.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    top: u16,
    /// Items without any rating to learn from that are listed besides, by the similarity of their
    /// text.
    #[arg(long, default_value_t = 3, value_name = "N")]
    cold: usize,
    /// What orders the recommendations. The language model is asked about recommend.candidates
    /// items, for recommend.model_seconds at most; its answers are weighed by validation rows.
    #[arg(long, value_enum, default_value_t)]
    score: Ranking,
    /// Take in the ratings that the raw data has by now, without a new fit: histories and counts
    /// know them, people who are new are served by their histories, weights and vectors stay.
    #[arg(long)]
    with_new_ratings: bool,
    /// Write the lists as a table: FILE.csv, FILE.jsonl or FILE.parquet (the first two also with
    /// .gz behind), FILE.db#TABLE for SQLite, or postgresql://HOST/DATABASE#TABLE.
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// Replace a file or a table that is there.
    #[arg(long, requires = "to")]
    force: bool,
    /// Print JSON, with all parts of each score.
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 8] = [
    Column::new("user", Kind::Text, "id as the data set writes it"),
    Column::new("rank", Kind::Integer, "place in the user's list, from 1; new items come after the others"),
    Column::new("item", Kind::Text, "id as the data set writes it"),
    Column::new("title", Kind::Text, "title of the item"),
    Column::new("score", Kind::Real, "what orders the list; of a new item, the similarity of its text"),
    Column::new("probability", Kind::Real, "what the tuned language model says; missing without --score llm"),
    Column::new("cold", Kind::Boolean, "whether nobody had rated the item in training"),
    Column::new("reason", Kind::Text, "why, in words"),
];

/// An example, and the columns of `--to`.
fn help() -> String {
    let columns = output::columns("--to", &COLUMNS);
    format!("{columns}\nExample: rallrec recommend --run runs/demo --user 17 --top 10")
}

fn write(found: &Recommendations, table: &mut dyn Writer) -> Result<()> {
    for (at, item) in found.items.iter().chain(&found.cold).enumerate() {
        table.row(&[
            Value::or_none(found.user.as_deref().map(Value::Text)),
            Value::Integer(at as i64 + 1),
            Value::Text(&item.item),
            Value::Text(&item.title),
            Value::or_none(item.score.map(Value::single)),
            Value::or_none(item.model_probability.map(Value::Real)),
            Value::Boolean(item.is_cold),
            Value::Text(&item.reason),
        ])?;
    }
    Ok(())
}

/// A history on the command line or in a file.
fn history(given: &str) -> Result<Vec<Met>> {
    let path = Path::new(given);
    if !path.is_file() {
        let rows = given.split(',').filter(|row| !row.trim().is_empty());
        let Ok(rows) = rows.map(str::parse).collect::<std::result::Result<Vec<Met>, _>>();
        return Ok(rows);
    }
    let (mut records, header) = Records::with_header(path, Dialect::CSV)?;
    let (item, rating) = (header.need(&["item"])?, header.find(&["rating"]));
    let mut rows = Vec::new();
    while records.advance()? {
        let text = |column: usize| {
            let text = std::str::from_utf8(records.get(column)).map_err(|_| records.error("it is not UTF-8"))?;
            Ok::<_, Error>(text.trim().to_owned())
        };
        let rating = match rating.map(text).transpose()?.filter(|rating| !rating.is_empty()) {
            Some(rating) => Some(rating.parse().map_err(|_| {
                records.error(format!("the rating `{rating}` is no number")).next("mend it, or leave it empty")
            })?),
            None => None,
        };
        rows.push(Met { item: text(item)?, rating });
    }
    Ok(rows)
}

/// What ranked a list, and how good that is.
fn ranked_by(found: &Recommendations) -> String {
    let mut out = format!("ranked by {}", found.ranked_by);
    if found.parts.len() > 1 {
        let parts: Vec<String> = found.parts.iter().map(|part| format!("{} {}", part.weight, part.ranker)).collect();
        out += &format!(" ({})", parts.join(" + "));
    }
    if let Some(quality) = found.quality {
        out += &format!(
            "\nNDCG@10 on the validation part, which chose it, {:.3}, of popularity {:.3}",
            quality.ndcg, quality.popularity
        );
        if let (Some(own), Some(popularity)) = (quality.test_ndcg, quality.test_popularity) {
            out += &format!("; on the test part {own:.3}, of popularity {popularity:.3}");
        }
    }
    if let Some(model) = found.model {
        out += &format!(
            "\nthe tuned model was asked about {} of the {} best in {:.1} s, {:.3} s each",
            model.asked, model.candidates, model.seconds, model.seconds_each
        );
        out += &match model.weight {
            None => "\nits answers alone order them: no validation row of this run weighs them".to_string(),
            Some(own) if own.weight == 0.0 => format!(
                "\nits answers have no weight: on {} validation rows they add nothing to the ranker (AUC {:.3}; the \
                 model alone {:.3})",
                own.rows, own.ranker_auc, own.model_auc
            ),
            Some(own) => format!(
                "\nits answers weigh {} beside the ranker: AUC on {} validation rows {:.3}, of the ranker alone {:.3}, \
                 of the model alone {:.3}",
                own.weight, own.rows, own.auc, own.ranker_auc, own.model_auc
            ),
        };
    }
    out
}

pub fn main(args: RecommendArgs) -> Result<()> {
    let target = args.to.as_deref().map(Target::parse).transpose()?;
    let recipe = output::recipe_of_run(&args.run)?;
    let run = Run::open_finished(&args.run)?;
    let request = |who: Who| Request {
        who,
        top: usize::from(args.top),
        cold: args.cold,
        exclude: args.exclude.clone(),
        ask_model: args.score == Ranking::Llm,
        model_seconds: None,
    };
    let requests: Vec<Request> = match &args.history {
        Some(given) => vec![request(Who::History(history(given)?))],
        None => args.user.iter().cloned().map(|user| request(Who::User(user))).collect(),
    };
    let monitor = Interruptible("recommend");
    let recommender = output::recommender(&run, &recipe, args.with_new_ratings, &monitor)?;
    if let Some(target) = target {
        let (mut table, mut rows) = (target.open(&COLUMNS, args.force)?, 0);
        let begun = Instant::now();
        if args.all_users {
            let like = request(Who::History(Vec::new()));
            let users = recommender.recommend_all(&like, &monitor, &mut |found| {
                rows += (found.items.len() + found.cold.len()) as u64;
                write(&found, &mut *table)
            })?;
            let seconds = begun.elapsed().as_secs_f64();
            say!("{} users in {seconds:.1} s, {:.0} users/s", thousands(users), users as f64 / seconds.max(1e-9));
        }
        for request in &requests {
            let found = recommender.recommend(request, &monitor)?;
            rows += (found.items.len() + found.cold.len()) as u64;
            write(&found, &mut *table)?;
        }
        table.finish()?;
        return output::written(rows, &target, args.json);
    }
    let all: Vec<_> = requests.iter().map(|request| recommender.recommend(request, &monitor)).collect::<Result<_>>()?;
    match (args.json, all.as_slice()) {
        (true, [one]) => output::json(one),
        (true, several) => output::json(&several),
        (false, lists) => output::text(&lists.iter().map(render).collect::<Vec<_>>().join("\n")),
    }
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
    let whose = found.user.as_ref().map_or("the history given".to_string(), |user| format!("user {user}"));
    let mut out = format!("{whose}: {known}\n{}\n", ranked_by(found));
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
    let mut header = vec!["#", "item", "title", "score"];
    header.extend(asked.then_some("model"));
    // Without ratings nobody is known to dislike anything: what counts is who chose it.
    header.extend(if implicit { &["chosen by"][..] } else { &["liked by", "of"] });
    table.set_header(&header);
    for (n, item) in items.iter().enumerate() {
        let mut row = vec![
            (n + 1).to_string(),
            item.item.clone(),
            item.title.clone(),
            item.score.map_or("-".into(), |score| format!("{score:.3}")),
        ];
        row.extend(asked.then(|| item.model_probability.map_or("-".into(), |p| format!("{p:.3}"))));
        row.extend((!implicit).then(|| item.item_likes.to_string()));
        row.push(item.item_ratings.to_string());
        table.add_row(row);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        if at != 2 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(columns) = output::terminal_columns() {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic).set_width(columns);
    }
    let mut out = format!("\n{table}\n\n");
    for (n, item) in items.iter().enumerate() {
        out.push_str(&format!("{:>3}. {}: {}\n", n + 1, item.title, item.reason));
    }
    out
}
