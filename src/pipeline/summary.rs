//! What a run ends with: `results.json` and `results.md`, the tables with the merge that was chosen
//! and what is worth knowing about the numbers.

use std::collections::HashMap;

use super::chosen::Variant;
use super::results::{MergeSummary, Results};
use super::run::Run;
use super::scores;
use super::stage::Made;
use super::stages::merge::MergeOutcome;
use super::stages::reason::{Reasoned, Reasoning};
use super::stages::retrieve::Shown;
use super::stages::{AllMade, ByVariant, GraphOnly};
use crate::config::Recipe;
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::Score;
use crate::eval::ranking::RankingTable;
use crate::merge::Merged;
use crate::monitor::Monitor;

/// Writes and returns the results of a run that went through all stages.
///
/// # Errors
/// Damaged artifacts, a folder that cannot be written.
pub fn write(run: &Run, recipe: &Recipe, made: &AllMade, device: &str) -> Result<Results> {
    let ranked = made.ranked.get()?;
    let mut notes = notes(recipe, made)?;
    notes.extend(ranked.notes.iter().cloned());
    scores::copy(made.tables.artifact(), run.folder())?;
    keep(
        run,
        Results {
            tables: made.tables.get()?.clone(),
            ranking: ranked.tables.clone(),
            merge: merge_summary(made.merged.get()?, made.reasoning.get()?),
            notes,
            ..frame(run, recipe, device)
        },
    )
}

/// The same of a run of the graph stages alone.
///
/// # Errors
/// As [`write`].
pub fn write_graph_only(run: &Run, recipe: &Recipe, made: &GraphOnly, device: &str) -> Result<Results> {
    let ranked = made.ranked.get()?;
    let left_out: Vec<&str> = made.left_out.iter().map(|stage| stage.name()).collect();
    let mut notes = vec![format!("{}; left out: {}", made.why, left_out.join(", "))];
    notes.extend(ranked.notes.iter().cloned());
    if ranked.tables.is_empty() {
        notes.push("no user has a held-out like that was not seen before, so there is no ranking to measure".into());
    }
    keep(run, Results { ranking: ranked.tables.clone(), notes, ..frame(run, recipe, device) })
}

/// What the results of every run say, without tables.
fn frame(run: &Run, recipe: &Recipe, device: &str) -> Results {
    let (_, peak) = run.reporter().memory();
    Results {
        version: super::results::VERSION,
        recipe: recipe.name.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        device: device.into(),
        score: match recipe.predict.score {
            Score::TwoWay => "two_way".into(),
            Score::DoubleSoftmax => "double_softmax".into(),
        },
        tables: Vec::new(),
        ranking: Vec::new(),
        merge: None,
        notes: Vec::new(),
        stages: run.times(),
        seconds: run.seconds(),
        peak_memory: peak,
    }
}

fn keep(run: &Run, results: Results) -> Result<Results> {
    // After the tables of predictions, which the stage `evaluate` has told.
    for row in results.ranking.iter().flat_map(RankingTable::events) {
        run.reporter().emit(row);
    }
    let json = serde_json::to_vec_pretty(&results).map_err(|e| Error::failed("results.json", e))?;
    durable::write(&run.folder().join("results.json"), &json)?;
    durable::write(&run.folder().join("results.md"), results.markdown().as_bytes())?;
    Ok(results)
}

