//! Pane 2: curves of the stages that train.

use crate::keys::Key::{Char, Code, Shift};
use crate::keys::{Action, DOWN, ENTER, LEFT, RIGHT, UP, VIEW, ZOOM_IN, ZOOM_OUT, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use crossterm::event::KeyCode;
use rallrec_events::view::{Series, State as StageState, Training};
use rallrec_events::{Metric, StageId};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line as TextLine;

use crate::format;
use crate::layout::share;
use crate::message::Effect;
use crate::state::{OpenRun, State};
use crate::widgets::chart::{self, Chart, Line};
use crate::widgets::text;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Training,
    title: "Training",
    key: &[Char('2')],
    about: "training curves",
    draw: Draw::OfRun(draw),
    act,
    click,
    keys: &[
        bound(LEFT, Action::Left, "cursor to earlier values", "cursor"),
        bound(RIGHT, Action::Right, "cursor to later values", ""),
        bound(UP, Action::Up, "previous chart", ""),
        bound(DOWN, Action::Down, "next chart", "chart"),
        bound(ENTER, Action::OneChart, "this chart alone, or all", "one"),
        bound(ZOOM_IN, Action::ZoomIn, "zoom in", "zoom"),
        bound(ZOOM_OUT, Action::ZoomOut, "zoom out", ""),
        bound(&[Char('<'), Char(','), Shift(KeyCode::Left)], Action::PanLeft, "earlier part", ""),
        bound(&[Char('>'), Char('.'), Shift(KeyCode::Right)], Action::PanRight, "later part", ""),
        bound(&[Char('r')], Action::Recent, "whole run or recent steps", "recent"),
        bound(&[Char('s')], Action::Smooth, "next smoothing", "smooth"),
        bound(&[Char('y')], Action::LogAxis, "logarithmic axis or not", "log"),
        bound(&[Char('o')], Action::Overlay, "lay the other opened runs over it, or not", ""),
        bound(VIEW, Action::NextView, "stages that train: one after another", "view"),
        bound(&[Code(KeyCode::Esc), Code(KeyCode::Home)], Action::Reset, "whole run, no cursor", ""),
    ],
    ..BASE
};

/// Weights of the smoothing key.
const SMOOTHING: [f64; 4] = [0.0, 0.6, 0.9, 0.97];
/// Smallest chart that is worth drawing beside others.
const LEAST: (u16, u16) = (34, 8);
/// Largest zoom.
const MOST_ZOOM: f64 = 1024.0;

/// State of the pane.
#[derive(Debug, Clone)]
pub struct View {
    /// Which chart the keys act on.
    pub selected: usize,
    /// That chart alone.
    pub one: bool,
    /// Only this stage; `None`: all that train.
    pub stage: Option<String>,
    /// Recent steps point by point instead of the whole run.
    pub recent: bool,
    /// How many times closer than the whole.
    pub zoom: f64,
    /// Middle of the part in view, 0 to 1 of the whole.
    pub centre: f64,
    /// Index into the smoothing weights.
    pub smoothing: usize,
    /// Logarithmic y axis.
    pub log: bool,
    /// Other opened runs in the same chart.
    pub overlay: bool,
    /// Where to read, 0 to 1 of the part in view.
    pub cursor: Option<f64>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            selected: 0,
            one: false,
            stage: None,
            recent: false,
            zoom: 1.0,
            centre: 0.5,
            smoothing: 0,
            log: false,
            overlay: true,
            cursor: None,
        }
    }
}

impl View {
    /// The part of 0 to 1 that is in view.
    fn window(&self) -> (f64, f64) {
        let half = 0.5 / self.zoom.max(1.0);
        let centre = self.centre.clamp(half, 1.0 - half);
        (centre - half, centre + half)
    }

    fn zoom_by(&mut self, factor: f64) {
        // Around the cursor, so that what is read stays in view.
        let (a, b) = self.window();
        let at = a + (b - a) * self.cursor.unwrap_or(0.5);
        self.zoom = (self.zoom * factor).clamp(1.0, MOST_ZOOM);
        let half = 0.5 / self.zoom;
        let share = self.cursor.unwrap_or(0.5);
        self.centre = (at + half - 2.0 * half * share).clamp(half, 1.0 - half);
    }

