//! Plain SVG pictures. Colours are classes, so that the page's style decides them: the same picture
//! reads on a light page, a dark one and on paper.

use std::fmt::Write;

/// Size of a picture in its own units.
const WIDTH: f64 = 520.0;
/// Margins: left, right, top, bottom.
const MARGIN: [f64; 4] = [58.0, 14.0, 14.0, 44.0];

/// Text in SVG or HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number for a label: few digits, no needless zeros.
pub fn short(x: f64) -> String {
    let size = x.abs();
    match size {
        _ if !x.is_finite() => "n/a".into(),
        0.0 => "0".into(),
        _ if size >= 1e9 => format!("{}G", trim(format!("{:.1}", x / 1e9))),
        _ if size >= 1e6 => format!("{}M", trim(format!("{:.1}", x / 1e6))),
        _ if size >= 1e4 => format!("{}k", trim(format!("{:.1}", x / 1e3))),
        _ if size >= 100.0 => format!("{x:.0}"),
        _ if size >= 1.0 => trim(format!("{x:.2}")),
        _ if size >= 1e-3 => trim(format!("{x:.4}")),
        _ => {
            let power = size.log10().floor();
            format!("{}e{power}", trim(format!("{:.1}", x / 10f64.powf(power))))
        }
    }
}

fn trim(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    label: String,
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// Over the given values, with a little room; `None` when none of them is a number.
    pub fn over(label: &str, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values)?;
        let room = if high > low { 0.04 * (high - low) } else { (0.1 * high.abs()).max(1e-9) };
        Some(Self { label: label.into(), low: low - room, high: high + room, log: false })
    }

    /// From `low` to `high` exactly.
    pub fn fixed(label: &str, low: f64, high: f64) -> Self {
        Self { label: label.into(), low, high, log: false }
    }

    /// Logarithmic over the positive values; `None` when there are none.
    pub fn log(label: &str, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values.filter(|v| *v > 0.0))?;
        let room = if high > low * 1.001 { (high / low).powf(0.05) } else { 2.0 };
        Some(Self { label: label.into(), low: low / room, high: high * room, log: true })
    }

    fn share(&self, x: f64) -> f64 {
        if self.log {
            (x / self.low).ln() / (self.high / self.low).ln()
        } else {
            (x - self.low) / (self.high - self.low)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (from, to) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            let factors: &[f64] = if to - from >= 2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let step = ((to - from) / 8).max(1) as usize;
            let all = (from - 1..=to + 1).step_by(step).flat_map(|p| factors.iter().map(move |f| f * 10f64.powi(p)));
            return all.filter(|t| (self.low..=self.high).contains(t)).collect();
        }
        let raw = (self.high - self.low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= raw).unwrap_or(10.0);
        let first = (self.low / step).ceil();
        let count = ((self.high / step).floor() - first).max(0.0) as usize;
        // Counted, not summed: 0.1 + 0.2 would be labelled 0.30000000000000004.
        (0..=count.min(20)).map(|i| (first + i as f64) * step).collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |r, v| match r {
        None => Some((v, v)),
        Some((a, b)) => Some((a.min(v), b.max(v))),
    })
}

/// A picture with two axes.
pub struct Plot {
    title: String,
    height: f64,
    x: Axis,
    y: Axis,
    body: String,
    legend: Vec<(String, String)>,
}

