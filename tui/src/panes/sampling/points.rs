//! Every sampled row as a point: how its answers vary over what they say on the mean.

use rallrec_events::view::Prompt;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line as TextLine, Span};

use super::shown;
use crate::format;
use crate::state::{OpenRun, State};
use crate::theme::Theme;
use crate::widgets::chart::{Chart, Line};
use crate::widgets::text;

/// A row as it is drawn: (mean p, variance), and whether the mean is on the right side.
struct Point {
    row: u64,
    at: (f64, f64),
    right: Option<bool>,
}

fn points(run: &OpenRun) -> Vec<Point> {
    let point = |p: &Prompt| {
        let at = p.moments()?;
        Some(Point { row: p.row, at, right: p.label.map(|l| (at.0 > 0.5) == l) })
    };
    run.view.prompts.iter().filter_map(point).collect()
}

/// One curve of dots for each of: right, wrong, not known.
pub fn groups<'a>(points: impl Iterator<Item = ((f64, f64), Option<bool>)> + Clone + 'a) -> Vec<Line> {
    [(Some(true), "right", 2), (Some(false), "wrong", 1), (None, "no label", 0)]
        .into_iter()
        .map(|(right, name, series)| {
            let mut at: Vec<(f64, f64)> = points.clone().filter(|p| p.1 == right).map(|p| p.0).collect();
            at.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { dots: true, ..Line::new(name, at, series) }
        })
        .filter(|line| !line.points.is_empty())
        .collect()
}

fn chart(lines: &[Line]) -> Chart<'_> {
    Chart {
        title: "variance over mean p, a point a row",
        lines,
        x: Some((0.0, 1.0)),
        unit: "mean p",
        names_only: true,
        selected: true,
        ..Chart::default()
    }
}

/// The chart's part: below it stands the selected row in a line.
pub fn plot(area: Rect) -> Rect {
    Rect { height: area.height.saturating_sub(1), ..area }
}

/// Draws the points and a mark on the selected row.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let all = points(run);
    if all.is_empty() {
        return text::note(area, buffer, "no answer has been sampled yet", theme);
    }
    let lines = groups(all.iter().map(|p| (p.at, p.right)));
    let chart = chart(&lines);
    chart.draw(plot(area), buffer, theme);
    let Some(prompt) = shown(state) else { return };
    if let Some(point) = all.iter().find(|p| p.row == prompt.row) {
        mark(chart.cell(plot(area), point.at), buffer, theme);
    }
    let foot = Rect { y: area.y + area.height.saturating_sub(1), height: 1, ..area };
    text::line(foot, buffer, 0, &in_a_line(prompt, theme));
}

/// The mark of the selected point.
pub fn mark(at: Option<Position>, buffer: &mut Buffer, theme: Theme) {
    if let Some(cell) = at.and_then(|at| buffer.cell_mut(at)) {
        cell.set_char('X').set_style(theme.accent());
    }
}

/// The selected row, and how to read it.
pub fn in_a_line(prompt: &Prompt, theme: Theme) -> TextLine<'static> {
    let mut spans = vec![Span::styled(format!("X row {}  ", prompt.row), theme.accent())];
    if let Some((mean, variance)) = prompt.moments() {
        spans.push(Span::raw(format!("mean p {mean:.3}, variance {variance:.4}  ")));
    }
    let label = prompt.label.map_or("", |l| if l { "liked  " } else { "not liked  " });
    spans.push(Span::styled(label, theme.warn()));
    spans.push(Span::raw(prompt.target.as_ref().map_or(String::new(), |t| format!("{}  ", format::clean(&t.title)))));
    spans.push(Span::styled("Enter reads it", theme.dim()));
    TextLine::from(spans)
}

/// Selects the point under the mouse.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let all = points(run);
    let lines = groups(all.iter().map(|p| (p.at, p.right)));
    let found = chart(&lines).nearest(plot(area), at, all.iter().map(|p| (p.at, p.row)));
    state.panes.sampling.row = found.or(state.panes.sampling.row);
}

/// Selects the next point to the right or to the left.
pub fn step(state: &mut State, right: bool) {
    let Some(run) = state.run() else { return };
    let mut all = points(run);
    all.sort_by(|a, b| a.at.0.total_cmp(&b.at.0).then(a.row.cmp(&b.row)));
    let now = shown(state).and_then(|p| all.iter().position(|point| point.row == p.row));
    let next = match now {
        Some(i) if right => (i + 1).min(all.len() - 1),
        Some(i) => i.saturating_sub(1),
        None => 0,
    };
    state.panes.sampling.row = all.get(next).map(|p| p.row).or(state.panes.sampling.row);
}
