//! Every merged row as a point: what the reasoning model says over what the tuned model says.

use rallrec_events::view::MergeRow;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line as TextLine, Span};

use super::{ordered, selected};
use crate::format;
use crate::panes::sampling::points::{groups, mark, plot};
use crate::state::{OpenRun, State};
use crate::widgets::chart::{Chart, Line};
use crate::widgets::text;

fn at(row: &MergeRow) -> (f64, f64) {
    (row.mean_tuned, row.mean_reasoning)
}

fn lines(run: &OpenRun) -> Vec<Line> {
    let right = |row: &MergeRow| row.label.map(|l| (row.p > 0.5) == l);
    let mut lines = groups(run.view.merge.rows.iter().map(|row| (at(row), right(row))));
    // Where both say the same; dotted, so that it does not look like a curve.
    let even = (0..=20).map(|i| (f64::from(i) / 20.0, f64::from(i) / 20.0)).collect();
    lines.insert(0, Line { dots: true, faint: true, ..Line::new("", even, 5) });
    lines
}

fn chart(lines: &[Line]) -> Chart<'_> {
    Chart {
        title: "reasoning's p over tuned p; merged:",
        lines,
        x: Some((0.0, 1.0)),
        y: Some((0.0, 1.0)),
        unit: "tuned p",
        names_only: true,
        selected: true,
        ..Chart::default()
    }
}

/// Draws the points and a mark on the selected row.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let Some(row) = selected(state) else {
        return text::note(area, buffer, "no row has been merged yet", theme);
    };
    let lines = lines(run);
    let chart = chart(&lines);
    chart.draw(plot(area), buffer, theme);
    mark(chart.cell(plot(area), at(row)), buffer, theme);
    let title = run.view.prompts.get(row.row).and_then(|p| p.target.as_ref()).map(|t| format::clean(&t.title));
    let words = format!("tuned {:.3}, reasoning {:.3}, merged {:.3}  ", row.mean_tuned, row.mean_reasoning, row.p);
    let line = TextLine::from(vec![
        Span::styled(format!("X row {}  ", row.row), theme.accent()),
        Span::raw(words),
        Span::styled(row.label.map_or("", |l| if l { "liked  " } else { "not liked  " }), theme.warn()),
        Span::raw(title.map_or(String::new(), |t| format!("{t}  "))),
        Span::styled("Enter reads it", theme.dim()),
    ]);
    text::line(Rect { y: area.y + area.height.saturating_sub(1), height: 1, ..area }, buffer, 0, &line);
}

/// The place in the order of rows of the one that is drawn nearest to the mouse.
pub fn nearest(state: &State, run: &OpenRun, area: Rect, mouse: Position) -> Option<usize> {
    let lines = lines(run);
    let rows = ordered(&run.view.merge, state.panes.merge.order);
    chart(&lines).nearest(plot(area), mouse, rows.iter().enumerate().map(|(i, row)| (at(row), i)))
}
