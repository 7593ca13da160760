//! Runs side by side, finished or not: settings that differ, figures with their differences, what
//! the stages took. What the engine itself says of finished runs stands below.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rallrec_events::RunFolder;
use rallrec_events::metric::{METRICS, Metric};
use rallrec_events::view::{Row, Stage, Table};

use super::engine;
use crate::format;
use crate::panes::runs::{Setting, parse_annotated};
use crate::snapshot;
use crate::state::OpenRun;
use crate::theme::Theme;
use crate::widgets::chart::bounds;

/// One run with what is compared of it.
struct Side {
    name: String,
    run: Result<OpenRun, String>,
    settings: Vec<Setting>,
}

/// The comparison as lines to read, with what the engine says of the finished runs below it.
pub fn with_results(program: &Path, folders: &[PathBuf], now_ms: u64) -> Vec<String> {
    let mut out = lines(folders, now_ms);
    let finished: Vec<PathBuf> = folders.iter().filter(|f| f.join("results.json").is_file()).cloned().collect();
    if !finished.is_empty()
        && let Ok(engine) = engine::compare(program, &finished)
    {
        out.push(String::new());
        out.extend(engine.iter().map(|line| format::clean(line)));
    }
    out
}

/// The comparison as lines to read, of runs that need not be finished.
pub fn lines(folders: &[PathBuf], now_ms: u64) -> Vec<String> {
    let sides: Vec<Side> = folders.iter().map(|folder| read(folder, now_ms)).collect();
    let mut out = Vec::new();
    for side in &sides {
        match &side.run {
            Ok(run) => {
                out.push(format!("{}  {}  {}", side.name, run.doing().word(), format::seconds(run.elapsed(now_ms))))
            }
            Err(why) => out.push(format!("{}  {why}", side.name)),
        }
    }
    out.push("their curves lie over each other in pane 2".into());
    let mut section = |title: &str, head: &str, rows: Vec<Vec<String>>, none: &str| {
        out.extend([String::new(), title.to_string()]);
        if rows.is_empty() {
            return out.push(format!("  {none}"));
        }
        let names = sides.iter().map(|s| s.name.clone());
        let more = rows[0].len().saturating_sub(1 + sides.len());
        let heads =
            std::iter::once(head.to_string()).chain(names).chain(std::iter::repeat_n("difference".into(), more));
        out.extend(table(std::iter::once(heads.collect()).chain(rows).collect()));
    };
    section("settings that differ", "setting", settings(&sides), "none");
    section("figures", "metric", figures(&sides), "no run has any yet");
    section("ranked lists", "list", ranked(&sides), "no run has ranked the catalogue yet");
    section("curves, of one scale for all runs", "curve", curves(&sides), "nothing has been trained yet");
    section("seconds of the stages", "stage", seconds(&sides), "no stage has ended yet");
    out.iter().map(|line| format::clean(line)).collect()
}

fn read(folder: &Path, now_ms: u64) -> Side {
    let recipe = RunFolder::new(folder).recipe_text().unwrap_or_default();
    let name = folder.display().to_string();
    Side { name, run: snapshot::open(folder, now_ms), settings: parse_annotated(&recipe) }
}

/// Columns as wide as what is in them.
fn table(rows: Vec<Vec<String>>) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| format::width(c)).max().unwrap_or(0).min(40);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(text, width): (&String, &usize)| {
            let text = format::cut(text, *width, '~');
            format!("{text}{}", " ".repeat(width.saturating_sub(format::width(&text))))
        };
        let cells: Vec<String> = row.iter().zip(&widths).map(cell).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Settings with more than one value among the runs.