    fn pan(&mut self, direction: f64) {
        let (a, b) = self.window();
        let half = (b - a) / 2.0;
        self.centre = (self.centre + direction * half).clamp(half, 1.0 - half);
    }
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let count = state.run().map_or(0, |run| charts(run, state.panes.training.stage.as_deref()).len());
    let stages: Vec<String> = state.run().map(|r| r.view.training.0.keys().cloned().collect()).unwrap_or_default();
    let view = &mut state.panes.training;
    let step = 0.02;
    match action {
        Action::Up => view.selected = view.selected.min(count).saturating_sub(1),
        Action::Down => view.selected = (view.selected + 1).min(count.saturating_sub(1)),
        Action::Left => view.cursor = Some((view.cursor.unwrap_or(1.0) - step).max(0.0)),
        Action::Right => view.cursor = Some((view.cursor.unwrap_or(1.0) + step).min(1.0)),
        Action::OneChart => view.one = !view.one,
        Action::ZoomIn => view.zoom_by(2.0),
        Action::ZoomOut => view.zoom_by(0.5),
        Action::PanLeft => view.pan(-1.0),
        Action::PanRight => view.pan(1.0),
        Action::Recent => view.recent = !view.recent,
        Action::Smooth => view.smoothing = (view.smoothing + 1) % SMOOTHING.len(),
        Action::LogAxis => view.log = !view.log,
        Action::Overlay => view.overlay = !view.overlay,
        Action::NextView => {
            let next = match &view.stage {
                None => 0,
                Some(now) => stages.iter().position(|s| s == now).map_or(stages.len(), |i| i + 1),
            };
            view.stage = stages.get(next).cloned();
            view.selected = 0;
        }
        Action::Reset => (view.zoom, view.centre, view.cursor, view.recent) = (1.0, 0.5, None, false),
        _ => {}
    }
    Vec::new()
}

/// Puts the cursor where the mouse was.
pub fn click(state: &mut State, area: Rect, at: Position) {
    let Some(run) = state.run() else { return };
    let specs = charts(run, state.panes.training.stage.as_deref());
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let hit = arrange(&state.panes.training, specs.len(), body).into_iter().find(|(_, r)| r.contains(at));
    if let Some((i, r)) = hit {
        state.panes.training.selected = i;
        // The axis labels take about eight columns; the cursor need not be exact, it can be moved.
        let gutter = 8.min(r.width / 3);
        let share = f64::from(at.x.saturating_sub(r.x + gutter)) / f64::from(r.width.saturating_sub(gutter + 1).max(1));
        state.panes.training.cursor = Some(share.clamp(0.0, 1.0));
    }
}

/// One curve of a chart: how to find it in a run.
type Find = fn(&Training) -> &Series;

/// What a chart shows.
#[derive(Debug, Clone)]
struct Spec {
    stage: String,
    title: String,
    unit: &'static str,
    curves: Vec<Curve>,
}

#[derive(Debug, Clone)]
enum Curve {
    Fixed(&'static str, Find),
    Metric(String),
}

/// The charts of a run, the stage at work first.
fn charts(run: &OpenRun, only: Option<&str>) -> Vec<Spec> {
    let at_work = run.view.stages.list.iter().find(|s| s.state == StageState::Running).map(|s| s.name.as_str());
    let mut stages: Vec<(&String, &Training)> = run.view.training.0.iter().collect();
    let order = |name: &str| run.view.stages.list.iter().position(|s| s.name == name).unwrap_or(usize::MAX);
    stages.sort_by_key(|(name, _)| (at_work != Some(name.as_str()), order(name)));
    let mut out = Vec::new();
    for (stage, training) in stages {
        if only.is_some_and(|o| o != stage) {
            continue;
        }
        let mut add = |title: String, unit: &'static str, curves: Vec<Curve>| {
            out.push(Spec { stage: stage.clone(), title: format!("{stage} {title}"), unit, curves });
        };
        if !training.loss.is_empty() || training.loss.not_finite > 0 {
            add("loss".into(), "steps", vec![Curve::Fixed("", |t| &t.loss)]);
        }
        for (names, by_epoch) in metric_groups(training) {
            let unit = if by_epoch { "epochs" } else { "steps" };
            // Several metrics are named by the legend; one alone is named by the heading.
            let split = names.first().and_then(|n| n.split_once(" (")).map_or("", |(_, s)| s.trim_end_matches(')'));
            let title = match names.as_slice() {
                [one] => format!("{} {split}", one.split(" (").next().unwrap_or(one)),
                _ => split.to_string(),
            };
            add(title, unit, names.into_iter().map(Curve::Metric).collect());
        }
        if !training.positive.is_empty() {
            let curves = vec![Curve::Fixed("positive", |t| &t.positive), Curve::Fixed("negative", |t| &t.negative)];
            add("similarity".into(), "epochs", curves);
        }
        let singles: [(&str, Find); 3] =
            [("gradient norm", |t| &t.gradient_norm), ("learning rate", |t| &t.learning_rate), ("rate", |t| &t.rate)];
        for (title, find) in singles {
            let series = find(training);
            let constant = title == "learning rate" && series.range().is_none_or(|(a, b)| a == b);
            if !series.is_empty() && !constant {
                let title = if title == "rate" { rate_title(run, stage) } else { title.to_string() };
                add(title, "steps", vec![Curve::Fixed("", find)]);
            }
        }
    }
    out
}

