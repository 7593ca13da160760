//! Curves of the training stages.

use rallrec_events::view::{Series, Training, Trainings};
use rallrec_events::{Metric, StageId};

use super::Figure;
use crate::plot::{Axis, Plot, short};

/// Buckets' means with the band from smallest to largest.
fn curve(title: &str, x: &str, y: &str, lines: &[(&str, &Series)], log: bool) -> Option<String> {
    let filled: Vec<_> = lines.iter().filter(|(_, s)| !s.is_empty()).collect();
    let all = || filled.iter().flat_map(|(_, s)| s.whole());
    let xs = Axis::over(x, all().map(|b| b.x()))?;
    let ys = all().flat_map(|b| [b.min, b.max]);
    let ys = if log { Axis::log(y, ys)? } else { Axis::over(y, ys)? };
    let mut plot = Plot::new(title, xs, ys);
    for (n, (label, series)) in filled.iter().enumerate() {
        let class = format!("c{n}");
        let buckets = series.whole();
        if buckets.iter().any(|b| b.n > 1) {
            let band: Vec<_> = buckets.iter().map(|b| (b.x(), b.min, b.max)).collect();
            plot.band(&class, &band);
        }
        plot.line(&class, buckets.iter().map(|b| (b.x(), b.mean())));
        if filled.len() > 1 {
            plot.legend(&class, label);
        }
    }
    Some(plot.finish())
}

/// All curves of one stage.
fn of_stage(stage: &str, t: &Training) -> Vec<Figure> {
    let known = StageId::named(stage);
    let title = known.map_or(stage, |s| s.title());
    let mut out = Vec::new();
    let mut add = |svg: Option<String>, caption: String| out.extend(svg.map(|svg| Figure::new(svg, caption)));
    let last = t.loss.last().map_or(String::new(), |(_, y)| format!(", {} at the end", short(y)));
    let grouped = t.loss.whole().iter().any(|b| b.n > 1);
    let band = if grouped { " The band is the range inside each group of steps." } else { "" };
    add(
        curve(&format!("{title}: training loss"), "step", "loss", &[("loss", &t.loss)], false),
        format!("{title}: training loss{last}.{band}"),
    );
    // Metrics of one size share a picture; a loss stands alone.
    let (losses, others): (Vec<_>, Vec<_>) = t.metrics.iter().partition(|(name, _)| !Metric::shares_a_chart(name));
    for (group, what) in [(losses, "held-out loss"), (others, "validation metrics")] {
        if group.is_empty() {
            continue;
        }
        let lines: Vec<(&str, &Series)> = group.iter().map(|(n, m)| (n.as_str(), &m.series)).collect();
        let best: Vec<String> = group
            .iter()
            .filter_map(|(n, m)| {
                m.best.map(|(x, y)| {
                    format!("{n}: best {} at {} {}", short(y), if m.by_epoch { "epoch" } else { "step" }, short(x))
                })
            })
            .collect();
        let x = if group.iter().all(|(_, m)| m.by_epoch) { "epoch" } else { "epoch or step" };
        let caption = if best.is_empty() {
            format!("{title}: {what}.")
        } else {
            format!("{title}: {what}. {}.", best.join("; "))
        };
        add(curve(&format!("{title}: {what}"), x, "value", &lines, false), caption);
    }
    add(
        curve(
            &format!("{title}: similarity"),
            "epoch",
            "mean cosine",
            &[("same item", &t.positive), ("different items", &t.negative)],
            false,
        ),
        format!("{title}: mean cosine of an item's own two embeddings, and of two different items'."),
    );
    add(
        curve(&format!("{title}: gradient norm"), "step", "gradient norm", &[("norm", &t.gradient_norm)], true),
        format!("{title}: norm of the gradient before clipping."),
    );
    let constant = t.learning_rate.range().is_none_or(|(a, b)| a == b);
    if !constant {
        add(
            curve(&format!("{title}: learning rate"), "step", "learning rate", &[("rate", &t.learning_rate)], false),
            format!("{title}: learning rate."),
        );
    }
    add(
        curve(
            &format!("{title}: speed"),
            "step",
            &format!("{}/s", known.map_or("units", |s| s.unit())),
            &[("speed", &t.rate)],
            false,
        ),
        format!("{title}: speed."),
    );
    out
}

/// (title, figures) of each stage, in the order of the run.
pub fn figures(all: &Trainings) -> Vec<Figure> {
    let order: Vec<&str> = StageId::ALL.iter().filter(|s| s.trains()).map(|s| s.name()).collect();
    let rest = all.0.keys().map(String::as_str).filter(|s| !order.contains(s));
    order.iter().copied().chain(rest).filter_map(|s| all.get(s).map(|t| of_stage(s, t))).flatten().collect()
}
