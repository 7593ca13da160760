//! Counts in bins as upright bars.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::text;
use crate::theme::Theme;

/// Draws `counts` as bars over the whole width, `ends` below the first and the last one, and beside
/// the heading how many there are.
pub fn draw(title: &str, counts: &[u64], ends: (&str, &str), area: Rect, buffer: &mut Buffer, theme: Theme) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    text::plain(area, buffer, 0, title, theme.text());
    let n: u64 = counts.iter().fold(0, |a, b| a.saturating_add(*b));
    if area.height < 3 || area.width < 8 || n == 0 {
        return;
    }
    let columns = spread(counts, usize::from(area.width));
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let height = usize::from(area.height) - 2;
    let glyphs = theme.eighths();
    for (column, count) in columns.iter().enumerate() {
        // A bin that holds anything is always visible.
        let eighths = (*count as f64 / most as f64 * (height * 8) as f64).ceil() as usize;
        for row in 0..height {
            let level = eighths.saturating_sub((height - 1 - row) * 8).min(8);
            if level > 0 {
                let cell = &mut buffer[(area.x + column as u16, area.y + 1 + row as u16)];
                cell.set_char(glyphs[level]).set_style(theme.series(0));
            }
        }
    }
    text::right(area, buffer, 0, &format!("n {n}"), theme.dim());
    let bottom = area.height - 1;
    text::plain(area, buffer, bottom, ends.0, theme.dim());
    text::right(area, buffer, bottom, ends.1, theme.dim());
}

/// `counts` laid over `columns` columns: bins are widened where there are fewer, added up where
/// there are more.
pub fn spread(counts: &[u64], columns: usize) -> Vec<u64> {
    let bins = counts.len();
    if bins == 0 || columns == 0 {
        return Vec::new();
    }
    if bins <= columns {
        let width = columns / bins;
        return counts.iter().flat_map(|c| std::iter::repeat_n(*c, width)).collect();
    }
    (0..columns).map(|i| counts[i * bins / columns..(i + 1) * bins / columns].iter().sum()).collect()
}

/// The bins from the first to the last that holds anything: (first, one past the last); all when
/// every bin is empty.
pub fn filled(counts: &[u64]) -> (usize, usize) {
    match (counts.iter().position(|c| *c > 0), counts.iter().rposition(|c| *c > 0)) {
        (Some(first), Some(last)) => (first, last + 1),
        _ => (0, counts.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_where_bins_are_added_up() {
        let counts: Vec<u64> = (0..97).collect();
        for columns in [1, 2, 7, 50, 96, 97] {
            assert_eq!(spread(&counts, columns).iter().sum::<u64>(), counts.iter().sum::<u64>());
        }
        assert_eq!(spread(&[3, 4], 5), [3, 3, 4, 4]);
        assert!(spread(&[], 5).is_empty() && spread(&[1], 0).is_empty());
        assert_eq!(filled(&[0, 1, 0, 2, 0]), (1, 4));
        assert_eq!(filled(&[0, 0]), (0, 2));
    }
}
