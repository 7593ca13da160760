//! What a run ends with: `results.json` and `results.md`, the tables with the merge that was chosen
//! and what is worth knowing about the numbers.

use std::collections::HashMap;

use super::chosen::{Set, Variant};
use super::cost::{AnswerCosts, AskedCost};
use super::results::{MergeSummary, Results, Section};
use super::run::Run;
use super::scores;
use super::stage::Made;
use super::stages::baselines;
use super::stages::data::DataOutput;
use super::stages::evaluate;
use super::stages::merge::MergeOutcome;
use super::stages::reason::{Reasoned, Reasoning};
use super::stages::retrieve::Shown;
use super::stages::{AllMade, ByVariant, GraphOnly};
use crate::config::Recipe;
use crate::data::{By, Kind, Part, Shuffle};
use crate::durable;
use crate::error::{Error, Result};
use crate::eval::ranking::RankingTable;
use crate::eval::{self, Figures, Score, ThoughtTables, Thoughts};
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
            tables: beside_published(recipe, made)?,
            ranking: ranked.tables.clone(),
            costs: baselines::costs(made.baselines.artifact())?,
            answers: answer_costs(recipe, made)?,
            thoughts: thoughts(recipe, made)?,
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
        costs: Vec::new(),
        answers: None,
        thoughts: None,
        merge: None,
        notes: Vec::new(),
        stages: run.times(),
        seconds: run.seconds(),
        peak_memory: peak,
    }
}

fn keep(run: &Run, results: Results) -> Result<Results> {
    // After the tables of predictions, which the stage `evaluate` has told.
    for row in results.tables.iter().find_map(|section| section.published.as_ref()).iter().flat_map(|p| p.events()) {
        run.reporter().emit(row);
    }
    for row in results.ranking.iter().flat_map(RankingTable::events) {
        run.reporter().emit(row);
    }
    let json = serde_json::to_vec_pretty(&results).map_err(|e| Error::failed("results.json", e))?;
    durable::write(&run.folder().join("results.json"), &json)?;
    durable::write(&run.folder().join("results.md"), results.markdown().as_bytes())?;
    Ok(results)
}

/// The tables with what others published of the data set: nothing of items that nobody rated.
fn beside_published(recipe: &Recipe, made: &AllMade) -> Result<Vec<Section>> {
    let mut tables = made.tables.get()?.clone();
    let data = made.data.output()?;
    let Some(figures) = Figures::of(recipe.data.kind.name(), &data.dataset.noun) else { return Ok(tables) };
    for section in tables.iter_mut().filter(|section| section.table.items.is_none()) {
        let histories = section.title == evaluate::HISTORIES;
        let other_rows = other_rows(figures, recipe, data, &made.data.rows.test, section.table.n);
        section.published = Some(figures.beside(histories, other_rows));
    }
    Ok(tables)
}

/// Why the `n` rows of a table, taken from `test`, are not those of the published figures.
fn other_rows(figures: &Figures, recipe: &Recipe, data: DataOutput<'_>, test: &[usize], n: usize) -> Option<String> {
    let (users, samples) = (data.dataset.users.len(), data.samples.samples.len());
    if (users, samples) != (figures.users, figures.samples) {
        let Figures { users: theirs, samples: of, .. } = figures;
        return Some(format!("{of} samples of {theirs} users; here {samples} of {users}"));
    }
    let split = recipe.data.split;
    if !matches!(split.by, By::Auto | By::Time) || (split.train + split.valid(By::Time) - 0.9).abs() > 1e-9 {
        return Some("data.split is another".into());
    }
    let shuffle = if recipe.data.shuffle == Shuffle::Python { "python" } else { "per_user" };
    if let Some(theirs) = figures.shuffle.as_deref().filter(|theirs| *theirs != shuffle) {
        return Some(format!("their order is data.shuffle = \"{theirs}\""));
    }
    let start = data.samples.split.range(Part::Test).start;
    let first = test.iter().take(figures.test).copied().eq(start..start + figures.test);
    (!first || n != figures.test).then(|| format!("the first {} test rows; here {n} test rows", figures.test))
}

