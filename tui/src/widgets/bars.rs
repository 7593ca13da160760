//! Horizontal bars and sparklines.

use ratatui::text::Span;

use crate::theme::Theme;

/// A bar of `columns` columns, filled to the share `x` of 1.
pub fn bar(x: f64, columns: usize, theme: Theme) -> String {
    let (full, empty) = theme.bar_glyphs();
    let filled = if x.is_finite() { (x.clamp(0.0, 1.0) * columns as f64).round() as usize } else { 0 };
    (0..columns).map(|i| if i < filled { full } else { empty }).collect()
}

/// The last `columns` values as a line of eighths between `low` and `high` (their own bounds when
/// `None`).
pub fn spark(values: &[f64], columns: usize, range: Option<(f64, f64)>, theme: Theme) -> String {
    let shown = &values[values.len().saturating_sub(columns)..];
    let Some((low, high)) = range.or_else(|| super::chart::bounds(shown.iter().copied())) else {
        return String::new();
    };
    let glyphs = theme.eighths();
    shown
        .iter()
        .map(|v| {
            if !v.is_finite() {
                return ' ';
            }
            let t = if high > low { ((v - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
            glyphs[1 + (t * 7.0).round() as usize]
        })
        .collect()
}

/// A bar with colour: green below `warn`, then yellow, red from `bad`.
pub fn gauge(x: f64, columns: usize, (warn, bad): (f64, f64), theme: Theme) -> Span<'static> {
    let style = match x {
        x if x >= bad => theme.bad(),
        x if x >= warn => theme.warn(),
        _ => theme.good(),
    };
    Span::styled(bar(x, columns, theme), style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_their_length() {
        let theme = Theme { ascii: true, ..Theme::default() };
        assert_eq!(bar(0.5, 4, theme), "##..");
        assert_eq!(bar(f64::NAN, 3, theme), "...");
        assert_eq!(bar(7.0, 3, theme), "###");
        assert_eq!(spark(&[0.0, 1.0, 2.0], 2, None, Theme::default()), "▁█");
        assert_eq!(spark(&[], 2, None, Theme::default()), "");
        assert_eq!(spark(&[f64::NAN, 1.0], 9, None, Theme::default()).chars().count(), 2);
    }
}
