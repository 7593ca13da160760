//! Single lines of text, cut to the rectangle.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format;
use crate::theme::Theme;

/// Draws `line` on row `row` of `area`, from its left edge; rows outside are skipped.
pub fn line(area: Rect, buffer: &mut Buffer, row: u16, line: &Line) {
    let area = area.intersection(buffer.area);
    if row >= area.height || area.width == 0 {
        return;
    }
    let drawable = |span: &Span<'_>| Span::styled(format::drawable(&span.content).into_owned(), span.style);
    if line.spans.iter().all(|span| span.content.is_ascii()) {
        buffer.set_line(area.x, area.y + row, line, area.width);
    } else {
        let line = Line::from(line.spans.iter().map(drawable).collect::<Vec<_>>());
        buffer.set_line(area.x, area.y + row, &line, area.width);
    }
}

/// As [`line`], for one style.
pub fn plain(area: Rect, buffer: &mut Buffer, row: u16, text: &str, style: Style) {
    line(area, buffer, row, &Line::from(Span::styled(text.to_string(), style)));
}

/// As [`plain`], flush right.
pub fn right(area: Rect, buffer: &mut Buffer, row: u16, text: &str, style: Style) {
    let width = format::width(text).min(usize::from(area.width)) as u16;
    let place = Rect { x: area.x + area.width - width, width, ..area };
    plain(place, buffer, row, text, style);
}

/// A text in the middle of `area`, wrapped: what a pane says when it has nothing to show.
pub fn note(area: Rect, buffer: &mut Buffer, text: &str, theme: Theme) {
    let width = usize::from(area.width).saturating_sub(2).min(70);
    let lines = format::wrap(text, width.max(1));
    let top = usize::from(area.height).saturating_sub(lines.len()) / 2;
    for (i, text) in lines.iter().enumerate() {
        let left = (usize::from(area.width).saturating_sub(format::width(text)) / 2) as u16;
        let place = Rect { x: area.x + left, width: area.width - left, ..area };
        plain(place, buffer, (top + i) as u16, text, theme.dim());
    }
}

/// The window of `rows` rows out of `count` that keeps `selected` in view: the first row shown.
pub fn window(selected: usize, count: usize, rows: usize) -> usize {
    if rows == 0 || count <= rows {
        return 0;
    }
    selected.saturating_sub(rows / 2).min(count - rows)
}

/// Pairs of label and value: `label value   label value`, the labels dim.
pub fn facts(pairs: &[(&str, String)], theme: Theme) -> Line<'static> {
    let mut spans = Vec::with_capacity(pairs.len() * 2);
    for (i, (label, value)) in pairs.iter().enumerate() {
        let gap = if i == 0 { "" } else { "   " };
        // A pair without a label is a word for itself.
        let space = if label.is_empty() { "" } else { " " };
        spans.push(Span::styled(format!("{gap}{label}{space}"), theme.dim()));
        spans.push(Span::styled(value.clone(), theme.text()));
    }
    Line::from(spans)
}

/// As many of `pairs` a line as fit, in as many lines as are needed. A value that is longer than a
/// line is cut.
pub fn fact_lines(pairs: &[(&str, String)], columns: u16, theme: Theme) -> Vec<Line<'static>> {
    let columns = usize::from(columns);
    let pairs: Vec<(&str, String)> = pairs
        .iter()
        .map(|(label, value)| {
            let room = columns.saturating_sub(format::width(label) + 1);
            (*label, format::cut(value, room, theme.marks().ellipsis))
        })
        .collect();
    let mut out = Vec::new();
    let mut start = 0;
    let mut used = 0;
    for (i, (label, value)) in pairs.iter().enumerate() {
        let w = format::width(label) + 1 + format::width(value);
        if i > start && used + 3 + w > columns {
            out.push(facts(&pairs[start..i], theme));
            start = i;
            used = 0;
        }
        used += w + if i > start { 3 } else { 0 };
    }
    if start < pairs.len() {
        out.push(facts(&pairs[start..], theme));
    }
    out
}

/// The head of a pane, `pairs` in at most a quarter of its height, and what is left below it.
pub fn head(pairs: &[(&str, String)], area: Rect, theme: Theme) -> (Vec<Line<'static>>, Rect) {
    let mut lines = fact_lines(pairs, area.width, theme);
    lines.truncate(usize::from(area.height / 4).max(1));
    let height = (lines.len() as u16).min(area.height);
    (lines, Rect { y: area.y + height, height: area.height - height, ..area })
}

/// Draws `lines` from the top of `area` on.
pub fn lines(area: Rect, buffer: &mut Buffer, lines: &[Line]) {
    for (i, one) in lines.iter().enumerate() {
        line(area, buffer, i as u16, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_keeps_the_selection_in_view() {
        for count in 0..30 {
            for rows in 0..12 {
                for selected in 0..count {
                    let first = window(selected, count, rows);
                    assert!(first + rows <= count.max(rows));
                    assert!(rows == 0 || (first <= selected && selected < first + rows));
                }
            }
        }
    }

    #[test]
    fn facts_break_where_the_line_is_full() {
        let pairs = [("a", "1".to_string()), ("b", "22".into()), ("c", "3".into())];
        let lines: Vec<String> = fact_lines(&pairs, 11, Theme::default()).iter().map(|l| l.to_string()).collect();
        assert_eq!(lines, ["a 1   b 22", "c 3"]);
    }
}