impl Plot {
    /// Empty axes.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), height: 290.0, x, y, body: String::new(), legend: Vec::new() }
    }

    /// As high as wide inside the margins.
    pub fn square(mut self) -> Self {
        self.height = WIDTH - MARGIN[0] - MARGIN[1] + MARGIN[2] + MARGIN[3];
        self
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, right, top, bottom] = MARGIN;
        let (w, h) = (WIDTH - left - right, self.height - top - bottom);
        // Far outside is as good as outside, and keeps the file free of infinities.
        let (sx, sy) = (self.x.share(x).clamp(-2.0, 3.0), self.y.share(y).clamp(-2.0, 3.0));
        (left + sx * w, top + (1.0 - sy) * h)
    }

    fn shown(&self, points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
        points.filter(|p| p.0.is_finite() && p.1.is_finite()).map(|(x, y)| self.at(x, y)).collect()
    }

    /// Names what a class stands for.
    pub fn legend(&mut self, class: &str, label: &str) {
        self.legend.push((class.into(), label.into()));
    }

    /// A line through points.
    pub fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points = self.shown(points);
        let mut path = String::new();
        for (n, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if n == 0 { "M" } else { "L" });
        }
        if points.len() == 1 {
            return self.dots(class, 3.0, std::iter::empty(), &points);
        }
        let _ = writeln!(self.body, r#"<path class="line {class}" d="{path}"/>"#);
    }

    /// The area between a lower and an upper bound.
    pub fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let upper = self.shown(points.iter().map(|p| (p.0, p.2)));
        let lower = self.shown(points.iter().map(|p| (p.0, p.1)));
        if upper.len() < 2 || upper.len() != lower.len() {
            return;
        }
        let ring: Vec<String> = upper.iter().chain(lower.iter().rev()).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(self.body, r#"<path class="band {class}" d="M{}Z"/>"#, ring.join("L"));
    }

    /// Dots at places on the axes, or at finished places.
    pub fn dots(
        &mut self,
        class: &str,
        radius: f64,
        points: impl Iterator<Item = (f64, f64)>,
        finished: &[(f64, f64)],
    ) {
        let mut path = String::new();
        // One path of round caps instead of thousands of circles: a tenth of the size.
        for (x, y) in self.shown(points).iter().chain(finished) {
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        if !path.is_empty() {
            let _ = writeln!(self.body, r#"<path class="dots {class}" stroke-width="{}" d="{path}"/>"#, 2.0 * radius);
        }
    }

    /// Bars from (left, right, height), standing on the lower end of the axis.
    pub fn bars(&mut self, class: &str, bars: impl Iterator<Item = (f64, f64, f64)>) {
        for (from, to, height) in bars.filter(|b| b.2 > 0.0) {
            let ((x0, y0), (x1, y1)) = (self.at(from, self.y.low), self.at(to, height));
            let (w, h) = ((x1 - x0 - 0.6).max(0.6), (y0 - y1).max(0.0));
            let _ = writeln!(
                self.body,
                r#"<rect class="bar {class}" x="{x0:.1}" y="{y1:.1}" width="{w:.1}" height="{h:.1}"/>"#
            );
        }
    }

    /// A word at a place, to its upper right (to its left near the right edge).
    pub fn word(&mut self, x: f64, y: f64, text: &str) {
        let (x, y) = self.at(x, y);
        let (dx, anchor) = if x > 0.8 * WIDTH { (-6.0, "end") } else { (6.0, "start") };
        let _ = writeln!(
            self.body,
            r#"<text class="word" x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
            x + dx,
            y - 5.0,
            escape(text)
        );
    }

    /// The SVG element.
    pub fn finish(self) -> String {
        let [left, right, top, bottom] = MARGIN;
        let (right, floor) = (WIDTH - right, self.height - bottom);
        let mut out = format!(
            r#"<svg viewBox="0 0 {WIDTH} {}" role="img" aria-label="{}"><title>{}</title>"#,
            self.height,
            escape(&self.title),
            escape(&self.title)
        );
        for t in self.x.ticks() {
            let (x, _) = self.at(t, self.y.low);
            let _ = write!(
                out,
                r#"<path class="grid" d="M{x:.1} {top}V{floor}"/><text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
                floor + 14.0,
                short(t)
            );
        }
        for t in self.y.ticks() {
            let (_, y) = self.at(self.x.low, t);
            let _ = write!(
                out,
                r#"<path class="grid" d="M{left} {y:.1}H{right}"/><text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                left - 6.0,
                y + 3.5,
                short(t)
            );
        }
        let id = self.title.bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let _ = write!(
            out,
            r#"<clipPath id="c{id:x}"><rect x="{left}" y="{top}" width="{}" height="{}"/></clipPath><g clip-path="url(#c{id:x})">{}</g>"#,
            right - left,
            floor - top,
            self.body
        );
        let _ = write!(
            out,
            r#"<path class="axis" d="M{left} {top}V{floor}H{right}"/><text class="label" x="{:.1}" y="{}" text-anchor="middle">{}</text><text class="label" transform="translate(12 {:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            0.5 * (left + right),
            self.height - 8.0,
            escape(&self.x.label),
            0.5 * (top + floor),
            escape(&self.y.label)
        );
        out.push_str("</svg>");
        if !self.legend.is_empty() {
            out.push_str(r#"<p class="legend">"#);
            for (class, label) in &self.legend {
                let _ = write!(out, r#"<span><i class="{class}"></i>{}</span> "#, escape(label));
            }
            out.push_str("</p>");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_true() {
        for (x, text) in [
            (0.0, "0"),
            (0.30000000000000004, "0.3"),
            (12.5, "12.5"),
            (1234.0, "1234"),
            (25_000.0, "25k"),
            (3.2e6, "3.2M"),
            (2e-5, "2e-5"),
            (100.0, "100"),
            (f64::NAN, "n/a"),
        ] {
            assert_eq!(short(x), text);
        }
    }

    #[test]
    fn ticks_lie_inside_and_are_round() {
        let axis = Axis::over("x", [0.013, 0.87].into_iter()).unwrap();
        assert_eq!(axis.ticks().iter().map(|t| short(*t)).collect::<Vec<_>>(), ["0", "0.2", "0.4", "0.6", "0.8"]);
        let log = Axis::log("x", [1e-6, 1e-1].into_iter()).unwrap();
        assert!(log.ticks().len() >= 5 && log.ticks().iter().all(|t| (log.low..=log.high).contains(t)));
        assert!(Axis::over("x", [f64::NAN].into_iter()).is_none() && Axis::log("x", [-1.0].into_iter()).is_none());
        // One value alone has room around it.
        let one = Axis::over("x", [5.0].into_iter()).unwrap();
        assert!(one.low < 5.0 && one.high > 5.0 && !one.ticks().is_empty());
    }

    #[test]
    fn what_is_no_number_is_not_drawn_and_text_is_escaped() {
        let mut plot = Plot::new("a < b", Axis::fixed("x", 0.0, 1.0), Axis::fixed("y & z", 0.0, 1.0));
        plot.line("c0", [(0.0, 0.0), (0.5, f64::NAN), (1.0, f64::INFINITY), (1.0, 1.0)].into_iter());
        plot.word(0.5, 0.5, "<script>");
        let svg = plot.finish();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<script>"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("y &amp; z"));
    }
}
