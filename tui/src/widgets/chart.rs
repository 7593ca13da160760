//! Curves with axes, a legend that shows values, a cursor, smoothing and a logarithmic axis.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line as TextLine, Span};

use super::dots::FAINT;
use super::{Dots, text};
use crate::format;
use crate::theme::{Palette, Theme};

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
    /// 0: a whole line, 1: dashes, 2 and more: points far apart. Tells curves of one colour apart.
    pub dash: usize,
    /// Behind the others: it has no entry in the legend.
    pub faint: bool,
    /// Its latest value is no number.
    pub lost: bool,
}

impl Line {
    /// A curve through `points`.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>, series: usize) -> Self {
        Self { name: name.into(), points, series, ..Self::default() }
    }

    /// The point nearest to `x`; the last of all without `x`.
    pub fn read(&self, x: Option<f64>) -> Option<(f64, f64)> {
        match x {
            None => self.points.last().copied(),
            Some(x) => {
                let after = self.points.partition_point(|p| p.0 < x);
                let around = [after.checked_sub(1), Some(after)].into_iter().flatten();
                let near = |p: &(f64, f64)| (p.0 - x).abs();
                around.filter_map(|i| self.points.get(i)).min_by(|a, b| near(a).total_cmp(&near(b))).copied()
            }
        }
    }
}

/// How values are laid over the height of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// All values.
    #[default]
    Whole,
    /// Where most values are; the few far away are marked at the edge.
    Most,
    /// Logarithmic.
    Log,
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
    /// The y axis.
    pub axis: Axis,
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

