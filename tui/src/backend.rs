//! The screen's last step: cells to the terminal, each at its own column.
//!
//! Terminals do not agree on how wide every text is. A glyph that turns out narrower or wider than
//! it was measured must not move what follows it, so the cursor is placed anew behind each one that
//! is not plain.

use std::io::{self, Write};

use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Position, Size};

use crate::format;

/// A backend that trusts no terminal's measure of a glyph.
pub struct Placed<W: Write> {
    inner: CrosstermBackend<W>,
}

impl<W: Write> Placed<W> {
    /// Draws to `writer`.
    pub fn new(writer: W) -> Self {
        Self { inner: CrosstermBackend::new(writer) }
    }
}

/// Every terminal that knows the glyph gives it one column: ASCII and Latin, arrows, mathematics,
/// boxes, blocks, braille.
fn is_sure(symbol: &str) -> bool {
    let mut chars = symbol.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return false };
    matches!(c, ' '..='\u{2ff}' | '\u{370}'..='\u{47f}' | '\u{2010}'..='\u{2027}' | '\u{2190}'..='\u{22ff}')
        || matches!(c, '\u{2500}'..='\u{25ff}' | '\u{2713}'..='\u{2717}' | '\u{2800}'..='\u{28ff}')
}

/// The rows with glyphs whose width is in doubt, one after the other. Where they have changed, the
/// screen is drawn anew from an empty one: what a terminal has drawn wider than was thought is in
/// no cell that we know of.
pub fn in_doubt(buffer: &Buffer) -> String {
    let mut out = String::new();
    let width = usize::from(buffer.area.width).max(1);
    for (y, row) in buffer.content().chunks(width).enumerate() {
        if row.iter().any(|cell| !is_sure(cell.symbol())) {
            out.push_str(&y.to_string());
            out.extend(row.iter().map(Cell::symbol));
        }
    }
    out
}

impl<W: Write> Backend for Placed<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut plain: Vec<(u16, u16, &Cell)> = Vec::new();
        for (x, y, cell) in content {
            if is_sure(cell.symbol()) {
                plain.push((x, y, cell));
                continue;
            }
            self.inner.draw(plain.drain(..))?;
            // A terminal that finds the glyph narrower would leave what stood there.
            let mut blank = cell.clone();
            blank.set_symbol(" ");
            let columns = format::width(cell.symbol()).clamp(1, 2) as u16;
            self.inner.draw((0..columns).map(|i| (x.saturating_add(i), y, &blank)))?;
            self.inner.draw(std::iter::once((x, y, cell)))?;
        }
        self.inner.draw(plain.into_iter())
    }

    fn append_lines(&mut self, n: u16) -> io::Result<()> {
        self.inner.append_lines(n)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        self.inner.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        self.inner.size()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        self.inner.window_size()
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_glyphs_in_doubt_are_told_from_plain_ones() {
        let plain = Buffer::with_lines(["plain é │ ⣿ ▶", "more"]);
        assert_eq!(in_doubt(&plain), "");
        let one = Buffer::with_lines(["plain", "ภาษาไทย"]);
        let other = Buffer::with_lines(["ภาษาไทย", "plain"]);
        assert!(!in_doubt(&one).is_empty() && in_doubt(&one) != in_doubt(&other));
    }

    #[test]
    fn the_cursor_is_placed_anew_behind_a_glyph_whose_width_is_in_doubt() {
        let mut written = Vec::new();
        let cell = |symbol: &'static str| Cell::new(symbol);
        let cells = [cell("a"), cell("ก\u{e34}"), cell("b"), cell("c")];
        let content = cells.iter().zip(0..).map(|(c, x)| (x, 0, c));
        Placed::new(&mut written).draw(content).unwrap();
        let text = String::from_utf8(written).unwrap();
        let (before, after) = text.split_once("ก").unwrap();
        assert!(before.contains("\u{1b}[1;2H "), "a blank below it: {}", before.escape_debug());
        assert!(after.contains("\u{1b}[1;3Hbc"), "{}", after.escape_debug());
    }
}
