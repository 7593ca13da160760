//! Pane 2: curves of the stages that train.

use crate::keys::Key::{Char, Code, Shift};
use crate::keys::{Action, DOWN, ENTER, LEFT, RIGHT, UP, VIEW, ZOOM_IN, ZOOM_OUT, bound};
use crate::panes::{BASE, Draw, Pane, PaneId, Wheel};
use axis::{Over, Scale, Shown};
use crossterm::event::KeyCode;
use rallrec_events::view::{Series, State as StageState, Training};
use rallrec_events::{Metric, StageId};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line as TextLine, Span};

use crate::format;
use crate::layout::share;
use crate::message::Effect;
use crate::state::{OpenRun, State};
use crate::theme::Theme;
use crate::widgets::chart::{self, Axis, Chart, Line};
use crate::widgets::text;

mod axis;

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Training,
    title: "Training",
    short: "Train",
    key: &[Char('2')],
    about: "training curves",
    draw: Draw::OfRun(draw),
    act,
    click,
    wheel: Wheel::Zooms,
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
        bound(&[Char('y')], Action::LogAxis, "most values, logarithmic axis, all values", "axis"),
        bound(&[Char('x')], Action::Over, "over steps, epochs, units of work (tokens) or time", "over"),
        bound(&[Char('o')], Action::Overlay, "lay the other opened runs over it, or not", ""),
        bound(VIEW, Action::NextView, "stages that train: one after another", "view"),
        bound(&[Code(KeyCode::Esc), Code(KeyCode::Home)], Action::Reset, "whole run, no cursor", ""),
    ],
    ..BASE
};

/// Weights of the smoothing key.
const SMOOTHING: [f64; 4] = [0.0, 0.6, 0.9, 0.97];
/// Smallest chart that is worth drawing beside others, and the least height where a pane is low.
const LEAST: (u16, u16) = (26, 8);
const LEAST_LOW: u16 = 6;
/// Curves with fewer points are not smoothed.
const ENOUGH: usize = 40;
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
    /// The y axis.
    pub axis: Axis,
    /// What the curves run over.
    pub over: Over,
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
            smoothing: 1,
            axis: Axis::Most,
            over: Over::Steps,
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
        Action::LogAxis => {
            view.axis = match view.axis {
                Axis::Most => Axis::Log,
                Axis::Log => Axis::Whole,
                Axis::Whole => Axis::Most,
            };
        }
        Action::Over => view.over = view.over.next(),
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
    let Some((i, place)) = hit else { return };
    let (over, _) = over(state, run, &specs[i].stage);
    let lines = lines(state, run, &specs[i], over);
    let x = window(state, run, &specs, &specs[i].stage, over);
    let share = Chart { lines: &lines, x, axis: state.panes.training.axis, ..Chart::default() }.share(place, at);
    state.panes.training.selected = i;
    state.panes.training.cursor = share.or(state.panes.training.cursor);
}

/// The part of the x axis in view, the same in every chart of a stage.
fn window(state: &State, run: &OpenRun, specs: &[Spec], stage: &str, over: Shown) -> Option<(f64, f64)> {
    let view = &state.panes.training;
    let alike = specs.iter().filter(|spec| spec.stage == stage);
    let curves = alike.flat_map(|spec| spec.curves.iter().map(move |curve| (spec, curve)));
    let ends = overlaid(state, run).filter_map(|other| other.view.training.get(stage)).flat_map(|training| {
        let scale = Scale::of(training, over);
        let ends = curves.clone().filter_map(|(spec, curve)| {
            let series = find(training, curve)?;
            let first = match view.recent {
                true => series.recent().front().map(|p| p.0),
                false => series.points().next().map(|p| p.0),
            };
            let by_epoch = by_epoch(spec, training, curve);
            Some([scale.x(first?, by_epoch), scale.x(series.last()?.0, by_epoch)])
        });
        ends.flatten().collect::<Vec<_>>()
    });
    let (a, b) = chart::bounds(ends)?;
    let (from, to) = view.window();
    Some((a + (b - a) * from, a + (b - a) * to))
}

/// One curve of a chart: how to find it in a run.
type Find = fn(&Training) -> &Series;

/// What a chart shows.
#[derive(Debug, Clone)]
struct Spec {
    stage: String,
    title: String,
    /// What is no metric in it is told by epochs.
    by_epoch: bool,
    curves: Vec<Curve>,
}