/// Ranges in view; `y` are logarithms where `log` is true.
struct Ranges {
    x: Interval,
    y: Interval,
    log: bool,
    /// Values lie above or below what is in view.
    cut: bool,
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
        let Some(ranges) = self.ranges() else {
            text::note(body, buffer, "no values yet", theme);
            return;
        };
        let x = ranges.x;
        let labels = y_labels(&ranges, body.height - 1);
        let Some(plot) = plot(body, &labels) else { return };
        let gutter = plot.x - body.x;
        let left = Rect { width: gutter - 1, ..body };
        for (row, label) in &labels {
            text::right(left, buffer, *row, label, theme.dim());
        }
        self.draw_x_axis(Rect { y: plot.y + plot.height, height: 1, ..plot }, buffer, &ranges, theme);
        let column = |v: f64| ((v - x.0) / (x.1 - x.0) * f64::from(plot.width - 1)).round();
        if let Some(cursor) = self.at() {
            let c = column(cursor);
            if (0.0..f64::from(plot.width)).contains(&c) {
                let glyph = if theme.ascii { '|' } else { '│' };
                for row in 0..plot.height {
                    buffer[(plot.x + c as u16, plot.y + row)].set_char(glyph).set_style(theme.dim());
                }
            }
        }
        let mut dots = Dots::new(plot, theme, self.lines.iter().filter(|l| !l.faint).count() > 1);
        let (behind, before): (Vec<&Line>, Vec<&Line>) = self.lines.iter().partition(|l| l.faint);
        for line in behind.into_iter().chain(before) {
            raster(&mut dots, line, &ranges);
        }
        dots.draw(plot, buffer, theme);
        if ranges.cut {
            self.mark_what_is_outside(plot, &ranges, buffer, theme);
        }
        for (at, letter) in self.marks {
            let c = column(*at);
            if (0.0..f64::from(plot.width)).contains(&c) {
                buffer[(plot.x + c as u16, plot.y)].set_char(*letter).set_style(theme.good());
            }
        }
    }

    /// The plot inside `area` and the ranges in view, where there is room for one.
    fn inside(&self, area: Rect) -> Option<(Rect, Ranges)> {
        if area.height < 4 || area.width < 14 {
            return None;
        }
        let ranges = self.ranges()?;
        let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let labels = y_labels(&ranges, body.height - 1);
        Some((plot(body, &labels)?, ranges))
    }

    /// How far along the x axis the mouse is, 0 to 1 of the part in view.
    pub fn share(&self, area: Rect, at: Position) -> Option<f64> {
        let (plot, _) = self.inside(area)?;
        let along = f64::from(at.x.saturating_sub(plot.x)) / f64::from(plot.width.saturating_sub(1).max(1));
        Some(along.clamp(0.0, 1.0))
    }

    /// The cell in which a point of the chart in `area` is drawn.
    pub fn cell(&self, area: Rect, point: (f64, f64)) -> Option<Position> {
        let (plot, Ranges { x, y, log, .. }) = self.inside(area)?;
        let v = if log { point.1.log10() } else { point.1 };
        if !(point.0 >= x.0 && point.0 <= x.1 && v.is_finite()) {
            return None;
        }
        // Two by four dots a cell, as they are drawn.
        let column = (point.0 - x.0) / (x.1 - x.0) * f64::from(2 * plot.width - 1);
        let row = (1.0 - ((v - y.0) / (y.1 - y.0)).clamp(0.0, 1.0)) * f64::from(4 * plot.height - 1);
        Some(Position::new(plot.x + column.round() as u16 / 2, plot.y + row.round() as u16 / 4))
    }

    /// Of these points the one that is drawn nearest to the mouse.
    pub fn nearest<T>(&self, area: Rect, at: Position, points: impl Iterator<Item = ((f64, f64), T)>) -> Option<T> {
        let (plot, _) = self.inside(area)?;
        if !plot.contains(at) {
            return None;
        }
        let far = |p: Position| {
            // A cell is about twice as high as it is wide.
            let (dx, dy) = (f64::from(p.x) - f64::from(at.x), 2.0 * (f64::from(p.y) - f64::from(at.y)));
            dx * dx + dy * dy
        };
        let placed = points.filter_map(|(point, what)| Some((far(self.cell(area, point)?), what)));
        placed.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, what)| what)
    }

    /// Where the cursor stands: on the nearest point.
    fn at(&self) -> Option<f64> {
        let cursor = self.cursor?;
        let near = self.lines.iter().filter(|l| !l.faint).filter_map(|l| l.read(Some(cursor)));
        near.map(|p| p.0).min_by(|a, b| (a - cursor).abs().total_cmp(&(b - cursor).abs())).or(Some(cursor))
    }

    /// Arrows at the edge where a value lies beyond it.
    fn mark_what_is_outside(&self, plot: Rect, ranges: &Ranges, buffer: &mut Buffer, theme: Theme) {
        let (x, y) = (ranges.x, ranges.y);
        let (up, down) = if theme.ascii { ('^', 'v') } else { ('▲', '▼') };
        for line in self.lines {
            for p in line.points.iter().filter(|p| p.0 >= x.0 && p.0 <= x.1 && p.1.is_finite()) {
                let (glyph, row) = match p.1 {
                    v if v > y.1 => (up, plot.y),
                    v if v < y.0 => (down, plot.y + plot.height - 1),
                    _ => continue,
                };
                let c = ((p.0 - x.0) / (x.1 - x.0) * f64::from(plot.width - 1)).round() as u16;
                buffer[(plot.x + c.min(plot.width - 1), row)].set_char(glyph).set_style(theme.warn());
            }
        }
    }

    fn heading(&self, width: u16, theme: Theme) -> TextLine<'static> {
        let style = if self.selected { theme.accent() } else { theme.text() };
        let mut spans = vec![Span::styled(self.title.to_string(), style)];
        // Among several curves one without a name is a help line.
        let several = self.lines.iter().filter(|l| !l.faint).count() > 1;
        let told = self.lines.iter().filter(|l| !l.faint && (!l.name.is_empty() || !several));
        let entries = |values: bool, gap: &str| -> Vec<[Span<'static>; 3]> {
            let entry = |line: &Line| {
                let y = line.read(self.cursor).map_or(f64::NAN, |p| p.1);
                let lost = line.lost && self.cursor.is_none();
                if line.points.is_empty() && !lost {
                    return None;
                }
                let markers = theme.ascii || (several && theme.palette == Palette::Mono);
                let marker = match (markers, line.dash) {
                    (false, _) if line.dots => "● ".into(),
                    (true, _) => format!("{} ", theme.marker(line.series + line.dash)),
                    (false, 0) => "━ ".into(),
                    (false, 1) => "╍ ".into(),
                    (false, _) => "┅ ".into(),
                };
                let value = match (values, lost) {
                    (false, _) => String::new(),
                    (true, true) => "NaN".into(),
                    (true, false) => format::value(y),
                };
                let name = if line.name.is_empty() || !values { line.name.clone() } else { format!("{} ", line.name) };
                Some([
                    Span::styled(format!("{gap}{marker}"), theme.series(line.series)),
                    Span::styled(name, theme.dim()),
                    Span::styled(value, if lost { theme.bad() } else { theme.text() }),
                ])
            };
            told.clone().filter_map(entry).collect()
        };
        let width_of = |entry: &[Span]| entry.iter().map(Span::width).sum::<usize>();
        let room = usize::from(width).saturating_sub(format::width(self.title));
        // Where not all values fit, the names matter more: without them nobody knows which curve is
        // which.
        let fits = |entries: &[[Span; 3]]| entries.iter().map(|e| width_of(e)).sum::<usize>() <= room;
        let mut shown = entries(!self.names_only, "  ");
        if told.clone().count() > 1 && !fits(&shown) {
            shown = entries(false, "  ");
        }
        if !fits(&shown) {
            shown = entries(told.clone().count() == 1 && !self.names_only, " ");
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

    fn draw_x_axis(&self, area: Rect, buffer: &mut Buffer, ranges: &Ranges, theme: Theme) {
        let x = ranges.x;
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let words = match (self.at(), ranges.log) {
            (Some(c), _) => format!("at {}{unit}", format::axis(c)),
            (None, true) => format!("{unit}, log").trim_start_matches([',', ' ']).to_string(),
            (None, false) => unit.trim_start().to_string(),
        };
        let style: Style = if self.cursor.is_some() { theme.accent() } else { theme.dim() };
        text::right(area, buffer, 0, &words, style);
        let room = area.width.saturating_sub(format::width(&words) as u16 + 1);
        let mut free = 0;
        let found = ticks(x, usize::from(area.width / 7).clamp(2, 10));
        let step = if found.len() > 1 { found[1] - found[0] } else { 0.0 };
        for tick in found {
            let label = format::tick(tick, step);
            let width = format::width(&label) as u16;
            let at = ((tick - x.0) / (x.1 - x.0) * f64::from(area.width - 1)).round() as u16;
            let start = at.saturating_sub(width / 2);
            if start >= free && start + width <= room {
                let place = Rect { x: area.x + start, width, ..area };
                text::plain(place, buffer, 0, &label, theme.dim());
                free = start + width + 2;
            }
        }
    }

    fn ranges(&self) -> Option<Ranges> {
        let all = || self.lines.iter().flat_map(|l| l.points.iter()).filter(|p| p.0.is_finite() && p.1.is_finite());
        let x = match self.x {
            Some(x) => x,
            None => bounds(all().map(|p| p.0))?,
        };
        let x = if x.1 > x.0 { x } else { (x.0 - 0.5, x.0 + 0.5) };
        let inside = || all().filter(|p| p.0 >= x.0 && p.0 <= x.1).map(|p| p.1);
        let log = self.axis == Axis::Log && inside().any(|y| y > 0.0);
        if let Some(y) = self.y
            && !log
        {
            return Some(Ranges { x, y, log: false, cut: false });
        }
        let whole = if log { bounds(inside().filter(|y| *y > 0.0).map(f64::log10))? } else { bounds(inside())? };
        let y = if self.axis == Axis::Most { self.most(x).unwrap_or(whole) } else { whole };
        let cut = y != whole;
        let pad = if y.1 > y.0 { (y.1 - y.0) * 0.04 } else { y.0.abs().max(1e-3) * 0.05 };
        // What is never negative has no negative axis.
        let low = if !log && y.0 >= 0.0 { (y.0 - pad).max(0.0) } else { y.0 - pad };
        Some(Ranges { x, y: (low, y.1 + pad), log, cut })
    }
}

