//! Tables: columns take the width of their content, numbers are flush right, what does not fit is
//! left out from the right, the selected row stays in view.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::text;
use crate::format;
use crate::theme::Theme;

/// One cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Its text.
    pub text: String,
    /// Its style.
    pub style: Style,
}

impl Cell {
    /// A cell in a style.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// A heading and how its column behaves.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Heading.
    pub name: &'a str,
    /// Flush right.
    pub right: bool,
    /// Takes what width is left; at most one column of a table.
    pub wide: bool,
}

/// A column of text.
pub const fn words(name: &str) -> Column<'_> {
    Column { name, right: false, wide: false }
}

/// A column of numbers.
pub const fn number(name: &str) -> Column<'_> {
    Column { name, right: true, wide: false }
}

/// The column of text that takes what is left.
pub const fn wide(name: &str) -> Column<'_> {
    Column { name, right: false, wide: true }
}

/// Draws the table; `selected` is kept in view and marked.
pub fn draw(
    columns: &[Column],
    rows: &[Vec<Cell>],
    selected: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let shown = visible(selected, rows.len(), area);
    let mut widths = headings(columns);
    widen(&mut widths, rows);
    draw_rows(columns, widths, &rows[shown.clone()], shown.start, selected, area, buffer, theme);
}

/// As [`draw`], where there are very many rows: only those that are seen are made.
pub fn draw_some(
    columns: &[Column],
    count: usize,
    row: &dyn Fn(usize) -> Vec<Cell>,
    selected: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let shown = visible(selected, count, area);
    let rows: Vec<Vec<Cell>> = shown.clone().map(row).collect();
    let mut widths = headings(columns);
    widen(&mut widths, &rows);
    draw_rows(columns, widths, &rows, shown.start, selected, area, buffer, theme);
}

/// The rows that fit into `area`.
fn visible(selected: Option<usize>, count: usize, area: Rect) -> std::ops::Range<usize> {
    let room = usize::from(area.height).saturating_sub(1);
    let first = text::window(selected.unwrap_or(0), count, room);
    first..(first + room).min(count)
}

fn headings(columns: &[Column]) -> Vec<usize> {
    columns.iter().map(|c| format::width(c.name)).collect()
}