fn settings(sides: &[Side]) -> Vec<Vec<String>> {
    let value = |side: &Side, key: &str| {
        let found = side.settings.iter().find(|s| s.key == key);
        found.map_or("".to_string(), |s| if s.unset { "(not set)".into() } else { s.value.clone() })
    };
    let mut seen = BTreeSet::new();
    let keys = sides.iter().flat_map(|s| &s.settings).map(|s| s.key.as_str()).filter(|key| seen.insert(*key));
    let rows = keys.map(|key| (key, sides.iter().map(|side| value(side, key)).collect::<Vec<_>>()));
    rows.filter(|(_, values)| values.windows(2).any(|w| w[0] != w[1]))
        .map(|(key, values)| std::iter::once(key.to_string()).chain(values).collect())
        .collect()
}

/// Figures of the tables, and of the training while there are none; with two runs their difference.
fn figures(sides: &[Side]) -> Vec<Vec<String>> {
    let runs: Vec<Option<&OpenRun>> = sides.iter().map(|s| s.run.as_ref().ok()).collect();
    let mut rows = Vec::new();
    let mut add = |name: String, metric: Option<&Metric>, values: Vec<Option<f64>>, shown: Vec<String>| {
        if values.iter().any(Option::is_some) {
            let mut row: Vec<String> = std::iter::once(name).chain(shown).collect();
            if let [Some(a), Some(b)] = values.as_slice() {
                let better =
                    metric.filter(|_| a != b).map_or("", |m| if m.is_better(*b, *a) { " better" } else { " worse" });
                row.push(format!("{:+.4}{better}", b - a));
            } else if values.len() == 2 {
                row.push(String::new());
            }
            rows.push(row);
        }
    };
    for metric in METRICS {
        let found =
            |run: &Option<&OpenRun>| run.and_then(|r| r.view.results.main_row()).and_then(|r| r.metric(metric.name));
        let values: Vec<_> = runs.iter().map(found).collect();
        let words = |v: &Option<(f64, f64, f64)>| match v {
            Some((value, low, high)) if low.is_finite() && high.is_finite() => {
                format!("{value:.4} [{low:.4}, {high:.4}]")
            }
            Some((value, ..)) => format!("{value:.4}"),
            None => "n/a".into(),
        };
        let shown = values.iter().map(words).collect();
        add(metric.title.into(), Some(metric), values.iter().map(|v| v.map(|v| v.0)).collect(), shown);
    }
    let mut names = BTreeSet::new();
    for (stage, training) in runs.iter().flatten().flat_map(|r| &r.view.training.0) {
        names.extend(training.metrics.keys().map(|m| (stage.clone(), m.clone())));
    }
    for (stage, name) in names {
        let metric = Metric::named(&name);
        let best = |run: &Option<&OpenRun>| {
            let view = run.and_then(|r| r.view.training.get(&stage)).and_then(|t| t.metrics.get(&name))?;
            let told = view.best.map(|b| b.1);
            told.or_else(|| metric?.best(view.series.points().map(|p| p.1)))
        };
        let values: Vec<_> = runs.iter().map(best).collect();
        let shown = values.iter().map(|v| v.map_or("n/a".into(), |v| format!("{v:.4}"))).collect();
        add(format!("{stage} {name}, best"), metric, values, shown);
    }
    rows
}

