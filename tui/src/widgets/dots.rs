//! A grid of dots: braille (two by four dots a cell) or, in ASCII, one marker a cell.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::theme::{Palette, Theme};

/// Bit of the braille pattern for the dot at (column, row) of a cell.
const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The series of what lies behind the others.
pub const FAINT: usize = 200;

/// Dots that wait to be drawn.
#[derive(Debug)]
pub struct Dots {
    columns: usize,
    rows: usize,
    /// (pattern, series) of each cell.
    cells: Vec<(u8, u8)>,
    markers: bool,
}

impl Dots {
    /// An empty grid as large as `area`. Where `several` series cannot be told apart by colour,
    /// each has a marker of its own.
    pub fn new(area: Rect, theme: Theme, several: bool) -> Self {
        let (columns, rows) = (usize::from(area.width), usize::from(area.height));
        let markers = theme.ascii || (several && theme.palette == Palette::Mono);
        Self { columns, rows, cells: vec![(0, 0); columns * rows], markers }
    }

    /// A marker a cell instead of dots.
    pub fn has_markers(&self) -> bool {
        self.markers
    }

    /// Dots across and down.
    pub fn resolution(&self) -> (usize, usize) {
        if self.markers { (self.columns, self.rows) } else { (self.columns * 2, self.rows * 4) }
    }

    /// Sets one dot, counted from the top left; outside the grid nothing happens.
    pub fn set(&mut self, x: usize, y: usize, series: usize) {
        let (width, height) = self.resolution();
        if x >= width || y >= height {
            return;
        }
        let (cell, bit) =
            if self.markers { (y * self.columns + x, 1) } else { (y / 4 * self.columns + x / 2, BITS[x % 2][y % 4]) };
        if let Some(cell) = self.cells.get_mut(cell) {
            *cell = (cell.0 | bit, series.min(255) as u8);
        }
    }

    /// Sets the dots of a straight line: all of them, or with `dash` 1 and more those of dashes.
    pub fn line(&mut self, from: (usize, usize), to: (usize, usize), series: usize, dash: usize) {
        let (x0, y0, x1, y1) = (from.0 as f64, from.1 as f64, to.0 as f64, to.1 as f64);
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).max(1.0);
        let mut i = 0.0;
        while i <= steps {
            let t = i / steps;
            let (x, y) = ((x0 + (x1 - x0) * t).round() as usize, (y0 + (y1 - y0) * t).round() as usize);
            // By the place, so that the dashes go on from one piece of a curve to the next.
            let shown = match dash {
                0 => true,
                1 => x % 6 < 4,
                _ => x % 4 == 0,
            };
            if shown {
                self.set(x, y, series);
            }
            i += 1.0;
        }
    }

    /// Draws the dots that are set; other cells stay as they are.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, theme: Theme) {
        let area = area.intersection(buffer.area);
        for row in 0..self.rows.min(usize::from(area.height)) {
            for column in 0..self.columns.min(usize::from(area.width)) {
                let (pattern, series) = self.cells[row * self.columns + column];
                if pattern == 0 {
                    continue;
                }
                let series = usize::from(series);
                let glyph = if self.markers {
                    theme.marker(series)
                } else {
                    char::from_u32(0x2800 + u32::from(pattern)).unwrap_or('.')
                };
                let cell = &mut buffer[(area.x + column as u16, area.y + row as u16)];
                cell.set_char(glyph).set_style(theme.series(series));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_land_where_they_should() {
        let area = Rect::new(0, 0, 2, 1);
        let theme = Theme::default();
        let mut dots = Dots::new(area, theme, false);
        assert_eq!(dots.resolution(), (4, 4));
        dots.set(0, 0, 0);
        dots.set(3, 3, 1);
        dots.set(99, 99, 0);
        let mut buffer = Buffer::empty(area);
        dots.draw(area, &mut buffer, theme);
        assert_eq!(buffer[(0, 0)].symbol(), "⠁");
        assert_eq!(buffer[(1, 0)].symbol(), "⢀");
    }

    /// Without colours two curves once looked the same.
    #[test]
    fn without_colours_each_series_has_a_marker() {
        let theme = Theme { palette: Palette::Mono, ascii: false };
        let area = Rect::new(0, 0, 2, 1);
        let mut dots = Dots::new(area, theme, true);
        dots.set(0, 0, 0);
        dots.set(1, 0, 1);
        let mut buffer = Buffer::empty(area);
        dots.draw(area, &mut buffer, theme);
        assert_ne!(buffer[(0, 0)].symbol(), buffer[(1, 0)].symbol());
        assert!(!Dots::new(area, theme, false).has_markers(), "one curve needs none");
    }

    #[test]
    fn a_line_has_no_gaps() {
        let area = Rect::new(0, 0, 9, 5);
        let theme = Theme { ascii: true, ..Theme::default() };
        let mut dots = Dots::new(area, theme, false);
        dots.line((0, 0), (8, 4), 0, 0);
        let mut buffer = Buffer::empty(area);
        dots.draw(area, &mut buffer, theme);
        for x in 0..9 {
            assert!((0..5).any(|y| buffer[(x, y)].symbol() == "*"), "column {x} is empty");
        }
    }
}