fn widen(widths: &mut [usize], rows: &[Vec<Cell>]) {
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(format::width(&cell.text));
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the one place where all of a table comes together")]
fn draw_rows(
    columns: &[Column],
    mut widths: Vec<usize>,
    rows: &[Vec<Cell>],
    first: usize,
    selected: Option<usize>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let area = area.intersection(buffer.area);
    if area.height < 1 || area.width < 2 {
        return;
    }
    let total = usize::from(area.width);
    fit(columns, &mut widths, total);
    let line = |row: u16, cells: &dyn Fn(usize) -> (String, Style), buffer: &mut Buffer| {
        let mut x = 0;
        for (i, column) in columns.iter().enumerate() {
            let width = widths[i];
            if width == 0 {
                continue;
            }
            let (words, style) = cells(i);
            let words = format::cut(&words, width, theme.marks().ellipsis);
            let place = Rect { x: area.x + x as u16, width: width.min(total - x) as u16, ..area };
            if column.right {
                text::right(place, buffer, row, &words, style);
            } else {
                text::plain(place, buffer, row, &words, style);
            }
            x += width + 2;
            if x >= total {
                break;
            }
        }
    };
    line(0, &|i| (columns[i].name.to_string(), theme.dim()), buffer);
    let room = usize::from(area.height) - 1;
    for (i, row) in rows.iter().enumerate().take(room) {
        let y = (i + 1) as u16;
        if selected == Some(first + i) {
            buffer.set_style(Rect::new(area.x, area.y + y, area.width, 1), theme.selected());
        }
        line(y, &|c| row.get(c).map(|cell| (cell.text.clone(), cell.style)).unwrap_or_default(), buffer);
    }
}

/// The row of a table in `area` that the mouse is on; `selected` and `count` as the table was drawn
/// with.
pub fn hit(selected: usize, count: usize, area: Rect, at: Position) -> Option<usize> {
    // The heading is no row.
    let y = usize::from(at.y.checked_sub(area.y + 1)?);
    let room = usize::from(area.height).saturating_sub(1);
    let row = text::window(selected, count, room) + y;
    (area.contains(at) && row < count).then_some(row)
}

/// Shrinks the wide column first, then drops columns from the right; gives what is left to the wide
/// column, or takes it from the last one that stays.
fn fit(columns: &[Column], widths: &mut [usize], total: usize) {
    let wide = columns.iter().position(|c| c.wide);
    let used = |widths: &[usize]| -> usize {
        let shown = widths.iter().filter(|w| **w > 0).count();
        widths.iter().sum::<usize>() + 2 * shown.saturating_sub(1)
    };
    if let Some(i) = wide {
        let least = widths[i].min(10);
        let over = used(widths).saturating_sub(total);
        widths[i] = widths[i].saturating_sub(over).max(least);
    }
    // A first column without a heading is a mark and says nothing alone: the second one stays with
    // it.
    let stay = 1 + usize::from(columns.first().is_some_and(|c| c.name.is_empty()));
    let last = columns.len().saturating_sub(1);
    for i in (stay..widths.len()).rev() {
        if used(widths) <= total {
            break;
        }
        // A wide column in the middle is what the table is about; as the last one it is a remark.
        if !columns[i].wide || i == last {
            widths[i] = 0;
        }
    }
    let over = used(widths).saturating_sub(total);
    let end = widths.iter().rposition(|w| *w > 0).unwrap_or(0);
    if let Some(width) = widths.get_mut(wide.filter(|i| *i <= end).unwrap_or(end)) {
        *width = width.saturating_sub(over);
    }
    if let Some(i) = wide.filter(|i| widths[*i] > 0) {
        widths[i] += total.saturating_sub(used(widths));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: u16, height: u16, selected: Option<usize>) -> Vec<String> {
        let rows: Vec<Vec<Cell>> = (0..5)
            .map(|i| vec![format!("row {i}").into(), "a longer text".into(), format!("{}", i * 100).into()])
            .collect();
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(&[words("name"), wide("what"), number("n")], &rows, selected, area, &mut buffer, Theme::default());
        (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>()).collect()
    }

    #[test]
    fn columns_keep_their_place_and_the_selection_is_in_view() {
        let lines = drawn(30, 3, Some(4));
        assert_eq!(lines[0], "name   what                  n");
        assert_eq!(lines[2], "row 4  a longer text       400");
        let lines = drawn(22, 6, None);
        assert_eq!(lines[2], "row 1  a longer~   100".replace('~', "…"));
        for w in 0..40 {
            for h in 0..8 {
                drawn(w, h, Some(2));
            }
        }
    }

    #[test]
    fn the_mouse_finds_the_row_that_was_drawn_there() {
        for selected in 0..5 {
            let lines = drawn(30, 4, Some(selected));
            let area = Rect::new(0, 0, 30, 4);
            assert_eq!(hit(selected, 5, area, Position::new(3, 0)), None, "the heading");
            for y in 1..4u16 {
                let row = hit(selected, 5, area, Position::new(3, y)).expect("a row");
                assert!(lines[usize::from(y)].starts_with(&format!("row {row}")), "{row} in {lines:?}");
            }
            assert_eq!(hit(selected, 5, area, Position::new(3, 4)), None, "below");
            assert_eq!(hit(selected, 5, area, Position::new(30, 1)), None, "beside");
        }
        assert_eq!(hit(0, 2, Rect::new(0, 0, 30, 9), Position::new(0, 3)), None, "fewer rows than room");
    }

    #[test]
    fn a_remark_at_the_end_goes_before_the_name_does() {
        let columns = [words(""), words("name"), words("state"), wide("what")];
        let mut widths = [3, 20, 7, 40];
        fit(&columns, &mut widths, 80);
        assert_eq!(widths, [3, 20, 7, 44]);
        let mut widths = [3, 20, 7, 40];
        fit(&columns, &mut widths, 36);
        assert_eq!(widths, [3, 20, 7, 0]);
        let mut widths = [3, 20, 7, 40];
        fit(&columns, &mut widths, 20);
        assert_eq!(widths, [3, 15, 0, 0]);
    }
}