impl Chart<'_> {
    /// Where most values of each curve are: one of another height, with few values, is seen whole.
    fn most(&self, x: Interval) -> Option<Interval> {
        let of = |line: &Line| {
            let inside = line.points.iter().filter(|p| p.0 >= x.0 && p.0 <= x.1 && p.1.is_finite()).map(|p| p.1);
            let values: Vec<f64> = inside.collect();
            let whole = bounds(values.iter().copied())?;
            Some(most(values, whole))
        };
        // What is drawn faint is the same before it was smoothed.
        let told = self.lines.iter().filter(|l| !l.faint).filter_map(of);
        told.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

/// The plot beside its labels and above its x axis, where there is room.
fn plot(body: Rect, labels: &[(u16, String)]) -> Option<Rect> {
    let gutter = labels.iter().map(|l| format::width(&l.1)).max().unwrap_or(0) as u16 + 1;
    let fits = body.width >= gutter + 6 && body.height > 1;
    fits.then(|| Rect::new(body.x + gutter, body.y, body.width - gutter, body.height - 1))
}

/// The range of nine values in ten, and as much again above and below: one spike, or the first
/// values of a loss, do not flatten the rest.
fn most(mut values: Vec<f64>, whole: Interval) -> Interval {
    if values.len() < 20 {
        return whole;
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (at(0.05), at(0.95));
    let spread = high - low;
    if spread <= 0.0 { whole } else { ((low - spread).max(whole.0), (high + spread).min(whole.1)) }
}

/// Round numbers in a range, about `count` of them.
fn ticks(range: Interval, count: usize) -> Vec<f64> {
    let span = range.1 - range.0;
    if !(span > 0.0 && span.is_finite()) {
        return Vec::new();
    }
    let rough = span / count.max(1) as f64;
    let scale = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * scale).find(|s| *s >= 0.7 * rough).unwrap_or(10.0 * scale);
    let first = (range.0 / step).ceil();
    // Counted and not added up: the tenth tenth is one.
    let count = ((range.1 / step).floor() - first).clamp(-1.0, 100.0) as i64;
    (0..=count).map(|i| (first + i as f64) * step).filter(|t| *t >= range.0 && *t <= range.1).collect()
}

/// Rows of the plot and what stands beside them.
fn y_labels(ranges: &Ranges, height: u16) -> Vec<(u16, String)> {
    let y = ranges.y;
    let row = |v: f64| ((1.0 - (v - y.0) / (y.1 - y.0)) * f64::from(height - 1)).round() as u16;
    let mut found = ticks(y, usize::from(height / 3).clamp(2, 6));
    if ranges.log {
        // Whole powers of ten where there are any, else the numbers of the range itself.
        let whole: Vec<f64> = found.iter().copied().filter(|t| t.fract() == 0.0).collect();
        found = if whole.len() > 1 { whole } else { vec![y.0, (y.0 + y.1) / 2.0, y.1] };
        return found.into_iter().map(|t| (row(t), format::value(10f64.powf(t)))).collect();
    }
    let step = if found.len() > 1 { found[1] - found[0] } else { 0.0 };
    found.into_iter().map(|t| (row(t), format::tick(t, step))).collect()
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

fn raster(dots: &mut Dots, line: &Line, ranges: &Ranges) {
    let (x, y, log) = (ranges.x, ranges.y, ranges.log);
    let series = match line.faint {
        true => FAINT,
        // Where there are no colours, the dash is another marker.
        false if dots.has_markers() => line.series + line.dash,
        false => line.series,
    };
    let dash = if dots.has_markers() { 0 } else { line.dash };
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
                Some(before) if !line.dots => dots.line(before, here, series, dash),
                _ => dots.set(here.0, here.1, series),
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

    /// The cursor once read the point before the one that it stood on.
    #[test]
    fn the_cursor_reads_the_nearest_point() {
        let line = Line::new("a", vec![(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)], 0);
        assert_eq!(line.read(None), Some((20.0, 3.0)));
        assert_eq!(line.read(Some(10.0)), Some((10.0, 2.0)));
        assert_eq!(line.read(Some(9.999)), Some((10.0, 2.0)));
        assert_eq!(line.read(Some(16.0)), Some((20.0, 3.0)));
        assert_eq!(line.read(Some(-5.0)), Some((0.0, 1.0)));
        assert_eq!(line.read(Some(99.0)), Some((20.0, 3.0)));
        assert_eq!(Line::default().read(Some(1.0)), None);
    }

    #[test]
    fn the_mouse_finds_the_point_that_is_drawn_under_it() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), f64::from(i * i % 7))).collect();
        let lines = [Line { dots: true, ..Line::new("a", points.clone(), 0) }];
        let chart = Chart { lines: &lines, ..Chart::default() };
        let area = Rect::new(3, 2, 60, 20);
        let numbered = || points.iter().copied().zip(0..);
        for (i, point) in points.iter().enumerate() {
            let at = chart.cell(area, *point).expect("it is drawn");
            assert_eq!(chart.nearest(area, at, numbered()), Some(i));
            let near = Position::new(at.x.saturating_sub(1).max(9), at.y);
            assert_eq!(chart.nearest(area, near, numbered()), Some(i));
        }
        assert_eq!(chart.nearest(area, Position::new(70, 5), numbered()), None, "beside the chart");
        assert_eq!(chart.nearest(Rect::new(0, 0, 5, 3), Position::new(1, 1), numbered()), None, "no room");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let round = |range, count| ticks(range, count).into_iter().map(format::axis).collect::<Vec<_>>();
        assert_eq!(round((1.0, 960.0), 5), ["200", "400", "600", "800"]);
        assert_eq!(round((0.0, 1.0), 5), ["0", "0.2000", "0.4000", "0.6000", "0.8000", "1"]);
        assert_eq!(round((-3.0, 4.0), 3), ["-2", "0", "2", "4"]);
        for range in [(0.0, 0.0), (1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (1e-300, 2e-300), (-1e300, 1e300)]
        {
            assert!(ticks(range, 5).len() <= 12, "{range:?}");
        }
    }

    /// One spike once flattened the whole curve.
    #[test]
    fn a_spike_does_not_flatten_the_rest() {
        let mut points: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 1.0 + f64::from(i % 10) * 0.1)).collect();
        points[50].1 = 900.0;
        let lines = [Line::new("a", points, 0)];
        let chart = |axis| Chart { lines: &lines, axis, ..Chart::default() };
        let most = chart(Axis::Most).ranges().unwrap();
        assert!(most.y.1 < 5.0 && most.cut, "{:?}", most.y);
        let whole = chart(Axis::Whole).ranges().unwrap();
        assert!(whole.y.1 > 900.0 && !whole.cut);
    }

    /// The held-out loss, with one value an epoch, once lay beyond the range of the many values of
    /// the training loss, as a line along the edge.
    #[test]
    fn a_curve_of_few_values_is_seen_beside_one_of_many() {
        let train: Vec<(f64, f64)> = (0..150).map(|i| (f64::from(i), 0.2 + f64::from(i % 5) * 0.01)).collect();
        let lines = [Line::new("train", train, 0), Line::new("valid", vec![(75.0, 0.66), (150.0, 0.62)], 1)];
        let ranges = Chart { lines: &lines, axis: Axis::Most, ..Chart::default() }.ranges().unwrap();
        assert!(ranges.y.0 < 0.2 && ranges.y.1 > 0.66 && !ranges.cut, "{:?}", ranges.y);
    }

    #[test]
    fn a_curve_that_has_been_lost_says_so() {
        let lines = [Line { lost: true, ..Line::new("", vec![(1.0, 0.5)], 0) }];
        let chart = Chart { title: "loss", lines: &lines, ..Chart::default() };
        assert!(chart.heading(40, Theme::default()).to_string().contains("NaN"));
    }

    #[test]
    fn hostile_values_and_sizes_do_not_panic() {
        let points =
            vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, -1.0), (f64::NAN, 1.0), (3.0, 1e308), (4.0, -1e308)];
        let lines = [Line::new("a", points, 0), Line::default()];
        for (w, h) in [(0, 0), (1, 1), (13, 4), (14, 4), (20, 5), (80, 24)] {
            for axis in [Axis::Whole, Axis::Most, Axis::Log] {
                let area = Rect::new(0, 0, w, h);
                let mut buffer = Buffer::empty(area);
                Chart { title: "t", lines: &lines, axis, cursor: Some(1.5), ..Chart::default() }.draw(
                    Rect::new(0, 0, w + 5, h + 5),
                    &mut buffer,
                    Theme::default(),
                );
            }
        }
    }
}