fn merge_summary(outcome: &MergeOutcome, reasoning: &Reasoning) -> Option<MergeSummary> {
    let n = outcome.test.len();
    if n == 0 {
        return None;
    }
    let mean = |f: &dyn Fn(&Merged) -> f64| outcome.test.iter().map(|(_, m)| f(m)).sum::<f64>() / n as f64;
    // Sums must not depend on the order of a hash map.
    let mut rows: Vec<_> = reasoning.rows.iter().collect();
    rows.sort_by_key(|(row, _)| **row);
    let samples: Vec<_> = rows.into_iter().flat_map(|(_, samples)| samples).collect();
    let of_samples =
        |f: &dyn Fn(&Reasoned) -> f64| samples.iter().map(|s| f(s)).sum::<f64>() / samples.len().max(1) as f64;
    Some(MergeSummary {
        cells: outcome.cells.clone(),
        test_cells: outcome.test_cells.clone(),
        metric: if outcome.cells.is_empty() { "the recipe".into() } else { outcome.metric.clone() },
        valid_rows: outcome.valid_rows,
        alpha: outcome.chosen.alpha,
        epsilon: outcome.chosen.epsilon,
        samples: outcome.chosen.samples,
        mean_share: mean(&|m| m.share_reasoning),
        largest_share: outcome.test.iter().map(|(_, m)| m.share_reasoning).fold(0.0, f64::max),
        mean_variance: mean(&|m| m.var_reasoning),
        mean_tokens: of_samples(&|s| f64::from(s.tokens)),
        unparsed: of_samples(&|s| f64::from(u8::from(s.answer.is_none()))),
    })
}

fn notes(recipe: &Recipe, made: &AllMade) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let rows = &made.data.rows;
    notes.extend(rows.fewer(recipe).iter().map(ToString::to_string));
    let targets: usize = rows.tune.iter().map(Vec::len).sum();
    let chosen = match (recipe.tune.select_on_test, recipe.tune.valid_rows) {
        (true, 0) => "early stop on the TEST rows themselves (D7): optimistic".to_string(),
        (true, n) => format!("early stop on the first {n} TEST rows themselves (D7): optimistic"),
        (false, 0) => format!("early stop on {} validation rows", rows.valid.len()),
        (false, n) => format!("early stop on {} validation rows", n.min(rows.valid.len())),
    };
    notes.push(format!("tuned on {targets} training targets behind {} histories; {chosen}", rows.tune.len()));
    if let Some(mass) = made.scores.main.get()?.mean_mass() {
        notes.push(format!("P(Yes) + P(No) of the tuned model: {mass:.3} on average over the test rows"));
    }
    if recipe.collab.wording != crate::text::ratings::Wording::None {
        notes.push(
            "prompts carry causal features in words (an option beyond the papers), cross-fitted on training rows"
                .into(),
        );
    }
    if recipe.soft.is_on() {
        notes.push("the tuned model reads soft prompt tokens (an option beyond the papers)".into());
    }
    if let Some(experts) = &made.merged.get()?.experts {
        let weights: Vec<String> = experts.alphas.iter().map(|(e, a)| format!("{} {a}", e.name())).collect();
        notes.push(format!("experts' weights, by {} validation rows: {}", experts.valid_rows, weights.join(", ")));
    }
    if !recipe.faithful {
        notes.extend(published(&made.shown)?);
    } else {
        notes.push("faithful = true: the authors' defects are reproduced; the numbers are for comparison".into());
    }
    Ok(notes)
}

/// How far the authors' published retrieval is from the recipe's, on the same rows.
fn published(shown: &ByVariant<Made<Vec<Shown>>>) -> Result<Option<String>> {
    let items = |shown: &[Shown], variant: Variant| -> HashMap<usize, Vec<u32>> {
        let own = shown.iter().filter(|s| s.request.variant == variant);
        own.map(|s| (s.request.row, s.items.iter().map(|r| r.item.0).collect())).collect()
    };
    let ours = items(shown.score.get()?, Variant::Main);
    let theirs = items(shown.ablation.get()?, Variant::Published);
    let (mut rows, mut changed, mut all, mut other) = (0, 0, 0, 0);
    for (row, theirs) in &theirs {
        let Some(ours) = ours.get(row) else { return Ok(None) };
        let new = theirs.iter().filter(|i| !ours.contains(i)).count();
        rows += 1;
        changed += usize::from(ours != theirs);
        all += theirs.len();
        other += new;
    }
    Ok((rows > 0).then(|| {
        format!(
            "the authors' published retrieval (D1, D6, D10) changes what is shown in {changed} of {rows} rows; {:.1} % of \
             the items that it shows are others",
            100.0 * other as f64 / all.max(1) as f64
        )
    }))
}