/// "tokens/s" and the like: what the stage counts.
fn rate_title(run: &OpenRun, stage: &str) -> String {
    let told = || run.view.stages.get(stage).map(|s| s.unit.as_str()).filter(|unit| !unit.is_empty());
    match StageId::named(stage).filter(|s| s.trains()).map(StageId::unit).or_else(told) {
        Some(unit) => format!("{unit}/s"),
        None => "rate".into(),
    }
}

/// Metrics that share a chart: those in 0 to 1 where more is better together, losses by themselves.
fn metric_groups(training: &Training) -> Vec<(Vec<String>, bool)> {
    let mut groups: Vec<(Vec<String>, bool)> = Vec::new();
    let is_loss = |name: &str| !Metric::shares_a_chart(name);
    for (name, metric) in &training.metrics {
        let same = groups.iter_mut().find(|(names, by_epoch)| {
            *by_epoch == metric.by_epoch
                && !is_loss(name)
                && names.first().is_some_and(|first| {
                    !is_loss(first) && first.split_once(" (").map(|f| f.1) == name.split_once(" (").map(|f| f.1)
                })
        });
        match same {
            Some((names, _)) => names.push(name.clone()),
            None => groups.push((vec![name.clone()], metric.by_epoch)),
        }
    }
    groups
}

fn find<'a>(training: &'a Training, curve: &Curve) -> Option<&'a Series> {
    match curve {
        Curve::Fixed(_, find) => Some(find(training)),
        Curve::Metric(name) => training.metrics.get(name).map(|m| &m.series),
    }
}

/// The lines of a chart, over the runs that are laid over each other.
fn lines(state: &State, run: &OpenRun, spec: &Spec) -> Vec<Line> {
    let view = &state.panes.training;
    let runs = state.shown();
    let overlaid = view.overlay && runs.len() > 1;
    let mut out = Vec::new();
    for (i, other) in runs.iter().enumerate() {
        if !overlaid && other.id != run.id {
            continue;
        }
        let Some(training) = other.view.training.get(&spec.stage) else { continue };
        for (j, curve) in spec.curves.iter().enumerate() {
            let Some(series) = find(training, curve).filter(|s| !s.is_empty()) else { continue };
            let name = match curve {
                Curve::Fixed(name, _) => (*name).to_string(),
                Curve::Metric(_) if spec.curves.len() == 1 => String::new(),
                Curve::Metric(name) => name.split(" (").next().unwrap_or(name).to_string(),
            };
            let name = if overlaid { format!("{} {name}", other.name()).trim_end().to_string() } else { name };
            let series_no = if overlaid { i * spec.curves.len() + j } else { j };
            let points: Vec<(f64, f64)> =
                if view.recent { series.recent().iter().copied().collect() } else { series.points().collect() };
            let smoothed = chart::smooth(&points, SMOOTHING[view.smoothing % SMOOTHING.len()]);
            out.push(Line::new(name, smoothed, series_no));
        }
    }
    out
}

/// Best values and checkpoints as marks on the time axis.
fn marks(run: &OpenRun, spec: &Spec) -> Vec<(f64, char)> {
    let Some(training) = run.view.training.get(&spec.stage) else { return Vec::new() };
    let mut out: Vec<(f64, char)> = spec
        .curves
        .iter()
        .filter_map(|c| match c {
            Curve::Metric(name) => training.metrics.get(name)?.best.map(|b| (b.0, 'B')),
            Curve::Fixed(..) => None,
        })
        .collect();
    if spec.unit == "steps"
        && let Some(checkpoint) = &training.checkpoint
    {
        out.push((checkpoint.step as f64, 'C'));
    }
    out
}

