//! Pane 5: the embeddings before and after alignment, and how one target's history was retrieved
//! and reranked.

use crate::keys::Key::Char;
use crate::keys::{Action, DOWN, LEFT, RIGHT, UP, VIEW, bound};
use crate::panes::{BASE, Draw, Pane, PaneId};
use rallrec_events::scatter::{Scatter, Space};
use rallrec_events::view::Example;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::format;
use crate::layout::share;
use crate::message::Effect;
use crate::state::{OpenRun, State};
use crate::theme::{Palette, Theme};
use crate::widgets::table::{self, Cell, number, wide};
use crate::widgets::{Dots, chart, text};

/// The pane.
pub const PANE: Pane = Pane {
    id: PaneId::Retrieval,
    title: "Retrieval",
    key: &[Char('5')],
    about: "embeddings and retrieval",
    draw: Draw::OfRun(draw),
    act,
    keys: &[
        bound(UP, Action::Up, "previous example", ""),
        bound(DOWN, Action::Down, "next example", "example"),
        bound(LEFT, Action::Left, "previous space", ""),
        bound(RIGHT, Action::Right, "next space", "space"),
        bound(VIEW, Action::NextView, "scatter, example, both", "view"),
        bound(&[Char('s')], Action::Sort, "history in order of similarity or time", "sort"),
    ],
    ..BASE
};

/// Genres that get a colour of their own; the others share one.
const GROUPS: usize = 5;

/// What the pane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Both, one above the other.
    #[default]
    Both,
    /// The scatter alone.
    Scatter,
    /// The example alone.
    Example,
}

/// State of the pane.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is shown.
    pub mode: Mode,
    /// Which example.
    pub example: usize,
    /// First space shown; the next one stands beside it.
    pub space: usize,
    /// History in order of time instead of the prompt's.
    pub by_time: bool,
}

/// Keys of the pane.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let Some(run) = state.run() else { return Vec::new() };
    let examples = run.view.retrieval.examples.len().saturating_sub(1);
    let spaces = match &run.scatter {
        Some(Ok(Some(scatter))) => scatter.spaces.len().saturating_sub(1),
        _ => 0,
    };
    let view = &mut state.panes.retrieval;
    match action {
        Action::Up => view.example = view.example.min(examples).saturating_sub(1),
        Action::Down => view.example = (view.example + 1).min(examples),
        Action::Left => view.space = view.space.min(spaces).saturating_sub(1),
        Action::Right => view.space = (view.space + 1).min(spaces),
        Action::Sort => view.by_time = !view.by_time,
        Action::NextView => {
            view.mode = match view.mode {
                Mode::Both => Mode::Scatter,
                Mode::Scatter => Mode::Example,
                Mode::Example => Mode::Both,
            };
        }
        _ => {}
    }
    Vec::new()
}

/// Draws the pane.
pub fn draw(state: &State, run: &OpenRun, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let examples = &run.view.retrieval.examples;
    let scatter = match &run.scatter {
        Some(Ok(Some(scatter))) => Some(&**scatter),
        Some(Err(why)) => {
            text::plain(area, buffer, 0, &format!("scatter.json: {why}"), theme.bad());
            None
        }
        _ => None,
    };
    if scatter.is_none() && examples.is_empty() {
        let text = "this run tells nothing about retrieval: the retrieve stage has not come yet, was reused, or an \
                    earlier version made it";
        return text::note(area, buffer, text, theme);
    }
    let example = examples.get(state.panes.retrieval.example.min(examples.len().saturating_sub(1)));
    match (state.panes.retrieval.mode, scatter, example) {
        (Mode::Both, Some(scatter), Some(example)) if area.height >= 18 => {
            let top = area.height / 2;
            draw_scatter(state, scatter, Some(example), Rect { height: top, ..area }, buffer);
            let below = Rect { y: area.y + top, height: area.height - top, ..area };
            draw_example(state, example, examples.len(), below, buffer);
        }
        (Mode::Example, _, Some(example)) | (_, None, Some(example)) => {
            draw_example(state, example, examples.len(), area, buffer);
        }
        (_, Some(scatter), example) => draw_scatter(state, scatter, example, area, buffer),
        (_, None, None) => {}
    }
}

/// The most frequent genres, each with its number; the rest share the last one.
fn groups(scatter: &Scatter) -> Vec<String> {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for item in &scatter.items {
        *counts.entry(item.genre.as_str()).or_default() += 1;
    }
    let mut by_count: Vec<_> = counts.into_iter().filter(|(g, _)| !g.is_empty()).collect();
    by_count.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    by_count.into_iter().take(GROUPS).map(|(g, _)| g.to_string()).collect()
}

fn draw_scatter(state: &State, scatter: &Scatter, example: Option<&Example>, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    if area.height < 4 || scatter.spaces.is_empty() {
        return;
    }
    let groups = groups(scatter);
    let mut legend: Vec<Span> = Vec::new();
    let mut room = usize::from(area.width);
    for (i, name) in groups.iter().map(String::as_str).chain(["others"]).enumerate() {
        let marker = if theme.ascii || theme.palette == Palette::Mono { theme.marker(i) } else { '●' };
        let name = format!("{}  ", format::clean(name));
        // Half a name would be worse than none.
        let Some(left) = room.checked_sub(format::width(name.trim_end()) + 2) else { break };
        room = left.saturating_sub(2);
        legend.push(Span::styled(format!("{marker} "), theme.series(i.min(GROUPS))));
        legend.push(Span::styled(name, theme.dim()));
    }
    text::line(area, buffer, area.height - 1, &Line::from(legend));
    let fit = usize::from(area.width / 30).clamp(1, scatter.spaces.len());
    let first = state.panes.retrieval.space.min(scatter.spaces.len() - fit);
    let target = example.map(|e| e.target.title.as_str());
    for i in 0..fit {
        let (x, width) = share(area.width, fit, i);
        let cell = Rect { x: area.x + x, width: width.saturating_sub(1), height: area.height - 1, ..area };
        draw_space(scatter, &scatter.spaces[first + i], &groups, target, cell, buffer, theme);
    }
}