/// NDCG and recall of every ranker that a run has judged on its test users, else on those of
/// validation.
fn ranked(sides: &[Side]) -> Vec<Vec<String>> {
    let tables = |side: &Side| -> Vec<Table> {
        let all = side.run.as_ref().map(|r| r.view.results.tables.clone()).unwrap_or_default();
        all.into_iter().filter(Table::is_ranking).collect()
    };
    let tables: Vec<Vec<Table>> = sides.iter().map(tables).collect();
    let known = tables.iter().flatten();
    let Some(split) = known.clone().find(|t| t.split == "test").or(known.clone().next()).map(|t| t.split.clone())
    else {
        return Vec::new();
    };
    let rows_of =
        |tables: &[Table]| tables.iter().find(|t| t.split == split).map(|t| t.rows.clone()).unwrap_or_default();
    let all: Vec<Vec<Row>> = tables.iter().map(|tables| rows_of(tables)).collect();
    let mut seen = BTreeSet::new();
    let rankers: Vec<&str> = all.iter().flatten().map(|r| r.name.as_str()).filter(|name| seen.insert(*name)).collect();
    let mut rows = Vec::new();
    for ranker in rankers {
        for (metric, title) in [("ndcg@10", "NDCG@10"), ("recall@10", "recall@10")] {
            let value = |rows: &Vec<Row>| rows.iter().find(|row| row.name == ranker).and_then(|row| row.metric(metric));
            let values: Vec<Option<f64>> = all.iter().map(|rows| value(rows).map(|v| v.0)).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let shown = values.iter().map(|v| v.map_or("n/a".into(), |v| format!("{v:.4}")));
            let mut row: Vec<String> = std::iter::once(format!("{ranker} {title} ({split})")).chain(shown).collect();
            match values.as_slice() {
                [Some(a), Some(b)] => row.push(format!("{:+.4}", b - a)),
                [_, _] => row.push(String::new()),
                _ => {}
            }
            rows.push(row);
        }
    }
    rows
}

/// Cells of a curve.
const CURVE: usize = 24;

/// Training losses and held-out metrics as small curves: every run over the same steps, from the
/// least to the largest value of all.
fn curves(sides: &[Side]) -> Vec<Vec<String>> {
    let runs: Vec<Option<&OpenRun>> = sides.iter().map(|s| s.run.as_ref().ok()).collect();
    let mut names = BTreeSet::new();
    for (stage, training) in runs.iter().flatten().flat_map(|r| &r.view.training.0) {
        names.insert((stage.clone(), String::new()));
        names.extend(training.metrics.keys().map(|m| (stage.clone(), m.clone())));
    }
    let mut rows = Vec::new();
    for (stage, name) in names {
        let points = |run: &Option<&OpenRun>| -> Vec<(f64, f64)> {
            let Some(training) = run.and_then(|r| r.view.training.get(&stage)) else { return Vec::new() };
            let series = if name.is_empty() {
                Some(&training.loss)
            } else {
                training.metrics.get(&name).map(|metric| &metric.series)
            };
            series.map(|series| series.points().filter(|p| p.1.is_finite()).collect()).unwrap_or_default()
        };
        let all: Vec<Vec<(f64, f64)>> = runs.iter().map(points).collect();
        let (Some(x), Some(y)) = (bounds(all.iter().flatten().map(|p| p.0)), bounds(all.iter().flatten().map(|p| p.1)))
        else {
            continue;
        };
        // A value that was measured once is no curve; it stands among the figures.
        if all.iter().all(|points| points.len() < 2) {
            continue;
        }
        let title = if name.is_empty() { "loss" } else { &name };
        let cell = |points: &Vec<(f64, f64)>| match points.last() {
            Some((_, last)) => format!("{} {}", sparkline(points, x, y), format::value(*last)),
            None => "n/a".into(),
        };
        rows.push(std::iter::once(format!("{stage} {title}")).chain(all.iter().map(cell)).collect());
    }
    rows
}

/// A curve in one line: in each cell the mean of its points, blank where there are none.
fn sparkline(points: &[(f64, f64)], x: (f64, f64), y: (f64, f64)) -> String {
    let mut cells = [(0.0, 0u32); CURVE];
    for point in points {
        let along = if x.1 > x.0 { (point.0 - x.0) / (x.1 - x.0) } else { 1.0 };
        let cell = &mut cells[((along * CURVE as f64) as usize).min(CURVE - 1)];
        *cell = (cell.0 + point.1, cell.1 + 1);
    }
    let glyphs = Theme::default().eighths();
    let glyph = |(sum, n): &(f64, u32)| match n {
        0 => ' ',
        _ => {
            let high = if y.1 > y.0 { (sum / f64::from(*n) - y.0) / (y.1 - y.0) } else { 0.5 };
            glyphs[1 + ((high * 7.0).round() as usize).min(7)]
        }
    };
    cells.iter().map(glyph).collect()
}

