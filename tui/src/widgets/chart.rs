//! Curves with axes, a legend that shows values, a cursor, smoothing and a logarithmic axis.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line as TextLine, Span};

use super::{Dots, text};
use crate::format;
use crate::theme::Theme;

/// One curve.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
    /// Number of its colour and marker.
    pub series: usize,
    /// Points alone, without lines between them.
    pub dots: bool,
}

impl Line {
    /// A curve through `points`.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>, series: usize) -> Self {
        Self { name: name.into(), points, series, dots: false }
    }

    /// The y of the last point at or before `x`; the last of all without `x`.
    pub fn read(&self, x: Option<f64>) -> Option<(f64, f64)> {
        match x {
            None => self.points.last().copied(),
            Some(x) => {
                let after = self.points.partition_point(|p| p.0 <= x);
                self.points.get(after.saturating_sub(1)).copied()
            }
        }
    }
}

/// A chart. Defaults: everything in view, linear, no cursor.
#[derive(Debug, Clone, Default)]
pub struct Chart<'a> {
    /// Heading, left of the legend.
    pub title: &'a str,
    /// The curves.
    pub lines: &'a [Line],
    /// Part of the x axis in view.
    pub x: Option<(f64, f64)>,
    /// Fixed part of the y axis.
    pub y: Option<(f64, f64)>,
    /// Logarithmic y axis.
    pub log: bool,
    /// Where to read values.
    pub cursor: Option<f64>,
    /// What x counts.
    pub unit: &'a str,
    /// Vertical marks with one letter each.
    pub marks: &'a [(f64, char)],
    /// The legend has names alone: the last value says nothing.
    pub names_only: bool,
    /// The chart that the keys act on.
    pub selected: bool,
}

impl Chart<'_> {
    /// Draws heading, axes and curves into `area`.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, theme: Theme) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            return;
        }
        text::line(area, buffer, 0, &self.heading(area.width, theme));
        if area.height < 4 || area.width < 14 {
            return;
        }
        let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let Some((x, y, log)) = self.ranges() else {
            text::note(body, buffer, "no values yet", theme);
            return;
        };
        let shown = |v: f64| format::value(if log { 10f64.powf(v) } else { v });
        let labels = [shown(y.1), shown((y.0 + y.1) / 2.0), shown(y.0)];
        let gutter = labels.iter().map(|l| format::width(l)).max().unwrap_or(0) as u16 + 1;
        if body.width < gutter + 6 {
            return;
        }
        let plot = Rect::new(body.x + gutter, body.y, body.width - gutter, body.height - 1);
        let rows = [0, plot.height / 2, plot.height - 1];
        for (i, label) in labels.iter().enumerate() {
            if i == 1 && plot.height < 5 {
                continue;
            }
            let left = Rect { width: gutter - 1, ..body };
            text::right(left, buffer, rows[i], label, theme.dim());
        }
        self.draw_x_axis(Rect { y: plot.y + plot.height, height: 1, ..plot }, buffer, x, log, theme);
        let column = |v: f64| ((v - x.0) / (x.1 - x.0) * f64::from(plot.width - 1)).round();
        if let Some(cursor) = self.cursor {
            let c = column(cursor);
            if (0.0..f64::from(plot.width)).contains(&c) {
                let glyph = if theme.ascii { '|' } else { '│' };
                for row in 0..plot.height {
                    buffer[(plot.x + c as u16, plot.y + row)].set_char(glyph).set_style(theme.dim());
                }
            }
        }
        let mut dots = Dots::new(plot, theme);
        for line in self.lines {
            raster(&mut dots, line, x, y, log);
        }
        dots.draw(plot, buffer, theme);
        for (at, letter) in self.marks {
            let c = column(*at);
            if (0.0..f64::from(plot.width)).contains(&c) {
                buffer[(plot.x + c as u16, plot.y)].set_char(*letter).set_style(theme.good());
            }
        }
    }

    fn heading(&self, width: u16, theme: Theme) -> TextLine<'static> {
        let style = if self.selected { theme.accent() } else { theme.text() };
        let mut spans = vec![Span::styled(self.title.to_string(), style)];
        // Among several curves one without a name is a help line.
        let told = self.lines.iter().filter(|l| !l.name.is_empty() || self.lines.len() == 1);
        let entries = |values: bool| -> Vec<[Span<'static>; 3]> {
            let entry = |line: &Line| {
                let (_, y) = line.read(self.cursor)?;
                let marker = if theme.ascii { format!("{} ", theme.marker(line.series)) } else { "━ ".into() };
                let value = if values { format::value(y) } else { String::new() };
                let name = if line.name.is_empty() || !values { line.name.clone() } else { format!("{} ", line.name) };
                Some([
                    Span::styled(format!("  {marker}"), theme.series(line.series)),
                    Span::styled(name, theme.dim()),
                    Span::styled(value, theme.text()),
                ])
            };
            told.clone().filter_map(entry).collect()
        };
        let width_of = |entry: &[Span]| entry.iter().map(Span::width).sum::<usize>();
        let room = usize::from(width).saturating_sub(format::width(self.title));
        // Where not all values fit, the names matter more: without them nobody knows which curve is
        // which.
        let mut shown = entries(!self.names_only);
        if told.clone().count() > 1 && shown.iter().map(|e| width_of(e)).sum::<usize>() > room {
            shown = entries(false);
        }
        let mut used = 0;
        for entry in shown {
            used += width_of(&entry);
            if used > room {
                break;
            }
            spans.extend(entry);
        }
        TextLine::from(spans)
    }

    fn draw_x_axis(&self, area: Rect, buffer: &mut Buffer, x: (f64, f64), log: bool, theme: Theme) {
        text::plain(area, buffer, 0, &format::axis(x.0), theme.dim());
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        text::right(area, buffer, 0, &format!("{}{unit}", format::axis(x.1)), theme.dim());
        let middle = match self.cursor {
            Some(c) => format!("at {}", format::axis(c)),
            None if log => "log".into(),
            None => String::new(),
        };
        let free = usize::from(area.width).saturating_sub(format::width(&middle)) / 2;
        if !middle.is_empty() && free > 9 {
            let place = Rect { x: area.x + free as u16, width: area.width - free as u16, ..area };
            let style: Style = if self.cursor.is_some() { theme.accent() } else { theme.dim() };
            text::plain(place, buffer, 0, &middle, style);
        }
    }

    /// Ranges in view: x, y (already logarithms when the third is true).
    fn ranges(&self) -> Option<(Interval, Interval, bool)> {
        let all = || self.lines.iter().flat_map(|l| l.points.iter()).filter(|p| p.0.is_finite() && p.1.is_finite());
        let x = match self.x {
            Some(x) => x,
            None => bounds(all().map(|p| p.0))?,
        };
        let x = if x.1 > x.0 { x } else { (x.0 - 0.5, x.0 + 0.5) };
        let inside = || all().filter(|p| p.0 >= x.0 && p.0 <= x.1).map(|p| p.1);
        let log = self.log && inside().any(|y| y > 0.0);
        if let Some(y) = self.y
            && !log
        {
            return Some((x, y, false));
        }
        let y = if log { bounds(inside().filter(|y| *y > 0.0).map(f64::log10))? } else { bounds(inside())? };
        let pad = if y.1 > y.0 { (y.1 - y.0) * 0.04 } else { y.0.abs().max(1e-3) * 0.05 };
        // What is never negative has no negative axis.
        let low = if !log && y.0 >= 0.0 { (y.0 - pad).max(0.0) } else { y.0 - pad };
        Some((x, (low, y.1 + pad), log))
    }
}

