//! A heat map with labelled rows and columns, values in the cells and one cell marked.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{chart, text};
use crate::format;
use crate::theme::Theme;

/// What to draw: `cells[row][column]`, NaN where there is none.
#[derive(Debug, Clone)]
pub struct Heat<'a> {
    /// Heading.
    pub title: &'a str,
    /// Labels from top to bottom.
    pub rows: Vec<String>,
    /// Labels from left to right.
    pub columns: Vec<String>,
    /// Values.
    pub cells: Vec<Vec<f64>>,
    /// (row, column) of the chosen cell.
    pub chosen: Option<(usize, usize)>,
    /// The lowest value is the best one (log loss).
    pub low_is_good: bool,
}

impl Heat<'_> {
    /// Draws as many rows and columns as fit.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, theme: Theme) {
        let area = area.intersection(buffer.area);
        text::plain(area, buffer, 0, self.title, theme.text());
        let gutter = self.rows.iter().map(|l| format::width(l)).max().unwrap_or(0) as u16 + 1;
        let n = self.columns.len() as u16;
        if area.height < 3 || n == 0 || area.width < gutter + n * 2 {
            return;
        }
        let width = ((area.width - gutter) / n).min(12);
        let room = area.height - 2;
        let height = (room / (self.rows.len() as u16).max(1)).clamp(1, 3);
        let Some((low, high)) = chart::bounds(self.cells.iter().flatten().copied()) else { return };
        self.legend(area, buffer, theme);
        for (c, label) in self.columns.iter().enumerate() {
            let x = area.x + gutter + c as u16 * width;
            let place = Rect { x, width, ..area };
            text::plain(place, buffer, 1, &format::cut(label, usize::from(width - 1), '~'), theme.dim());
        }
        for (r, label) in self.rows.iter().enumerate() {
            let y = 2 + r as u16 * height;
            if y + height > area.height {
                break;
            }
            text::right(Rect { width: gutter - 1, ..area }, buffer, y + (height - 1) / 2, label, theme.dim());
            for c in 0..self.columns.len() {
                let value = self.cells.get(r).and_then(|row| row.get(c)).copied().unwrap_or(f64::NAN);
                let place = Rect::new(area.x + gutter + c as u16 * width, area.y + y, width, height);
                self.draw_cell(place, buffer, theme, value, (low, high), self.chosen == Some((r, c)));
            }
        }
    }

    /// From the worst colour to the best, at the end of the heading where there is room.
    fn legend(&self, area: Rect, buffer: &mut Buffer, theme: Theme) {
        const STEPS: u16 = 8;
        let words = ["worse ", " better"].map(|w| format::width(w) as u16);
        let width = words[0] + STEPS + words[1];
        if usize::from(area.width) < format::width(self.title) + 2 + usize::from(width) {
            return;
        }
        let x = area.x + area.width - width;
        let at = |x: u16, width: u16| Rect { x, width, height: 1, ..area };
        text::plain(at(x, words[0]), buffer, 0, "worse", theme.dim());
        for step in 0..STEPS {
            let (glyph, style) = theme.heat(f64::from(step) / f64::from(STEPS - 1));
            buffer[(x + words[0] + step, area.y)].set_char(glyph).set_style(style);
        }
        text::plain(at(x + words[0] + STEPS, words[1]), buffer, 0, " better", theme.dim());
    }

    fn draw_cell(&self, place: Rect, buffer: &mut Buffer, theme: Theme, value: f64, range: (f64, f64), chosen: bool) {
        if !value.is_finite() {
            text::plain(place, buffer, (place.height - 1) / 2, "-", theme.dim());
            return;
        }
        let mut t = if range.1 > range.0 { (value - range.0) / (range.1 - range.0) } else { 0.5 };
        if self.low_is_good {
            t = 1.0 - t;
        }
        let (glyph, style) = theme.heat(t);
        for y in 0..place.height {
            for x in 0..place.width {
                buffer[(place.x + x, place.y + y)].set_char(glyph).set_style(style);
            }
        }
        let digits = if place.width >= 8 { format!("{value:.4}") } else { format!("{value:.2}") };
        let words = match (chosen, usize::from(place.width)) {
            (true, w) if w >= format::width(&digits) + 2 => format!("[{digits}]"),
            (false, w) if w > format::width(&digits) => format!(" {digits}"),
            (true, _) => "*".into(),
            (false, _) => String::new(),
        };
        let on = if chosen { theme.on_heat(t).patch(ratatui::style::Modifier::BOLD) } else { theme.on_heat(t) };
        text::plain(place, buffer, (place.height - 1) / 2, &words, on);
    }
}