fn draw_space(
    scatter: &Scatter,
    space: &Space,
    groups: &[String],
    target: Option<&str>,
    area: Rect,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let explained = space.explained.map_or(String::new(), |e| format!(", {:.0} %", (e[0] + e[1]) * 100.0));
    let when = match space.name.as_str() {
        "text" | "collaborative" => " (before alignment)",
        "aligned" => " (after alignment)",
        _ => "",
    };
    let title = format!("{}{when}  {}{explained}", format::clean(&space.name), format::clean(&space.method));
    text::plain(area, buffer, 0, &format::cut(&title, usize::from(area.width), theme.marks().ellipsis), theme.text());
    let plot = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let points = || space.points.iter().flatten();
    let (Some(x), Some(y)) =
        (chart::bounds(points().map(|p| f64::from(p[0]))), chart::bounds(points().map(|p| f64::from(p[1]))))
    else {
        return text::note(plot, buffer, "no points", theme);
    };
    let mut dots = Dots::new(plot, theme, groups.len() > 1);
    let (w, h) = dots.resolution();
    let scale = |v: f64, (a, b): (f64, f64), n: usize| {
        let t = if b > a { (v - a) / (b - a) } else { 0.5 };
        (t * n.saturating_sub(1) as f64).round() as usize
    };
    let mut mark = None;
    for (item, point) in scatter.items.iter().zip(&space.points) {
        let Some([px, py]) = point.filter(|p| p[0].is_finite() && p[1].is_finite()) else { continue };
        let group = groups.iter().position(|g| *g == item.genre).unwrap_or(GROUPS);
        let (cx, cy) =
            (scale(f64::from(px), x, w), h.saturating_sub(1) - scale(f64::from(py), y, h).min(h.saturating_sub(1)));
        dots.set(cx, cy, group);
        if target == Some(item.title.as_str()) {
            mark = Some((cx, cy));
        }
    }
    dots.draw(plot, buffer, theme);
    if let Some((cx, cy)) = mark
        && plot.width > 0
        && plot.height > 0
    {
        let (dx, dy) = (w / usize::from(plot.width), h / usize::from(plot.height));
        let at = (plot.x + (cx / dx.max(1)) as u16, plot.y + (cy / dy.max(1)) as u16);
        if at.0 < plot.right() && at.1 < plot.bottom() {
            buffer[at].set_char('X').set_style(theme.bad());
        }
    }
}

fn draw_example(state: &State, example: &Example, count: usize, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let label = example.label.map_or("", |l| if l { "liked" } else { "not liked" });
    let at = state.panes.retrieval.example.min(count.saturating_sub(1)) + 1;
    let heading = vec![
        Span::styled(format!("example {at}/{count}  "), theme.dim()),
        Span::styled(format::clean(&example.target.title), theme.accent()),
        Span::raw(format!("  {}  ", format::clean(&example.target.genres.join(", ")))),
        Span::styled(label, theme.warn()),
        Span::styled(format!("  row {}, by {}", example.row, format::clean(&example.embedding)), theme.dim()),
    ];
    text::line(area, buffer, 0, &Line::from(heading));
    let mut items: Vec<_> = example.history.iter().collect();
    if state.panes.retrieval.by_time {
        items.sort_by_key(|i| std::cmp::Reverse(i.position));
    } else {
        // What the prompt shows first, then what was retrieved, then the rest, newest first.
        let last = u32::MAX;
        items.sort_by_key(|i| (i.shown.unwrap_or(last), i.retrieved.unwrap_or(last), std::cmp::Reverse(i.position)));
    }
    let number_of = |x: Option<f64>| x.map_or(String::new(), |v| format!("{v:.3}"));
    let rank = |x: Option<u32>| x.map_or(String::new(), |v| v.to_string());
    let rows: Vec<Vec<Cell>> = items
        .iter()
        .map(|i| {
            let style = match (i.shown, i.retrieved) {
                (Some(_), Some(_)) => theme.good(),
                (Some(_), None) => theme.text(),
                _ => theme.dim(),
            };
            vec![
                Cell::new(rank(i.shown), style),
                Cell::new(rank(i.retrieved), style),
                Cell::new(format::clean(&i.item.title), style),
                Cell::new(i.rating.to_string(), theme.text()),
                Cell::new(number_of(i.similarity), theme.text()),
                Cell::new(number_of(i.text), theme.dim()),
                Cell::new(number_of(i.collaborative), theme.dim()),
                Cell::new(number_of(i.aligned), theme.dim()),
                Cell::new(i.position.to_string(), theme.dim()),
            ]
        })
        .collect();
    let columns = [
        number("shown"),
        number("near"),
        wide("history item"),
        number("rating"),
        number("similar"),
        number("text"),
        number("collab"),
        number("aligned"),
        number("place"),
    ];
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    table::draw(&columns, &rows, None, below, buffer, theme);
    if rows.is_empty() {
        text::plain(below, buffer, 1, "no history", theme.dim());
    }
}