/// Least and greatest value of an axis.
pub type Interval = (f64, f64);

/// Least and greatest of finite values.
pub fn bounds(values: impl Iterator<Item = f64>) -> Option<Interval> {
    values.filter(|v| v.is_finite()).fold(None, |b, v| match b {
        None => Some((v, v)),
        Some((low, high)) => Some((v.min(low), v.max(high))),
    })
}

fn raster(dots: &mut Dots, line: &Line, x: (f64, f64), y: (f64, f64), log: bool) {
    let (width, height) = dots.resolution();
    if width == 0 || height == 0 {
        return;
    }
    let place = |p: &(f64, f64)| -> Option<(usize, usize)> {
        let v = if log { p.1.log10() } else { p.1 };
        if !(p.0 >= x.0 && p.0 <= x.1 && v.is_finite()) {
            return None;
        }
        let fx = (p.0 - x.0) / (x.1 - x.0);
        let fy = ((v - y.0) / (y.1 - y.0)).clamp(0.0, 1.0);
        Some(((fx * (width - 1) as f64).round() as usize, ((1.0 - fy) * (height - 1) as f64).round() as usize))
    };
    let mut before: Option<(usize, usize)> = None;
    for point in &line.points {
        let here = place(point);
        if let Some(here) = here {
            match before {
                Some(before) if !line.dots => dots.line(before, here, line.series),
                _ => dots.set(here.0, here.1, line.series),
            }
        }
        before = here;
    }
}

/// Exponential smoothing with the start-up bias taken out; `weight` 0 leaves the curve as it is.
/// Values that are not finite stay in place and are not smoothed over.
pub fn smooth(points: &[(f64, f64)], weight: f64) -> Vec<(f64, f64)> {
    if weight <= 0.0 {
        return points.to_vec();
    }
    let (mut sum, mut total) = (0.0, 0.0);
    points
        .iter()
        .map(|(x, y)| {
            if !y.is_finite() {
                return (*x, *y);
            }
            sum = weight * sum + (1.0 - weight) * y;
            total = weight * total + (1.0 - weight);
            (*x, sum / total)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_damps_noise() {
        let flat: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smooth(&flat, 0.9).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let noise: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let last = smooth(&noise, 0.9)[49].1;
        assert!((last - 0.5).abs() < 0.06, "{last}");
        let holed = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)];
        assert!(smooth(&holed, 0.5)[1].1.is_nan() && smooth(&holed, 0.5)[2].1 == 1.0);
    }

    #[test]
    fn the_cursor_reads_the_value_before_it() {
        let line = Line::new("a", vec![(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)], 0);
        assert_eq!(line.read(None), Some((20.0, 3.0)));
        assert_eq!(line.read(Some(10.0)), Some((10.0, 2.0)));
        assert_eq!(line.read(Some(19.0)), Some((10.0, 2.0)));
        assert_eq!(line.read(Some(-5.0)), Some((0.0, 1.0)));
    }

    #[test]
    fn hostile_values_and_sizes_do_not_panic() {
        let points =
            vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, -1.0), (f64::NAN, 1.0), (3.0, 1e308), (4.0, -1e308)];
        let lines = [Line::new("a", points, 0), Line::default()];
        for (w, h) in [(0, 0), (1, 1), (13, 4), (14, 4), (20, 5), (80, 24)] {
            for log in [false, true] {
                let area = Rect::new(0, 0, w, h);
                let mut buffer = Buffer::empty(area);
                Chart { title: "t", lines: &lines, log, cursor: Some(1.5), ..Chart::default() }.draw(
                    Rect::new(0, 0, w + 5, h + 5),
                    &mut buffer,
                    Theme::default(),
                );
            }
        }
    }
}