#[derive(Debug, Clone)]
enum Curve {
    Fixed(&'static str, Find),
    Metric(String),
}

/// The charts of a run, the stage at work first, then the one that trained last.
fn charts(run: &OpenRun, only: Option<&str>) -> Vec<Spec> {
    let at_work = run.view.stages.list.iter().find(|s| s.state == StageState::Running).map(|s| s.name.as_str());
    let mut stages: Vec<(&String, &Training)> = run.view.training.0.iter().collect();
    let order = |name: &str| run.view.stages.list.iter().position(|s| s.name == name).unwrap_or(usize::MAX);
    stages.sort_by_key(|(name, _)| (at_work != Some(name.as_str()), std::cmp::Reverse(order(name))));
    let mut out = Vec::new();
    for (stage, training) in stages {
        if only.is_some_and(|o| o != stage) {
            continue;
        }
        let mut add = |title: String, by_epoch: bool, curves: Vec<Curve>| {
            out.push(Spec { stage: stage.clone(), title: format!("{stage} {title}"), by_epoch, curves });
        };
        if !training.loss.is_empty() || training.loss.not_finite > 0 {
            // What is measured on held-out rows stands beside what is trained on.
            let held_out: Vec<&String> = training.metrics.keys().filter(|name| is_loss(name)).collect();
            let name = if held_out.is_empty() { "" } else { "train" };
            let curves = held_out.into_iter().cloned().map(Curve::Metric);
            add("loss".into(), false, std::iter::once(Curve::Fixed(name, |t| &t.loss)).chain(curves).collect());
        }
        for (names, by_epoch) in metric_groups(training) {
            // Several metrics are named by the legend; one alone is named by the heading.
            let split = names.first().and_then(|n| n.split_once(" (")).map_or("", |(_, s)| s.trim_end_matches(')'));
            let title = match names.as_slice() {
                [one] => format!("{} {split}", one.split(" (").next().unwrap_or(one)),
                _ => split.to_string(),
            };
            add(title, by_epoch, names.into_iter().map(Curve::Metric).collect());
        }
        if !training.positive.is_empty() {
            let curves = vec![Curve::Fixed("positive", |t| &t.positive), Curve::Fixed("negative", |t| &t.negative)];
            add("similarity".into(), true, curves);
        }
        let singles: [(&str, Find); 3] =
            [("gradient norm", |t| &t.gradient_norm), ("learning rate", |t| &t.learning_rate), ("rate", |t| &t.rate)];
        for (title, find) in singles {
            let series = find(training);
            let constant = title == "learning rate" && series.range().is_none_or(|(a, b)| a == b);
            if !series.is_empty() && !constant {
                let title = if title == "rate" { rate_title(run, stage) } else { title.to_string() };
                add(title, false, vec![Curve::Fixed("", find)]);
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

/// A metric that stands beside the training loss.
fn is_loss(name: &str) -> bool {
    !Metric::shares_a_chart(name)
}

/// Metrics that share a chart: those in 0 to 1 where more is better. Losses stand beside the
/// training loss, where there is one.
fn metric_groups(training: &Training) -> Vec<(Vec<String>, bool)> {
    let mut groups: Vec<(Vec<String>, bool)> = Vec::new();
    let beside = !training.loss.is_empty();
    for (name, metric) in training.metrics.iter().filter(|(name, _)| !(beside && is_loss(name))) {
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

/// The runs whose curves are drawn: the one in view, and those that are laid over it. A run that is
/// hidden in the list of runs has no curves either.
fn overlaid<'a>(state: &'a State, run: &'a OpenRun) -> impl Iterator<Item = &'a OpenRun> {
    let (overlay, hidden) = (state.panes.training.overlay, &state.panes.runs.choice.hidden);
    let shown = move |other: &&OpenRun| other.id == run.id || (overlay && !hidden.contains(&other.folder));
    state.shown().iter().filter(shown)
}

/// The lines of a chart, over the runs that are laid over each other. Each run has its colour, in
/// every chart the same; several curves of a run differ by their dashes.
fn lines(state: &State, run: &OpenRun, spec: &Spec, over: Shown) -> Vec<Line> {
    let view = &state.panes.training;
    let runs: Vec<&OpenRun> = overlaid(state, run).collect();
    let several = runs.len() > 1;
    let weight = SMOOTHING[view.smoothing % SMOOTHING.len()];
    let mut out = Vec::new();
    for other in runs {
        let Some(training) = other.view.training.get(&spec.stage) else { continue };
        let scale = Scale::of(training, over);
        for (j, curve) in spec.curves.iter().enumerate() {
            let Some(series) = find(training, curve).filter(|s| !s.is_empty() || s.is_lost()) else { continue };
            let name = match curve {
                Curve::Fixed(name, _) => (*name).to_string(),
                Curve::Metric(_) if spec.curves.len() == 1 => String::new(),
                Curve::Metric(name) if is_loss(name) => {
                    name.split_once(" (").map_or(name.as_str(), |(_, split)| split.trim_end_matches(')')).to_string()
                }
                Curve::Metric(name) => name.split(" (").next().unwrap_or(name).to_string(),
            };
            // The colour is the run's and the dash the curve's: each is named once.
            let name = match (several, j) {
                (true, 0) => state.label(other),
                (true, _) if other.id != run.id => String::new(),
                _ => name,
            };
            let mut points: Vec<(f64, f64)> =
                if view.recent { series.recent().iter().copied().collect() } else { series.points().collect() };
            let by_epoch = by_epoch(spec, training, curve);
            points.iter_mut().for_each(|p| p.0 = scale.x(p.0, by_epoch));
            let (colour, dash) = if several { (other.colour, j) } else { (j, 0) };
            let shown = matches!(curve, Curve::Fixed(..)) && weight > 0.0 && points.len() >= ENOUGH;
            if shown {
                // What was measured, behind what it tells.
                let raw = Line { faint: true, ..Line::new("", points.clone(), colour) };
                // Under several runs it would only hide them.
                out.extend((!several).then_some(raw));
                points = chart::smooth(&points, weight);
            }
            out.push(Line { dash, lost: series.is_lost(), ..Line::new(name, points, colour) });
        }
    }
    out
}

/// A curve's own x counts epochs.
fn by_epoch(spec: &Spec, training: &Training, curve: &Curve) -> bool {
    match curve {
        Curve::Fixed(..) => spec.by_epoch,
        Curve::Metric(name) => training.metrics.get(name).is_some_and(|m| m.by_epoch),
    }
}

/// Best values and checkpoints as marks on the x axis.
fn marks(run: &OpenRun, spec: &Spec, over: Shown) -> Vec<(f64, char)> {
    let Some(training) = run.view.training.get(&spec.stage) else { return Vec::new() };
    let scale = Scale::of(training, over);
    let best = |curve: &Curve| match curve {
        Curve::Metric(name) => {
            let metric = training.metrics.get(name)?;
            metric.best.map(|b| (scale.x(b.0, metric.by_epoch), 'B'))
        }
        Curve::Fixed(..) => None,
    };
    let mut out: Vec<(f64, char)> = spec.curves.iter().filter_map(best).collect();
    out.extend(training.checkpoint.as_ref().map(|checkpoint| (scale.x(checkpoint.step as f64, false), 'C')));
    out
}

/// What the charts of a stage run over, and in which unit, so that one holds for all its curves.
fn over(state: &State, run: &OpenRun, stage: &str) -> (Shown, String) {
    let trainings = || state.shown().iter().filter_map(|r| r.view.training.get(stage));
    let unit = || rate_title(run, stage).strip_suffix("/s").unwrap_or("units").to_string();
    match run.view.training.get(stage) {
        Some(own) => axis::shown(state.panes.training.over, own, trainings(), unit),
        None => (Shown::Steps, "steps".into()),
    }
}

/// Charts on the screen: number and place. The selected one is always among them.
fn arrange(view: &View, count: usize, area: Rect) -> Vec<(usize, Rect)> {
    if count == 0 || area.is_empty() {
        return Vec::new();
    }
    let selected = view.selected.min(count - 1);
    // More than two beside each other only where they stay wide.
    let columns = usize::from((area.width / LEAST.0).min(2).max(area.width / 38)).clamp(1, 4).min(count);
    let least = if area.height < 2 * LEAST.1 { LEAST_LOW } else { LEAST.1 };
    let rows = usize::from(area.height / least).max(1);
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
    let words = view_words(view, theme);
    let used = (words.width() as u16).min(area.width);
    text::line(Rect { x: area.x + area.width - used, width: used, ..area }, buffer, 0, &words);
    let left = area.width.saturating_sub(if used > 0 { used + 3 } else { 0 });
    text::line(Rect { width: left, ..area }, buffer, 0, &status(state, run, left));
    let at = view.selected.min(specs.len() - 1);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    for (i, place) in arrange(view, specs.len(), body) {
        let spec = &specs[i];
        let (over, unit) = over(state, run, &spec.stage);
        let lines = lines(state, run, spec, over);
        let x = window(state, run, &specs, &spec.stage, over);
        // On every chart of the same stage.
        let alike = specs[at].stage == spec.stage;
        let cursor = match (view.cursor, x) {
            (Some(share), Some((a, b))) if alike => Some(a + (b - a) * share),
            _ => None,
        };
        let chart = Chart {
            title: &spec.title,
            lines: &lines,
            x,
            y: None,
            axis: view.axis,
            cursor,
            unit: &unit,
            marks: &marks(run, spec, over),
            names_only: false,
            selected: i == at,
        };
        chart.draw(place, buffer, theme);
    }
}

/// The line above the charts: where the stage stands, its best values and checkpoint, how it is
/// shown. What is no number comes first, and in its own colour.
fn status(state: &State, run: &OpenRun, width: u16) -> TextLine<'static> {
    let view = &state.panes.training;
    let theme = state.theme;
    let list = &run.view.stages.list;
    let trained = |name: &String| run.view.training.get(name).is_some_and(|t| t.step > 0);
    let at_work = list.iter().filter(|s| s.state == StageState::Running).map(|s| &s.name).find(|n| trained(n));
    // While a stage without curves is at work the latest one that has some.
    let latest = || list.iter().rev().map(|s| &s.name).find(|n| trained(n));
    let stage = view.stage.as_ref().or(at_work).or_else(latest).or_else(|| run.view.training.0.keys().next_back());
    let mut facts: Vec<(&str, String)> = Vec::new();
    let mut lost = 0;
    if let Some((name, training)) = stage.and_then(|s| run.view.training.get(s).map(|t| (s, t))) {
        lost = training.loss.not_finite;
        let steps = if training.steps > 0 { format!("/{}", format::count(training.steps)) } else { String::new() };
        let at = format::count(training.step);
        facts.push(("", format!("{name} epoch {} step {at}{steps}", training.epoch)));
        for (name, metric) in &training.metrics {
            if let Some((at, value)) = metric.best {
                let unit = if metric.by_epoch { "epoch" } else { "step" };
                let name = name.split(" (").next().unwrap_or(name);
                facts.push(("best", format!("{name} {} at {unit} {}", format::value(value), format::scaled(at))));
            }
        }
        if let Some(checkpoint) = &training.checkpoint {
            facts.push(("checkpoint", format!("step {} ({})", format::count(checkpoint.step), checkpoint.why)));
        }
    }
    let mut spans = Vec::new();
    if lost > 0 {
        let s = if lost == 1 { "" } else { "es" };
        spans.push(Span::styled(format!("NaN: {} loss{s}   ", format::count(lost)), theme.bad()));
    }
    // What does not fit is left out whole.
    let used: usize = spans.iter().map(Span::width).sum();
    let rest = text::fact_lines(&facts, width.saturating_sub(used as u16), theme).into_iter().next();
    spans.extend(rest.unwrap_or_default().spans);
    TextLine::from(spans)
}

/// How the charts are shown, where that is not as usual.
fn view_words(view: &View, theme: Theme) -> TextLine<'static> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    match (view.recent, view.zoom > 1.0) {
        (true, _) => facts.push(("view", "recent".into())),
        (false, true) => facts.push(("view", format!("{:.0}x", view.zoom))),
        (false, false) => {}
    }
    if view.over != Over::Steps {
        facts.push(("over", view.over.word().into()));
    }
    match view.axis {
        Axis::Most => {}
        Axis::Log => facts.push(("axis", "log".into())),
        Axis::Whole => facts.push(("axis", "all values".into())),
    }
    if view.smoothing % SMOOTHING.len() != View::default().smoothing {
        facts.push(("smooth", format!("{}", SMOOTHING[view.smoothing % SMOOTHING.len()])));
    }
    text::facts(&facts, theme)
}