/// Charts on the screen: number and place. The selected one is always among them.
fn arrange(view: &View, count: usize, area: Rect) -> Vec<(usize, Rect)> {
    if count == 0 || area.is_empty() {
        return Vec::new();
    }
    let selected = view.selected.min(count - 1);
    let columns = usize::from(area.width / LEAST.0).clamp(1, 3).min(count);
    let rows = usize::from(area.height / LEAST.1).max(1);
    if view.one || columns * rows == 1 {
        return vec![(selected, area)];
    }
    let fit = (columns * rows).min(count);
    let first = (selected / fit * fit).min(count - fit);
    let columns = columns.min(fit);
    let rows = fit.div_ceil(columns);
    (0..fit)
        .map(|i| {
            let (r, c) = (i / columns, i % columns);
            let in_row = if r + 1 == rows { fit - r * columns } else { columns };
            let (x, width) = share(area.width, in_row, c);
            let (y, height) = share(area.height, rows, r);
            let gap = u16::from(c + 1 < in_row);
            (first + i, Rect::new(area.x + x, area.y + y, width.saturating_sub(gap), height))
        })
        .collect()
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let view = &state.panes.training;
    let specs = charts(run, view.stage.as_deref());
    if specs.is_empty() {
        let text = match run.view.stages.running() {
            Some(stage) => format!("no training step yet; {} is at work", stage.name),
            None => "no stage has trained in this run: each was reused, or did not come to it".into(),
        };
        return text::note(area, buffer, &text, theme);
    }
    text::line(area, buffer, 0, &status(state, run, area.width));
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    for (i, place) in arrange(view, specs.len(), body) {
        let spec = &specs[i];
        let lines = lines(state, run, spec);
        let full = chart::bounds(lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)));
        let x = full.map(|(a, b)| {
            let (from, to) = view.window();
            (a + (b - a) * from, a + (b - a) * to)
        });
        let selected = i == view.selected.min(specs.len() - 1);
        let cursor = match (view.cursor, x) {
            (Some(share), Some((a, b))) if selected => Some(a + (b - a) * share),
            _ => None,
        };
        let chart = Chart {
            title: &spec.title,
            lines: &lines,
            x,
            y: None,
            log: view.log,
            cursor,
            unit: spec.unit,
            marks: &marks(run, spec),
            names_only: false,
            selected,
        };
        chart.draw(place, buffer, theme);
    }
}

/// The line above the charts: how they are shown, and where the stage at work stands.
fn status(state: &State, run: &OpenRun, width: u16) -> TextLine<'static> {
    let view = &state.panes.training;
    let at_work = run.view.stages.list.iter().find(|s| s.state == StageState::Running).map(|s| s.name.clone());
    let stage = view.stage.clone().or(at_work).or_else(|| run.view.training.0.keys().next_back().cloned());
    let mut facts: Vec<(&str, String)> = Vec::new();
    let view_words = match (view.recent, view.zoom > 1.0) {
        (true, _) => "recent".to_string(),
        (false, true) => format!("{:.0}x", view.zoom),
        (false, false) => "whole".to_string(),
    };
    facts.push(("view", view_words));
    if !view.smoothing.is_multiple_of(SMOOTHING.len()) {
        facts.push(("smooth", format!("{}", SMOOTHING[view.smoothing % SMOOTHING.len()])));
    }
    if view.log {
        facts.push(("axis", "log".into()));
    }
    if let Some((name, training)) = stage.and_then(|s| run.view.training.get(&s).map(|t| (s, t))) {
        let steps =
            if training.steps > 0 { format!("/{}", format::scaled(training.steps as f64)) } else { String::new() };
        facts.push((
            "",
            format!("{name} epoch {} step {}{steps}", training.epoch, format::scaled(training.step as f64)),
        ));
        for (name, metric) in &training.metrics {
            if let Some((at, value)) = metric.best {
                let unit = if metric.by_epoch { "epoch" } else { "step" };
                let name = name.split(" (").next().unwrap_or(name);
                facts.push(("best", format!("{name} {} at {unit} {}", format::value(value), format::scaled(at))));
            }
        }
        if let Some(checkpoint) = &training.checkpoint {
            facts.push(("checkpoint", format!("step {} ({})", format::scaled(checkpoint.step as f64), checkpoint.why)));
        }
        let bad = training.loss.not_finite;
        if bad > 0 {
            facts.push(("NaN", format!("{bad} losses are no numbers")));
        }
    }
    // What does not fit is left out whole.
    text::fact_lines(&facts, width, state.theme).into_iter().next().unwrap_or_default()
}