/// What plain scoring and reasoning took.
fn answer_costs(recipe: &Recipe, made: &AllMade) -> Result<Option<AnswerCosts>> {
    let plain = AskedCost::read(made.scores.main.artifact())?;
    let reasoning = AskedCost::read(made.reasoning.artifact())?;
    let (most_samples, most_tokens) = (recipe.reason.samples, recipe.reason.max_tokens);
    let any = plain.is_some() || reasoning.is_some();
    Ok(any.then_some(AnswerCosts { plain, reasoning, most_samples, most_tokens }))
}

/// Length and agreement of the samples of the test rows.
fn thoughts(recipe: &Recipe, made: &AllMade) -> Result<Option<ThoughtTables>> {
    let (reasoning, main, data) = (made.reasoning.get()?, made.scores.main.get()?, made.data.output()?);
    let of = |&row: &usize| {
        let own = reasoning.rows.get(&(Set::Test, row)).filter(|own| !own.is_empty())?;
        let sample = data.sample(row);
        let samples = own.iter().map(|s| (s.tokens, s.p)).collect();
        Some(Thoughts {
            user: sample.user.0,
            label: sample.label,
            tuned: main.p(Set::Test, row, Variant::Main)?,
            samples,
        })
    };
    let rows: Vec<Thoughts> = made.data.rows.test.iter().filter_map(of).collect();
    let window = match recipe.evaluate.window {
        0 if recipe.data.kind == Kind::BOOK_CROSSING => 500,
        0 => 1000,
        window => window,
    };
    Ok((!rows.is_empty()).then(|| eval::thoughts::tables(&rows, window, &recipe.evaluate)))
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
    notes.extend(same_second(made)?);
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

/// How many test rows have a rating of the target's own second in their history.
fn same_second(made: &AllMade) -> Result<Option<String>> {
    let (data, test) = (made.data.output()?, &made.data.rows.test);
    let at_once = |row: &&usize| {
        let sample = data.sample(**row);
        data.samples.history(sample).iter().rev().any(|rated| rated.time == sample.time)
    };
    let n = test.iter().filter(at_once).count();
    Ok((data.dataset.has_times && n > 0).then(|| {
        format!(
            "{n} of {} test rows ({:.1} %) have a rating of the target's own second in their history",
            test.len(),
            100.0 * n as f64 / test.len() as f64
        )
    }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    #[test]
    fn published_figures_are_of_the_same_rows_only_where_everything_agrees() {
        let mut recipe = Recipe::default();
        let dataset = data::open(&recipe.data, &crate::monitor::Silent).unwrap();
        let samples = data::build_samples(&dataset, &recipe.data).unwrap();
        let data = DataOutput { dataset: &dataset, samples: &samples };
        let mut figures = Figures::of("ml-1m", "movie").unwrap().clone();
        (figures.users, figures.samples, figures.test) = (dataset.users.len(), samples.samples.len(), 20);
        let test: Vec<usize> = samples.split.range(Part::Test).collect();
        let why = |figures: &Figures, recipe: &Recipe, test: &[usize], n| other_rows(figures, recipe, data, test, n);
        assert_eq!(why(&figures, &recipe, &test[..20], 20), None);
        for (rows, n) in [(&test[..19], 19), (&test[1..21], 20), (&test[..20], 10)] {
            let said = why(&figures, &recipe, rows, n).unwrap();
            assert_eq!(said, format!("the first 20 test rows; here {n} test rows"));
        }
        let mut fewer = figures.clone();
        fewer.users = 7;
        assert!(why(&fewer, &recipe, &test[..20], 20).unwrap().contains("of 7 users; here"));
        let mut ordered = figures.clone();
        ordered.shuffle = Some("python".into());
        assert!(why(&ordered, &recipe, &test[..20], 20).unwrap().contains("data.shuffle"));
        recipe.data.shuffle = Shuffle::Python;
        assert_eq!(why(&ordered, &recipe, &test[..20], 20), None);
        recipe.data.split.train = 0.7;
        assert!(why(&ordered, &recipe, &test[..20], 20).unwrap().contains("data.split"));
    }
}
