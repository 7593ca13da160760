//! The merge: heat map of the sweep, reliability, shares of weight.

use std::fmt::Write;

use rallrec_events::metric::{Better, Metric};
use rallrec_events::view::{Cell, Merge};

use super::Figure;
use crate::plot::{Axis, Plot, short};

/// Alpha down, epsilon across, for one number of samples.
fn heat(cells: &[&Cell], lower_is_better: bool) -> String {
    let mut alphas: Vec<f64> = cells.iter().map(|c| c.alpha).collect();
    let mut epsilons: Vec<f64> = cells.iter().map(|c| c.epsilon).collect();
    for values in [&mut alphas, &mut epsilons] {
        values.sort_by(f64::total_cmp);
        values.dedup();
    }
    let values = || cells.iter().map(|c| c.value).filter(|v| v.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let (left, top, h) = (70.0, 30.0, 30.0);
    let w = (430.0 / epsilons.len().max(1) as f64).min(110.0);
    let (width, height) = (520.0, top + h * alphas.len() as f64 + 34.0);
    let mut out = format!(
        r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="Merge sweep"><title>Merge sweep</title>"#
    );
    for (j, e) in epsilons.iter().enumerate() {
        let x = left + w * (j as f64 + 0.5);
        let _ =
            write!(out, r#"<text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#, top - 8.0, short(*e));
    }
    let places = |values: &[f64], v: f64| values.iter().position(|x| *x == v).unwrap_or(0) as f64;
    for (i, a) in alphas.iter().enumerate() {
        let y = top + h * (i as f64 + 0.5) + 4.0;
        let _ =
            write!(out, r#"<text class="tick" x="{}" y="{y:.1}" text-anchor="end">{}</text>"#, left - 8.0, short(*a));
    }
    // The chosen cell last, so that its frame lies above its neighbours.
    let mut cells = cells.to_vec();
    cells.sort_by_key(|c| c.chosen);
    for cell in cells {
        let (x, y) = (left + w * places(&epsilons, cell.epsilon), top + h * places(&alphas, cell.alpha));
        let share = if high > low { (cell.value - low) / (high - low) } else { 0.5 };
        let share = if lower_is_better { 1.0 - share } else { share };
        let opacity = 0.06 + 0.74 * if share.is_finite() { share } else { 0.0 };
        let chosen = if cell.chosen { " chosen" } else { "" };
        let _ = write!(
            out,
            r#"<rect class="cell{chosen}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill-opacity="{opacity:.3}"/><text class="value" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            x + 1.0,
            y + 1.0,
            w - 2.0,
            h - 2.0,
            x + 0.5 * w,
            y + 0.5 * h + 4.0,
            if cell.value.is_finite() { format!("{:.4}", cell.value) } else { "n/a".into() }
        );
    }
    let middle = left + 0.5 * w * epsilons.len() as f64;
    let _ = write!(
        out,
        r#"<text class="label" x="{middle:.1}" y="{}" text-anchor="middle">epsilon</text><text class="label" transform="translate(14 {:.1}) rotate(-90)" text-anchor="middle">alpha</text></svg>"#,
        height - 12.0,
        top + 0.5 * h * alphas.len() as f64
    );
    out
}

fn reliability(merge: &Merge) -> Option<Figure> {
    let models =
        [("c0", "tuned", &merge.tuned), ("c1", "reasoning", &merge.reasoning), ("c2", "merged", &merge.merged)];
    if models.iter().all(|m| m.2.n == 0) {
        return None;
    }
    let axis = |label: &str| Axis::fixed(label, -0.02, 1.02);
    let mut plot = Plot::new("Reliability", axis("mean predicted probability"), axis("share of likes")).square();
    plot.line("guide", [(0.0, 0.0), (1.0, 1.0)].into_iter());
    let mut parts = Vec::new();
    for (class, name, model) in models {
        let points = model.reliability.points();
        // A line through a bin of one or two rows would only show chance.
        let enough = (model.n / 50).max(3);
        plot.line(class, points.iter().filter(|p| p.2 >= enough).map(|p| (p.0, p.1)));
        for p in &points {
            // Area by entries.
            plot.dots(class, 1.5 + 6.0 * (p.2 as f64 / model.n.max(1) as f64).sqrt(), [(p.0, p.1)].into_iter(), &[]);
        }
        plot.legend(class, name);
        if let Some(ece) = model.reliability.ece() {
            parts.push(format!("{name} {ece:.3}"));
        }
    }
    let caption = format!(
        "Reliability over {} merged test rows; dots grow with their rows. Mean distance from the diagonal over these bins of equal width (the tables' calibration error has bins of equal mass): {}.",
        merge.merged.n,
        parts.join(", ")
    );
    Some(Figure::new(plot.finish(), caption))
}

fn shares(merge: &Merge) -> Option<Figure> {
    let rows: Vec<_> = merge.rows.iter().collect();
    let x = Axis::over("variance over the samples", rows.iter().map(|r| r.var_reasoning))?;
    let y = Axis::over("reasoning model's share, %", rows.iter().map(|r| 100.0 * r.share_reasoning))?;
    let mut plot = Plot::new("Share of the reasoning model", x, y);
    plot.dots("c0", 2.0, rows.iter().map(|r| (r.var_reasoning, 100.0 * r.share_reasoning)), &[]);
    let mut caption = format!(
        "The reasoning model's share of the weight: mean {:.2} %, largest {:.2} %, over {} rows.",
        100.0 * merge.share.value().unwrap_or(0.0),
        100.0 * merge.share.max.unwrap_or(0.0),
        merge.share.n
    );
    if let Some(cell) = merge.chosen() {
        let bound = 100.0 * Merge::largest_possible_share(cell.alpha);
        let _ = write!(
            caption,
            " With one run of the tuned model it is at most {bound:.1} % at alpha {}.",
            short(cell.alpha)
        );
    }
    Some(Figure::new(plot.finish(), caption))
}

fn side_by_side(merge: &Merge) -> Option<Figure> {
    if merge.rows.is_empty() {
        return None;
    }
    let axis = |label: &str| Axis::fixed(label, 0.0, 1.0);
    let mut plot =
        Plot::new("Tuned and reasoning model", axis("p of the tuned model"), axis("mean p of the samples")).square();
    plot.line("guide", [(0.0, 0.0), (1.0, 1.0)].into_iter());
    for (class, label, wanted) in [("c1", "disliked", Some(false)), ("c0", "liked", Some(true))] {
        let rows = merge.rows.iter().filter(|r| r.label == wanted);
        plot.dots(class, 2.4, rows.map(|r| (r.mean_tuned, r.mean_reasoning)), &[]);
        plot.legend(class, label);
    }
    Some(Figure::new(plot.finish(), "What the two models say about each merged row."))
}

/// The pictures of the merge: the sweep for each number of samples, shares, reliability, the two
/// models side by side.
pub fn figures(merge: &Merge) -> Vec<Figure> {
    let mut out = Vec::new();
    let mut counts: Vec<u32> = merge.cells.iter().map(|c| c.samples).collect();
    counts.sort_unstable();
    counts.dedup();
    for samples in counts {
        let cells: Vec<&Cell> = merge.cells.iter().filter(|c| c.samples == samples).collect();
        let metric = cells.first().map_or("", |c| c.metric.as_str());
        let lower = Metric::named(metric).is_some_and(|m| m.better == Better::Lower);
        let of = if samples == 0 { "all samples".to_string() } else { format!("{samples} samples") };
        let caption = format!(
            "Merge sweep on the validation rows, {of}: {} ({} is better); the chosen cell is framed.",
            Metric::named(metric).map_or_else(|| metric.replace('_', " "), |m| m.title.to_string()),
            if lower { "lower" } else { "higher" }
        );
        out.push(Figure::new(heat(&cells, lower), caption));
    }
    out.extend([shares(merge), reliability(merge), side_by_side(merge)].into_iter().flatten());
    out
}