fn seconds(sides: &[Side]) -> Vec<Vec<String>> {
    let runs: Vec<Option<&OpenRun>> = sides.iter().map(|s| s.run.as_ref().ok()).collect();
    let Some(first) = runs.iter().flatten().next() else { return Vec::new() };
    let row = |stage: &Stage| {
        let took = |run: &Option<&OpenRun>| run.and_then(|r| r.view.stages.get(&stage.name)).and_then(|s| s.seconds);
        let values: Vec<_> = runs.iter().map(took).collect();
        let words = values.iter().map(|v| v.map_or("n/a".into(), format::seconds));
        values.iter().any(Option::is_some).then(|| std::iter::once(stage.name.clone()).chain(words).collect())
    };
    first.view.stages.list.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rallrec_events::{Event, Record, VERSION};

    use super::*;

    /// One run that had not ended once made the whole comparison fail.
    #[test]
    fn a_run_at_work_is_compared_with_a_finished_one() {
        let root = tempfile::tempdir().unwrap();
        let run = |name: &str, seed: u32, auc: Option<f64>| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("recipe.toml"), format!("# Seed.\nseed = {seed}\n# Same.\nsame = 1\n")).unwrap();
            let (recipe, device, program) = ("r".to_string(), "d".to_string(), "p".to_string());
            let mut events = vec![Event::RunStarted { recipe, device, program, resumed: false }];
            let metric = |value, epoch| Event::Metric {
                stage: "tune".into(),
                name: "auc".into(),
                split: "valid".into(),
                value,
                epoch: Some(epoch),
                best: true,
            };
            events.extend([metric(0.55, 1), metric(0.6 + f64::from(seed) / 100.0, 2)]);
            events.extend(auc.map(|auc| Event::ResultRow {
                row: "merged".into(),
                split: "test".into(),
                metrics: vec![("auc".into(), auc, auc - 0.01, auc + 0.01)],
                table: None,
                n: None,
                reference: None,
                against: Vec::new(),
            }));
            let lines = events.into_iter().map(|event| Record { v: VERSION, t_ms: 1_000, event }.to_line().unwrap());
            fs::write(folder.join("events.jsonl"), lines.collect::<String>()).unwrap();
            folder
        };
        let folders = [run("a", 1, Some(0.7)), run("b", 2, None), root.path().join("nowhere")];
        let ranked = |folder: &Path, value: f64| {
            let event = Event::ResultRow {
                row: "LightGCN".into(),
                split: "test".into(),
                metrics: vec![("ndcg@10".into(), value, value, value)],
                table: Some("Ranking, test part".into()),
                n: Some(3),
                reference: None,
                against: Vec::new(),
            };
            let path = folder.join("events.jsonl");
            let line = Record { v: VERSION, t_ms: 1_500, event }.to_line().unwrap();
            fs::write(&path, fs::read_to_string(&path).unwrap() + &line).unwrap();
        };
        ranked(&folders[0], 0.25);
        ranked(&folders[1], 0.5);
        let text = lines(&folders[..2], 2_000).join("\n");
        for wanted in ["seed ", "AUC ", "0.7000 [0.6900, 0.7100]", "n/a", "tune auc (valid), best", "+0.0100 better"] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        assert!(!text.contains("same"), "{text}");
        // One scale for both runs: from .55, the first value of each, to .62, the last of the
        // second.
        for wanted in ["LightGCN NDCG@10 (test)", "0.2500", "+0.2500", "▇ 0.6100", "█ 0.6200"] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        let text = lines(&folders, 2_000).join("\n");
        assert!(text.contains("there is no such folder") && text.contains("0.7000"), "{text}");
    }
}
